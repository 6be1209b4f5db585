// SPDX-License-Identifier: GPL-2.0
//! Every option area there is, over an alphabet that holds whatever makes a difference.

mod oracle;

use oracle::{hold_walk, Set};
use toa_kmod::pure::policy::Segment;

/// The bytes of a TCP header that options may take.
const AREA: usize = 40;

/// What is read alike but for a SYN's Fast Open cookie; fuzzing has the data, too.
const SEGMENTS: [Segment; 2] = [Segment::Ack, Segment::Syn];

fn option(kind: u8, length: u8) -> Vec<u8> {
    let mut bytes = vec![kind, length];
    // No two bytes alike, so that what is taken from the wrong place is something else.
    bytes.extend((2..length).map(|at| kind ^ at.wrapping_mul(7)));
    bytes
}

/// Every area of up to 40 bytes that is put together of these, whole or cut off at its end: one of
/// each thing that the walk or the default table tells apart, and of the lengths at which those change.
fn pieces() -> Vec<Vec<u8>> {
    let mut pieces = vec![
        vec![0],        // end of list
        vec![1],        // no operation
        vec![8, 0],     // a length of nothing
        vec![200, 1],   // and one that does not hold itself
        option(4, 2),   // foreign, the shortest
        option(8, 10),  // foreign, timestamps
        option(200, 2), // ours, with other lengths
        option(253, 8),
        option(254, 7),
        option(254, 9),
        option(200, 19),
        option(253, 21),
        option(200, 8), // the table's rows
        option(254, 8),
        option(200, 20),
        option(253, 20),
        option(254, 20),
        option(202, 8),
        option(201, 6),
        vec![254, 8, 0xf9, 0x89, 1, 2, 3, 4], // in a SYN, a Fast Open cookie,
        vec![254, 4, 0xf9, 0x89],             // and the wish for one
        vec![99, 255],                        // longer than any area
        vec![254, 40],                        // and as long
    ];
    pieces.sort();
    pieces.dedup();
    pieces
}

/// Goes through every sequence of pieces that begins with `area`; what does not fit is cut off.
fn every_sequence(set: &Set, area: &mut Vec<u8>, pieces: &[Vec<u8>], deep: usize, seen: &mut u64) {
    for segment in SEGMENTS {
        set.hold(area, segment);
    }
    *seen += 1;
    if deep == 0 || area.len() == AREA {
        return;
    }
    let length = area.len();
    for piece in pieces {
        let fits = piece.len().min(AREA - length);
        area.extend(&piece[..fits]);
        every_sequence(set, area, pieces, deep - 1, seen);
        area.truncate(length);
    }
}

#[test]
fn every_sequence_of_five_pieces() {
    let mut seen = 0;
    every_sequence(
        &Set::profile("tencent"),
        &mut Vec::new(),
        &pieces(),
        5,
        &mut seen,
    );
    assert!(seen > 1_000_000, "{seen}");
}

/// Every sequence of three options of each profile, and of what they might be taken for.
#[test]
fn every_sequence_of_each_profile() {
    for set in Set::every() {
        let mut pieces: Vec<_> = set
            .rows()
            .iter()
            .flat_map(|&(kind, length, _)| {
                [
                    option(kind, length),
                    option(kind, length - 1),
                    option(kind ^ 1, length),
                ]
            })
            .collect();
        pieces.extend([vec![1], vec![0], option(8, 10), option(28, 4)]);
        pieces.push(vec![254, 8, 0xf9, 0x89, 1, 2, 3, 4]);
        // Port 63881 in an option that is no cookie.
        pieces.push([&[254, 16, 0xf9, 0x89][..], &option(254, 14)[2..]].concat());
        let mut seen = 0;
        every_sequence(&set, &mut Vec::new(), &pieces, 3, &mut seen);
        assert!(seen > 1_000, "{seen}");
    }
}

/// With the pieces that let a walk go on, to the area's very end.
#[test]
fn every_full_area() {
    let pieces: Vec<_> = pieces()
        .into_iter()
        .filter(|piece| matches!(piece.len(), 7 | 8 | 10 | 19 | 20) || piece[0] == 0)
        .collect();
    let mut seen = 0;
    every_sequence(
        &Set::profile("tencent"),
        &mut Vec::new(),
        &pieces,
        AREA,
        &mut seen,
    );
    assert!(seen > 10_000, "{seen}");
}

/// The same with padding in between, so that each option lies at every place there is.
#[test]
fn every_full_area_with_padding() {
    let pieces = [
        vec![1],
        option(200, 8),
        option(254, 8),
        option(8, 10),
        option(253, 20),
    ];
    let mut seen = 0;
    every_sequence(
        &Set::profile("tencent"),
        &mut Vec::new(),
        &pieces,
        AREA,
        &mut seen,
    );
    assert_eq!(seen, 573_921);
}

/// Every arrangement of what the common systems send, which the hooks pass over at a glance, and of
/// what they must not.
#[test]
fn every_arrangement_of_the_usual() {
    let option =
        |kind: u8, length: u8| [vec![kind, length], vec![kind; length as usize - 2]].concat();
    let pieces = [
        vec![0],
        vec![1],
        option(2, 4),
        option(3, 3),
        option(4, 2),
        option(8, 10),
        option(200, 2),
        option(200, 8),
    ];
    let mut seen = 0;
    every_sequence(
        &Set::profile("tencent"),
        &mut Vec::new(),
        &pieces,
        7,
        &mut seen,
    );
    assert!(seen > 1_000_000, "{seen}");
}

/// Every raw area of up to nine bytes over the bytes that steer a walk.
#[test]
fn every_raw_area() {
    fn go_on(set: &Set, area: &mut Vec<u8>, most: usize) {
        hold_walk(area);
        for segment in SEGMENTS {
            set.hold(area, segment);
        }
        if area.len() == most {
            return;
        }
        for byte in [0, 1, 2, 8, 254] {
            area.push(byte);
            go_on(set, area, most);
            area.pop();
        }
    }
    go_on(&Set::profile("tencent"), &mut Vec::new(), 9);
}

/// One option of every kind and every length, in areas that hold it, just hold it, and just do not.
#[test]
fn every_kind_and_length() {
    let sets = Set::every();
    for kind in 0..=255u8 {
        for length in 0..=255u8 {
            for room in [
                0,
                1,
                2,
                8,
                19,
                20,
                21,
                AREA,
                usize::from(length),
                usize::from(length) + 1,
            ] {
                let mut area: Vec<u8> = (0..room as u32).map(|at| (at * 7 + 3) as u8).collect();
                for (at, byte) in [kind, length].into_iter().enumerate() {
                    if at < room {
                        area[at] = byte;
                    }
                }
                hold_walk(&area);
                for set in &sets {
                    for segment in SEGMENTS {
                        set.hold(&area, segment);
                    }
                }
            }
        }
    }
}
