# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The programs that run in the node: the tool, the example server, the full-NAT hop.

# programs_build PROFILE: "release" or "debug".
programs_build() {
    local profile=()
    [ "$1" = debug ] || profile=(--release)
    logged "programs-$1" cargo_here build "${profile[@]}" -p toa-cli -p toa-testbed --bins ||
        die "the programs do not build; see above"
    logged "server-$1" cargo_here build "${profile[@]}" -p libtoa --example server ||
        die "the example server does not build; see above"
}

# programs_for KERNEL: build for its architecture from now on.
programs_kernel=
programs_for() {
    programs_kernel=
    ! kernel_foreign "$1" || programs_kernel=$1
}

# programs_folder PROFILE: where the programs are then.
programs_folder() {
    local arch
    if [ -n "$programs_kernel" ]; then
        arch=$(kernel_arch "$programs_kernel")
        printf '%s\n' "$(foreign_target "$arch")/$(foreign_triple "$arch")/$1"
    else
        printf '%s\n' "$toa_target/$1"
    fi
}

# target_of_this_tree FOLDER: have cargo build our packages again where it built them from another
# clone last. It goes by the sources' times and by their paths inside the repository, so it would
# take what is older here for what it has, and keep the other's path in it.
target_of_this_tree() {
    local mark=$1/tree
    [ "$(cat "$mark" 2>/dev/null)" != "$TOA_REPO" ] || return 0
    rm -rf "$1"/{,*/}{debug,release}/.fingerprint/{toa,libtoa}-*
    mkdir -p "$1"
    printf '%s\n' "$TOA_REPO" >"$mark"
}

# cargo_here COMMAND ARGUMENT...: cargo on this workspace, whatever the current folder is.
cargo_here() {
    local command=$1
    shift
    if [ -n "$programs_kernel" ]; then
        target_of_this_tree "$(foreign_target "$(kernel_arch "$programs_kernel")")"
        foreign_cargo "$(kernel_value "$programs_kernel" suite)" "$(kernel_arch "$programs_kernel")" "$command" "$@"
        return
    fi
    target_of_this_tree "$toa_target"
    cargo "$command" --manifest-path "$TOA_REPO/Cargo.toml" --locked "$@"
}
