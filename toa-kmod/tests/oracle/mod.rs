// SPDX-License-Identifier: GPL-2.0
//! What an option area says, worked out a second time: from RFC 9293 and `docs/wire-formats.md`, by
//! plain indexing, and with nothing of the module's own code. The exhaustive tests and the fuzz
//! targets hold the module against it.

// Each of its users takes a part.
#![allow(dead_code)]

mod profiles;

use std::collections::BTreeSet;
use std::net::IpAddr;

use toa_kmod::pure::layout::{Address, Client, Family, Table, Toa};
use toa_kmod::pure::packet::{Item, Options};
use toa_kmod::pure::policy::{self, Reading, Segment};
use toa_kmod::pure::profile;

pub(crate) use profiles::*;

/// One option, by where it lies in its area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// An option of so many bytes.
    Whole(usize, usize),
    /// One whose length cannot be right.
    Broken,
}

/// The options of `area` but end-of-list and no-operation.
pub(crate) fn tokens(area: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < area.len() && area[at] != 0 {
        if area[at] == 1 {
            at += 1;
            continue;
        }
        let length = if at + 1 < area.len() {
            area[at + 1] as usize
        } else {
            0
        };
        if length < 2 || length > area.len() - at {
            tokens.push(Token::Broken);
            break;
        }
        tokens.push(Token::Whole(at, length));
        at += length;
    }
    tokens
}

/// The layouts, and how long an option of each is.
pub(crate) const LAYOUTS: [(&str, u8); 10] = [
    ("client-v4", 8),
    ("client-v6", 20),
    ("client-v4-noport", 7),
    ("client-v6-noport", 19),
    ("vip-v4", 8),
    ("vip-v6", 20),
    ("vpc-id", 6),
    ("client-vip-v4", 16),
    ("client-vip-vpc-v4", 20),
    ("client-vip-vpc-v6", 40),
];

/// An address and a port.
pub(crate) type Place = (IpAddr, u16);

/// What one option, or several, told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The client, with kind and length of the option that named it.
    pub(crate) client: Option<(u8, u8, Place)>,
    /// The VIP.
    pub(crate) vip: Option<Place>,
    /// The VPC.
    pub(crate) vpc_id: Option<[u8; 4]>,
}

/// What one option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// One of the set.
    Ours(Told),
    /// It ought to be, and has a length of its own.
    Broken,
    /// It is somebody else's.
    Foreign,
}

/// A set of layouts, in the words of this file and in the module's.
pub(crate) struct Set {
    rows: Vec<Row>,
    /// The module's table.
    pub(crate) table: Table,
}

impl Set {
    /// The profile of this name, which the module is given by its name.
    pub(crate) fn profile(name: &str) -> Self {
        let (_, rows) = PROFILES.iter().find(|(n, _)| *n == name).unwrap();
        Self {
            rows: rows.to_vec(),
            table: profile::parse(name.as_bytes()).unwrap(),
        }
    }

    /// Every profile.
    pub(crate) fn every() -> Vec<Self> {
        PROFILES
            .iter()
            .map(|(name, _)| Self::profile(name))
            .collect()
    }

    /// A list of one's own; which the module may refuse.
    pub(crate) fn list(rows: &[Row]) -> Option<Self> {
        let entries = rows
            .iter()
            .map(|(kind, length, name)| format!("{kind}/{length}={name}"));
        let text = entries.collect::<Vec<_>>().join(",");
        Some(Self {
            rows: rows.to_vec(),
            table: profile::parse(text.as_bytes()).ok()?,
        })
    }

    /// Its rows.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What the option is that consists of these bytes, kind and length among them.
    pub(crate) fn sort_of(&self, option: &[u8], syn: bool) -> Sort {
        let (kind, length) = (option[0], option.len());
        let row = self
            .rows
            .iter()
            .find(|row| (row.0, usize::from(row.1)) == (kind, length));
        // Fast Open of the time before its RFC. A client with this port is taken for it only where
        // the whole option looks the same.
        let cookie = syn && kind == 254 && option[2..].starts_with(&[0xf9, 0x89]);
        if cookie && (row.is_none() || length == 8) {
            return Sort::Foreign;
        }
        match row {
            Some((.., name)) => Sort::Ours(told(name, option)),
            // TCP's user time-out.
            None if (kind, length) == (28, 4) => Sort::Foreign,
            None if self.rows.iter().any(|row| row.0 == kind) => Sort::Broken,
            None => Sort::Foreign,
        }
    }

    /// What `area` says in a SYN, or in any other segment.
    pub(crate) fn said(&self, area: &[u8], syn: bool) -> Said {
        let mut said = Said::default();
        for token in tokens(area) {
            let Token::Whole(at, length) = token else {
                said.broken += 1;
                continue;
            };
            match self.sort_of(&area[at..at + length], syn) {
                Sort::Ours(told) => said.hear(told, (area[at], length as u8)),
                Sort::Broken => said.broken += 1,
                Sort::Foreign => {}
            }
        }
        said
    }

