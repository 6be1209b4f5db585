// SPDX-License-Identifier: GPL-2.0

//! Requests of the node's owner (`uapi/toa_netlink.h`).

use core::ffi::CStr;

use super::layout::Table;
use super::ports;
use super::profile::{self, Refused};
use super::trust::{Prefix, Wrong};
use super::uapi_netlink as uapi;

/// The header of an attribute: length and type.
const HEADER: usize = 4;

/// The bits of a type that say nothing of which it is: nested, network byte order.
const FLAGS: u16 = 0xc000;

/// An attribute of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Where its header begins in the message's attributes.
    pub at: usize,
    /// Its type.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The attributes of a message, one after another. What cannot be one ends them, and
/// [`Attributes::rest`] is where that begins.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    area: &'a [u8],
    at: usize,
}

impl<'a> Attributes<'a> {
    /// Those of `area`: what follows the headers of a generic netlink message.
    pub fn new(area: &'a [u8]) -> Self {
        Self { area, at: 0 }
    }

    /// What is left when there is no attribute any more: nothing, where all was right.
    pub fn rest(&self) -> &'a [u8] {
        self.area.get(self.at..).unwrap_or_default()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let rest = self.rest();
        let [a, b, c, d, ..] = rest else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let attribute = Attribute {
            at: self.at,
            kind: u16::from_ne_bytes([*c, *d]) & !FLAGS,
            value: rest.get(HEADER..length)?,
        };
        // The last one need not be padded.
        let padded = length.wrapping_add(3) & !3;
        self.at = self.at.wrapping_add(padded).min(self.area.len());
        Some(attribute)
    }
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    /// The attribute to blame, or what is wrong in it.
    pub at: usize,
    /// What is wrong with it.
    pub why: &'static CStr,
}

/// What of the mode `transparent` is to be another than it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transparent<'a> {
    /// Whether `accept` and `getpeername` tell the client.
    pub on: Option<bool>,
    /// Whether `getsockname` tells the VIP, while the mode is on.
    pub local: Option<bool>,
    /// The servers' ports to which the mode is limited, with commas between them; empty: all.
    pub ports: Option<&'a [u8]>,
}

impl Transparent<'_> {
    /// Whether it stays as it is.
    pub fn is_empty(&self) -> bool {
        self.on.is_none() && self.local.is_none() && self.ports.is_none()
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// Only if this is the generation in force.
    pub generation: Option<u32>,
    /// The trusted sources become those of so many prefixes, which [`prefixes`] gives.
    pub trusted: Option<usize>,
    /// The set of layouts becomes this.
    pub layouts: Option<Table>,
    /// Whether first data are read.
    pub first_data: Option<bool>,
    /// What becomes of the mode `transparent`.
    pub transparent: Transparent<'a>,
}

impl Change<'_> {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.trusted.is_none()
            && self.layouts.is_none()
            && self.first_data.is_none()
            && self.transparent.is_empty()
    }
}

/// Takes what an attribute says, unless another has said it.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), &'static CStr> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(c"an attribute that is there twice"),
    }
}

/// Reads a request, and judges all of it.
///
/// # Errors
///
/// The first attribute that is wrong; then nothing of the request is to be done.
pub fn read(area: &[u8]) -> Result<Change<'_>, Bad> {
    let mut change = Change::default();
    let mut trust = None;
    let mut first = None;
    let mut count = 0usize;
    let mut attributes = Attributes::new(area);
    for Attribute { at, kind, value } in attributes.by_ref() {
        let mut within = 0;
        let taken = match u32::from(kind) {
            uapi::TOA_A_GENERATION => match <[u8; 4]>::try_from(value) {
                Ok(number) => once(&mut change.generation, u32::from_ne_bytes(number)),
                Err(_) => Err(c"a generation is a 32-bit number"),
            },
            uapi::TOA_A_TRUST => once(&mut trust, ()),
            uapi::TOA_A_PREFIX if count >= uapi::TOA_PREFIXES_MAX as usize => {
                Err(c"too many prefixes: 4096 at most")
            }
            uapi::TOA_A_PREFIX => {
                count = count.wrapping_add(1);
                first = first.or(Some(at));
                prefix(value).map(|_| ())
            }
            uapi::TOA_A_LAYOUTS => match layouts(value) {
                Ok(table) => once(&mut change.layouts, table),
                Err((place, why)) => {
                    within = in_text(value, place);
                    Err(why)
                }
            },
            uapi::TOA_A_FIRST_DATA => match value {
                [on @ (0 | 1)] => once(&mut change.first_data, *on == 1),
                _ => Err(c"first data are read (1) or not (0)"),
            },
            uapi::TOA_A_TRANSPARENT => match value {
                [on @ (0 | 1)] => once(&mut change.transparent.on, *on == 1),
                _ => Err(c"the mode is on (1) or off (0)"),
            },
            uapi::TOA_A_TRANSPARENT_LOCAL => match value {
                [on @ (0 | 1)] => once(&mut change.transparent.local, *on == 1),
                _ => Err(c"getsockname tells the VIP (1) or not (0)"),
            },
            uapi::TOA_A_TRANSPARENT_PORTS => match ports(value) {
                Ok(list) => once(&mut change.transparent.ports, list),
                Err((place, why)) => {
                    within = in_text(value, place);
                    Err(why)
                }
            },
            _ => Err(c"an attribute that this module does not know, or cannot set"),
        };
        if let Err(why) = taken {
            let at = at.wrapping_add(within);
            return Err(Bad { at, why });
        }
    }
    if !attributes.rest().is_empty() {
        return Err(Bad {
            at: attributes.at,
            why: c"an attribute with an impossible length",
        });
    }
    match (trust, first) {
        (Some(()), _) => change.trusted = Some(count),
        (None, Some(at)) => {
            let why = c"prefixes without TOA_A_TRUST, which says what becomes of them";
            return Err(Bad { at, why });
        }
        (None, None) => {}
    }
    Ok(change)
}

