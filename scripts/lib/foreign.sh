# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Kernels of another architecture than this machine's: their headers with this machine's own
# build tools, the files that the node runs on, and the programs that run in it. Nothing of
# the other architecture is run here, so packages are unpacked, not installed.

# What the node holds; programs built here come from the cache.
foreign_packages=(
    base-files base-passwd bash binutils busybox-static coreutils curl dash grep iproute2 iptables iputils-ping
    kmod libgcc-s1 mawk nftables nginx procps python3 redis-server redis-tools sed util-linux
)

foreign_triple() {
    case $1 in
        arm64) echo aarch64-unknown-linux-gnu ;;
        *) die "tests/kernels.toml: the architecture '$1' is unknown to the scripts; they know arm64" ;;
    esac
}

# foreign_guest SUITE ARCH: the folder that is the node's root.
foreign_guest() {
    printf '%s\n' "$TOA_CACHE/guests/$1-$2"
}

# foreign_usable SUITE ARCH
foreign_usable() {
    [ "$(cat "$(foreign_guest "$1" "$2")/etc/toa-guest" 2>/dev/null)" = "${foreign_packages[*]}" ]
}

# foreign_architecture SUITE ARCH: let the root's apt know the architecture's packages.
foreign_architecture() {
    grep -qxF -- "$2" "$(root_folder "$1")/var/lib/dpkg/arch" 2>/dev/null ||
        root_run "$1" dpkg --add-architecture "$2"
}

# foreign_unpack SUITE FOLDER PACKAGE...: download the packages in the root, and unpack them.
foreign_unpack() {
    local suite=$1 folder=$2 downloads deb
    shift 2
    downloads=$(root_folder "$suite")/var/tmp/foreign
    rm -rf "$downloads"
    mkdir -p "$downloads" "$folder"
    root_run "$suite" sh -ec 'cd /var/tmp/foreign && apt-get -o APT::Sandbox::User=root download "$@"' sh "$@" || return
    for deb in "$downloads"/*.deb; do
        dpkg-deb --extract "$deb" "$folder" || return
    done
    rm -rf "$downloads"
}

# foreign_headers SUITE ARCHIVE RELEASE VERSION: the headers' package wants a compiler of its
# own architecture, so it alone is unpacked. The tools it links to are those of this machine.
foreign_headers() {
    local suite=$1 archive=$2 release=$3 version=$4 parts
    mapfile -t parts < <(
        root_run "$suite" apt-cache show "linux-headers-$release=$version" | sed -n 's/^Depends: //p' | tr ',' '\n' |
            sed -n 's/^ *\(linux-headers-[^ ]*-common\|linux-kbuild-[^ ]*\)\( (= \([^)]*\))\)\{0,1\}$/\1=\3/p' | sed 's/=$//'
    )
    [ ${#parts[@]} -eq 2 ] || { echo "linux-headers-$release does not name its common part and its tools" && return 1; }
    root_install "$suite" -t "$archive" "${parts[@]}" || return
    foreign_unpack "$suite" "$(root_folder "$suite")" "linux-headers-$release=$version"
}

# foreign_guest_make SUITE ARCH: apt finds out what belongs to the packages, as if nothing
# were installed. What their scripts would have done is not missed, but for the users' names.
foreign_guest_make() {
    local suite=$1 arch=$2 guest names
    guest=$(foreign_guest "$suite" "$arch")
    rm -rf "$guest" "$guest.new"
    mkdir -p "$guest.new/usr/bin" "$guest.new/usr/sbin" "$guest.new/usr/lib"
    # Packages that ship paths of before the merge find the links there already.
    ln -s usr/bin usr/sbin usr/lib "$guest.new/"
    mapfile -t names < <(
        root_run "$suite" apt-get install --print-uris --quiet=2 --yes -o Dir::State::status=/dev/null \
            -o APT::Architecture="$arch" -o APT::Architectures::="$arch" "${foreign_packages[@]}" |
            sed -n "s/^'.*' \([^_]*\)_\([^_]*\)_\([^_]*\)\.deb .*/\1:\3=\2/p" | sed 's/%3a/:/g; s/:all=/=/'
    )
    [ ${#names[@]} -gt 0 ] || { echo "apt cannot tell which packages ${foreign_packages[*]} need" && return 1; }
    foreign_unpack "$suite" "$guest.new" "${names[@]}" || return
    cp "$guest.new/usr/share/base-passwd/passwd.master" "$guest.new/etc/passwd" || return
    cp "$guest.new/usr/share/base-passwd/group.master" "$guest.new/etc/group" || return
    rm -rf "$guest.new"/usr/share/{doc,man,locale,info}
    printf '%s\n' "${foreign_packages[*]}" >"$guest.new/etc/toa-guest"
    mv "$guest.new" "$guest"
}

# foreign_prepare SUITE ARCH: the compilers, and the node's files.
foreign_prepare() {
    local suite=$1 arch=$2 triple lib version
    triple=$(foreign_triple "$arch")
    root_need "$suite" "gcc-${triple/-unknown/}" "libc6-dev-$arch-cross" rustc cargo
    lib=$(root_folder "$suite")/usr/lib/rustlib/$triple
    # Rust's library has to be of the very compiler.
    # shellcheck disable=SC2016
    version=$(root_run "$suite" dpkg-query --show --showformat='${Version}' rustc)
    if [ "$(cat "$lib/toa-version" 2>/dev/null)" != "$version" ]; then
        rm -rf "$lib"
        logged "rust-$suite-$arch" foreign_unpack "$suite" "$(root_folder "$suite")" "libstd-rust-dev:$arch=$version" ||
            die "Rust's library for $arch could not be had; see above"
        printf '%s\n' "$version" >"$lib/toa-version"
    fi
    foreign_usable "$suite" "$arch" && return
    detail "unpacking the files of a node of $arch"
    logged "guest-$suite-$arch" foreign_guest_make "$suite" "$arch" ||
        die "the files of a node of $arch could not be had; see above"
}

# foreign_target ARCH: where cargo builds for it.
foreign_target() {
    printf '%s\n' "$toa_target-$1"
}

# foreign_cargo SUITE ARCH COMMAND ARGUMENT...: cargo of the build root, on this workspace, with
# the crates that this machine's cargo has fetched.
foreign_cargo() {
    local suite=$1 arch=$2 command=$3 triple linker target crates=$TOA_CACHE/crates
    shift 3
    triple=$(foreign_triple "$arch")
    linker=CARGO_TARGET_${triple//-/_}_LINKER
    target=$(foreign_target "$arch")
    mkdir -p "$target"
    if ! cmp --silent "$TOA_REPO/Cargo.lock" "$crates/Cargo.lock"; then
        rm -rf "$crates"
        cargo vendor --quiet --locked --versioned-dirs --manifest-path "$TOA_REPO/Cargo.toml" "$crates" >/dev/null || return
        cp "$TOA_REPO/Cargo.lock" "$crates/"
    fi
    local root_binds=("$TOA_REPO" "$target" "$crates")
    root_run "$suite" env "${linker^^}=${triple/-unknown/}-gcc" CARGO_TARGET_DIR="$target" \
        cargo "$command" --manifest-path "$TOA_REPO/Cargo.toml" --locked --offline --target "$triple" \
        --config 'source.crates-io.replace-with="crates"' --config "source.crates.directory=\"$crates\"" "$@"
}
