# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Building toa.ko for a prepared kernel, with the compilers of its build root.

# module_path NAME [SEED]: toa.ko, or the one with the fault that SEED names (Kbuild's TOA_SEED).
module_path() {
    printf '%s\n' "$(kernel_folder "$1")${2:+/$2}/toa.ko"
}

# sources_copy NAME BUILD FROM FILTER...: the sources in FROM that rsync's filters leave, in the folder
# BUILD of the kernel's build root, so that the tree stays clean. What differs is copied, and is new
# then: kbuild makes that again, and nothing else, whichever clone the rest came from. What is already
# there of another package of the kernel goes: its headers may be older than objects made from those
# before, which make would then take for up to date.
sources_copy() {
    local stamp there from=$3
    need_packages rsync
    stamp=$(kernel_folder "$1")/stamp
    there=$(root_folder "$(kernel_value "$1" suite)")$2
    shift 3
    cmp --silent "$stamp" "$there/.toa-kernel" || rm -rf "$there"
    mkdir -p "$there"
    cp "$stamp" "$there/.toa-kernel"
    rsync --recursive --links --perms --checksum --delete --exclude=/.toa-kernel \
        --exclude-from="$TOA_REPO/.gitignore" "$@" "$from/" "$there/"
}

# module_sources NAME BUILD: all that makes the module.
module_sources() {
    sources_copy "$1" "$2" "$TOA_REPO" --include=/Kbuild --include=/Cargo.toml \
        --include=/toa-kmod/ --include='/toa-kmod/**' --exclude='*'
}

# module_make NAME BUILD ARGUMENT...: Kbuild there.
module_make() {
    local name=$1 build=$2 suite root_beside='' arguments=()
    shift 2
    suite=$(kernel_value "$name" suite)
    mapfile -t arguments < <(debug_arguments "$name")
    arguments+=("TOA_RUST=$(kernel_value "$name" rust)" "$@")
    if [ "$(kernel_rust_suite "$name")" != "$suite" ]; then
        root_beside=$(kernel_rust_suite "$name")
        arguments+=("RUSTC=$(rustc_beside)")
    fi
    root_run "$suite" make -C "$(<"$(kernel_folder "$name")/headers")" M="$build" "${arguments[@]}" modules
}

# module_build NAME [SEED]: bring the module up to date.
module_build() {
    local name=$1 seed=${2:-} build=/build/$1${2:+-$2} built ko
    ko=$(module_path "$name" "$seed")
    mkdir -p "${ko%/*}"
    built=$(root_folder "$(kernel_value "$name" suite)")$build/toa.ko
    module_sources "$name" "$build"
    logged "module-$name" module_make "$name" "$build" ${seed:+"TOA_SEED=$seed"} || die "toa.ko does not build for $name; see above"
    # modpost and objtool warn and go on.
    if grep -i 'warning' "$TOA_CACHE/log/module-$name.log" >&2; then
        die "the build for $name is not silent; see above, or $TOA_CACHE/log/module-$name.log"
    fi
    # A machine that is running may be reading the old one.
    cmp --silent "$built" "$ko" || { cp "$built" "$ko.new" && mv "$ko.new" "$ko"; }
}

# module_describe NAME: what modinfo says of it, for people.
module_describe() {
    /sbin/modinfo "$(module_path "$1")" |
        grep -E '^(version|license|description|srcversion|depends|retpoline|name|vermagic|parm):'
}

# test_modules NAME: the folder of what the tests load beside toa.ko, or in its place.
test_modules() {
    printf '%s\n' "$(kernel_folder "$1")/test-modules"
}

# test_modules_build NAME: bring them up to date.
test_modules_build() {
    local name=$1 suite build=/build/$1-tests arguments
    suite=$(kernel_value "$name" suite)
    sources_copy "$name" "$build" "$TOA_REPO/tests/modules"
    mapfile -t arguments < <(debug_arguments "$name")
    logged "test-modules-$name" root_run "$suite" make -C "$(<"$(kernel_folder "$name")/headers")" M="$build" \
        "${arguments[@]}" modules || die "the tests' modules do not build for $name; see above"
    mkdir -p "$(test_modules "$name")"
    rsync --archive --include='*.ko' --exclude='*' "$(root_folder "$suite")$build/" "$(test_modules "$name")/"
}

# rustc_beside: the compiler of the root at /opt/beside, with the libraries of that root: it may
# be newer than those of the root that runs it.
rustc_beside() {
    local lib=/opt/beside/usr/lib/x86_64-linux-gnu
    printf '%s/ld-linux-x86-64.so.2 --library-path %s /opt/beside/usr/bin/rustc\n' "$lib" "$lib"
}