/// Where in its attribute the place of a text is. What is blamed must lie in the message, and an empty
/// entry may be at its end.
fn in_text(text: &[u8], place: usize) -> usize {
    let last = text.len().checked_sub(1);
    last.map_or(0, |last| HEADER.wrapping_add(place.min(last)))
}

/// A text without the zero that C's strings end with.
fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\0").unwrap_or(value)
}

/// Where in `text` a part of it begins.
fn place(text: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize)
}

/// A list of ports; or where in its text it is wrong, and why.
fn ports(value: &[u8]) -> Result<&[u8], (usize, &'static CStr)> {
    let list = text(value);
    if list.len() > uapi::TOA_PORTS_MAX as usize {
        return Err((0, c"a text of more than 1024 bytes"));
    }
    match ports::parse(list, |_| ()) {
        Ok(()) => Ok(list),
        Err(entry) => Err((
            place(list, entry),
            c"not a port: a number from 1 to 65535, with commas between them, like 80,443",
        )),
    }
}

/// A set of layouts; or where in its text it is wrong, and why.
fn layouts(value: &[u8]) -> Result<Table, (usize, &'static CStr)> {
    let text = text(value);
    if text.len() > uapi::TOA_LAYOUTS_MAX as usize {
        return Err((0, c"a text of more than 1024 bytes"));
    }
    profile::parse(text).map_err(|refused| {
        let (entry, why) = match refused {
            Refused::Empty => (text, c"an empty text is no set of layouts"),
            Refused::UnknownProfile(entry) => {
                (entry, c"no profile is called that, and it is no list")
            }
            Refused::NoRow(entry) => (entry, c"must be kind/length=layout"),
            Refused::BadKind(entry) => (entry, c"the kind must be a number from 9 to 255"),
            Refused::StandardKind(entry, _) => (entry, c"the kind is TCP's own"),
            Refused::UnknownLayout(entry) => (entry, c"no layout is called that"),
            Refused::BadLength(entry, _) => (entry, c"the layout has another length"),
            Refused::Clash(_, entry) => {
                (entry, c"an entry before it has this kind and length, too")
            }
            Refused::TooMany(entry) => (entry, c"more than 16 entries"),
        };
        (place(text, entry), why)
    })
}

/// The prefixes of a request that [`read`] has found right.
pub fn prefixes(area: &[u8]) -> impl Iterator<Item = Prefix> + '_ {
    Attributes::new(area)
        .filter(|attribute| u32::from(attribute.kind) == uapi::TOA_A_PREFIX)
        .filter_map(|attribute| prefix(attribute.value).ok())
}

/// A `struct toa_prefix`.
fn prefix(value: &[u8]) -> Result<Prefix, &'static CStr> {
    let Some((addr, [length, 0, 0, 0])) = value.split_first_chunk::<16>() else {
        return Err(c"a prefix is a struct toa_prefix, whose reserved bytes are zero");
    };
    Prefix::new(*addr, *length).map_err(|wrong| match wrong {
        Wrong::HostBits(_) => c"an address has bits set behind its prefix length",
        _ => c"a prefix length above 128",
    })
}

/// A `struct toa_prefix` that holds `prefix`.
pub fn prefix_value(prefix: &Prefix) -> uapi::toa_prefix {
    uapi::toa_prefix {
        addr: prefix.addr(),
        length: prefix.length(),
        ..uapi::toa_prefix::default()
    }
}
