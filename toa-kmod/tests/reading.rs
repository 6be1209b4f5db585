// SPDX-License-Identifier: GPL-2.0
//! From option bytes to an address: each layout, each way to get it wrong, and anything at all.

use proptest::prelude::*;
use toa_kmod::pure::layout::{v4_mapped, v4_of, Address, Family, Format, Layout, Toa, LAYOUTS};
use toa_kmod::pure::packet::{Item, Options};
use toa_kmod::pure::policy::{choose, is_silent, read, Reading, Segment};

const SEGMENTS: [Segment; 3] = [Segment::Syn, Segment::Ack, Segment::Data];
const NOP: u8 = 1;
const EOL: u8 = 0;

/// What Linux puts into a SYN: MSS, SACK permitted, timestamps, NOP, window scale.
const LINUX_SYN: [u8; 20] = [
    2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
];
/// What Linux puts into an ACK: NOP, NOP, timestamps.
const LINUX_ACK: [u8; 12] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

const PORT: [u8; 2] = [0xca, 0x6c]; // 51820
const V4: [u8; 4] = [203, 0, 113, 7];
const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];

fn client(format: Format) -> Address {
    let (family, addr) = match format {
        Format::ClientV4 => (Family::V4, v4_mapped(V4)),
        Format::ClientV6 => (Family::V6, V6),
    };
    Address {
        family,
        port: PORT,
        addr,
    }
}

/// The option of `layout` on the wire, naming `client`.
fn wire(layout: &Layout) -> Vec<u8> {
    let mut bytes = vec![layout.kind, layout.length];
    bytes.extend(PORT);
    match layout.format {
        Format::ClientV4 => bytes.extend(V4),
        Format::ClientV6 => bytes.extend(V6),
    }
    assert_eq!(bytes.len(), usize::from(layout.length));
    bytes
}

fn toa(row: usize) -> Toa {
    let layout = &LAYOUTS[row];
    Toa {
        row: row as u8,
        kind: layout.kind,
        length: layout.length,
        client: client(layout.format),
    }
}

fn found(row: usize) -> Reading {
    Reading {
        toa: Some(toa(row)),
        ..Reading::default()
    }
}

#[test]
fn the_table_is_the_published_one() {
    let rows: Vec<_> = LAYOUTS.iter().map(|row| (row.kind, row.length)).collect();
    assert_eq!(rows, [(200, 8), (254, 8), (253, 20), (254, 20), (200, 20)]);
}

#[test]
fn no_two_rows_read_the_same_option() {
    for (i, a) in LAYOUTS.iter().enumerate() {
        for b in &LAYOUTS[i + 1..] {
            assert_ne!((a.kind, a.length), (b.kind, b.length));
        }
    }
}

#[test]
fn every_layout_in_every_segment() {
    for (row, layout) in LAYOUTS.iter().enumerate() {
        for segment in SEGMENTS {
            let option = wire(layout);
            let surroundings: [(&[u8], &[u8]); 5] = [
                (&[], &[]),
                (&LINUX_ACK, &[]),
                (&[], &LINUX_ACK),
                (&LINUX_SYN, &[]),
                (&[NOP, NOP, NOP], &[EOL]),
            ];
            for (before, after) in surroundings {
                let area = [before, &option, after].concat();
                assert_eq!(read(&area, segment), found(row), "{area:?} in {segment:?}");
            }
        }
    }
}

#[test]
fn every_truncation_of_every_layout() {
    for layout in &LAYOUTS {
        let option = wire(layout);
        for cut in 1..option.len() {
            for before in [&[][..], &LINUX_ACK, &LINUX_SYN] {
                let area = [before, &option[..cut]].concat();
                let reading = read(&area, Segment::Ack);
                assert_eq!(reading.toa, None, "{area:?}");
                assert_eq!(reading.malformed, 1, "{area:?}");
            }
        }
    }
}

#[test]
fn every_wrong_length_of_every_kind() {
    for kind in [200, 253, 254] {
        for length in 0..=40u8 {
            if LAYOUTS
                .iter()
                .any(|row| (row.kind, row.length) == (kind, length))
            {
                continue;
            }
            let mut area = vec![0xff; usize::from(length.max(2))];
            area[..2].copy_from_slice(&[kind, length]);
            for segment in SEGMENTS {
                let reading = read(&area, segment);
                assert_eq!(reading.toa, None, "kind {kind} length {length}");
                assert_eq!(reading.malformed, 1, "kind {kind} length {length}");
            }
        }
    }
}

