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

# cargo_here COMMAND ARGUMENT...: cargo on this workspace, whatever the current folder is.
cargo_here() {
    local command=$1
    shift
    cargo "$command" --manifest-path "$TOA_REPO/Cargo.toml" --locked "$@"
}
