// SPDX-License-Identifier: GPL-2.0

//! Which option counts: of two in one segment the first, of two segments the later.

use super::layout::{decode, Toa, Verdict};
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

/// What one segment said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// The first well-formed TOA option.
    pub toa: Option<Toa>,
    /// TOA options after the first, ignored.
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

/// Reads the option area of one segment.
pub fn read(area: &[u8], segment: Segment) -> Reading {
    let mut reading = Reading::default();
    if is_silent(area) {
        return reading;
    }
    let mut first = None;
    for item in Options::new(area) {
        match item {
            Item::Option { kind, length, body } => {
                match decode(kind, length, body, segment == Segment::Syn) {
                    Verdict::Foreign => {}
                    Verdict::WrongLength => reading.malformed = reading.malformed.wrapping_add(1),
                    Verdict::Toa(carried) if first.is_none() => first = Some(carried),
                    Verdict::Toa(_) => reading.duplicates = reading.duplicates.wrapping_add(1),
                }
            }
            Item::Malformed => reading.malformed = reading.malformed.wrapping_add(1),
        }
    }
    // Taken apart once, and not in the loop, which would carry every byte of it along.
    reading.toa = first.and_then(|carried| carried.toa());
    reading
}

/// Of what waited for a connection (by its SYN, or an ACK that was dropped) and what the segment that
/// completed its handshake carried, the one that counts, and its segment. A forwarder that writes
/// into both may have learnt better in between, so the later one wins.
pub fn choose<T>(waited: Option<(T, Segment)>, ack: Option<T>) -> Option<(T, Segment)> {
    match ack {
        Some(toa) => Some((toa, Segment::Ack)),
        None => waited,
    }
}
