// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets as toa-cli takes them from its tunnel.

use toa_cli::wire::{MAX_OPTIONS, Segment};

/// `data` is an IP packet.
pub fn check(data: &[u8]) {
    let Some(segment) = Segment::from_packet(data) else {
        return;
    };
    assert_eq!(
        segment.source.is_ipv4(),
        segment.destination.is_ipv4(),
        "{segment}"
    );
    assert!(segment.options.len() <= MAX_OPTIONS && segment.options.len() % 4 == 0);
    // What was read stands in the packet.
    for part in [&segment.options, &segment.payload] {
        assert!(part.is_empty() || data.windows(part.len()).any(|at| at == part));
    }
    // And written again, it reads the same.
    let packet = segment.to_packet().expect("a segment that was one");
    assert_eq!(Segment::from_packet(&packet), Some(segment));
}
