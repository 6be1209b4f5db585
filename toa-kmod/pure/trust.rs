// SPDX-License-Identifier: GPL-2.0

//! Who may speak: the sources whose options are believed.
//!
//! A list of prefixes, as text ([`parse`]) or one by one ([`Prefix`]), becomes a [`Trusted`]: ranges of
//! addresses that are sorted and do not touch, in which a source is looked up in as many steps as
//! their number has binary digits. IPv4 and IPv6 stand side by side: an IPv4 source is
//! `::ffff:a.b.c.d`, and meets IPv4 prefixes only, so `::/0` is every IPv6 source and no IPv4 one.

use core::array;
use core::mem;
use core::ops::{Deref, DerefMut};

use super::text::Text;

/// How many prefixes a set may be made of.
pub const MOST: usize = 4096;

/// The halves of the first `::ffff:a.b.c.d`.
const V4_HIGH: u64 = 0;
const V4_FIRST: u64 = 0xffff << 32;

/// The length of `::ffff:0:0/96`.
const V4_BITS: u8 = 96;

/// An address as two words in host byte order. Two, since a `u128` is aligned more strictly than
/// what the kernel allocates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    high: u64,
    low: u64,
}

impl Address {
    fn new(bits: u128) -> Self {
        Self {
            high: (bits >> 64) as u64,
            low: bits as u64,
        }
    }

    fn bits(self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }

    fn is_v4(self) -> bool {
        self.high == V4_HIGH && self.low >> 32 == V4_FIRST >> 32
    }
}

/// A prefix whose host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    first: Address,
    /// Of 128, also where the prefix is an IPv4 one.
    length: u8,
}

impl Prefix {
    /// The prefix of `length` (of 128) that `addr` begins; an IPv4 one is `::ffff:a.b.c.d`.
    ///
    /// # Errors
    ///
    /// [`Wrong::Length`] above 128, [`Wrong::HostBits`] where `addr` is not the prefix's first.
    pub fn new(addr: [u8; 16], length: u8) -> Result<Self, Wrong> {
        Self::of(u128::from_be_bytes(addr), length)
    }

    fn of(bits: u128, length: u8) -> Result<Self, Wrong> {
        let Some(mask) = mask(length) else {
            return Err(Wrong::Length(128));
        };
        let prefix = Self {
            first: Address::new(bits & mask),
            length,
        };
        if bits & !mask == 0 {
            Ok(prefix)
        } else {
            Err(Wrong::HostBits(prefix))
        }
    }

    /// Its first address.
    pub fn addr(&self) -> [u8; 16] {
        self.first.bits().to_be_bytes()
    }

    /// Its length, of 128.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether it is one of IPv4 addresses.
    pub fn is_v4(&self) -> bool {
        self.length >= V4_BITS && self.first.is_v4()
    }

    fn range(&self) -> Range {
        let rest = mask(self.length).map_or(0, |mask| !mask);
        Range {
            first: self.first,
            last: Address::new(self.first.bits() | rest),
        }
    }

    /// Adds it to a text, as [`parse`] reads it.
    pub fn show<const N: usize>(&self, text: Text<N>) -> Text<N> {
        let text = show(self.first, self.is_v4(), text);
        let length = if self.is_v4() {
            self.length.wrapping_sub(V4_BITS)
        } else {
            self.length
        };
        text.byte(b'/').number(length.into())
    }
}

/// The bits of a prefix of that length.
fn mask(length: u8) -> Option<u128> {
    let rest = 128u32.checked_sub(length.into())?;
    Some(u128::MAX.checked_shl(rest).unwrap_or(0))
}

