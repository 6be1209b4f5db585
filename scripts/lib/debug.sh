# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Kernels of a configuration of our own: those of tests/kernels.toml with a key "config", which
# names tests/debug/CONFIG.config. They are built from the distribution's linux-source, whole, and
# small: allnoconfig, what a node needs (node.config), and what is to be looked for.

debug_configured() {
    [ -n "$(kernel_value "$1" config)" ]
}

# debug_fragments NAME: the files that its configuration is made of.
debug_fragments() {
    local own
    own=$TOA_REPO/tests/debug/$(kernel_value "$1" config).config
    [ -e "$own" ] || die "tests/kernels.toml: $1 is to have the configuration $own, which is not there"
    printf '%s\n' "$TOA_REPO/tests/debug/node.config" "$own"
}

# debug_wanted NAME: the stamp of what would be built now, as kernel_wanted's.
debug_wanted() {
    local name=$1 version files
    version=$(kernel_newest "$(kernel_value "$name" suite)" "$(kernel_value "$name" archive)" linux-source)
    mapfile -t files < <(debug_fragments "$name")
    printf 'recipe %s\nlinux-source-%s=%s\n' "$kernel_recipe" "$(cut -d. -f1,2 <<<"$version")" "$version"
    # What it is configured and built with; comments do not count.
    { kernel_value "$name" make && grep -h '^CONFIG_' "${files[@]}"; } | sha256sum
}

# debug_arguments NAME: what its make wants to be told each time, one a line.
debug_arguments() {
    kernel_value "$1" make | tr ' ' '\n'
}

# debug_make NAME SUITE WANTED: as kernel_make does for a stock kernel.
debug_make() {
    local name=$1 suite=$2 wanted=$3 new version
    new=$(kernel_folder "$name").new
    version=$(sed -n '2s/.*=//p' <<<"$wanted")
    detail "building a kernel of the configuration $(kernel_value "$name" config) from linux-source $version (ten minutes)"
    root_need "$suite" make gcc libc6-dev bc flex bison libelf-dev libssl-dev openssl xz-utils kmod cpio \
        python3-minimal perl rsync
    case " $(kernel_value "$name" make) " in
        *" LLVM=-19 "*) root_need "$suite" clang-19 lld-19 llvm-19 libclang-19-dev ;;
    esac
    if [ "$(kernel_value "$name" rust)" = kernel ]; then
        root_need "$suite" rustc rust-src bindgen
    else
        kernel_freestanding "$name"
    fi
    rm -rf "$new"
    mkdir -p "$new"
    logged "source-$name" debug_source "$suite" "/build/linux-$name" "$(sed -n 2p <<<"$wanted")" ||
        die "the source of the kernel $name could not be had; see above"
    logged "configure-$name" debug_configure "$name" ||
        die "the kernel $name cannot be configured as tests/debug says; see above"
    logged "build-$name" debug_build "$name" "$new" ||
        die "the kernel $name does not build; see above"
    printf '/build/linux-%s\n' "$name" >"$new/headers"
    printf '%s\n' "$wanted" >"$new/stamp"
    touch "$new/checked"
    rm -rf "${new%.new}"
    mv "$new" "${new%.new}"
}

# debug_source SUITE FOLDER PACKAGE=VERSION: what is never compiled here is left out.
debug_source() {
    local suite=$1 source name=${3%%=*}
    source=$(root_folder "$suite")$2
    rm -rf "$source"
    mkdir -p "$source"
    # shellcheck disable=SC2016
    root_run "$suite" sh -ec 'cd "$1" && apt-get -o APT::Sandbox::User=root download "$2"' sh "$2" "$3" || return
    dpkg-deb --fsys-tarfile "$source"/*.deb | tar --extract --to-stdout "./usr/src/$name.tar.xz" |
        xz --decompress --threads=0 |
        tar --extract --directory "$source" --strip-components=1 --anchored \
            --exclude="$name"/{drivers/{gpu,media,staging,infiniband},sound}/'*.'{c,h} \
            --exclude="$name"/tools/{perf,testing} --exclude="$name/Documentation/*."{rst,yaml,svg} \
            --exclude="$name/arch/*.dts"{,i} || return
    rm "$source"/*.deb
}

# debug_configure NAME: each line of the fragments holds in the end, or the error names it.
debug_configure() {
    local name=$1 suite source line option missing=0 files make
    suite=$(kernel_value "$name" suite)
    source=$(root_folder "$suite")/build/linux-$name
    mapfile -t files < <(debug_fragments "$name")
    mapfile -t make < <(debug_arguments "$name")
    make=(root_run "$suite" make -C "/build/linux-$name" "${make[@]}")
    {
        cat "${files[@]}"
        printf 'CONFIG_LOCALVERSION="-toa-%s"\n' "$name"
    } >"$source/toa.config"
    "${make[@]}" KCONFIG_ALLCONFIG=toa.config allnoconfig || return
    while read -r line; do
        option=${line%%=*}
        [[ $option = CONFIG_* ]] || continue
        # An option that is off has no line with a value.
        if [ "$line" = "$option=n" ]; then
            ! grep "^$option=" "$source/.config" || { echo "^ but wanted: $line" && missing=1; }
        elif ! grep -qxF -- "$line" "$source/.config"; then
            echo "wanted: $line, but the configuration has: $(grep -w -- "$option" "$source/.config" || echo nothing of that name)"
            missing=1
        fi
    done <"$source/toa.config"
    # Where CONFIG_RUST is among them, this says why.
    [ "$missing" -eq 0 ] || [ "$(kernel_value "$name" rust)" != kernel ] || "${make[@]}" rustavailable || true
    return "$missing"
}

# debug_build NAME FOLDER
debug_build() {
    local name=$1 new=$2 suite source make
    suite=$(kernel_value "$name" suite)
    source=$(root_folder "$suite")/build/linux-$name
    mapfile -t make < <(debug_arguments "$name")
    make=(root_run "$suite" make -C "/build/linux-$name" "${make[@]}")
    "${make[@]}" -j"$(nproc)" bzImage modules || return
    "${make[@]}" -s INSTALL_MOD_PATH="/build/linux-$name/installed" modules_install || return
    cp "$source/include/config/kernel.release" "$new/release" || return
    cp "$source/arch/x86/boot/bzImage" "$new/vmlinuz" || return
    mkdir -p "$new/lib" || return
    mv "$source/installed/lib/modules" "$new/lib/modules" || return
    rm -f "$new"/lib/modules/*/build
    # The module is built on what is left.
    find "$source" \( -name '*.o' -o -name '*.a' -o -name '.*.cmd' -o -name 'vmlinux*' \) \
        ! -path '*/scripts/*' ! -path '*/tools/*' -delete || return
    find "$source"/{drivers,fs,net,sound,mm,kernel} -name '*.c' -delete
}
