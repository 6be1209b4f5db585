# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What the tests of the packages share: roots that stand for nodes.

# shellcheck source=../../scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/all.sh"
# shellcheck source=../holds.sh
. "$TOA_REPO/tests/holds.sh"

# A node has what its packages brought and nothing else, so the build roots will not do.
root_folder() {
    printf '%s\n' "$TOA_CACHE/roots/node-$1"
}

# Where a node's newer kernels come from.
kernel_archives() {
    printf '%s\n' "$1-backports"
}

# node_prepare SUITE: a root with an index of today.
node_prepare() {
    root_prepare "$1"
    root_refresh "$1" || die "the package index of $1 cannot be read; see above"
}

# node_headers SUITE ARCHIVE: the headers of the newest kernel there; prints its release.
node_headers() {
    local suite=$1 archive=$2
    logged "headers-node-$suite" root_install "$suite" -t "$archive" linux-headers-amd64 >&2 || return
    # shellcheck disable=SC2016
    root_run "$suite" dpkg-query --show --showformat='${Depends}\n' linux-headers-amd64 |
        tr ',' '\n' | sed -n 's/^ *linux-headers-\([0-9][^ ]*\).*/\1/p'
}

# node_headers_purge SUITE: no headers at all.
node_headers_purge() {
    # shellcheck disable=SC2016
    root_run "$1" sh -ec '
        names=$(dpkg-query --show --showformat="\${Package}\n" "linux-headers-*" | grep -v -e "-common" || true)
        [ -z "$names" ] || apt-get purge --yes $names
        rm -rf /lib/modules/*
    '
}

# has_module SUITE RELEASE FOLDER: a module of ours for that kernel is there, and says so.
has_module() {
    local suite=$1 release=$2 folder=$3 file name=
    for file in "$(root_folder "$suite")/lib/modules/$release/$folder"/toa.ko*; do
        [ -e "$file" ] && name=${file#"$(root_folder "$suite")"}
    done
    [ -n "$name" ] || { echo "no toa.ko in /lib/modules/$release/$folder" && return 1; }
    root_run "$suite" modinfo "$name" >"$TOA_CACHE/log/modinfo"
    cat "$TOA_CACHE/log/modinfo"
    expect "vermagic:       $release " "$TOA_CACHE/log/modinfo"
    expect "version:        $(sed -n 's/^version = "\(.*\)"/\1/p' "$TOA_REPO/Cargo.toml")" "$TOA_CACHE/log/modinfo"
    # A kernel's own package runs depmod, and here are its headers alone.
    root_run "$suite" depmod "$release"
    root_run "$suite" modinfo -k "$release" --field filename toa
}

# holds_in_machine KERNEL RELEASE FILE: the module, built on a node for a kernel of
# tests/kernels.toml, is loaded in a machine that runs that kernel, tells connections their
# clients, and is unloaded.
holds_in_machine() {
    local kernel=$1 release=$2 file=$3 status=0
    # The node's index is of today, so the machine's kernel must not be of yesterday.
    [ "$(cat "$(kernel_folder "$kernel")/release" 2>/dev/null)" = "$release" ] ||
        rm -f "$(kernel_folder "$kernel")/checked"
    # scripts/vm takes the cache's lock itself. It is not ours alone to close: try runs in a subshell.
    flock --unlock 9
    "$TOA_REPO/scripts/vm" --kernel "$kernel" --no-load --module "$file" -- "$TOA_REPO/tests/brief" || status=$?
    flock 9
    return "$status"
}

# kernel_from SUITE ARCHIVE: the kernel of tests/kernels.toml that comes from there, if one does.
kernel_from() {
    local name
    kernel_names | while read -r name; do
        if [ "$(kernel_value "$name" suite) $(kernel_value "$name" archive)" = "$1 $2" ] &&
            [ "$(kernel_value "$name" image)" = linux-image-amd64 ]; then
            echo "$name"
            return
        fi
    done
}

# module_installed SUITE RELEASE: the file that modprobe would take on the node.
module_installed() {
    local root file
    root=$(root_folder "$1")
    file=$(root_run "$1" modinfo -k "$2" --field filename toa)
    printf '%s\n' "$root$file"
}