/// Adds an address to a text, an IPv6 one as RFC 5952 has it: the longest run of zero groups is a gap.
fn show<const N: usize>(addr: Address, v4: bool, mut text: Text<N>) -> Text<N> {
    if v4 {
        let [a, b, c, d] = (addr.low as u32).to_be_bytes().map(u32::from);
        text = text.number(a).byte(b'.').number(b);
        return text.byte(b'.').number(c).byte(b'.').number(d);
    }
    let mut rest = addr.bits();
    let groups: [u32; 8] = array::from_fn(|_| {
        rest = rest.rotate_left(16);
        (rest & 0xffff) as u32
    });
    let (mut gap, mut end, mut run) = (1usize, 0usize, 0usize);
    // Not `enumerate`: like `count`, it adds.
    let mut at = 0usize;
    for group in groups {
        at = at.wrapping_add(1);
        run = if group == 0 { run.wrapping_add(1) } else { 0 };
        if run > gap {
            (gap, end) = (run, at);
        }
    }
    at = 0;
    for group in groups {
        let to_end = end.wrapping_sub(at);
        if at < end && to_end <= gap {
            if to_end == gap {
                text = text.text("::");
            }
        } else {
            if at > 0 && at != end {
                text = text.byte(b':');
            }
            text = text.hex(group);
        }
        at = at.wrapping_add(1);
    }
    text
}

/// Addresses from `first` to `last`, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: Address,
    last: Address,
}

impl Range {
    /// What unused places are filled with.
    pub const BLANK: Self = Self {
        first: Address { high: 0, low: 0 },
        last: Address { high: 0, low: 0 },
    };

    fn is_v4(&self) -> bool {
        self.first.is_v4() && self.last.is_v4()
    }

    /// What ranges are sorted by: IPv4 before IPv6.
    fn key(&self) -> (bool, Address) {
        (!self.is_v4(), self.first)
    }

    /// Whether `next`, which does not begin before this, belongs to it.
    fn reaches(&self, next: &Self) -> bool {
        self.is_v4() == next.is_v4()
            && self
                .last
                .bits()
                .checked_add(1)
                .is_none_or(|behind| next.first.bits() <= behind)
    }

    /// The largest prefix that begins where this does, and what it leaves.
    fn split(&self) -> (Prefix, Option<Self>) {
        let (first, last) = (self.first.bits(), self.last.bits());
        // IPv4 ranges stay with IPv4, though `::ffff:0:0` could begin a larger prefix.
        let mut length = if self.is_v4() { V4_BITS } else { 0 };
        loop {
            let prefix = Prefix {
                first: self.first,
                length,
            };
            let end = prefix.range().last.bits();
            let begins = mask(length).is_some_and(|mask| first & !mask == 0);
            if (begins && end <= last) || length >= 128 {
                let rest = end.checked_add(1).filter(|next| *next <= last);
                let rest = rest.map(|next| Self {
                    first: Address::new(next),
                    last: self.last,
                });
                return (prefix, rest);
            }
            length = length.wrapping_add(1);
        }
    }
}

/// A set of sources; `R` holds its ranges.
#[derive(Debug, Clone)]
pub struct Trusted<R> {
    ranges: R,
    /// Those of IPv4 come first: so many.
    v4: usize,
    /// And so many are in use.
    all: usize,
}

impl<R: DerefMut<Target = [Range]>> Trusted<R> {
    /// The set of these ranges, in any order.
    pub fn new(mut ranges: R) -> Self {
        sort(&mut ranges);
        let all = merge(&mut ranges);
        // Not `count`: its addition can panic where the kernel has overflow checks.
        let is_v4 = |range: &&Range| range.is_v4();
        let v4 = ranges.iter().take(all).filter(is_v4);
        let v4 = v4.fold(0usize, |count, _| count.wrapping_add(1));
        Self { ranges, v4, all }
    }
}

impl<R> Trusted<R> {
    /// The same set of ranges that are kept elsewhere, as `copy` has it.
    ///
    /// # Errors
    ///
    /// What `copy` says.
    pub fn try_map<S, E>(&self, copy: impl FnOnce(&R) -> Result<S, E>) -> Result<Trusted<S>, E> {
        Ok(Trusted {
            ranges: copy(&self.ranges)?,
            v4: self.v4,
            all: self.all,
        })
    }
}

