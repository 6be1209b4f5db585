# SPDX-License-Identifier: MIT OR Apache-2.0
#
# make                  toa.ko for the running kernel
# make cli              toa-cli (wants cargo)
# make sign             sign toa.ko: KEY=file CERT=file
# make install          all of the following, in the order in which they can be had alone:
#   make install-module   toa.ko into /lib/modules/RELEASE/updates, and depmod
#   make install-cli      toa-cli into PREFIX/sbin
#   make install-header   toa.h into PREFIX/include
#   make install-config   loaded at boot, with its parameters: modules-load.d, modprobe.d
# make install-source   the module's source into SRCDIR/toa-VERSION, for toa-cli build
# make uninstall        undo make install, for every kernel; an edited modprobe.d/toa.conf stays
# make clean            take away what make built
#
# KVER=RELEASE   another kernel than the running one
# KDIR=FOLDER    its headers, where they are not in /lib/modules/RELEASE/build
# TOA_RUST=kernel|freestanding, RUSTC=FILE: how Kbuild is to build it
# PREFIX (/usr/local), SYSCONFDIR (/etc), SRCDIR (/usr/src), DESTDIR
#
# The kernel's own make never reads this file: it takes Kbuild.

KVER ?= $(shell uname -r)
KDIR ?= /lib/modules/$(KVER)/build
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
SRCDIR ?= /usr/src
CARGO ?= cargo
INSTALL ?= install

version := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
cli := $(or $(CARGO_TARGET_DIR),target)/release/toa-cli
modules := $(DESTDIR)/lib/modules
modprobe-conf := $(DESTDIR)$(SYSCONFDIR)/modprobe.d/toa.conf
load-conf := $(DESTDIR)$(SYSCONFDIR)/modules-load.d/toa.conf
source := $(DESTDIR)$(SRCDIR)/toa-$(version)

# Headers may be named by KDIR alone, so their own word counts. (kernel.release is not to be
# trusted: Debian's says what upstream called it.)
release = $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' '$(KDIR)/include/generated/utsrelease.h' 2>/dev/null)
kbuild = $(MAKE) --no-print-directory -C '$(KDIR)' M='$(CURDIR)' \
	$(if $(TOA_RUST),TOA_RUST='$(TOA_RUST)') $(if $(RUSTC),RUSTC='$(RUSTC)')
# The key of whoever built the kernel is not among its headers, and sign-file would complain.
unsigned = $(if $(wildcard $(KDIR)/certs/signing_key.pem),,CONFIG_MODULE_SIG_ALL=)
signed = $(shell tail -c 28 toa.ko 2>/dev/null | grep -a '~Module signature appended~')

.PHONY: module
module: headers
	+@$(kbuild) modules

.PHONY: headers
headers:
	@case '$(CURDIR)' in *[[:space:]:]*) \
		echo "make: the kernel's make cannot work in a folder with a space or colon in its name: $(CURDIR)" >&2; exit 1 ;; esac
	@[ -e '$(KDIR)/Makefile' ] || { \
		echo "make: no kernel headers in $(KDIR): install linux-headers-$(KVER) (Debian, Ubuntu) or kernel-devel-$(KVER) (Red Hat, TencentOS), or name them with KDIR=" >&2; exit 1; }

.PHONY: cli
cli:
	$(CARGO) build --release --locked -p toa-cli

$(cli):
	$(MAKE) --no-print-directory cli

.PHONY: sign
sign: headers
	@[ -n '$(KEY)' ] && [ -n '$(CERT)' ] || { \
		echo "make: make sign wants KEY= (the private key) and CERT= (its certificate); see docs/packaging.md" >&2; exit 1; }
	@[ -e toa.ko ] || { echo "make: there is no toa.ko to sign: make first" >&2; exit 1; }
	strip --strip-debug toa.ko
	'$(KDIR)/scripts/sign-file' sha256 '$(KEY)' '$(CERT)' toa.ko

.PHONY: install install-module install-cli install-header install-config install-source
install: install-module install-cli install-header install-config

# What is stripped after it was signed is signed no more.
install-module: headers
	@[ -e toa.ko ] || { echo "make: there is no toa.ko to install: make first" >&2; exit 1; }
	+@$(kbuild) INSTALL_MOD_PATH='$(DESTDIR)' INSTALL_MOD_DIR=updates \
		$(unsigned) $(if $(signed),,INSTALL_MOD_STRIP=1) modules_install
	$(if $(DESTDIR),,depmod $(release))

install-cli: $(cli)
	$(INSTALL) -D -m 0755 '$(cli)' '$(DESTDIR)$(PREFIX)/sbin/toa-cli'

install-header:
	$(INSTALL) -D -m 0644 toa-kmod/uapi/toa.h '$(DESTDIR)$(PREFIX)/include/toa.h'

# Parameters that somebody has set are kept.
install-config:
	$(INSTALL) -D -m 0644 deploy/modules-load.d/toa.conf '$(load-conf)'
	[ -e '$(modprobe-conf)' ] || $(INSTALL) -D -m 0644 deploy/modprobe.d/toa.conf '$(modprobe-conf)'

# All that builds the module, and nothing that a build leaves behind.
install-source:
	rm -rf '$(source)'
	@for file in Cargo.toml Kbuild LICENSE LICENSES/GPL-2.0.txt LICENSES/MIT.txt LICENSES/Apache-2.0.txt \
		$$(find toa-kmod -type f ! -name '.*' ! -path 'toa-kmod/tests/*' \
			\( -name '*.rs' -o -name '*.c' -o -name '*.h' -o -name '*.sh' -o -name '*.mk' -o -name '*.allow' \) \
			! -name '*.mod.c' ! -name probed.h); do \
		$(INSTALL) -D -m 0644 "$$file" "$(source)/$$file" || exit 1; \
	done
	sed 's/@VERSION@/$(version)/' deploy/dkms/dkms.conf.in >'$(source)/dkms.conf'

.PHONY: uninstall
uninstall:
	@for file in '$(modules)'/*/updates/toa.ko '$(modules)'/*/updates/toa.ko.xz \
		'$(modules)'/*/updates/toa.ko.zst '$(modules)'/*/updates/toa.ko.gz; do \
		[ -e "$$file" ] || continue; \
		echo "rm $$file"; \
		rm -f "$$file" || exit 1; \
		kernel=$${file%/updates/*}; \
		[ -n '$(DESTDIR)' ] || depmod "$${kernel##*/}"; \
	done
	rm -f '$(DESTDIR)$(PREFIX)/sbin/toa-cli' '$(DESTDIR)$(PREFIX)/include/toa.h' '$(load-conf)'
	@[ ! -e '$(modprobe-conf)' ] || \
		if cmp -s deploy/modprobe.d/toa.conf '$(modprobe-conf)'; then \
			echo "rm $(modprobe-conf)"; rm -f '$(modprobe-conf)'; \
		else \
			echo "$(modprobe-conf) was edited, and is left where it is"; \
		fi

.PHONY: clean
clean: headers
	+@$(kbuild) clean

.PHONY: help
help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))
