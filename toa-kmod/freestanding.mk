# SPDX-License-Identifier: GPL-2.0
#
# The Rust half without the kernel's Rust support: `core` from rust-src, compiled for the kernel's
# way of running code, and the crate on top of it. Part of Kbuild.
#
# Only core's metadata is made. What the crate uses of core is compiled into it, panics included,
# whose common end alone stays undefined: symbols.allow has neither that nor anything else of core.

toa-dir := $(obj)/toa-kmod/entry
toa-rustc := $(or $(RUSTC),rustc)
toa-rust-version := $(shell $(toa-rustc) --version 2>/dev/null)
toa-sysroot := $(shell $(toa-rustc) --print sysroot 2>/dev/null)
toa-core := $(toa-sysroot)/lib/rustlib/src/rust/library/core

toa-rust-minimum := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' $(src)/Cargo.toml)
toa-rust-oldest := $(shell printf '%s\n' $(toa-rust-minimum) $(word 2,$(toa-rust-version)) | sort -V | head -n 1)

# make clean reads no configuration, and needs no compiler.
ifdef CONFIG_MODULES
ifeq ($(toa-rust-version),)
  $(error rustc is not installed: install Rust $(toa-rust-minimum) or newer (Debian: rustc, or rustc-web; Red Hat: rust), or name one with RUSTC=)
endif
ifneq ($(toa-rust-oldest),$(toa-rust-minimum))
  $(error $(toa-rust-version) is too old: install Rust $(toa-rust-minimum) or newer (Debian: rustc, or rustc-web; Red Hat: rust), or name one with RUSTC=)
endif
ifeq ($(wildcard $(toa-core)/src/lib.rs),)
  $(error $(toa-core) is missing: install the sources of Rust's library (Debian: rust-src, or rust-web-src; Red Hat: rust-src))
endif
endif

toa-core-edition := $(shell sed -n 's/^edition = "\(.*\)"/\1/p' $(toa-core)/Cargo.toml 2>/dev/null)

# Unstable flags change their names; $(call toa-try,OLD,NEW) takes the one that this rustc knows.
toa-try = $(shell for f in $(1) $(2); do \
	RUSTC_BOOTSTRAP=1 $(toa-rustc) $$f --print sysroot >/dev/null 2>&1 && echo $$f && break; done)

toa-rustflags := -Cpanic=abort -Cembed-bitcode=n -Clto=n -Ccodegen-units=1 -Copt-level=2 \
	-Csymbol-mangling-version=v0 -Crelocation-model=static -Cforce-unwind-tables=n \
	-Cdebug-assertions=n -Coverflow-checks=n -Zfunction-sections=n -Cdebuginfo=0

ifdef CONFIG_X86_64
  toa-rustflags += --target=x86_64-unknown-none -Ccode-model=kernel -Cno-redzone=y -Zplt=y
  toa-rustflags += $(call toa-try,-Cjump-tables=n,-Zno-jump-tables)
  ifdef CONFIG_X86_KERNEL_IBT
    toa-rustflags += -Zcf-protection=branch
  endif
  ifneq ($(CONFIG_RETHUNK)$(CONFIG_MITIGATION_RETHUNK),)
    toa-rustflags += -Zfunction-return=thunk-extern
  endif
  ifdef CONFIG_CALL_PADDING
    toa-padding := $(CONFIG_FUNCTION_PADDING_BYTES)
    toa-rustflags += -Zpatchable-function-entry=$(toa-padding),$(toa-padding)
  endif
else ifdef CONFIG_ARM64
  toa-rustflags += --target=aarch64-unknown-none-softfloat -Zfixed-x18
  ifdef CONFIG_ARM64_BTI_KERNEL
    toa-rustflags += -Zbranch-protection=bti,pac-ret
  else ifdef CONFIG_ARM64_PTR_AUTH_KERNEL
    toa-rustflags += -Zbranch-protection=pac-ret
  endif
else ifdef CONFIG_MODULES
  $(error this architecture is not supported: x86-64 and arm64 are)
endif
ifdef CONFIG_FRAME_POINTER
  toa-rustflags += -Cforce-frame-pointers=y
endif

toa-rustc-cmd = RUSTC_BOOTSTRAP=1 $(toa-rustc) $(toa-rustflags) --sysroot=/dev/null

# The comment makes another rustc another command, so that everything is made again.
quiet_cmd_toa_core = RUSTC   $@
      cmd_toa_core = : '$(toa-rust-version)'; $(toa-rustc-cmd) --edition=$(toa-core-edition) \
	--crate-name core --crate-type rlib --cfg no_fp_fmt_parse --cap-lints allow -Zalways-encode-mir \
	--emit=metadata=$@ $(toa-core)/src/lib.rs

$(toa-dir)/libcore.rmeta: FORCE
	$(call if_changed,toa_core)

quiet_cmd_toa_builtins = RUSTC   $@
      cmd_toa_builtins = $(toa-rustc-cmd) --edition=2021 -L $(toa-dir) \
	--crate-name compiler_builtins --crate-type rlib --emit=metadata=$@ $<

$(toa-dir)/libcompiler_builtins.rmeta: $(src)/toa-kmod/entry/compiler_builtins.rs \
		$(toa-dir)/libcore.rmeta FORCE
	$(call if_changed,toa_builtins)

# Kbuild's own command, where objtool sees objects one by one rather than the linked module; until
# 5.18 it came without the semicolon.
toa-objtool = $(if $(cmd_objtool),$(if $(filter ;,$(firstword $(cmd_objtool))),,;) $(cmd_objtool))

quiet_cmd_toa_rust = RUSTC [M] $@
      cmd_toa_rust = $(toa-rustc-cmd) --edition=2021 -L $(toa-dir) --crate-name toa \
	--crate-type lib $(toa-seed) --emit=obj=$@ $< $(toa-objtool)

$(toa-dir)/bare.o: $(src)/toa-kmod/entry/bare.rs $(wildcard $(src)/toa-kmod/kernel/*.rs) \
		$(wildcard $(src)/toa-kmod/pure/*.rs) \
		$(wildcard $(src)/toa-kmod/shared/*.rs) $(toa-dir)/libcompiler_builtins.rmeta FORCE
	$(call if_changed,toa_rust)

targets += toa-kmod/entry/libcore.rmeta toa-kmod/entry/libcompiler_builtins.rmeta