impl<R: Deref<Target = [Range]>> Trusted<R> {
    /// Whether the source is of the set; an IPv4 one is `::ffff:a.b.c.d`.
    pub fn contains(&self, source: &[u8; 16]) -> bool {
        let source = Address::new(u128::from_be_bytes(*source));
        let ranges: &[Range] = &self.ranges;
        if source.is_v4() {
            // The high halves are all the same.
            ranges
                .get(..self.v4)
                .is_some_and(|v4| covers(v4, source.low, |addr| addr.low))
        } else {
            ranges
                .get(self.v4..self.all)
                .is_some_and(|v6| covers(v6, source, |addr| addr))
        }
    }

    /// The word that stands for the set, where there is one.
    pub fn word(&self) -> Option<&'static str> {
        let mut prefixes = self.prefixes();
        match [prefixes.next(), prefixes.next(), prefixes.next()] {
            [None, ..] => Some("none"),
            [Some(v4), Some(v6), None] if [v4, v6] == ANY => Some("any"),
            _ => None,
        }
    }

    /// The set as prefixes, as few as it takes, IPv4 first.
    pub fn prefixes(&self) -> Prefixes<'_> {
        Prefixes {
            ranges: self.ranges.get(..self.all).unwrap_or_default(),
            rest: None,
        }
    }
}

/// A set's prefixes.
#[derive(Debug, Clone)]
pub struct Prefixes<'a> {
    ranges: &'a [Range],
    rest: Option<Range>,
}

impl Iterator for Prefixes<'_> {
    type Item = Prefix;

    fn next(&mut self) -> Option<Prefix> {
        let range = match (self.rest, self.ranges) {
            (Some(rest), _) => rest,
            (None, [first, others @ ..]) => {
                self.ranges = others;
                *first
            }
            (None, []) => return None,
        };
        let (prefix, rest) = range.split();
        self.rest = rest;
        Some(prefix)
    }
}

/// Whether one of the ranges, which are sorted and do not touch, covers `source`.
#[inline(always)]
fn covers<K: Copy + Ord>(mut ranges: &[Range], source: K, key: impl Fn(Address) -> K) -> bool {
    while let Some((before, [range, behind @ ..])) = ranges.split_at_checked(ranges.len() / 2) {
        ranges = if source < key(range.first) {
            before
        } else if source <= key(range.last) {
            return true;
        } else {
            behind
        };
    }
    false
}

/// Heap sort: in place, in the same time for every list, and nothing of `core` in it.
fn sort(ranges: &mut [Range]) {
    for at in (0..ranges.len() / 2).rev() {
        sift(ranges, at);
    }
    let mut end = ranges.len();
    while let Some(heap) = ranges.get_mut(..end) {
        let [first, .., last] = heap else {
            return;
        };
        mem::swap(first, last);
        end = end.wrapping_sub(1);
        sift(ranges.get_mut(..end).unwrap_or_default(), 0);
    }
}

/// Lets the range at `at` sink to where none below it is greater.
fn sift(heap: &mut [Range], mut at: usize) {
    let Some(&sinking) = heap.get(at) else {
        return;
    };
    loop {
        let left = at.wrapping_mul(2).wrapping_add(1);
        let right = left.wrapping_add(1);
        let (child, greater) = match (heap.get(left), heap.get(right)) {
            (Some(l), Some(r)) if l.key() < r.key() => (right, *r),
            (Some(l), _) => (left, *l),
            (None, _) => break,
        };
        if greater.key() <= sinking.key() {
            break;
        }
        if let Some(place) = heap.get_mut(at) {
            *place = greater;
        }
        at = child;
    }
    if let Some(place) = heap.get_mut(at) {
        *place = sinking;
    }
}

