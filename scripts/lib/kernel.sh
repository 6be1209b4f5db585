# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The stock kernels of tests/kernels.toml: which version the archive holds today, its image
# and modules for the virtual machine, its headers for building, and the Rust metadata that
# Debian's headers leave out.
#
# A prepared kernel is a folder $TOA_CACHE/kernels/NAME with
#     stamp      the packages it was made of; written last
#     checked    its time is that of the last look into the archive
#     release    what uname -r says
#     vmlinuz, lib/modules/RELEASE
#     headers    the folder in the build root to give to make -C
#     checkpatch the kernel's style checker

# Goes up when a kernel prepared by earlier scripts will not do any more.
kernel_recipe=1

kernel_table=$TOA_REPO/tests/kernels.toml

kernel_names() {
    sed -n 's/^\[\(.*\)\]$/\1/p' "$kernel_table"
}

kernel_default() {
    kernel_names | head -n 1
}

kernel_known() {
    kernel_names | grep -xF -- "$1" >/dev/null
}

# kernel_value NAME KEY
kernel_value() {
    awk -v name="[$1]" -v key="$2" '
        /^\[/ { inside = $0 == name }
        inside && $1 == key && $2 == "=" { sub(/^[^=]*= *"/, ""); sub(/" *$/, ""); print; exit }
    ' "$kernel_table"
}

# kernel_archives SUITE: the parts of the archive that its kernels come from.
kernel_archives() {
    local name
    kernel_names | while read -r name; do
        [ "$(kernel_value "$name" suite)" != "$1" ] || kernel_value "$name" archive
    done | sort -u
}

# kernel_rust_suite NAME: the release whose Rust compiles the module's freestanding half.
kernel_rust_suite() {
    local suite
    suite=$(kernel_value "$1" rust_suite)
    printf '%s\n' "${suite:-$(kernel_value "$1" suite)}"
}

# kernel_arch NAME: Debian's name of its architecture.
kernel_arch() {
    local arch
    arch=$(kernel_value "$1" arch)
    printf '%s\n' "${arch:-amd64}"
}

kernel_foreign() {
    [ "$(kernel_arch "$1")" != amd64 ]
}

kernel_folder() {
    printf '%s\n' "$TOA_CACHE/kernels/$1"
}

# kernel_describe NAME: for people.
kernel_describe() {
    printf '%s, package version %s\n' "$(<"$(kernel_folder "$1")/release")" \
        "$(sed -n '2s/.*=//p' "$(kernel_folder "$1")/stamp")"
}

# kernel_prepare NAME: everything to build for the kernel and to boot it.
kernel_prepare() {
    local name=$1 folder suite wanted
    folder=$(kernel_folder "$name")
    suite=$(kernel_value "$name" suite)

    if kernel_usable "$name" && [ -n "$(find "$folder/checked" -mtime -1 2>/dev/null)" ]; then
        return
    fi
    need_packages xz-utils kmod
    root_prepare "$suite"
    ! kernel_foreign "$name" || foreign_architecture "$suite" "$(kernel_arch "$name")"
    if ! root_refresh "$suite"; then
        kernel_usable "$name" || die "the package index of $suite cannot be read; see above"
        say "the package index cannot be read: going on with the kernel of $(date -r "$folder/checked" +%F)"
        return
    fi
    wanted=$(kernel_wanted "$name")
    if kernel_usable "$name" && [ "$(<"$folder/stamp")" = "$wanted" ]; then
        touch "$folder/checked"
        return
    fi
    if debug_configured "$name"; then
        debug_make "$name" "$suite" "$wanted"
    else
        kernel_make "$name" "$suite" "$wanted"
    fi
}

kernel_usable() {
    local folder root
    folder=$(kernel_folder "$1")
    root=$(root_folder "$(kernel_value "$1" suite)")
    [ -e "$folder/stamp" ] && [ -e "$root$(<"$folder/headers")/Makefile" ] &&
        [ "$(head -n 1 "$folder/stamp")" = "recipe $kernel_recipe" ] || return
    ! kernel_foreign "$1" || foreign_usable "$(kernel_value "$1" suite)" "$(kernel_arch "$1")"
}

# kernel_wanted NAME: the stamp of the kernel that the archive holds now: a line "recipe N",
# the release, then the packages. Debian up to 6.x has all in linux-image-RELEASE; 7.x has
# linux-binary-, linux-modules- and linux-base-RELEASE below it.
kernel_wanted() {
    local name=$1 suite meta version
    if debug_configured "$name"; then
        debug_wanted "$name"
        return
    fi
    suite=$(kernel_value "$name" suite)
    meta=$(kernel_value "$name" image)
    version=$(kernel_newest "$suite" "$(kernel_value "$name" archive)" "$meta")
    printf 'recipe %s\n' "$kernel_recipe"
    kernel_closure "$suite" "$(kernel_only_dependency "$suite" "$meta=$version")" | awk '!seen[$0]++'
}

# kernel_newest SUITE ARCHIVE PACKAGE: the version that this part of the archive holds.
kernel_newest() {
    local version
    version=$(root_run "$1" apt-cache madison "$3" |
        awk -F ' *[|] *' -v archive="$2" '$3 ~ " " archive "/main " && !found { print $2; found = 1 }')
    [ -n "$version" ] || die "the archive $2 has no $3"
    printf '%s\n' "$version"
}

# kernel_depends SUITE PACKAGE=VERSION: those of its dependencies that are parts of a kernel.
kernel_depends() {
    root_run "$1" apt-cache show "$2" | sed -n 's/^Depends: //p' | tr ',' '\n' |
        sed -n 's/^ *\(linux-\(image\|binary\|modules\|base\)-[0-9][^ ]*\) (= \([^)]*\)).*/\1=\3/p'
}

kernel_only_dependency() {
    local found
    found=$(kernel_depends "$@" | head -n 1)
    [ -n "$found" ] || die "the package $2 depends on no kernel image"
    printf '%s\n' "$found"
}

kernel_closure() {
    local suite=$1 package=$2 part
    printf '%s\n' "$package"
    kernel_depends "$suite" "$package" | while read -r part; do
        kernel_closure "$suite" "$part"
    done
}

kernel_make() {
    local name=$1 suite=$2 wanted=$3 folder new root release version old=''
    folder=$(kernel_folder "$name")
    new=$folder.new
    root=$(root_folder "$suite")
    release=$(sed -n '2s/^linux-image-\(.*\)=.*/\1/p' <<<"$wanted")
    release=${release%-unsigned}
    version=$(sed -n '2s/.*=//p' <<<"$wanted")
    detail "preparing the kernel $release (package version $version)"
    [ ! -e "$folder/release" ] || old=$(<"$folder/release")
    rm -rf "$new"
    mkdir -p "$new"

    logged "image-$name" kernel_image "$suite" "$new" "$release" "$(sed 1d <<<"$wanted")" ||
        die "the image of $release could not be unpacked; see above"
    kernel_headers "$name" "$suite" "$release" "$version"
    printf '%s\n' "$release" >"$new/release"
    printf '/usr/src/linux-headers-%s\n' "$release" >"$new/headers"
    kernel_rust "$name" "$suite" "$release" "$version" "$new"

    printf '%s\n' "$wanted" >"$new/stamp"
    touch "$new/checked"
    rm -rf "$folder"
    mv "$new" "$folder"
    if [ -n "$old" ] && [ "$old" != "$release" ]; then
        kernel_forget "$suite" "$old"
    fi
}

# kernel_image SUITE FOLDER RELEASE PACKAGES: vmlinuz and the modules. They are unpacked,
# not installed: nothing in the root is to think that it should boot.
kernel_image() {
    local suite=$1 new=$2 release=$3 packages=$4 root deb tree
    root=$(root_folder "$suite")
    rm -rf "$root/var/tmp/image"
    mkdir -p "$root/var/tmp/image"
    # shellcheck disable=SC2086
    root_run "$suite" sh -ec 'cd /var/tmp/image && apt-get -o APT::Sandbox::User=root download "$@"' sh $packages
    for deb in "$root"/var/tmp/image/*.deb; do
        dpkg-deb --extract "$deb" "$new/all"
    done
    rm -rf "$root/var/tmp/image"
    for tree in "$new/all/usr/lib/modules/$release" "$new/all/lib/modules/$release"; do
        [ ! -d "$tree/kernel" ] || break
    done
    [ -d "$tree/kernel" ] || { echo "no modules of $release in: $packages" && return 1; }
    mkdir -p "$new/lib/modules"
    mv "$tree" "$new/lib/modules/$release"
    if [ -e "$new/all/boot/vmlinuz-$release" ]; then
        mv "$new/all/boot/vmlinuz-$release" "$new/vmlinuz"
    else
        mv "$new/lib/modules/$release/vmlinuz" "$new/vmlinuz"
    fi
    rm -rf "$new/all"
    /sbin/depmod --basedir "$new" "$release"
}

# kernel_headers NAME SUITE RELEASE VERSION
kernel_headers() {
    local name=$1 suite=$2 release=$3 version=$4 archive
    archive=$(kernel_value "$name" archive)
    root_need "$suite" make gcc libc6-dev bc flex bison libelf-dev libssl-dev libdw-dev openssl \
        xz-utils kmod cpio python3-minimal perl
    if kernel_foreign "$name"; then
        foreign_prepare "$suite" "$(kernel_arch "$name")"
        logged "headers-$suite-$(kernel_arch "$name")" foreign_headers "$suite" "$archive" "$release" "$version" ||
            die "the headers of $release could not be had; see above"
        return
    fi
    logged "headers-$suite" root_install "$suite" -t "$archive" "linux-headers-$release=$version" ||
        die "the headers of $release could not be installed; see above"
}

# kernel_rust NAME SUITE RELEASE VERSION FOLDER: build the metadata of the kernel's Rust
# crates from the kernel's own source, .config and compilers, and add them to the headers.
kernel_rust() {
    local name=$1 suite=$2 release=$3 version=$4 new=$5 root headers built_with have
    root=$(root_folder "$suite")
    headers=$root/usr/src/linux-headers-$release
    if [ "$(kernel_value "$name" rust)" = freestanding ]; then
        kernel_freestanding "$name"
        return
    fi
    grep -q '^CONFIG_RUST=y' "$headers/.config" ||
        die "the kernel $release has no CONFIG_RUST: tests/kernels.toml must say rust = \"freestanding\" for $name"

    root_need "$suite" rustc rust-src bindgen libclang-dev
    built_with=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"/\1/p' "$headers/.config")
    have=$(root_run "$suite" rustc --version)
    [ "$have" = "$built_with" ] ||
        die "the kernel $release was built with '$built_with', and $suite has '$have': the archive is being updated, try again later"
    # Metadata that were finished once for this very package stay good.
    if [ "$(cat "$headers/rust/toa-stamp" 2>/dev/null)" != "$release $version $kernel_recipe" ]; then
        detail "unpacking its source and building the Rust metadata (a minute or two)"
        logged "rust-$name" kernel_rust_build "$suite" "$release" "$version" ||
            die "the Rust metadata of $release could not be built; see above"
    fi
    mkdir -p "$new/checkpatch"
    cp "$headers"/rust/checkpatch/* "$new/checkpatch/"
}

# kernel_freestanding NAME: Rust and the sources of its core, where the half without the
# kernel's own Rust support is compiled.
kernel_freestanding() {
    local suite
    suite=$(kernel_rust_suite "$1")
    root_prepare "$suite"
    if [ "$suite" != "$(kernel_value "$1" suite)" ]; then
        root_refresh "$suite" || die "the package index of $suite cannot be read; see above"
    fi
    case $suite in
        bookworm) root_need "$suite" rustc-web rust-web-src ;;
        *) root_need "$suite" rustc rust-src ;;
    esac
}

kernel_rust_build() {
    local suite=$1 release=$2 version=$3 root headers source name file
    root=$(root_folder "$suite")
    headers=$root/usr/src/linux-headers-$release
    name=linux-source-$(cut -d. -f1,2 <<<"$version")
    source=$root/var/tmp/source
    rm -rf "$source" "$headers/rust"
    mkdir -p "$source"
    # shellcheck disable=SC2016
    root_run "$suite" sh -ec 'cd /var/tmp/source && apt-get -o APT::Sandbox::User=root download "$1"' \
        sh "$name=$version" || return
    # Kconfig reads a file in every folder, but only the core's code is compiled here.
    dpkg-deb --fsys-tarfile "$source"/*.deb | tar --extract --to-stdout "./usr/src/$name.tar.xz" |
        xz --decompress --threads=0 |
        tar --extract --directory "$source" --strip-components=1 --anchored \
            --exclude="$name"/{drivers,fs,net,sound}/'*.c' --exclude="$name/drivers/gpu/*.h" \
            --exclude="$name"/tools/{perf,testing} --exclude="$name/Documentation/*."{rst,yaml,svg} \
            --exclude="$name/arch/*.dts"{,i} || return
    rm "$source"/*.deb
    cp "$headers/.config" "$source/.config" || return
    # shellcheck disable=SC2016
    root_run "$suite" sh -ec '
        headers=/usr/src/linux-headers-$1
        cd /var/tmp/source
        # The compiler as the headers name it, or the configuration would change.
        cc=$(printf "include %s/.kernelvariables\nall:\n\t@echo \$(CC)\n" "$headers" | make -s -f - all)
        set -- CC="$cc" KERNELRELEASE="$1"
        make "$@" olddefconfig
        diff "$headers/.config" .config || true
        grep -q "^CONFIG_RUST=y" .config || {
            make "$@" rustavailable || true
            echo "the configuration lost CONFIG_RUST"
            exit 1
        }
        make "$@" -j"$(nproc)" prepare
    ' sh "$release" || return

    mkdir -p "$headers/rust/checkpatch" || return
    cp "$source"/rust/*.rmeta "$source"/rust/*.so "$headers/rust/" || return
    strip --strip-debug "$headers"/rust/*.so || return
    cp "$source/scripts/target.json" "$headers/scripts/" || return
    for file in checkpatch.pl spelling.txt const_structs.checkpatch; do
        cp "$source/scripts/$file" "$headers/rust/checkpatch/" || return
    done
    cmp "$source/include/generated/rustc_cfg" "$headers/include/generated/rustc_cfg" || return
    printf '%s\n' "$release $version $kernel_recipe" >"$headers/rust/toa-stamp"
    rm -rf "$source"
}

# kernel_forget SUITE RELEASE: remove what an earlier version left in the build root.
kernel_forget() {
    local suite=$1 release=$2 root
    root=$(root_folder "$suite")
    ! grep -qxF -- "$release" "$TOA_CACHE"/kernels/*/release || return 0
    if [ -e "$root/var/lib/dpkg/info/linux-headers-$release.list" ]; then
        logged "forget-$suite" root_run "$suite" apt-get purge --yes --auto-remove "linux-headers-$release" || true
    fi
    rm -rf "$root/usr/src/linux-headers-$release"
}
