// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table of any rows, and a segment read by it.

use crate::bytes::Bytes;
use crate::oracle::{LAYOUTS, Row, Set, hold_walk};
use crate::reading::check_by;

/// `data` is how many rows there are, kind and layout of each, and an area.
pub fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let count = 1 + usize::from(bytes.byte()) % 18;
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..count {
        let kind = bytes.byte();
        let (name, length) = LAYOUTS[usize::from(bytes.byte()) % LAYOUTS.len()];
        rows.push((kind, length, name));
    }
    let Some(set) = Set::list(&rows) else {
        return;
    };
    assert_eq!(set.table.rows().len(), count);
    let area = &bytes.0[..bytes.0.len().min(40)];
    hold_walk(area);
    check_by(&set, area);
}
