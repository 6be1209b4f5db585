// SPDX-License-Identifier: MIT OR Apache-2.0
//! toa-cli, whatever the module says by netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::Nla;
use toa_cli::control::{Client, Config, Session, read_attributes, read_config, read_session};
use toa_cli::sources::Sources;

use crate::netlink::{
    FIRST_DATA, GENERATION, LAYOUTS, LOCAL, One, PORTS, PREFIX, TRANSPARENT, attributes,
};

/// The bytes of `struct toa_session` that say something.
const SAID: usize = 70;

/// A `struct toa_session` by its offsets.
fn session(bytes: &[u8]) -> Option<Session> {
    let bytes: &[u8; SAID] = bytes.first_chunk()?;
    let place = |addr: usize, port: usize| {
        let addr: [u8; 16] = bytes[addr..addr + 16].try_into().unwrap();
        let ip = match addr {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => {
                Ipv4Addr::new(a, b, c, d).into()
            }
            _ => IpAddr::from(addr),
        };
        SocketAddr::new(ip, u16::from(bytes[port]) << 8 | u16::from(bytes[port + 1]))
    };
    let words = ["segment 0", "syn", "ack", "data"].map(str::to_owned);
    let [client_family, vip_family, segment, kind, length, flags] =
        *bytes.last_chunk().expect("of so many");
    let client = Client {
        addr: place(0, 48),
        carried_by: words
            .get(usize::from(segment))
            .cloned()
            .unwrap_or(format!("segment {segment}")),
        kind,
        length,
    };
    let vpc_id = bytes[60..64]
        .iter()
        .fold(0, |id, &byte| id << 8 | u32::from(byte));
    Some(Session {
        client: (client_family > 0).then_some(client),
        vip: (vip_family > 0).then(|| place(16, 50)),
        vpc_id: (flags & 2 == 2).then_some(vpc_id),
        peer: place(32, 52),
        local_port: place(0, 54).port(),
        netns: u32::from_ne_bytes(bytes[56..60].try_into().unwrap()),
    })
}

/// A prefix as numbers: of IPv4 or not, first address, mask.
type Plain = (bool, u128, u128);

fn plain(value: &[u8]) -> Option<Plain> {
    let (addr, rest) = value.split_first_chunk::<16>()?;
    let bits = u128::from_be_bytes(*addr);
    let length = u32::from(*rest.first()?);
    let mask = match length {
        0 => 0,
        1..=128 => u128::MAX << (128 - length),
        _ => return None,
    };
    Some((bits >> 32 == 0xffff && length >= 96, bits & mask, mask))
}

/// The sources are those of the prefixes, by their ends and what is beside those.
fn check_sources(sources: &Sources, prefixes: &[Plain]) {
    for (v4, first, mask) in prefixes {
        let last = first | !mask;
        for bits in [first.wrapping_sub(1), *first, last, last.wrapping_add(1)] {
            if *v4 && bits >> 32 != 0xffff {
                continue;
            }
            let source = match Ipv6Addr::from(bits) {
                addr if *v4 => IpAddr::V4(addr.to_ipv4_mapped().expect("a mapped address")),
                addr => addr.into(),
            };
            let want = prefixes
                .iter()
                .any(|(other, first, mask)| other == v4 && bits & mask == *first);
            assert_eq!(sources.contains(source), want, "{source} of {sources}");
        }
    }
    // None of them made of nothing.
    for prefix in sources.prefixes() {
        assert!(
            prefixes
                .iter()
                .any(|(v4, ..)| *v4 == prefix.addr().is_ipv4())
        );
    }
}

/// What is set, by attributes that were found another way.
fn check_config(config: &Config, told: &[One<'_>]) {
    let of = |kind| {
        let values = told.iter().filter(move |(_, other, _)| *other == kind);
        values.map(|(_, _, value)| *value)
    };
    // Said again, the last counts.
    let is_on = |kind| of(kind).next_back().is_some_and(|value| value != [0]);
    let text =
        |kind| String::from_utf8_lossy(of(kind).next_back().unwrap_or_default()).into_owned();
    let mut generations = of(GENERATION).filter_map(|value| value.try_into().ok());
    let prefixes: Vec<Plain> = of(PREFIX).filter_map(plain).collect();
    check_sources(&config.trusted, &prefixes);
    let want = Config {
        generation: generations.next_back().map_or(0, u32::from_ne_bytes),
        trusted: config.trusted.clone(),
        layouts: text(LAYOUTS),
        first_data: is_on(FIRST_DATA),
        transparent: is_on(TRANSPARENT),
        transparent_local: is_on(LOCAL),
        transparent_ports: text(PORTS),
    };
    assert_eq!(*config, want);
}

/// `data` is a `struct toa_session`, and the attributes of a message.
pub fn check(data: &[u8]) {
    assert_eq!(read_session(data), session(data));

    let (want, more) = attributes(data);
    let Ok(found) = read_attributes(data) else {
        assert!(more);
        return;
    };
    assert!(!more);
    let pairs: Vec<(u16, Vec<u8>)> = found
        .iter()
        .map(|attribute| {
            let mut value = vec![0; attribute.value_len()];
            attribute.emit_value(&mut value);
            (attribute.kind(), value)
        })
        .collect();
    let same: Vec<_> = want
        .iter()
        .map(|(_, kind, value)| (*kind, value.to_vec()))
        .collect();
    assert_eq!(pairs, same);
    check_config(&read_config(&found), &want);
}
