// SPDX-License-Identifier: GPL-2.0
//! From option bytes to an address: each layout, each way to get it wrong, and anything at all.

use proptest::prelude::*;
use toa_kmod::pure::layout::{
    v4_mapped, v4_of, Address, Client, Family, Format, Layout, Table, Toa,
};
use toa_kmod::pure::packet::{Item, Options};
use toa_kmod::pure::policy::{add, choose, is_silent, Reading, Segment};
use toa_kmod::pure::{policy, profile};

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

const VPC_ID: [u8; 4] = [1, 2, 3, 4];

/// A table that has every format.
fn every_format() -> Table {
    let mut table = Table::new();
    for (format, kind) in Format::ALL.into_iter().zip(200..) {
        table.add(Layout::new(kind, format)).expect("room");
    }
    table
}

fn default_table() -> Table {
    profile::parse(profile::DEFAULT.as_bytes()).expect("the default profile")
}

/// By the default profile.
fn read(area: &[u8], segment: Segment) -> Reading {
    policy::read(&default_table(), area, segment)
}

/// The default profile's options that name a client.
fn clients() -> Vec<Layout> {
    let table = default_table();
    let rows = table.rows().iter().filter(|row| row.format.has_client());
    rows.copied().collect()
}

const VIP_PORT: [u8; 2] = [1, 187]; // 443
const VIP4: [u8; 4] = [198, 51, 100, 9];
const VIP6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99];

fn v4(port: [u8; 2], addr: [u8; 4]) -> Address {
    Address {
        family: Family::V4,
        port,
        addr: v4_mapped(addr),
    }
}

fn v6(port: [u8; 2], addr: [u8; 16]) -> Address {
    Address {
        family: Family::V6,
        port,
        addr,
    }
}

/// The body of an option of this format, and what it tells.
fn body(format: Format) -> (Vec<u8>, Option<Address>, Option<Address>, Option<[u8; 4]>) {
    let [vip4, vip6] = [v4(VIP_PORT, VIP4), v6(VIP_PORT, VIP6)];
    match format {
        Format::ClientV4 => ([&PORT[..], &V4].concat(), Some(v4(PORT, V4)), None, None),
        Format::ClientV6 => ([&PORT[..], &V6].concat(), Some(v6(PORT, V6)), None, None),
        Format::ClientV4NoPort => ([&[1][..], &V4].concat(), Some(v4([0; 2], V4)), None, None),
        Format::ClientV6NoPort => ([&[1][..], &V6].concat(), Some(v6([0; 2], V6)), None, None),
        Format::VipV4 => ([&VIP_PORT[..], &VIP4].concat(), None, Some(vip4), None),
        Format::VipV6 => ([&VIP_PORT[..], &VIP6].concat(), None, Some(vip6), None),
        Format::VpcId => (VPC_ID.to_vec(), None, None, Some(VPC_ID)),
        Format::ClientVipV4 => (
            [&PORT[..], &V4, &[0xee; 2], &VIP_PORT, &VIP4].concat(),
            Some(v4(PORT, V4)),
            Some(vip4),
            None,
        ),
        Format::ClientVipVpcV4 => (
            [&PORT[..], &V4, &VPC_ID, &VIP4, &VIP_PORT, &[0xee; 2]].concat(),
            Some(v4(PORT, V4)),
            Some(vip4),
            Some(VPC_ID),
        ),
        Format::ClientVipVpcV6 => (
            [&PORT[..], &V6, &VPC_ID[1..], &[0xee], &VIP6].concat(),
            Some(v6(PORT, V6)),
            Some(v6([0; 2], VIP6)),
            Some([0, 2, 3, 4]),
        ),
    }
}

/// The option of `layout` on the wire.
fn wire(layout: &Layout) -> Vec<u8> {
    let bytes = [&[layout.kind, layout.length], &body(layout.format).0[..]].concat();
    assert_eq!(bytes.len(), usize::from(layout.length));
    bytes
}

/// What it tells.
fn toa(layout: &Layout) -> Toa {
    let (_, client, vip, vpc_id) = body(layout.format);
    Toa {
        client: client.map(|addr| Client {
            addr,
            kind: layout.kind,
            length: layout.length,
        }),
        vip,
        vpc_id,
    }
}

/// The rows that a reading counts.
fn rows(table: &Table, reading: &Reading) -> Vec<Layout> {
    reading
        .rows
        .map(|row| table.rows()[usize::from(row)])
        .collect()
}

#[test]
fn every_format_has_a_name_and_the_length_of_its_body() {
    for format in Format::ALL {
        assert_eq!(body(format).0.len() + 2, usize::from(format.length()));
        let (_, client, vip, vpc_id) = body(format);
        assert_eq!(format.has_client(), client.is_some(), "{format:?}");
        assert_eq!(format.has_vip(), vip.is_some(), "{format:?}");
        assert_eq!(format.has_vpc_id(), vpc_id.is_some(), "{format:?}");
        let same = |other: &&Format| other.name() == format.name();
        assert_eq!(Format::ALL.iter().filter(same).count(), 1, "{format:?}");
    }
}