#[test]
fn lengths_zero_and_one_end_the_walk() {
    for length in [0, 1] {
        let area = [&[99, length][..], &wire(&LAYOUTS[0])].concat();
        let reading = read(&area, Segment::Ack);
        assert_eq!((reading.toa, reading.malformed), (None, 1));
    }
}

#[test]
fn a_kind_without_a_length_is_malformed() {
    assert_eq!(read(&[NOP, 200], Segment::Ack).malformed, 1);
}

#[test]
fn what_follows_the_end_of_the_list_does_not_count() {
    let area = [&[EOL][..], &wire(&LAYOUTS[0])].concat();
    assert_eq!(read(&area, Segment::Ack), Reading::default());
}

#[test]
fn of_two_in_one_segment_the_first() {
    for (first, a) in LAYOUTS.iter().enumerate() {
        for b in &LAYOUTS {
            let area = [wire(a), wire(b)].concat();
            let reading = read(&area, Segment::Ack);
            assert_eq!(reading.toa, Some(toa(first)));
            assert_eq!((reading.duplicates, reading.malformed), (1, 0));
        }
    }
}

#[test]
fn an_address_before_a_broken_option_counts() {
    let area = [&wire(&LAYOUTS[0])[..], &[77, 200]].concat();
    let reading = read(&area, Segment::Ack);
    assert_eq!((reading.toa, reading.malformed), (Some(toa(0)), 1));
}

#[test]
fn of_two_segments_the_later() {
    for segment in SEGMENTS {
        assert_eq!(choose(Some((1, segment)), Some(2)), Some((2, Segment::Ack)));
        assert_eq!(choose(Some((1, segment)), None), Some((1, segment)));
    }
    assert_eq!(choose(None, Some(2)), Some((2, Segment::Ack)));
    assert_eq!(choose::<u8>(None, None), None);
}

/// 254/8 beginning with 0xF989 is what clients before RFC 7413 sent as a Fast Open cookie.
#[test]
fn a_fast_open_cookie_in_a_syn_is_no_address() {
    // A request for a cookie, and one of the usual 8 bytes, look like nothing else.
    for option in [
        &[254, 4, 0xf9, 0x89][..],
        &[254, 12, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8],
    ] {
        assert_eq!(read(option, Segment::Syn), Reading::default());
        assert_eq!(read(option, Segment::Ack).malformed, 1);
    }
    let cookie = [254, 8, 0xf9, 0x89, 1, 2, 3, 4];
    assert_eq!(read(&cookie, Segment::Syn), Reading::default());
    let address = read(&cookie, Segment::Ack).toa.expect("an address");
    assert_eq!(address.client.port, [0xf9, 0x89]);
    assert_eq!(v4_of(&address.client.addr), Some([1, 2, 3, 4]));
    // In any other layout port 63881 is a port.
    for layout in &LAYOUTS {
        let mut option = wire(layout);
        option[2..4].copy_from_slice(&[0xf9, 0x89]);
        let is_cookie = (layout.kind, layout.length) == (254, 8);
        assert_eq!(read(&option, Segment::Syn).toa.is_none(), is_cookie);
    }
}

#[test]
fn ordinary_segments_say_nothing() {
    for area in [&[][..], &LINUX_SYN, &LINUX_ACK, &[NOP; 40], &[EOL; 40]] {
        for segment in SEGMENTS {
            assert_eq!(read(area, segment), Reading::default());
        }
    }
}

/// The arrangements that are told without a walk: `None` may be any byte.
fn usual_areas() -> [Vec<Option<u8>>; 5] {
    let any = |n: usize| vec![None; n];
    let fixed = |bytes: &[u8]| bytes.iter().copied().map(Some).collect::<Vec<_>>();
    let timestamps = || [fixed(&[8, 10]), any(8)].concat();
    let mss = || [fixed(&[2, 4]), any(2)].concat();
    let window_scale = || [fixed(&[NOP, 3, 3]), any(1)].concat();
    [
        vec![],
        [fixed(&[NOP, NOP]), timestamps()].concat(),
        [mss(), fixed(&[4, 2]), timestamps(), window_scale()].concat(),
        [mss(), window_scale(), fixed(&[NOP, NOP, 4, 2])].concat(),
        [
            mss(),
            window_scale(),
            fixed(&[NOP, NOP]),
            timestamps(),
            fixed(&[4, 2, EOL, EOL]),
        ]
        .concat(),
    ]
}

