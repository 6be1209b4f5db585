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

# need_servers: Debian's nginx and Redis, for tests; their folders are in $servers_folders then. They
# are unpacked and not installed, since installing one starts a server on this machine.
need_servers() {
    local place=$TOA_CACHE/tools/servers packages=(nginx redis-server redis-tools) new file depends
    servers_folders=("$place/usr/sbin" "$place/usr/bin")
    [ ! -x "$place/usr/sbin/nginx" ] || [ ! -x "$place/usr/bin/redis-server" ] || return 0
    mkdir -p "${place%/*}"
    new=$(mktemp -d "$TOA_CACHE/tools/servers.XXXXXX")
    (
        cd "$new"
        apt_download "${packages[@]}" ||
            { logged apt-update apt-get update && logged servers-download apt_download "${packages[@]}"; }
    ) >/dev/null || die "nginx and Redis could not be had; see above"
    mapfile -t depends < <(
        for file in "$new"/*.deb; do
            dpkg-deb --field "$file" Depends
        done | tr ',' '\n' | sed -n 's/^ *\(\(lib\|lua-\)[^ ]*\).*/\1/p' | sort -u
    )
    need_packages "${depends[@]}"
    for file in "$new"/*.deb; do
        dpkg-deb --extract "$file" "$new"
        rm "$file"
    done
    rm -rf "$place"
    mv "$new" "$place"
}

# As root, since _apt may not write to the cache.
apt_download() {
    apt-get -o APT::Sandbox::User=root download "$@"
}