#[test]
fn every_layout_in_every_segment() {
    let table = every_format();
    for layout in table.rows() {
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
                if area.len() > 40 {
                    continue;
                }
                let reading = policy::read(&table, &area, segment);
                assert_eq!(reading.toa, Some(toa(layout)), "{area:?} in {segment:?}");
                assert_eq!(rows(&table, &reading), [*layout]);
                assert_eq!((reading.duplicates, reading.malformed), (0, 0));
            }
        }
    }
}

#[test]
fn every_truncation_of_every_layout() {
    let table = every_format();
    for layout in table.rows() {
        let option = wire(layout);
        for cut in 1..option.len() {
            for before in [&[][..], &LINUX_ACK, &LINUX_SYN] {
                let area = [before, &option[..cut]].concat();
                let reading = policy::read(&table, &area, Segment::Ack);
                assert_eq!(reading.toa, None, "{area:?}");
                assert_eq!(reading.malformed, 1, "{area:?}");
            }
        }
    }
}

#[test]
fn every_wrong_length_of_every_kind() {
    let table = default_table();
    for kind in [200, 201, 202, 253, 254] {
        for length in 0..=40u8 {
            if table
                .rows()
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
        let area = [&[99, length][..], &wire(&clients()[0])].concat();
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
    let area = [&[EOL][..], &wire(&clients()[0])].concat();
    assert_eq!(read(&area, Segment::Ack), Reading::default());
}

#[test]
fn of_two_in_one_segment_the_first() {
    let table = default_table();
    for a in clients() {
        for b in clients() {
            let area = [wire(&a), wire(&b)].concat();
            let reading = read(&area, Segment::Ack);
            assert_eq!(reading.toa, Some(toa(&a)));
            assert_eq!(rows(&table, &reading), [a]);
            assert_eq!((reading.duplicates, reading.malformed), (1, 0));
        }
    }
}

/// Of each thing that can be told the first, whichever options tell it.
#[test]
fn of_two_that_tell_something_else_both() {
    let table = every_format();
    for a in table.rows() {
        for b in table.rows() {
            let area = [wire(a), wire(b)].concat();
            let reading = policy::read(&table, &area, Segment::Ack);
            let (one, two) = (toa(a), toa(b));
            let both = Toa {
                client: one.client.or(two.client),
                vip: one.vip.or(two.vip),
                vpc_id: one.vpc_id.or(two.vpc_id),
            };
            assert_eq!(reading.toa, Some(both), "{a:?} {b:?}");
            let again = (one.client.is_some() && two.client.is_some())
                || (one.vip.is_some() && two.vip.is_some())
                || (one.vpc_id.is_some() && two.vpc_id.is_some());
            assert_eq!(reading.duplicates, u32::from(again), "{a:?} {b:?}");
            let counted = rows(&table, &reading);
            assert!(counted.contains(a));
            assert_eq!(counted.contains(b) && a != b, both != one, "{a:?} {b:?}");
        }
    }
}

/// Tencent's three beside one another, in any order.
#[test]
fn client_vip_and_vpc_of_three_options() {
    let table = default_table();
    let layouts = [
        Layout::new(200, Format::ClientV4),
        Layout::new(201, Format::VpcId),
        Layout::new(202, Format::VipV4),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let area = order.map(|at| wire(&layouts[at])).concat();
        let reading = read(&area, Segment::Ack);
        let told = reading.toa.expect("all three");
        assert_eq!(told.client, toa(&layouts[0]).client);
        assert_eq!(told.vip, Some(v4(VIP_PORT, VIP4)));
        assert_eq!(told.vpc_id, Some(VPC_ID));
        assert_eq!(rows(&table, &reading).len(), 3);
        assert_eq!(reading.duplicates, 0);
    }
}

#[test]
fn an_address_before_a_broken_option_counts() {
    let area = [&wire(&clients()[0])[..], &[77, 200]].concat();
    let reading = read(&area, Segment::Ack);
    assert_eq!(
        (reading.toa, reading.malformed),
        (Some(toa(&clients()[0])), 1)
    );
}

#[test]
fn rows_of_two_segments_are_put_together_and_told_apart() {
    let table = every_format();
    let reading = |these: &[usize]| {
        let options = these.iter().map(|row| wire(&table.rows()[*row]));
        policy::read(&table, &options.collect::<Vec<_>>().concat(), Segment::Ack)
    };
    // A client, a VIP and a VPC id.
    let [client, vip, vpc_id] = [Format::ClientV4, Format::VipV4, Format::VpcId].map(|format| {
        let row = table.rows().iter().position(|row| row.format == format);
        row.expect("it has every format")
    });
    let [one, two, three] = [&[client, vip][..], &[vip, vpc_id], &[client, vip, vpc_id]]
        .map(|these| reading(these).rows);
    assert_eq!(one.with(two), three);
    assert_eq!(three.without(two), reading(&[client]).rows);
    assert_eq!(one.without(three).count(), 0);
}

#[test]
fn of_two_segments_the_later() {
    let [one, two, vip] = [
        Layout::new(200, Format::ClientV4),
        Layout::new(253, Format::ClientV6),
        Layout::new(202, Format::VipV4),
    ]
    .map(|layout| toa(&layout));
    assert_eq!(
        choose(Some((one, Segment::Syn)), Some(two)),
        Some((two, Segment::Ack))
    );
    assert_eq!(
        choose(Some((one, Segment::Syn)), None),
        Some((one, Segment::Syn))
    );
    let dropped = Some((one, Segment::Ack));
    assert_eq!(choose(dropped, None), dropped);
    assert_eq!(choose(None, Some(two)), Some((two, Segment::Ack)));
    assert_eq!(choose(None, None), None);
    // What the later one leaves out stands, and the segment is the client's.
    let both = Toa {
        vip: vip.vip,
        ..one
    };
    assert_eq!(
        choose(Some((one, Segment::Syn)), Some(vip)),
        Some((both, Segment::Syn))
    );
    assert_eq!(
        choose(Some((vip, Segment::Syn)), Some(one)),
        Some((both, Segment::Ack))
    );
    assert_eq!(
        choose(Some((vip, Segment::Syn)), Some(vip)),
        Some((vip, Segment::Ack))
    );
    // Where a server has been told, the earlier one stands.
    for (told, ack, after) in [
        (one, None, (one, Segment::Syn)),
        (one, Some(two), (one, Segment::Syn)),
        (one, Some(vip), (both, Segment::Syn)),
        (both, Some(Toa { vip: None, ..two }), (both, Segment::Syn)),
        (vip, Some(one), (both, Segment::Ack)),
        (vip, Some(vip), (vip, Segment::Syn)),
    ] {
        assert_eq!(add((told, Segment::Syn), ack), after);
    }
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
    let told = read(&cookie, Segment::Ack).toa.expect("an address");
    let client = told.client.expect("a client").addr;
    assert_eq!(client.port, [0xf9, 0x89]);
    assert_eq!(v4_of(&client.addr), Some([1, 2, 3, 4]));
    // In any other layout port 63881 is a port.
    for table in [default_table(), profile::parse(b"bytedance").unwrap()] {
        for layout in table.rows() {
            let mut option = wire(layout);
            option[2..4].copy_from_slice(&[0xf9, 0x89]);
            let is_cookie = (layout.kind, layout.length) == (254, 8);
            let told = policy::read(&table, &option, Segment::Syn).toa;
            assert_eq!(told.is_none(), is_cookie, "{layout:?}");
        }
    }
}

/// Kind 28 is TCP's user time-out (RFC 5482) where it is 4 bytes long.
#[test]
fn a_user_timeout_is_no_broken_client() {
    let table = profile::parse(b"alibaba-cdn").unwrap();
    for segment in SEGMENTS {
        let reading = policy::read(&table, &[28, 4, 0, 60], segment);
        assert_eq!(reading, Reading::default());
        assert_eq!(
            policy::read(&table, &[28, 5, 0, 60, 0], segment).malformed,
            1
        );
    }
}

#[test]
fn a_table_that_reads_nothing_reads_nothing() {
    for layout in every_format().rows() {
        for segment in SEGMENTS {
            let reading = policy::read(&Table::new(), &wire(layout), segment);
            assert_eq!(reading, Reading::default());
        }
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
        (0..clients().len()).prop_map(|row| wire(&clients()[row])),
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
            if let Some(client) = reading.toa.and_then(|toa| toa.client) {
                let is = |row: &Layout| (row.kind, row.length) == (client.kind, client.length);
                prop_assert!(rows(&default_table(), &reading).iter().any(is));
            }
        }
    }

    /// Well-formed areas: what was put in first of each kind is what comes out.
    #[test]
    fn any_options(options in prop::collection::vec(any_option(), 0..8)) {
        let area = options.concat();
        let is_row = |option: &&Vec<u8>| {
            option.len() > 1
                && clients().iter().any(|row| (row.kind, row.length) == (option[0], option[1]))
        };
        let rows = options.iter().filter(is_row).count() as u32;
        let reading = read(&area, Segment::Ack);
        let client = reading.toa.and_then(|toa| toa.client);
        prop_assert_eq!(client.is_some(), rows > 0);
        if let (Some(client), Some(first)) = (client, options.iter().find(is_row)) {
            prop_assert_eq!((client.kind, client.length), (first[0], first[1]));
            prop_assert_eq!(&client.addr.port[..], &first[2..4]);
        }
    }
}