/// What the hooks pass over unread is what reading finds nothing in, whatever stands in the options.
#[test]
fn usual_areas_say_nothing() {
    for usual in usual_areas() {
        for any in 0..=u8::MAX {
            let area: Vec<u8> = usual.iter().map(|byte| byte.unwrap_or(any)).collect();
            for segment in SEGMENTS {
                assert!(is_silent(&area), "{area:?}");
                assert_eq!(read(&area, segment), Reading::default(), "{area:?}");
            }
        }
    }
    assert!(is_silent(&LINUX_ACK) && is_silent(&LINUX_SYN));
}

/// One byte off, or one byte more or less, and an area is read.
#[test]
fn nothing_else_passes_unread() {
    for usual in usual_areas() {
        let area: Vec<u8> = usual.iter().map(|byte| byte.unwrap_or(200)).collect();
        for (at, _) in usual.iter().enumerate().filter(|(_, byte)| byte.is_some()) {
            for other in (0..=u8::MAX).filter(|other| *other != area[at]) {
                let mut area = area.clone();
                area[at] = other;
                assert!(!is_silent(&area), "{area:?}");
            }
        }
        assert!(!is_silent(&[&area[..], &[NOP]].concat()));
        assert!(area.is_empty() || !is_silent(&area[1..]));
        assert!(area.is_empty() || !is_silent(&area[..area.len() - 1]));
    }
}

/// Every area up to 6 bytes over an alphabet that holds what the walk cares about.
#[test]
fn every_short_area() {
    const ALPHABET: [u8; 8] = [0, 1, 2, 3, 8, 200, 254, 255];
    for len in 0..=6u32 {
        for number in 0..ALPHABET.len().pow(len) {
            let mut rest = number;
            let area: Vec<u8> = (0..len)
                .map(|_| {
                    let byte = ALPHABET[rest % ALPHABET.len()];
                    rest /= ALPHABET.len();
                    byte
                })
                .collect();
            // No layout is this short.
            assert_eq!(read(&area, Segment::Syn).toa, None);
        }
    }
}

#[test]
fn mapped_addresses() {
    assert_eq!(v4_of(&v4_mapped(V4)), Some(V4));
    assert_eq!(v4_of(&V6), None);
    assert_eq!(v4_of(&[0; 16]), None);
}

fn any_option() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![NOP]),
        (2u8..=253, prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, body)| {
            let mut option = vec![kind, body.len() as u8 + 2];
            option.extend(body);
            option
        }),
        (0..LAYOUTS.len()).prop_map(|row| wire(&LAYOUTS[row])),
    ]
}

proptest! {
    /// Any bytes: the walk ends, stays inside, and its items lie one behind the other.
    #[test]
    fn any_area(area in prop::collection::vec(any::<u8>(), 0..=40)) {
        let mut bytes = 0;
        let mut malformed = 0;
        for item in Options::new(&area) {
            prop_assert_eq!(malformed, 0, "nothing follows a malformed option");
            match item {
                Item::Option { kind, length, body } => {
                    prop_assert!(kind > NOP);
                    prop_assert_eq!(body.len() + 2, usize::from(length));
                    bytes += usize::from(length);
                }
                Item::Malformed => malformed += 1,
            }
        }
        prop_assert!(bytes <= area.len());
        for segment in SEGMENTS {
            let reading = read(&area, segment);
            if let Some(toa) = reading.toa {
                let row = LAYOUTS[usize::from(toa.row)];
                prop_assert_eq!((row.kind, row.length), (toa.kind, toa.length));
            }
        }
    }

    /// Well-formed areas: what was put in first of each kind is what comes out.
    #[test]
    fn any_options(options in prop::collection::vec(any_option(), 0..8)) {
        let area = options.concat();
        let is_row = |option: &&Vec<u8>| {
            option.len() > 1
                && LAYOUTS.iter().any(|row| (row.kind, row.length) == (option[0], option[1]))
        };
        let rows = options.iter().filter(is_row).count() as u32;
        let reading = read(&area, Segment::Ack);
        prop_assert_eq!(reading.toa.is_some(), rows > 0);
        prop_assert_eq!(reading.duplicates, rows.saturating_sub(1));
        if let (Some(toa), Some(first)) = (reading.toa, options.iter().find(is_row)) {
            prop_assert_eq!((toa.kind, toa.length), (first[0], first[1]));
            prop_assert_eq!(&toa.client.port[..], &first[2..4]);
        }
    }
}
