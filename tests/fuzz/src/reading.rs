// SPDX-License-Identifier: MIT OR Apache-2.0
//! The option area of a segment, by each vendor's set of layouts.

use std::sync::LazyLock;

use toa_kmod::pure::policy::{Reading, Segment, is_silent, read};

use crate::oracle::{Set, Token, hold_walk, tokens};

/// The bytes of a TCP header that options may take.
const AREA: usize = 40;

static SETS: LazyLock<Vec<Set>> = LazyLock::new(Set::every);

/// `data` is an area; what is too long for a header is cut off.
pub fn check(data: &[u8]) {
    let area = &data[..data.len().min(AREA)];
    hold_walk(area);
    for set in SETS.iter() {
        check_by(set, area);
    }
}

/// Reads an area by one set.
pub(crate) fn check_by(set: &Set, area: &[u8]) {
    for segment in [Segment::Syn, Segment::Ack, Segment::Data] {
        set.hold(area, segment);
        let reading = read(&set.table, area, segment);
        if is_silent(area) {
            assert_eq!(reading, Reading::default());
        }
        // Padding in front changes nothing, and neither does what stands behind the end.
        let padded = [&[1, 1, 1], area].concat();
        assert_eq!(read(&set.table, &padded, segment), reading);
        if !tokens(area).contains(&Token::Broken) {
            let ended = [area, &[0, 200, 8, 1, 2, 3, 4, 5, 6, 254, 0]].concat();
            assert_eq!(read(&set.table, &ended, segment), reading);
        }
    }
}
