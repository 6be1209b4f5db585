// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any bytes that come from outside.
//!
//! Each module has one function `check`, which panics where something does not hold. libFuzzer calls
//! it with bytes of its own making (`targets/`, by `scripts/fuzz`), `cargo test` with those that
//! are kept in `corpus/`.
//!
//! Nothing here asks only for *no crash*: every result is held against one that is worked out
//! another way, or against what the bytes were made from.

pub mod answer;
mod bytes;
pub mod control;
mod kernel;
pub mod layout;
pub mod library;
pub mod list;
pub mod modinfo;
pub mod netlink;
#[path = "../../../toa-kmod/tests/oracle/mod.rs"]
mod oracle;
pub mod ports;
pub mod reading;
pub mod report;
pub mod segment;
pub mod table;
pub mod trust;

/// A target's `check`.
pub type Check = fn(&[u8]);

/// Every target by its name: that of its program, and of its folder in `corpus/`.
pub const TARGETS: [(&str, Check); 13] = [
    ("answer", answer::check),
    ("control", control::check),
    ("layout", layout::check),
    ("library", library::check),
    ("list", list::check),
    ("modinfo", modinfo::check),
    ("netlink", netlink::check),
    ("ports", ports::check),
    ("reading", reading::check),
    ("report", report::check),
    ("segment", segment::check),
    ("trust", trust::check),
    ("table", table::check),
];
