// SPDX-License-Identifier: GPL-2.0

//! The table of what the vendors write: one row per kind and length.
//!
//! `docs/wire-formats.md` says who sends which. To read one more format, add a row (and, for a new
//! arrangement of the bytes, a [`Format`]); counters and tests follow from the table.

/// How an option's body is arranged. All fields are in network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `port2 ip4`: the client's port and IPv4 address.
    ClientV4,
    /// `port2 ip6`: the client's port and IPv6 address.
    ClientV6,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The option's kind.
    pub kind: u8,
    /// The option's whole length on the wire.
    pub length: u8,
    /// What its body holds.
    pub format: Format,
}

const fn row(kind: u8, length: u8, format: Format) -> Layout {
    Layout {
        kind,
        length,
        format,
    }
}

/// The layouts that are read.
pub const LAYOUTS: [Layout; 5] = [
    row(200, 8, Format::ClientV4),
    row(254, 8, Format::ClientV4),
    row(253, 20, Format::ClientV6),
    row(254, 20, Format::ClientV6),
    row(200, 20, Format::ClientV6),
];

/// The lowest kind of the table.
const LOWEST_KIND: u8 = {
    let mut lowest = u8::MAX;
    let mut rows: &[Layout] = &LAYOUTS;
    while let [row, rest @ ..] = rows {
        if row.kind < lowest {
            lowest = row.kind;
        }
        rows = rest;
    }
    lowest
};

/// The kind of TCP Fast Open while it was an experiment. Experiments share it (RFC 6994), and are told
/// by the first two bytes.
const FAST_OPEN_KIND: u8 = 254;

/// The first two bytes of that experiment (RFC 7413, section 4.1.1).
const FAST_OPEN_EXID: [u8; 2] = [0xf9, 0x89];

/// The length of that option with a cookie of 4 bytes, which looks like an IPv4 client.
const FAST_OPEN_LIKE_V4: u8 = 8;

/// The address family of an [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An address and port as the option carried them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Which family the option's layout says.
    pub family: Family,
    /// The TCP port, network byte order.
    pub port: [u8; 2],
    /// The address, network byte order; an IPv4 one as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
}

/// The first twelve bytes of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2).
const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// `::ffff:a.b.c.d` for `a.b.c.d`, network byte order.
pub const fn v4_mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// `a.b.c.d` where `addr` is `::ffff:a.b.c.d`.
pub fn v4_of(addr: &[u8; 16]) -> Option<[u8; 4]> {
    match addr.strip_prefix(&V4_MAPPED)? {
        [a, b, c, d] => Some([*a, *b, *c, *d]),
        _ => None,
    }
}

/// A TOA option, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Toa {
    /// The row of [`LAYOUTS`] that fitted.
    pub row: u8,
    /// The option's kind on the wire.
    pub kind: u8,
    /// The option's length on the wire.
    pub length: u8,
    /// The client that it names.
    pub client: Address,
}

/// A TOA option, recognised and not taken apart yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried<'a> {
    row: u8,
    layout: Layout,
    body: &'a [u8],
}

impl Carried<'_> {
    /// Takes it apart. Never `None`: a row's length is that of its format. Not inlined, since the
    /// compiler then keeps each byte of the address in a place of its own.
    #[inline(never)]
    pub fn toa(&self) -> Option<Toa> {
        Some(Toa {
            row: self.row,
            kind: self.layout.kind,
            length: self.layout.length,
            client: address(self.layout.format, self.body)?,
        })
    }
}

/// What an option turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// A TOA option.
    Toa(Carried<'a>),
    /// Somebody else's option.
    Foreign,
    /// A kind of the table with a length that none of its rows has.
    WrongLength,
}

/// Recognises one option; `in_syn` tells whether its segment is a SYN, where kind 254 may be a Fast Open
/// cookie.
pub fn decode(kind: u8, length: u8, body: &[u8], in_syn: bool) -> Verdict<'_> {
    // Ordinary segments carry kinds below every row's.
    if kind < LOWEST_KIND {
        return Verdict::Foreign;
    }
    let fast_open = in_syn && kind == FAST_OPEN_KIND && body.starts_with(&FAST_OPEN_EXID);
    if fast_open && length == FAST_OPEN_LIKE_V4 {
        return Verdict::Foreign;
    }
    let mut row = 0;
    for layout in &LAYOUTS {
        if layout.kind == kind && layout.length == length {
            return Verdict::Toa(Carried {
                row,
                layout: *layout,
                body,
            });
        }
        row = u8::wrapping_add(row, 1);
    }
    if !fast_open && LAYOUTS.iter().any(|layout| layout.kind == kind) {
        Verdict::WrongLength
    } else {
        Verdict::Foreign
    }
}

fn address(format: Format, body: &[u8]) -> Option<Address> {
    let (port, addr) = body.split_first_chunk::<2>()?;
    let port = *port;
    match format {
        Format::ClientV4 => Some(Address {
            family: Family::V4,
            port,
            addr: v4_mapped(addr.try_into().ok()?),
        }),
        Format::ClientV6 => Some(Address {
            family: Family::V6,
            port,
            addr: addr.try_into().ok()?,
        }),
    }
}
