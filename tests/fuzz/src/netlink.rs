// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to the module by netlink.

use std::net::IpAddr;

use toa_cli::sources::from_kernel;
use toa_kmod::pure::netlink::{Attributes, Bad, Change, Transparent, prefixes, read};
use toa_kmod::pure::profile;

use crate::ports::ports;

/// `TOA_A_...`: toa_netlink.h.
pub(crate) const GENERATION: u16 = 1;
const TRUST: u16 = 2;
pub(crate) const PREFIX: u16 = 3;
pub(crate) const LAYOUTS: u16 = 4;
pub(crate) const FIRST_DATA: u16 = 5;
pub(crate) const TRANSPARENT: u16 = 7;
pub(crate) const LOCAL: u16 = 8;
pub(crate) const PORTS: u16 = 9;

/// Where an attribute begins, its type and its value.
pub(crate) type One<'a> = (usize, u16, &'a [u8]);

/// The attributes by another way, with the flags of their types, and whether anything is left behind
/// them.
pub(crate) fn attributes(area: &[u8]) -> (Vec<One<'_>>, bool) {
    let mut found = Vec::new();
    let mut at = 0;
    while area.len().saturating_sub(at) >= 4 {
        let number = |at: usize| u16::from_ne_bytes(area[at..at + 2].try_into().unwrap());
        let length = usize::from(number(at));
        if length < 4 || at + length > area.len() {
            return (found, true);
        }
        found.push((at, number(at + 2), &area[at + 4..at + length]));
        at = (at + length).next_multiple_of(4).min(area.len());
    }
    (found, at < area.len())
}

/// Whether the value is a prefix whose host bits are clear, by ipnet.
fn is_prefix(value: &[u8]) -> bool {
    let Ok([addr @ .., length, 0, 0, 0]) = <&[u8; 20]>::try_from(value) else {
        return false;
    };
    // A short prefix of mapped addresses is an IPv6 one.
    from_kernel(*addr, *length).is_some_and(|prefix| match prefix.addr() {
        IpAddr::V6(_) => prefix.trunc() == prefix,
        IpAddr::V4(_) => prefix.trunc() == prefix && *length >= 96,
    })
}

/// A text without the zero behind it.
fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(&[0]).unwrap_or(value)
}

fn is_right((_, kind, value): &One<'_>) -> bool {
    match *kind {
        GENERATION => value.len() == 4,
        TRUST => true,
        PREFIX => is_prefix(value),
        LAYOUTS => text(value).len() <= 1024 && profile::parse(text(value)).is_ok(),
        FIRST_DATA | TRANSPARENT | LOCAL => [&[0][..], &[1]].contains(value),
        PORTS => text(value).len() <= 1024 && ports(text(value)).1.is_none(),
        _ => false,
    }
}

/// `data` is what follows the headers of a request.
pub fn check(data: &[u8]) {
    let (mut want, more) = attributes(data);
    for (_, kind, _) in &mut want {
        *kind &= 0x3fff;
    }
    let mut walk = Attributes::new(data);
    let found: Vec<_> = walk
        .by_ref()
        .map(|one| (one.at, one.kind, one.value))
        .collect();
    assert_eq!(found, want);
    assert_eq!(!walk.rest().is_empty(), more);

    let of = |kind| {
        let mut all = want.iter().filter(move |(_, other, _)| *other == kind);
        (all.next(), all.count())
    };
    let again = |at: usize, (_, kind, _): &One<'_>| {
        *kind != PREFIX && want[..at].iter().any(|(_, other, _)| other == kind)
    };
    let wrong = want
        .iter()
        .enumerate()
        .find(|(at, one)| !is_right(one) || again(*at, one))
        .map(|(_, one)| one);
    let trusts = of(TRUST).0.is_some();
    let (first, others) = of(PREFIX);
    let stray = first.filter(|_| !trusts);
    match read(data) {
        Ok(change) => {
            assert!(wrong.is_none() && !more && stray.is_none());
            let value = |kind| of(kind).0.map(|(_, _, value)| *value);
            let count = usize::from(first.is_some()) + others;
            let layouts = value(LAYOUTS).map(|value| profile::parse(text(value)).unwrap());
            let generation = value(GENERATION).map(|value| value.try_into().unwrap());
            let wanted = Change {
                generation: generation.map(u32::from_ne_bytes),
                trusted: trusts.then_some(count),
                layouts,
                first_data: value(FIRST_DATA).map(|value| value == [1]),
                transparent: Transparent {
                    on: value(TRANSPARENT).map(|value| value == [1]),
                    local: value(LOCAL).map(|value| value == [1]),
                    ports: value(PORTS).map(text),
                },
            };
            assert_eq!(change, wanted);
            let nothing = want.iter().all(|(_, kind, _)| *kind == GENERATION);
            assert_eq!(change.is_empty(), nothing);
            let read: Vec<_> = prefixes(data)
                .map(|one| (one.addr().to_vec(), one.length()))
                .collect();
            let want: Vec<_> = want
                .iter()
                .filter(|(_, kind, _)| *kind == PREFIX)
                .map(|(_, _, value)| (value[..16].to_vec(), value[16]))
                .collect();
            assert_eq!(read, want);
        }
        Err(Bad { at, why }) => {
            assert!(why.to_bytes().is_ascii());
            if others < 4096 {
                match wrong.or(stray.filter(|_| !more)) {
                    // An entry of it.
                    Some((from, LAYOUTS | PORTS, value)) => {
                        assert!((*from..from + 4 + value.len()).contains(&at), "{at}");
                    }
                    Some((from, _, _)) => assert_eq!(at, *from),
                    None => assert!(more && at == data.len() - walk.rest().len()),
                }
            }
        }
    }
}
