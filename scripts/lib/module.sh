# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Building toa.ko for a prepared kernel, with the compilers of its build root.

module_path() {
    printf '%s\n' "$(kernel_folder "$1")/toa.ko"
}

# module_build NAME: bring the module up to date. The sources are copied with their times,
# so kbuild makes again only what has changed, and the tree stays clean.
module_build() {
    local name=$1 folder suite build ko there arguments=()
    need_packages rsync
    folder=$(kernel_folder "$name")
    suite=$(kernel_value "$name" suite)
    build=/build/$name
    arguments=("TOA_RUST=$(kernel_value "$name" rust)")
    if [ "$(kernel_rust_suite "$name")" != "$suite" ]; then
        root_beside=$(kernel_rust_suite "$name")
        arguments+=("RUSTC=$(rustc_beside)")
    fi
    ko=$(module_path "$name")
    there=$(root_folder "$suite")$build
    # Files of a new package may be older than objects made from the old one, which make
    # would then take for up to date.
    cmp --silent "$folder/stamp" "$there/.toa-kernel" || rm -rf "$there"
    mkdir -p "$there"
    cp "$folder/stamp" "$there/.toa-kernel"
    rsync --archive --delete --exclude-from="$TOA_REPO/.gitignore" --include=/Kbuild --include=/Cargo.toml \
        --include=/toa-kmod/ --include='/toa-kmod/**' --exclude='*' "$TOA_REPO/" "$there/"
    logged "module-$name" root_run "$suite" make -C "$(<"$folder/headers")" M="$build" "${arguments[@]}" modules ||
        die "toa.ko does not build for $name; see above"
    root_beside=
    # modpost and objtool warn and go on.
    if grep -i 'warning' "$TOA_CACHE/log/module-$name.log" >&2; then
        die "the build for $name is not silent; see above, or $TOA_CACHE/log/module-$name.log"
    fi
    # A machine that is running may be reading the old one.
    cmp --silent "$there/toa.ko" "$ko" || { cp "$there/toa.ko" "$ko.new" && mv "$ko.new" "$ko"; }
}

# rustc_beside: the compiler of the root at /opt/beside, with the libraries of that root: it may
# be newer than those of the root that runs it.
rustc_beside() {
    local lib=/opt/beside/usr/lib/x86_64-linux-gnu
    printf '%s/ld-linux-x86-64.so.2 --library-path %s /opt/beside/usr/bin/rustc\n' "$lib" "$lib"
}