    /// Holds the module's reading of `area` against the one of this file.
    pub(crate) fn hold(&self, area: &[u8], segment: Segment) {
        let reading = policy::read(&self.table, area, segment);
        assert_eq!(
            self.said_by(&reading),
            self.said(area, segment == Segment::Syn),
            "{area:?} in {segment:?} by {:?}",
            self.rows
        );
    }

    fn said_by(&self, reading: &Reading) -> Said {
        let row = |number: u8| self.table.rows()[usize::from(number)];
        let rows = reading.rows.map(row);
        Said {
            told: reading.toa.as_ref().map(told_by).unwrap_or_default(),
            rows: rows.map(|row| (row.kind, row.length)).collect(),
            more: reading.duplicates,
            broken: reading.malformed,
        }
    }
}

/// What an option of that layout tells: where the port lies, and the address from one byte to another.
fn told(name: &str, option: &[u8]) -> Told {
    let place = |port: Option<usize>, from: usize, to: usize| {
        let ip: IpAddr = match to - from {
            4 => <[u8; 4]>::try_from(&option[from..to]).unwrap().into(),
            _ => <[u8; 16]>::try_from(&option[from..to]).unwrap().into(),
        };
        let port = port.map_or(0, |at| {
            u16::from(option[at]) << 8 | u16::from(option[at + 1])
        });
        (ip, port)
    };
    let client = |place| Some((option[0], option.len() as u8, place));
    let id = |at: usize| [option[at], option[at + 1], option[at + 2], option[at + 3]];
    let mut told = Told::default();
    match name {
        "client-v4" => told.client = client(place(Some(2), 4, 8)),
        "client-v6" => told.client = client(place(Some(2), 4, 20)),
        "client-v4-noport" => told.client = client(place(None, 3, 7)),
        "client-v6-noport" => told.client = client(place(None, 3, 19)),
        "vip-v4" => told.vip = Some(place(Some(2), 4, 8)),
        "vip-v6" => told.vip = Some(place(Some(2), 4, 20)),
        "vpc-id" => told.vpc_id = Some(id(2)),
        "client-vip-v4" => {
            told.client = client(place(Some(2), 4, 8));
            told.vip = Some(place(Some(10), 12, 16));
        }
        "client-vip-vpc-v4" => {
            told.client = client(place(Some(2), 4, 8));
            told.vpc_id = Some(id(8));
            told.vip = Some(place(Some(16), 12, 16));
        }
        "client-vip-vpc-v6" => {
            told.client = client(place(Some(2), 4, 20));
            told.vpc_id = Some([0, option[20], option[21], option[22]]);
            told.vip = Some(place(None, 24, 40));
        }
        other => panic!("no layout is called {other}"),
    }
    told
}

/// What an area says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The first that tells each thing.
    pub(crate) told: Told,
    /// Kind and length of the options that told something new.
    pub(crate) rows: BTreeSet<(u8, u8)>,
    /// Options that told something again.
    pub(crate) more: u32,
    /// Options with an impossible length.
    pub(crate) broken: u32,
}

impl Said {
    fn hear(&mut self, told: Told, row: (u8, u8)) {
        let mut news = false;
        let mut again = false;
        let known = &mut self.told;
        for (is, was) in [
            (told.client.is_some(), known.client.is_some()),
            (told.vip.is_some(), known.vip.is_some()),
            (told.vpc_id.is_some(), known.vpc_id.is_some()),
        ] {
            news |= is && !was;
            again |= is && was;
        }
        known.client = known.client.or(told.client);
        known.vip = known.vip.or(told.vip);
        known.vpc_id = known.vpc_id.or(told.vpc_id);
        if news {
            self.rows.insert(row);
        }
        self.more += u32::from(again);
    }
}

fn place_of(address: &Address) -> Place {
    let addr = std::net::Ipv6Addr::from(address.addr);
    let ip = match address.family {
        Family::V4 => addr.to_ipv4_mapped().expect("a mapped address").into(),
        Family::V6 => addr.into(),
    };
    (ip, u16::from_be_bytes(address.port))
}

/// The same, of what the module read.
pub(crate) fn told_by(toa: &Toa) -> Told {
    let client = |client: &Client| (client.kind, client.length, place_of(&client.addr));
    Told {
        client: toa.client.as_ref().map(client),
        vip: toa.vip.as_ref().map(place_of),
        vpc_id: toa.vpc_id,
    }
}

/// Holds the module's walk through `area` against the one of this file: every body lies where its
/// option does.
pub(crate) fn hold_walk(area: &[u8]) {
    let walked: Vec<Token> = Options::new(area)
        .map(|item| match item {
            Item::Option { kind, length, body } => {
                let body_at = body.as_ptr() as usize - area.as_ptr() as usize;
                assert_eq!((area[body_at - 2], area[body_at - 1]), (kind, length));
                assert_eq!(body.len() + 2, usize::from(length));
                Token::Whole(body_at - 2, usize::from(length))
            }
            Item::Malformed => Token::Broken,
        })
        .collect();
    assert_eq!(walked, tokens(area), "{area:?}");
}
