// SPDX-License-Identifier: MIT OR Apache-2.0
//! The option area of a segment.

use toa_kmod::pure::policy::{Reading, Segment, is_silent, read};

use crate::oracle::{Token, hold, hold_walk, tokens};

/// The bytes of a TCP header that options may take.
const AREA: usize = 40;

/// `data` is an area; what is too long for a header is cut off.
pub fn check(data: &[u8]) {
    let area = &data[..data.len().min(AREA)];
    hold_walk(area);
    for (syn, segment) in [(true, Segment::Syn), (false, Segment::Ack)] {
        hold(area, syn);
        let reading = read(area, segment);
        if is_silent(area) {
            assert_eq!(reading, Reading::default());
        }
        // Padding in front changes nothing, and neither does what stands behind the end.
        let padded = [&[1, 1, 1], area].concat();
        assert_eq!(read(&padded, segment), reading);
        if !tokens(area).contains(&Token::Broken) {
            let ended = [area, &[0, 200, 8, 1, 2, 3, 4, 5, 6, 254, 0]].concat();
            assert_eq!(read(&ended, segment), reading);
        }
    }
}
