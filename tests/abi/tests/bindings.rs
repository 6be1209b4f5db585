// SPDX-License-Identifier: MIT OR Apache-2.0
//! The committed bindings are what bindgen makes of the headers today.
//!
//! `TOA_BLESS=1 cargo test -p toa-abi-tests` writes them anew.

use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn header(path: &str) -> bindgen::Builder {
    let root = repository();
    bindgen::builder()
        .header(root.join(path).to_str().expect("the path is UTF-8"))
        .clang_arg(format!("-I{}", root.join("toa-kmod/uapi").display()))
        .use_core()
        .layout_tests(false)
        .generate_comments(false)
        .derive_default(true)
        .prepend_enum_name(false)
        .formatter(bindgen::Formatter::Prettyplease)
        .rust_target(bindgen::RustTarget::stable(85, 0).expect("bindgen knows Rust 1.85"))
        .disable_header_comment()
}

fn compare(builder: bindgen::Builder, spdx: &str, source: &str, committed: &str) {
    let head = format!(
        "// SPDX-License-Identifier: {spdx}\n\
         // Made by bindgen from {source}; tests/abi compares. Do not edit.\n\n"
    );
    let fresh = head
        + &builder
            .generate()
            .expect("bindgen reads the header")
            .to_string();
    let path = repository().join(committed);
    if std::env::var_os("TOA_BLESS").is_some() {
        std::fs::write(&path, &fresh).expect("the bindings can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == fresh,
        "{committed} is not what bindgen makes of {source}: \
         run TOA_BLESS=1 cargo test -p toa-abi-tests, and read the difference"
    );
}

/// The kernel's edition is 2021, where `extern` blocks are not yet `unsafe`.
fn for_the_kernel(builder: bindgen::Builder) -> bindgen::Builder {
    builder.rust_edition(bindgen::RustEdition::Edition2021)
}

#[test]
fn uapi_in_the_module() {
    compare(
        for_the_kernel(header("toa-kmod/uapi/toa.h")).allowlist_item("toa_.*|TOA_.*"),
        "GPL-2.0",
        "toa-kmod/uapi/toa.h",
        "toa-kmod/pure/uapi.rs",
    );
}

#[test]
fn uapi_in_libtoa() {
    compare(
        header("toa-kmod/uapi/toa.h")
            .rust_edition(bindgen::RustEdition::Edition2024)
            .allowlist_item("toa_.*|TOA_.*"),
        "MIT OR Apache-2.0",
        "toa-kmod/uapi/toa.h",
        "libtoa/src/uapi/bindings.rs",
    );
}

fn netlink() -> bindgen::Builder {
    header("toa-kmod/uapi/toa_netlink.h")
        .allowlist_item("toa_prefix|toa_session|TOA_CMD_.*|TOA_A_.*|TOA_GENL_.*|TOA_.*_MAX")
}

#[test]
fn netlink_in_the_module() {
    compare(
        for_the_kernel(netlink()),
        "GPL-2.0",
        "toa-kmod/uapi/toa_netlink.h",
        "toa-kmod/pure/uapi_netlink.rs",
    );
}

#[test]
fn netlink_in_toa_cli() {
    compare(
        netlink().rust_edition(bindgen::RustEdition::Edition2024),
        "MIT OR Apache-2.0",
        "toa-kmod/uapi/toa_netlink.h",
        "toa-cli/src/uapi.rs",
    );
}

#[test]
fn shim() {
    compare(
        for_the_kernel(header("toa-kmod/shim/shim.h")).allowlist_item(
            "toa_shim_.*|toa_flow|toa_socket|TOA_HOOK_.*|TOA_GETNAME_.*|TOA_SWITCH_.*|TOA_TCP_.*",
        ),
        "GPL-2.0",
        "toa-kmod/shim/shim.h",
        "toa-kmod/kernel/shim.rs",
    );
}
