// SPDX-License-Identifier: GPL-2.0
//! Requests by netlink: what they ask for, and what in them is to blame.

use toa_kmod::pure::netlink::{prefix_value, prefixes, read, Change, Transparent};
use toa_kmod::pure::profile;
use toa_kmod::pure::uapi_netlink as uapi;

fn attribute(kind: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend((kind as u16).to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn prefix(addr: [u8; 4], length: u8) -> Vec<u8> {
    let [a, b, c, d] = addr;
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d];
    attribute(
        uapi::TOA_A_PREFIX,
        &[&mapped[..], &[96 + length, 0, 0, 0]].concat(),
    )
}

fn generation(number: u32) -> Vec<u8> {
    attribute(uapi::TOA_A_GENERATION, &number.to_ne_bytes())
}

fn layouts(text: &[u8]) -> Vec<u8> {
    attribute(uapi::TOA_A_LAYOUTS, text)
}

fn first_data(value: u8) -> Vec<u8> {
    attribute(uapi::TOA_A_FIRST_DATA, &[value])
}

fn transparent(value: u8) -> Vec<u8> {
    attribute(uapi::TOA_A_TRANSPARENT, &[value])
}

fn local(value: u8) -> Vec<u8> {
    attribute(uapi::TOA_A_TRANSPARENT_LOCAL, &[value])
}

fn ports(list: &[u8]) -> Vec<u8> {
    attribute(uapi::TOA_A_TRANSPARENT_PORTS, list)
}

fn trust() -> Vec<u8> {
    attribute(uapi::TOA_A_TRUST, &[])
}

#[test]
fn what_is_asked_for() {
    assert_eq!(read(&[]), Ok(Change::default()));
    assert!(read(&generation(3)).unwrap().is_empty());
    let area = [
        trust(),
        prefix([10, 0, 0, 0], 8),
        generation(7),
        layouts(b"dpvs\0"),
        prefix([192, 0, 2, 1], 32),
        first_data(1),
        transparent(1),
        local(0),
        ports(b"80,443\0"),
    ]
    .concat();
    let change = read(&area).unwrap();
    assert_eq!(change.generation, Some(7));
    assert_eq!(change.trusted, Some(2));
    assert_eq!(change.layouts, profile::parse(b"dpvs").ok());
    assert_eq!(change.first_data, Some(true));
    let wish = Transparent {
        on: Some(true),
        local: Some(false),
        ports: Some(b"80,443"),
    };
    assert_eq!(change.transparent, wish);
    let values: Vec<Vec<u8>> = prefixes(&area)
        .map(|prefix| {
            let value = prefix_value(&prefix);
            [&value.addr[..], &[value.length], &value.reserved].concat()
        })
        .map(|value| attribute(uapi::TOA_A_PREFIX, &value))
        .collect();
    assert_eq!(
        values,
        [prefix([10, 0, 0, 0], 8), prefix([192, 0, 2, 1], 32)]
    );
    // Nobody.
    assert_eq!(read(&trust()).unwrap().trusted, Some(0));
    // Each of the mode's three is a change by itself, and all ports are one, too.
    for (one, wish) in [
        (
            transparent(0),
            Transparent {
                on: Some(false),
                ..Transparent::default()
            },
        ),
        (
            local(1),
            Transparent {
                local: Some(true),
                ..Transparent::default()
            },
        ),
        (
            ports(b""),
            Transparent {
                ports: Some(b""),
                ..Transparent::default()
            },
        ),
    ] {
        let change = read(&one).unwrap();
        assert!(!change.is_empty());
        assert_eq!(change.transparent, wish);
    }
    let list = longest(0);
    for behind in [&b""[..], b"\0"] {
        let area = ports(&[&list, behind].concat());
        assert_eq!(read(&area).unwrap().transparent.ports, Some(&list[..]));
    }
}

#[test]
fn the_attribute_to_blame() {
    let good = [generation(1), trust()].concat();
    for (bad, within, says) in [
        (attribute(uapi::TOA_A_GENERATION, &[1]), 0, "32-bit"),
        (generation(2), 0, "twice"),
        (trust(), 0, "twice"),
        (prefix([10, 0, 0, 1], 8), 0, "bits set behind"),
        (
            attribute(uapi::TOA_A_PREFIX, &[0; 19]),
            0,
            "struct toa_prefix",
        ),
        (
            attribute(
                uapi::TOA_A_PREFIX,
                &[&[0; 16][..], &[129, 0, 0, 0]].concat(),
            ),
            0,
            "above 128",
        ),
        (
            attribute(uapi::TOA_A_PREFIX, &[&[0; 19][..], &[1]].concat()),
            0,
            "reserved bytes",
        ),
        (first_data(2), 0, "read (1) or not (0)"),
        (transparent(2), 0, "on (1) or off (0)"),
        (
            attribute(uapi::TOA_A_TRANSPARENT, &[1, 0, 0, 0]),
            0,
            "on (1) or off (0)",
        ),
        (local(2), 0, "tells the VIP (1) or not (0)"),
        (
            attribute(uapi::TOA_A_TRANSPARENT_LOCAL, &[]),
            0,
            "tells the VIP (1) or not (0)",
        ),
        (ports(b"http"), 4, "not a port"),
        (ports(b"80,0"), 4 + 3, "not a port"),
        (ports(b"80,65536,443"), 4 + 3, "not a port"),
        (ports(b"80,,443"), 4 + 3, "not a port"),
        (ports(b"80, 443"), 4 + 3, "not a port"),
        (ports(b"80,443\n"), 4 + 3, "not a port"),
        // An empty entry, at the end: the comma before it is blamed.
        (ports(b"80,"), 4 + 2, "not a port"),
        (ports(b","), 4, "not a port"),
        (ports(&longest(1)), 4, "1024"),
        (attribute(uapi::TOA_A_SESSION, &[]), 0, "does not know"),
        (attribute(77, &[]), 0, "does not know"),
        (layouts(b""), 0, "empty"),
        (layouts(b"nobody"), 4, "no profile"),
        (layouts(b"200/8=client-v4,"), 4 + 15, "must be kind/length"),
        (layouts(b"200/8=client-v4,x"), 4 + 16, "must be kind/length"),
        (
            layouts(b"200/8=client-v4,x/8=vip-v4"),
            4 + 16,
            "from 9 to 255",
        ),
        (layouts(b"8/10=client-v4"), 4, "TCP's own"),
        (layouts(b"200/8=client-v4,201/8=x"), 4 + 16, "no layout"),
        (layouts(b"201/8=vpc-id"), 4, "another length"),
        (
            layouts(b"200/8=client-v4,200/8=vip-v4"),
            4 + 16,
            "before it",
        ),
        (layouts(&[b'x'; 1025]), 4, "1024"),
        (layouts(&rows(17)), 4 + 16 * 16, "more than 16"),
    ] {
        let area = [&good[..], &bad, &first_data(0)].concat();
        let refused = read(&area).unwrap_err();
        let why = refused.why.to_str().unwrap();
        assert_eq!(refused.at, good.len() + within, "{why}");
        assert!(why.contains(says), "{says}: {why}");
    }
    for one in [
        layouts(b"dpvs"),
        transparent(1),
        local(0),
        ports(b"80"),
        ports(b""),
    ] {
        let refused = read(&[&one[..], &one].concat()).unwrap_err();
        assert_eq!(refused.at, one.len());
        assert!(refused.why.to_str().unwrap().contains("twice"));
    }
    let stray = [generation(1), prefix([10, 0, 0, 0], 8)].concat();
    assert_eq!(read(&stray).unwrap_err().at, generation(1).len());
    let cut = [&good[..], &[3, 0, 1, 0]].concat();
    assert_eq!(read(&cut).unwrap_err().at, good.len());
    let many: Vec<u8> = [trust(), prefix([10, 0, 0, 0], 8).repeat(4097)].concat();
    let refused = read(&many).unwrap_err();
    assert_eq!(refused.at, trust().len() + 4096 * 24);
    assert!(refused.why.to_str().unwrap().contains("4096"));
    assert_eq!(read(&many[..refused.at]).unwrap().trusted, Some(4096));
}

/// A list of ports that is `more` bytes longer than may be.
fn longest(more: usize) -> Vec<u8> {
    let mut list = b"80,".repeat(342);
    list.truncate(1023 + more);
    list.push(b'1');
    list
}

/// So many rows of 15 bytes each, and commas.
fn rows(many: u8) -> Vec<u8> {
    let rows: Vec<String> = (0..many)
        .map(|n| format!("{}/8=client-v4", 200 + n))
        .collect();
    rows.join(",").into_bytes()
}
