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
    local name=$1 folder suite build ko
    need_packages rsync
    folder=$(kernel_folder "$name")
    suite=$(kernel_value "$name" suite)
    build=/build/$(<"$folder/release")
    ko=$(module_path "$name")
    mkdir -p "$(root_folder "$suite")$build"
    rsync --archive --delete --exclude-from="$TOA_REPO/.gitignore" --include=/Kbuild --include=/Cargo.toml \
        --include=/toa-kmod/ --include='/toa-kmod/**' --exclude='*' "$TOA_REPO/" "$(root_folder "$suite")$build/"
    logged "module-$name" root_run "$suite" make -C "$(<"$folder/headers")" M="$build" modules ||
        die "toa.ko does not build for $name; see above"
    build=$(root_folder "$suite")$build
    # A machine that is running may be reading the old one.
    cmp --silent "$build/toa.ko" "$ko" || { cp "$build/toa.ko" "$ko.new" && mv "$ko.new" "$ko"; }
}
