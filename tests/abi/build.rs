// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles `src/layout.c`: where a C compiler puts the fields of the published structures.

fn main() {
    println!("cargo::rerun-if-changed=src/layout.c");
    println!("cargo::rerun-if-changed=../../toa-kmod/uapi");
    cc::Build::new()
        .file("src/layout.c")
        .include("../../toa-kmod/uapi")
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(true)
        .compile("toa_layout");
}
