// SPDX-License-Identifier: GPL-2.0

//! Which layouts are read: a vendor's, by its name, or a list of one's own.
//!
//! One table for all is not to be had. Kinds 253 and 254 are for anybody's experiments, and 253/20 is a
//! client for one vendor and a VIP for another.

use super::layout::Format::{
    ClientV4, ClientV4NoPort, ClientV6, ClientV6NoPort, ClientVipV4, ClientVipVpcV4,
    ClientVipVpcV6, VipV4, VpcId,
};
use super::layout::{Format, Layout, Table, Unfit, MAX_ROWS};
use super::text::Text;

/// A vendor's layouts under a name.
#[derive(Debug)]
pub struct Profile {
    /// What the parameter calls it.
    pub name: &'static str,
    /// Its rows, the commonest first.
    pub rows: &'static [Layout],
}

/// What is read where nothing else is asked for: the first of [`PROFILES`].
pub const DEFAULT: &str = "tencent";

/// The profiles; `docs/wire-formats.md` has them as a table.
pub const PROFILES: [Profile; 8] = [
    Profile {
        name: DEFAULT,
        rows: &[
            Layout::new(200, ClientV4),
            Layout::new(253, ClientV6),
            Layout::new(254, ClientV4),
            Layout::new(254, ClientV6),
            Layout::new(200, ClientV6),
            Layout::new(202, VipV4),
            Layout::new(201, VpcId),
        ],
    },
    Profile {
        name: "lvs",
        rows: &[
            Layout::new(254, ClientV4),
            Layout::new(253, ClientV6),
            Layout::new(200, ClientV4),
        ],
    },
    Profile {
        name: "dpvs",
        rows: &[Layout::new(254, ClientV4), Layout::new(254, ClientV6)],
    },
    Profile {
        name: "alibaba",
        rows: &[
            Layout::new(254, ClientV4),
            Layout::new(250, VipV4),
            Layout::new(252, ClientVipVpcV4),
            Layout::new(249, ClientVipVpcV6),
            Layout::new(253, ClientV6),
        ],
    },
    Profile {
        name: "alibaba-cdn",
        rows: &[
            Layout::new(28, ClientV4NoPort),
            Layout::new(28, ClientV6NoPort),
        ],
    },
    Profile {
        name: "huawei",
        rows: &[Layout::new(254, ClientV4), Layout::new(253, ClientV6)],
    },
    Profile {
        name: "bytedance",
        rows: &[
            Layout::new(254, ClientV4),
            Layout::new(254, ClientVipV4),
            Layout::new(254, ClientV6),
        ],
    },
    Profile {
        name: "ucloud",
        rows: &[
            Layout::new(200, ClientV4),
            Layout::new(253, ClientV4),
            Layout::new(252, ClientV4),
        ],
    },
];

/// The kinds that TCP itself uses, and by which RFC: reading one of these as an address would take
/// every connection for one.
fn is_standard(kind: u8) -> bool {
    matches!(
        kind,
        0..=8           // end, no-operation, MSS, window scale, SACK, echo, timestamps
        | 19            // MD5 signature (2385)
        | 29            // TCP-AO (5925)
        | 30            // MPTCP (8684)
        | 34            // Fast Open (7413)
        | 69            // TCP-ENO (8547)
        | 172 | 174 // accurate ECN (9768)
    )
}

