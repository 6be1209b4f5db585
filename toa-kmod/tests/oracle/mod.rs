// SPDX-License-Identifier: GPL-2.0
//! What an option area says, worked out a second time: from RFC 9293 and `docs/wire-formats.md`, by
//! plain indexing, and with nothing of the module's own code. The exhaustive tests and the fuzz
//! targets hold the module against it.

use std::net::IpAddr;

use toa_kmod::pure::layout::{self, Family, Toa};
use toa_kmod::pure::packet::{Item, Options};
use toa_kmod::pure::policy::{self, Segment};

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

/// A client: kind and length of the option that named it, address and port.
pub(crate) type Client = (u8, u8, IpAddr, u16);

/// What one option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// It names a client.
    Client(Client),
    /// It ought to, and has a length of its own.
    Broken,
    /// It is somebody else's.
    Foreign,
}

/// What the option is that consists of these bytes, kind and length among them.
pub(crate) fn sort_of(option: &[u8], syn: bool) -> Sort {
    let (kind, length) = (option[0], option.len());
    if ![200, 253, 254].contains(&kind) {
        return Sort::Foreign;
    }
    // Fast Open of the time before its RFC. No cookie is as long as an IPv6 client.
    if syn && kind == 254 && length != 20 && option[2..].starts_with(&[0xf9, 0x89]) {
        return Sort::Foreign;
    }
    let ip: IpAddr = match length {
        8 if kind != 253 => {
            let v4: [u8; 4] = option[4..8].try_into().unwrap();
            v4.into()
        }
        20 => {
            let v6: [u8; 16] = option[4..20].try_into().unwrap();
            v6.into()
        }
        _ => return Sort::Broken,
    };
    let port = u16::from(option[2]) << 8 | u16::from(option[3]);
    Sort::Client((kind, length as u8, ip, port))
}

/// What an area says: the client that counts, how many more there are, how many options are broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The first client.
    pub(crate) client: Option<Client>,
    /// Those after it.
    pub(crate) more: u32,
    /// Options with an impossible length.
    pub(crate) broken: u32,
}

/// What `area` says in a SYN, or in the segment that completes a handshake.
pub(crate) fn said(area: &[u8], syn: bool) -> Said {
    let mut said = Said::default();
    for token in tokens(area) {
        let sort = match token {
            Token::Whole(at, length) => sort_of(&area[at..at + length], syn),
            Token::Broken => Sort::Broken,
        };
        match sort {
            Sort::Client(_) if said.client.is_some() => said.more += 1,
            Sort::Client(client) => said.client = Some(client),
            Sort::Broken => said.broken += 1,
            Sort::Foreign => {}
        }
    }
    said
}

/// The same, of what the module read.
pub(crate) fn client_of(toa: &Toa) -> Client {
    let row = layout::LAYOUTS[usize::from(toa.row)];
    assert_eq!((row.kind, row.length), (toa.kind, toa.length), "{toa:?}");
    let addr = std::net::Ipv6Addr::from(toa.client.addr);
    let ip = match toa.client.family {
        Family::V4 => addr.to_ipv4_mapped().expect("a mapped address").into(),
        Family::V6 => addr.into(),
    };
    let port = u16::from_be_bytes(toa.client.port);
    (toa.kind, toa.length, ip, port)
}

/// Holds the module's reading of `area` against the one of this file.
pub(crate) fn hold(area: &[u8], syn: bool) {
    let segment = if syn { Segment::Syn } else { Segment::Ack };
    let reading = policy::read(area, segment);
    let read = Said {
        client: reading.toa.as_ref().map(client_of),
        more: reading.duplicates,
        broken: reading.malformed,
    };
    assert_eq!(read, said(area, syn), "{area:?} in {segment:?}");
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
