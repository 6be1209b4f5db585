// SPDX-License-Identifier: GPL-2.0

//! Which option counts: of two in one segment that tell the same the first, of two segments the later.

use core::ops::ControlFlow;

use super::layout::{Carried, Table, Toa, Verdict};
use super::packet::{Item, Options};

/// The segments that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// The client's SYN.
    Syn,
    /// The segment that completes the handshake: a bare ACK, or one with data.
    Ack,
    /// One of the first data segments behind that.
    Data,
}

/// Rows of a table, by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows(u16);

const _: () = assert!(super::layout::MAX_ROWS <= u16::BITS as usize);

impl Rows {
    fn add(&mut self, row: u8) {
        self.0 |= 1u16.wrapping_shl(row.into());
    }

    /// These, and `others`.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These, but for `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

impl Iterator for Rows {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.0 == 0 {
            return None;
        }
        let row = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        Some(row as u8)
    }
}

/// What one segment said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// What its well-formed TOA options told.
    pub toa: Option<Toa>,
    /// The rows of those that told something new.
    pub rows: Rows,
    /// TOA options that told again what one before them had.
    pub duplicates: u32,
    /// Options ignored because their length cannot be right.
    pub malformed: u32,
}

/// Whether [`read`] would find nothing in `area`, as far as that can be told at once: yes for nearly
/// every segment without TOA. Inlined into the hooks, which then save no registers for it.
#[inline(always)]
pub fn is_silent(area: &[u8]) -> bool {
    Options::is_usual(area)
}

/// The first option of each sort.
#[derive(Default)]
struct First<'a> {
    client: Option<Carried<'a>>,
    vip: Option<Carried<'a>>,
    vpc_id: Option<Carried<'a>>,
}

impl<'a> First<'a> {
    /// Takes what is new in `carried`; whether anything was, and whether anything was not.
    #[inline(always)]
    fn take(&mut self, carried: Carried<'a>) -> (bool, bool) {
        let format = carried.layout.format;
        let mut fresh = false;
        let mut again = false;
        let mut keep = |has: bool, place: &mut Option<Carried<'a>>| {
            if has {
                match place {
                    Some(_) => again = true,
                    None => {
                        *place = Some(carried);
                        fresh = true;
                    }
                }
            }
        };
        keep(format.has_client(), &mut self.client);
        keep(format.has_vip(), &mut self.vip);
        keep(format.has_vpc_id(), &mut self.vpc_id);
        (fresh, again)
    }

    /// Takes them apart.
    fn toa(&self) -> Toa {
        Toa {
            client: self.client.as_ref().and_then(Carried::client),
            vip: self.vip.as_ref().and_then(Carried::vip),
            vpc_id: self.vpc_id.as_ref().and_then(Carried::vpc_id),
        }
    }
}

/// Hands each TOA option of `area` to `take` until that breaks off; else, how many options were
/// malformed.
#[inline(always)]
fn walk<'a>(
    layouts: &Table,
    area: &'a [u8],
    segment: Segment,
    mut take: impl FnMut(Carried<'a>) -> ControlFlow<()>,
) -> ControlFlow<(), u32> {
    let mut malformed = 0u32;
    for item in Options::new(area) {
        let verdict = match item {
            Item::Option { kind, length, body } => {
                layouts.decode(kind, length, body, segment == Segment::Syn)
            }
            Item::Malformed => Verdict::WrongLength,
        };
        match verdict {
            Verdict::Foreign => {}
            Verdict::WrongLength => malformed = malformed.wrapping_add(1),
            Verdict::Toa(carried) => take(carried)?,
        }
    }
    ControlFlow::Continue(malformed)
}

/// Reads the option area of one segment by the set of layouts in force.
pub fn read(layouts: &Table, area: &[u8], segment: Segment) -> Reading {
    let mut reading = Reading::default();
    if is_silent(area) {
        return reading;
    }
    let mut only = None;
    let walked = walk(layouts, area, segment, |carried| {
        if only.is_some() {
            return ControlFlow::Break(());
        }
        only = Some(carried);
        ControlFlow::Continue(())
    });
    let ControlFlow::Continue(malformed) = walked else {
        return read_several(layouts, area, segment);
    };
    reading.malformed = malformed;
    // Taken apart once, and not in the loop, which would carry every byte of it along.
    if let Some(carried) = only {
        reading.rows.add(carried.row);
        reading.toa = Some(carried.toa());
    }
    reading
}

/// The same, where there is more than one TOA option.
#[cold]
#[inline(never)]
fn read_several(layouts: &Table, area: &[u8], segment: Segment) -> Reading {
    let mut reading = Reading::default();
    let mut first = First::default();
    let walked = walk(layouts, area, segment, |carried| {
        let (fresh, again) = first.take(carried);
        if fresh {
            reading.rows.add(carried.row);
        }
        if again {
            reading.duplicates = reading.duplicates.wrapping_add(1);
        }
        ControlFlow::Continue(())
    });
    if let ControlFlow::Continue(malformed) = walked {
        reading.malformed = malformed;
    }
    reading.toa = Some(first.toa());
    reading
}

/// Of what a server was told of a connection and what the segment that completed its handshake carried,
/// what counts, and the segment that named the client. What has been told stands, and the later one adds
/// what it left out.
pub fn add(told: (Toa, Segment), ack: Option<Toa>) -> (Toa, Segment) {
    let (told, segment) = told;
    let Some(ack) = ack else {
        return (told, segment);
    };
    let by_ack = told.client.is_none() && ack.client.is_some();
    let both = Toa {
        client: told.client.or(ack.client),
        vip: told.vip.or(ack.vip),
        vpc_id: told.vpc_id.or(ack.vpc_id),
    };
    (both, if by_ack { Segment::Ack } else { segment })
}

/// Of what waited for a connection (by its SYN, or an ACK that was dropped) and what the segment that
/// completed its handshake carried, what counts, and the segment that named the client. A forwarder
/// that writes into both may have learnt better in between, so the later one wins; what it leaves out
/// stands.
pub fn choose(waited: Option<(Toa, Segment)>, ack: Option<Toa>) -> Option<(Toa, Segment)> {
    match (waited, ack) {
        (waited, None) => waited,
        (None, Some(ack)) => Some((ack, Segment::Ack)),
        (Some((waited, segment)), Some(ack)) => {
            let by_waited = ack.client.is_none() && waited.client.is_some();
            let both = Toa {
                client: ack.client.or(waited.client),
                vip: ack.vip.or(waited.vip),
                vpc_id: ack.vpc_id.or(waited.vpc_id),
            };
            Some((both, if by_waited { segment } else { Segment::Ack }))
        }
    }
}
