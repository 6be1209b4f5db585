# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Rust on the host, for the library, the tools and the tests. (The kernel's Rust lives in
# the build root: it has to be the very compiler that built the kernel.)

# rust_minimum: the version that the workspace states.
rust_minimum() {
    sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$TOA_REPO/Cargo.toml"
}

# tool_version TOOL: "1.85.1", or nothing where the tool is absent or does not run.
tool_version() {
    "$1" --version 2>/dev/null | sed -n '1s/^[a-z-]* \([0-9][0-9.]*\).*/\1/p'
}

# at_least VERSION MINIMUM
at_least() {
    [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$2" "$1" | sort --version-sort | head -n 1)" = "$2" ]
}

rust_is_new_enough() {
    at_least "$(tool_version rustc)" "$1" && at_least "$(tool_version cargo)" "$1"
}

# need_rust: cargo and rustc of the minimum version or newer on the PATH.
need_rust() {
    local minimum packages
    minimum=$(rust_minimum)
    # Non-login root shells miss the folder into which rustup installs.
    if ! rust_is_new_enough "$minimum" && [ -x "${HOME:-/root}/.cargo/bin/cargo" ]; then
        PATH="${HOME:-/root}/.cargo/bin:$PATH"
    fi
    if ! rust_is_new_enough "$minimum"; then
        detail "Rust $minimum or newer is needed; found: $(rust_found)"
        case $(host_release) in
            12) packages="rustc-web cargo-web" ;;
            *) packages="rustc cargo" ;;
        esac
        # shellcheck disable=SC2086
        need_packages $packages
        # Older tools in front of the distribution's would hide them.
        rust_is_new_enough "$minimum" || PATH="/usr/bin:$PATH"
        hash -r
        rust_is_new_enough "$minimum" ||
            die "Rust $minimum or newer is needed; after installing $packages there is: $(rust_found)"
    fi
    detail "Rust on this machine: $(rust_found) (minimum $minimum)"
    # cargo fetches over TLS, and the C parts need a compiler.
    need_packages ca-certificates gcc libc6-dev
    export CARGO_TARGET_DIR=$toa_target
}

rust_found() {
    local rustc cargo
    rustc=$(tool_version rustc)
    cargo=$(tool_version cargo)
    printf 'rustc %s, cargo %s' "${rustc:-absent}" "${cargo:-absent}"
}

# need_rust_lints: rustfmt and clippy that belong to the compiler found by need_rust.
need_rust_lints() {
    if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then
        return
    fi
    case $(host_release) in
        12) need_packages rustfmt-web rust-web-clippy ;;
        *) need_packages rustfmt rust-clippy ;;
    esac
}

# need_libclang: what the test that makes the bindings again loads, and the compiler's own
# headers, whose package carries the version in its name.
need_libclang() {
    local version
    need_packages libclang1
    version=$(dpkg-query --show --showformat='${Depends}' libclang1 | sed -n 's/^libclang1-\([0-9]*\).*/\1/p')
    need_packages "libclang-common-$version-dev"
}
