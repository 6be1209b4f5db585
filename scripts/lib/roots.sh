# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Build roots: a folder per Debian release, with that release's compilers, in which the
# module is built for that release's kernels.

root_folder() {
    printf '%s\n' "$TOA_CACHE/roots/$1"
}

# root_prepare SUITE: make the root where there is none. A half-made one has another name.
root_prepare() {
    local suite=$1 root mirror
    root=$(root_folder "$suite")
    if [ -e "$root/etc/toa-root" ]; then
        root_sources "$suite" "$root"
        return
    fi

    [ "$(id -u)" -eq 0 ] || die "not root; build roots are made with debootstrap, which needs it"
    need_packages debootstrap util-linux
    mirror=$(mirror_main)
    [ -n "$mirror" ] || die "no Debian mirror in apt's configuration (apt-get indextargets shows none for '$(host_codename) main')"
    detail "making a build root of $suite from $mirror"
    rm -rf "$root" "$root.new"
    mkdir -p "$root.new"
    logged "debootstrap-$suite" root_debootstrap "$suite" "$root.new" "$mirror" ||
        die "debootstrap of $suite failed; see above"

    mirror_proxy >"$root.new/etc/apt/apt.conf.d/90toa"
    cat >>"$root.new/etc/apt/apt.conf.d/90toa" <<'END'
APT::Install-Recommends "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::Retries "3";
END
    # The root can be made again at any time, so it need not survive a power cut.
    echo force-unsafe-io >"$root.new/etc/dpkg/dpkg.cfg.d/toa"
    # Half of what the compilers' packages bring is never used here.
    printf 'path-exclude=%s\n' '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' \
        '/usr/lib/llvm-*/lib/*.a' '/usr/src/rustc-*/src/*' '/usr/src/rustc-*/compiler/*' \
        >>"$root.new/etc/dpkg/dpkg.cfg.d/toa"
    # dpkg's patterns match slashes too.
    echo 'path-include=/usr/src/rustc-*/library/*' >>"$root.new/etc/dpkg/dpkg.cfg.d/toa"
    printf '#!/bin/sh\nexit 101\n' >"$root.new/usr/sbin/policy-rc.d"
    chmod 0755 "$root.new/usr/sbin/policy-rc.d"
    root_sources "$suite" "$root.new"
    date --utc >"$root.new/etc/toa-root"
    mv "$root.new" "$root"
}

# root_sources SUITE FOLDER: the parts of the archive that the kernels of SUITE come from, and
# its security updates, where it has any of its own.
root_sources() {
    local suite=$1 root=$2 mirror security archive
    mirror=$(mirror_main)
    security=$(mirror_security)
    {
        printf 'deb %s %s main\n' "$mirror" "$suite"
        while read -r archive; do
            case $archive in
                "$suite" | *-security) ;;
                *) printf 'deb %s %s main\n' "$mirror" "$archive" ;;
            esac
        done < <(kernel_archives "$suite")
        [ -z "$security" ] || [ "$suite" = testing ] || printf 'deb %s %s-security main\n' "$security" "$suite"
    } >"$root/etc/apt/sources.list"
}

root_debootstrap() {
    local suite=$1 root=$2 mirror=$3 script include=ca-certificates proxy=''
    # A release that this debootstrap does not know by name yet is made like the newest.
    script=/usr/share/debootstrap/scripts/$suite
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "$proxy" ] || export http_proxy=$proxy
    private_mounts debootstrap --variant=minbase --include="$include" "$suite" "$root" "$mirror" "$script"
}

# private_mounts COMMAND...: run it where its mounts are seen by nobody else and end with it.
private_mounts() {
    # Inside a plain chroot / is no mount point, and its propagation cannot be set.
    if unshare --mount true 2>/dev/null; then
        unshare --mount "$@"
    else
        unshare --mount --propagation unchanged "$@"
    fi
}

# root_run SUITE COMMAND...: run it inside the root. The root of $root_beside, if that is set,
# is then at /opt/beside, and the folders $root_binds are where they are outside.
root_beside=
root_binds=()
root_run() {
    local root beside='' binds
    root=$(root_folder "$1")
    shift
    binds=$(printf '%s\n' "${root_binds[@]}")
    if [ -n "$root_beside" ]; then
        beside=$(root_folder "$root_beside")
        mkdir -p "$root/opt/beside"
    fi
    [ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
    # shellcheck disable=SC2016
    private_mounts sh -euc '
        root=$1 beside=$2 binds=$3
        shift 3
        each_bind() {
            printf "%s\n" "$binds" | while IFS= read -r folder; do
                [ -z "$folder" ] || "$1" "$folder"
            done
        }
        bind() { mkdir -p "$root$1" && mount --rbind "$1" "$root$1"; }
        unbind() { umount -l "$root$1"; }
        [ -z "$beside" ] || mount --rbind "$beside" "$root/opt/beside"
        each_bind bind
        mount -t proc proc "$root/proc"
        # Where device nodes may not be made, those of this machine serve.
        [ -c "$root/dev/null" ] || mount --rbind /dev "$root/dev"
        status=0
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            chroot "$root" "$@" || status=$?
        umount -l "$root/proc"
        [ -z "$beside" ] || umount -l "$root/opt/beside"
        each_bind unbind
        exit "$status"
    ' sh "$root" "$beside" "$binds" "$@"
}

# root_refresh SUITE: bring the root's package index up to date.
root_refresh() {
    local options=()
    # The index of testing is signed for a week at a time, and a mirror may lag behind.
    [ "$1" != testing ] || options=(-o Acquire::Check-Valid-Until=false)
    logged "index-$1" root_run "$1" apt-get "${options[@]}" update --error-on=any
}

# root_need SUITE PACKAGE...: install what the root misses.
root_need() {
    local suite=$1 root name missing=()
    shift
    root=$(root_folder "$suite")
    for name; do
        [ "$(dpkg-query --admindir="$root/var/lib/dpkg" --show --showformat='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    logged "install-$suite" root_install "$suite" "${missing[@]}" ||
        die "could not install in the build root of $suite: ${missing[*]}"
}

# root_install SUITE ARGUMENT...: apt-get install, after whatever an interrupted run left.
root_install() {
    local suite=$1
    shift
    # shellcheck disable=SC2016
    root_run "$suite" sh -ec '
        dpkg --configure --pending
        apt-get install --yes --fix-broken "$@"
        apt-get clean
    ' sh "$@"
}
