# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The cache folder: build roots, prepared kernels, build results. It lies outside the
# tree, may be deleted at any time, and is rebuilt from nothing.

TOA_CACHE=${TOA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/toa}
mkdir -p "$TOA_CACHE" || die "cannot create the cache folder $TOA_CACHE; set TOA_CACHE to a folder that can be written"
TOA_CACHE=$(cd "$TOA_CACHE" && pwd -P)
case $TOA_CACHE in
    *[[:space:]:,]*)
        die "the cache folder's path '$TOA_CACHE' holds a space, comma or colon, which make and QEMU cannot take; set TOA_CACHE"
        ;;
esac
export TOA_CACHE

# What cargo builds goes there too: the tree stays as it was cloned.
# shellcheck disable=SC2034
toa_target=${CARGO_TARGET_DIR:-$TOA_CACHE/target}

# cache_lock: wait until no other run changes the cache. Descriptor 9 holds the lock, and
# is closed for anything that outlives the preparation (cache_unlock).
cache_lock() {
    exec 9>"$TOA_CACHE/lock"
    if ! flock --nonblock 9; then
        say "waiting for another run that is using $TOA_CACHE"
        flock 9
    fi
}

cache_unlock() {
    exec 9>&-
}

# need_root_and_room: what the front doors want before they begin.
need_root_and_room() {
    local free
    [ "$(id -u)" -eq 0 ] || die "run this as root: it makes build roots and lets a virtual machine read this machine's files"
    free=$(df --output=avail --block-size=1M "$TOA_CACHE" | tail -n 1)
    # With a prepared kernel in it the cache grows little.
    if [ "$free" -lt 5000 ] && ! ls "$TOA_CACHE"/kernels/*/stamp >/dev/null 2>&1; then
        die "there are $((free)) MB free at $TOA_CACHE, and 5000 are needed while it is built; set TOA_CACHE to a folder with more"
    fi
}