/// Why a text names no set of layouts. Each has the entry that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused<'a> {
    /// There is nothing.
    Empty,
    /// No profile is called that.
    UnknownProfile(&'a [u8]),
    /// It is not of the form `kind/length=layout`.
    NoRow(&'a [u8]),
    /// The kind is not a number that an option can have.
    BadKind(&'a [u8]),
    /// TCP itself uses the kind.
    StandardKind(&'a [u8], u8),
    /// No layout is called that.
    UnknownLayout(&'a [u8]),
    /// The length is not the layout's.
    BadLength(&'a [u8], Format),
    /// One kind and length in two entries.
    Clash(&'a [u8], &'a [u8]),
    /// One entry too many.
    TooMany(&'a [u8]),
}

/// The set that `text` names: a profile, or entries `kind/length=layout` with commas between.
///
/// # Errors
///
/// [`Refused`] says what is wrong with which entry; then nothing of it is taken.
pub fn parse(text: &[u8]) -> Result<Table, Refused<'_>> {
    if text.is_empty() {
        return Err(Refused::Empty);
    }
    let mut table = Table::new();
    if let Some(profile) = PROFILES.iter().find(|p| p.name.as_bytes() == text) {
        for row in profile.rows {
            // The profiles are tested to be free of clashes, and short.
            if table.add(*row).is_err() {
                return Err(Refused::UnknownProfile(text));
            }
        }
        return Ok(table);
    }
    if !b"=,/".iter().any(|sign| split(text, *sign).is_some()) {
        return Err(Refused::UnknownProfile(text));
    }
    for entry in Entries(Some(text)) {
        let row = parse_row(entry)?;
        match table.add(row) {
            Ok(()) => {}
            Err(Unfit::Full) => return Err(Refused::TooMany(entry)),
            Err(Unfit::Clash) => {
                let same = |other: &&[u8]| {
                    parse_row(other).is_ok_and(|o| (o.kind, o.length) == (row.kind, row.length))
                };
                let first = Entries(Some(text)).find(same).unwrap_or(entry);
                return Err(Refused::Clash(first, entry));
            }
        }
    }
    Ok(table)
}

/// What lies between the commas.
struct Entries<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0?;
        match split(text, b',') {
            Some((entry, rest)) => {
                self.0 = Some(rest);
                Some(entry)
            }
            None => self.0.take(),
        }
    }
}

/// What stands before the first `at`, and what behind it.
fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at)?;
    Some((text.get(..place)?, text.get(place.wrapping_add(1)..)?))
}

/// A decimal number as it is usually written: no sign, no zero in front.
fn number(text: &[u8]) -> Option<u8> {
    if text.len() > 1 && text.starts_with(b"0") {
        return None;
    }
    let mut number = None;
    for digit in text {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = Some(number.unwrap_or(0u8).checked_mul(10)?.checked_add(digit)?);
    }
    number
}

fn parse_row(entry: &[u8]) -> Result<Layout, Refused<'_>> {
    let (option, name) = split(entry, b'=').ok_or(Refused::NoRow(entry))?;
    let (kind, length) = split(option, b'/').ok_or(Refused::NoRow(entry))?;
    let kind = number(kind).ok_or(Refused::BadKind(entry))?;
    if is_standard(kind) {
        return Err(Refused::StandardKind(entry, kind));
    }
    let mut formats = Format::ALL.iter();
    let format = formats
        .find(|format| format.name().as_bytes() == name)
        .ok_or(Refused::UnknownLayout(entry))?;
    if number(length) != Some(format.length()) {
        return Err(Refused::BadLength(entry, *format));
    }
    Ok(Layout::new(kind, *format))
}

/// How much of an entry is repeated in a message.
const SHOWN: usize = 48;

impl Refused<'_> {
    /// Adds it to `text`, in words to act on.
    pub fn show<const N: usize>(&self, text: Text<N>) -> Text<N> {
        match *self {
            Self::Empty => profiles(text.text("is empty")),
            Self::UnknownProfile(entry) => profiles(start(text, entry)),
            Self::NoRow(entry) => start(text, entry).text(": must be kind/length=layout"),
            Self::BadKind(entry) => {
                start(text, entry).text(": the kind must be a number from 9 to 255")
            }
            Self::StandardKind(entry, kind) => start(text, entry)
                .text(": kind ")
                .number(kind.into())
                .text(" is TCP's own"),
            Self::UnknownLayout(entry) => {
                let text = start(text, entry).text(": the layout must be one of");
                Format::ALL
                    .iter()
                    .fold(text, |text, format| text.text(" ").text(format.name()))
            }
            Self::BadLength(entry, format) => start(text, entry)
                .text(": an option ")
                .text(format.name())
                .text(" is ")
                .number(format.length().into())
                .text(" bytes long"),
            Self::Clash(first, second) => start(start(text, first).text(" and "), second)
                .text(" clash: options of one kind and length can be read in one way only"),
            Self::TooMany(entry) => start(text, entry)
                .text(": more than ")
                .number(MAX_ROWS as u32)
                .text(" entries"),
        }
    }
}

/// The begin of an entry.
#[inline(never)]
fn start<const N: usize>(text: Text<N>, entry: &[u8]) -> Text<N> {
    match entry.get(..SHOWN) {
        Some(start) if entry.len() > SHOWN => text.bytes(start).text("..."),
        _ if entry.is_empty() => text.text("an empty entry"),
        _ => text.bytes(entry),
    }
}

fn profiles<const N: usize>(text: Text<N>) -> Text<N> {
    let text = text.text(": must be a list kind/length=layout,... or one of");
    PROFILES
        .iter()
        .fold(text, |text, profile| text.text(" ").text(profile.name))
}
