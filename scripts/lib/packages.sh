# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Packages of the host: what is missing is installed, what is there is left alone.

# host_release: "12", "13", ... on Debian, else nothing.
host_release() {
    (
        ID='' VERSION_ID=''
        # shellcheck source=/dev/null
        [ ! -r /etc/os-release ] || . /etc/os-release
        [ "$ID" != debian ] || printf '%s\n' "$VERSION_ID"
    )
}

package_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need_packages NAME...: install those that are missing.
need_packages() {
    local name missing=()
    command -v dpkg-query >/dev/null ||
        die "this machine is not a Debian one; install by other means: $*"
    for name; do
        package_installed "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    case $(host_release) in
        12 | 13) ;;
        *) die "this machine is neither Debian 12 nor 13; install what corresponds to: ${missing[*]}" ;;
    esac
    [ "$(id -u)" -eq 0 ] || die "not root; as root: apt-get install ${missing[*]}"
    detail "installing ${missing[*]}"
    # The index of a machine may be absent or older than its mirror: it is refreshed only
    # when the packages cannot be had without.
    apt_install "${missing[@]}" >/dev/null 2>&1 && return
    logged apt-update apt-get update || die "apt-get update failed; see above"
    logged apt-install apt_install "${missing[@]}" || die "could not install: ${missing[*]}"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" </dev/null
}

# need_nginx: Debian's nginx, for tests; its folder is in $nginx_folder then. It is unpacked and
# not installed, since installing it starts a server on this machine.
need_nginx() {
    local place=$TOA_CACHE/tools/nginx new depends
    nginx_folder=$place/usr/sbin
    [ ! -x "$nginx_folder/nginx" ] || return 0
    mkdir -p "${place%/*}"
    new=$(mktemp -d "$TOA_CACHE/tools/nginx.XXXXXX")
    (
        cd "$new"
        apt_download nginx || { logged apt-update apt-get update && logged nginx-download apt_download nginx; }
    ) >/dev/null || die "nginx could not be had; see above"
    dpkg-deb --extract "$new"/nginx_*.deb "$new"
    mapfile -t depends < <(dpkg-deb --field "$new"/nginx_*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ ]*\).*/\1/p')
    need_packages "${depends[@]}"
    rm -rf "$new"/nginx_*.deb "$place"
    mv "$new" "$place"
}

# As root, since _apt may not write to the cache.
apt_download() {
    apt-get -o APT::Sandbox::User=root download "$@"
}
