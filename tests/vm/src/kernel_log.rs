// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel logs while a test does something.

use toa_cli::kmsg::Cursor;

/// Runs `work`; returns its result, and the lines of the module that the kernel logged meanwhile.
///
/// # Panics
///
/// Where the log cannot be read.
pub fn during<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let cursor = Cursor::now().expect("/dev/kmsg can be read");
    let result = work();
    let mut lines = cursor.since();
    lines.retain(|line| line.starts_with("toa: ") && !line.contains("loading out-of-tree"));
    (result, lines)
}