/// Joins what touches, in sorted ranges; how many are left.
fn merge(ranges: &mut [Range]) -> usize {
    let Some(&first) = ranges.first() else {
        return 0;
    };
    let mut joined = first;
    let mut count = 0usize;
    for at in 1..=ranges.len() {
        match ranges.get(at).copied() {
            Some(next) if joined.reaches(&next) => joined.last = joined.last.max(next.last),
            next => {
                if let Some(place) = ranges.get_mut(count) {
                    *place = joined;
                }
                count = count.wrapping_add(1);
                joined = next.unwrap_or(joined);
            }
        }
    }
    count
}

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// There is nothing between two commas, or nothing at all.
    Empty,
    /// It is no address, with or without `/length`.
    Address,
    /// The length is no number from 0 to this.
    Length(u8),
    /// The address has bits behind the prefix's length; this would be right.
    HostBits(Prefix),
    /// `any` and `none` are the whole list.
    Alone,
    /// There are more than [`MOST`].
    TooMany,
}

impl Wrong {
    /// Adds to a text what is wrong.
    pub fn show<const N: usize>(&self, text: Text<N>) -> Text<N> {
        match self {
            Self::Empty => text.text("is empty (none trusts nobody)"),
            Self::Address => text.text("is no IPv4 or IPv6 address, any or none"),
            Self::Length(most) => text
                .text("has a prefix length that is no number from 0 to ")
                .number((*most).into()),
            Self::HostBits(right) => {
                right.show(text.text("has bits set behind its prefix length: must be "))
            }
            Self::Alone => text.text("must stand alone"),
            Self::TooMany => text.text("is one too many: at most ").number(MOST as u32),
        }
    }
}

/// An entry that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused<'a> {
    /// Its text.
    pub entry: &'a [u8],
    /// What place it has in the list, from 1.
    pub place: u32,
    /// Why it is refused.
    pub why: Wrong,
}

/// Every source.
const ANY: [Prefix; 2] = [
    Prefix {
        first: Address {
            high: V4_HIGH,
            low: V4_FIRST,
        },
        length: V4_BITS,
    },
    Prefix {
        first: Address { high: 0, low: 0 },
        length: 0,
    },
];

/// Takes a list apart: addresses with or without `/length`, with commas between; `any`; or `none`.
/// `put` is given the ranges in front of an entry that is refused, too.
fn take<'a>(list: &'a [u8], mut put: impl FnMut(Range)) -> Result<(), Refused<'a>> {
    match trim(list) {
        b"any" => {
            ANY.iter().for_each(|prefix| put(prefix.range()));
            return Ok(());
        }
        b"none" => return Ok(()),
        _ => {}
    }
    let mut rest = Some(list);
    let mut place = 0u32;
    while let Some(entries) = rest {
        let (entry, others) = match cut(entries, b',') {
            Some((entry, others)) => (entry, Some(others)),
            None => (entries, None),
        };
        let entry = trim(entry);
        place = place.wrapping_add(1);
        let prefix = if place as usize > MOST {
            Err(Wrong::TooMany)
        } else {
            prefix(entry)
        };
        match prefix {
            Ok(prefix) => put(prefix.range()),
            Err(why) => return Err(Refused { entry, place, why }),
        }
        rest = others;
    }
    Ok(())
}

/// How many ranges a list wants room for.
///
/// # Errors
///
/// The first entry that is refused; then nothing of the list is to be used.
pub fn count(list: &[u8]) -> Result<usize, Refused<'_>> {
    let mut count = 0usize;
    take(list, |_| count = count.wrapping_add(1))?;
    Ok(count)
}

/// Writes a list's ranges to `ranges`, which has room for as many as [`count`] says.
///
/// # Errors
///
/// As [`count`].
pub fn parse<'a>(list: &'a [u8], ranges: &mut [Range]) -> Result<(), Refused<'a>> {
    let mut places = ranges.iter_mut();
    take(list, |range| {
        if let Some(place) = places.next() {
            *place = range;
        }
    })
}

/// Writes prefixes to `ranges`, which has as much room.
pub fn fill(prefixes: impl Iterator<Item = Prefix>, ranges: &mut [Range]) {
    for (place, prefix) in ranges.iter_mut().zip(prefixes) {
        *place = prefix.range();
    }
}

/// What stands before the first `at`, and what behind.
fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    // Not `position`: like `count`, it adds.
    let mut here = 0usize;
    loop {
        match text.split_at_checked(here)? {
            (_, []) => return None,
            (before, [byte, behind @ ..]) if *byte == at => return Some((before, behind)),
            _ => here = here.wrapping_add(1),
        }
    }
}

