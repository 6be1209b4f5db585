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

# A cache that many versions of the tools share needs no more than this to be told apart.
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
