// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of ports.

use toa_kmod::pure::ports::parse;

/// A port as Rust reads numbers, which takes a sign too.
fn port(entry: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(entry).ok()?;
    let port = text.parse().ok()?;
    (port != 0 && !text.starts_with('+')).then_some(port)
}

/// The ports in front of the first entry that is none, and that entry.
pub(crate) fn ports(list: &[u8]) -> (Vec<u16>, Option<&[u8]>) {
    let mut found = Vec::new();
    if list.is_empty() {
        return (found, None);
    }
    for entry in list.split(|&byte| byte == b',') {
        match port(entry) {
            Some(port) => found.push(port),
            None => return (found, Some(entry)),
        }
    }
    (found, None)
}

/// `data` is a list.
pub fn check(data: &[u8]) {
    let (want, bad) = ports(data);
    let mut found = Vec::new();
    let refused = parse(data, |port| found.push(port)).err();
    assert_eq!(found, want);
    // The entry itself, and not another like it: its place is what a user is told.
    assert_eq!(
        refused.map(<[u8]>::as_ptr_range),
        bad.map(<[u8]>::as_ptr_range)
    );
}