/// Without the blanks around it; a line that was written to a file ends with one.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\n'] = text {
        text = rest;
    }
    text
}

/// One entry.
fn prefix(entry: &[u8]) -> Result<Prefix, Wrong> {
    match entry {
        b"" => return Err(Wrong::Empty),
        b"any" | b"none" => return Err(Wrong::Alone),
        _ => {}
    }
    let (addr, length) = match cut(entry, b'/') {
        Some((addr, length)) => (addr, Some(length)),
        None => (entry, None),
    };
    let (bits, most) = if let Some(v4) = v4(addr) {
        let mapped = (u128::from(V4_FIRST)) | u128::from(v4);
        (mapped, 128 - V4_BITS)
    } else {
        (v6(addr).ok_or(Wrong::Address)?, 128)
    };
    let length = match length {
        None => most,
        Some(digits) => decimal(digits, most).ok_or(Wrong::Length(most))?,
    };
    Prefix::of(bits, length.wrapping_add(128u8.wrapping_sub(most)))
}

/// A number in decimal, at most `most`, with no needless zero before it.
fn decimal(digits: &[u8], most: u8) -> Option<u8> {
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    let mut number = 0u8;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    (number <= most).then_some(number)
}

/// `a.b.c.d`.
fn v4(text: &[u8]) -> Option<u32> {
    let (a, rest) = cut(text, b'.')?;
    let (b, rest) = cut(rest, b'.')?;
    let (c, d) = cut(rest, b'.')?;
    let mut bits = 0u32;
    for part in [a, b, c, d] {
        bits = (bits << 8) | u32::from(decimal(part, u8::MAX)?);
    }
    Some(bits)
}

/// An IPv6 address in any of its forms (RFC 4291, section 2.2).
fn v6(text: &[u8]) -> Option<u128> {
    let mut gap = 0usize;
    let (before, behind) = loop {
        match text.split_at_checked(gap) {
            Some((before, [b':', b':', behind @ ..])) => break (before, behind),
            Some(_) => gap = gap.wrapping_add(1),
            None => {
                let (bits, groups) = groups(text, true)?;
                return (groups == 8).then_some(bits);
            }
        }
    };
    let (high, before) = groups(before, false)?;
    let (low, behind) = groups(behind, true)?;
    // The gap stands for one group at least.
    let rest = 8u32.checked_sub(before)?;
    if behind >= rest {
        return None;
    }
    // All eight groups, where there is nothing before the gap.
    Some(high.checked_shl(rest.wrapping_mul(16)).unwrap_or(0) | low)
}

/// Groups of an IPv6 address, eight at most, and how many they are; the last two may be written as
/// an IPv4 address where `v4_last`.
fn groups(text: &[u8], v4_last: bool) -> Option<(u128, u32)> {
    let mut bits = 0u128;
    let mut count = 0u32;
    let mut rest = (!text.is_empty()).then_some(text);
    while let Some(text) = rest {
        let (group, others) = match cut(text, b':') {
            Some((group, others)) => (group, Some(others)),
            None => (text, None),
        };
        match v4(group) {
            Some(v4) if v4_last && others.is_none() => {
                bits = (bits << 32) | u128::from(v4);
                count = count.wrapping_add(2);
            }
            _ => {
                bits = (bits << 16) | u128::from(hex(group)?);
                count = count.wrapping_add(1);
            }
        }
        if count > 8 {
            return None;
        }
        rest = others;
    }
    Some((bits, count))
}

/// One to four hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 4 {
        return None;
    }
    let mut number = 0u16;
    for digit in digits {
        let digit = match digit {
            b'0'..=b'9' => digit.wrapping_sub(b'0'),
            b'a'..=b'f' => digit.wrapping_sub(b'a' - 10),
            b'A'..=b'F' => digit.wrapping_sub(b'A' - 10),
            _ => return None,
        };
        number = (number << 4) | u16::from(digit);
    }
    Some(number)
}
