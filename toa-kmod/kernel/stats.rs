// SPDX-License-Identifier: GPL-2.0

//! Counters, one set per CPU, for the node and for each network namespace.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::size_of;

use super::config::Layouts;
use super::errno::{Error, Result};
use super::guard::CalledOff;
use super::seq::Seq;
use super::shim::sock;
use super::{hooks, shim};
use crate::pure::layout::MAX_ROWS;
use crate::pure::policy::Segment;
use crate::pure::text::Text;

/// What is counted, beside the options seen. The first six are the names that every classic module
/// has, so that existing monitoring finds them.
#[derive(Clone, Copy)]
pub(super) enum Counter {
    /// New connections that carried an address.
    ChildToa,
    /// New connections that did not.
    ChildNoToa,
    /// Questions answered with an address.
    AskedOk,
    /// Questions on a socket whose session belongs to an earlier connection of it.
    AskedMismatch,
    /// Questions refused: not TCP, not connected, or a form that cannot hold the address.
    AskedBypass,
    /// Questions on a connection that carried no address.
    AskedEmpty,
    /// Options whose length cannot be right.
    Malformed,
    /// TOA options after the first of a segment.
    Duplicate,
    /// Addresses lost because there was no memory for them.
    NoMemory,
    /// Waiting addresses that made room for newer ones.
    SynTableFull,
    /// Those of them that were not the oldest: their network namespace held the most places.
    SynQuota,
    /// Options of sources that are not trusted.
    Untrusted,
    /// Connections whose first data are not read, because others came.
    FirstDataFull,
    /// Calls of `accept`, `getpeername` and the like that told the client's address.
    PeerTold,
    /// Calls of `getsockname` that told the VIP.
    LocalTold,
    /// Both that kept the wire's, for the other is an IPv6 address and the socket an AF_INET one.
    KeptV6,
    /// Sessions made.
    Made,
    /// Sessions freed.
    Freed,
}

/// The rows of `/proc/net/toa_stats` that are one counter each.
const ROWS: [(Counter, &str); 16] = [
    (Counter::ChildToa, "syn_recv_sock_toa"),
    (Counter::ChildNoToa, "syn_recv_sock_no_toa"),
    (Counter::AskedOk, "getname_toa_ok"),
    (Counter::AskedMismatch, "getname_toa_mismatch"),
    (Counter::AskedBypass, "getname_toa_bypass"),
    (Counter::AskedEmpty, "getname_toa_empty"),
    (Counter::Malformed, "malformed"),
    (Counter::Duplicate, "duplicate"),
    (Counter::NoMemory, "dropped_no_memory"),
    (Counter::SynTableFull, "syn_table_full"),
    (Counter::SynQuota, "syn_quota"),
    (Counter::Untrusted, "untrusted"),
    (Counter::FirstDataFull, "first_data_full"),
    (Counter::PeerTold, "transparent_told"),
    (Counter::LocalTold, "transparent_local_told"),
    (Counter::KeptV6, "transparent_kept_v6"),
];

/// Where the counters of options seen begin. There are two sets of them, for a set of layouts and for
/// the next: what a hook still counts by the old one is never shown as the new one's.
const SEEN: usize = Counter::Freed as usize + 1;
const SEEN_IN_SET: usize = 3 * MAX_ROWS;
const COUNTERS: usize = SEEN + 2 * SEEN_IN_SET;
/// What one set takes of each CPU.
pub(super) const BYTES: usize = COUNTERS * size_of::<u64>();

/// A row's name is written this wide, and a column this wide, as classic modules do.
const NAME_WIDTH: usize = 25;
const COLUMN_WIDTH: u32 = 10;
/// What stands over the names.
const HEAD: &str = "                                  ";

/// A set of counters for each CPU: the node's, or those of one network namespace.
#[derive(Clone, Copy)]
pub(super) struct Counters<'a>(*const c_void, PhantomData<&'a c_void>);

impl Counters<'_> {
    /// # Safety
    ///
    /// `area` is a per-CPU area of `COUNTERS` counters, and stays for as long as the value is used.
    pub(super) unsafe fn new(area: *const c_void) -> Self {
        Self(area, PhantomData)
    }

    fn read(self, index: usize, cpu: u32) -> u64 {
        // SAFETY: The area has `COUNTERS` counters, and every index made here is below that; `cpu` is
        // a possible one.
        unsafe { shim::toa_shim_percpu_read(self.0, index, cpu) }
    }

    fn sum(self, index: usize) -> u64 {
        Cpus(0).fold(0, |sum: u64, cpu| sum.wrapping_add(self.read(index, cpu)))
    }

    /// Sessions that live now.
    pub(super) fn live(self) -> u64 {
        // A session may be freed on another CPU than the one that made it, between two reads:
        // never below zero.
        let freed = self.sum(Counter::Freed as usize);
        self.sum(Counter::Made as usize).saturating_sub(freed)
    }

    /// Writes `/proc/net/toa_stats`; `layouts` is the set in force.
    pub(super) fn show(self, seq: &mut Seq, layouts: &Layouts) {
        seq.text(HEAD);
        for cpu in Cpus(0) {
            seq.text("CPU").number(cpu.into(), 1).text("       ");
        }
        seq.text("\n");
        for (counter, name) in ROWS {
            self.show_row(seq, Name::new().text(name), counter as usize);
        }
        for segment in [Segment::Syn, Segment::Ack, Segment::Data] {
            let mut row = 0;
            for layout in layouts.table.rows() {
                let name = match segment {
                    Segment::Syn => Name::new().text("syn_"),
                    Segment::Ack => Name::new().text("ack_"),
                    Segment::Data => Name::new().text("data_"),
                };
                let name = name
                    .number(layout.kind.into())
                    .text("_")
                    .number(layout.length.into());
                self.show_row(seq, name, seen(layouts.epoch, segment, row));
                row = row.wrapping_add(1);
            }
        }
        show_total(seq, Name::new().text("sessions_live"), self.live());
    }

    fn show_row(self, seq: &mut Seq, name: Name, index: usize) {
        show_name(seq, &name);
        for cpu in Cpus(0) {
            seq.text(" ").number(self.read(index, cpu), COLUMN_WIDTH);
        }
        seq.text("\n");
    }
}

/// The counters of the whole node. Beside them each network namespace has its own, of
/// [`Namespaces`](hooks::Namespaces): what is counted is counted in both.
pub(super) struct Stats(*mut c_void);

// SAFETY: The per-CPU area is shared by design: each CPU writes its own part, with single
// instructions, and readers accept values a moment old.
unsafe impl Send for Stats {}
// SAFETY: As above.
unsafe impl Sync for Stats {}

impl Stats {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: Module load may sleep.
        let area = unsafe { shim::toa_shim_percpu_alloc(BYTES) };
        if area.is_null() {
            return Err(Error::ENOMEM);
        }
        Ok(Self(area))
    }

    /// What is counted.
    pub(super) fn node(&self) -> Counters<'_> {
        // SAFETY: `new` allocated it, and it stays while `self` does.
        unsafe { Counters::new(self.0) }
    }

    /// Counts at a socket that a callback was given.
    fn inc(&self, sk: *const sock, index: usize) {
        // SAFETY: The area has `COUNTERS` counters, and so have the namespaces', which are there
        // while callbacks are; every index made here is below that.
        unsafe { shim::toa_shim_count(sk, self.0, index) };
    }

    pub(super) fn count(&self, sk: *const sock, counter: Counter) {
        self.inc(sk, counter as usize);
    }

    /// The same, at less cost.
    pub(super) fn count_off(&self, _off: &CalledOff, sk: *const sock, counter: Counter) {
        // SAFETY: As in `inc`, of whoever is redirected; interrupts are off.
        unsafe { shim::toa_shim_count_off(sk, self.0, counter as usize) };
    }

    /// Counts `n` events; more than a handful cannot come of one segment.
    pub(super) fn count_n(&self, sk: *const sock, counter: Counter, n: u32) {
        for _ in 0..n {
            self.count(sk, counter);
        }
    }

    /// Counts an option seen in `segment`, of a row of the set of layouts `epoch`.
    pub(super) fn count_seen(&self, sk: *const sock, epoch: u32, segment: Segment, row: u8) {
        self.inc(sk, seen(epoch, segment, usize::from(row)));
    }

    /// Lets the counters of the set of layouts `epoch` begin at 0, before it is in force and when no
    /// hook counts by the one before the present one any more. May sleep.
    pub(super) fn begin(&self, epoch: u32) {
        let first = seen(epoch, Segment::Syn, 0);
        // SAFETY: As in `inc`; so many counters follow the first of a set.
        unsafe { shim::toa_shim_percpu_clear(self.0, first, SEEN_IN_SET) };
        // SAFETY: As above.
        unsafe { shim::toa_shim_net_clear(first, SEEN_IN_SET) };
    }

    /// Writes the node's `/proc/net/toa_stats`, which has what no namespace can be told of, too.
    pub(super) fn show(&self, seq: &mut Seq, layouts: &Layouts) {
        self.node().show(seq, layouts);
        show_total(
            seq,
            Name::new().text("hooks_missed"),
            hooks::missed_in_all(),
        );
    }
}

/// A number that no CPU has for itself stands in the first column; the others say 0, so that sums
/// over the columns are right.
fn show_total(seq: &mut Seq, name: Name, value: u64) {
    show_name(seq, &name);
    let mut column = value;
    for _ in Cpus(0) {
        seq.text(" ").number(column, COLUMN_WIDTH);
        column = 0;
    }
    seq.text("\n");
}

impl Drop for Stats {
    fn drop(&mut self) {
        // SAFETY: Allocated by `new`; whoever counted is gone.
        unsafe { shim::toa_shim_percpu_free(self.0) };
    }
}

/// The index of the counter for the layout `row` of the set `epoch` seen in `segment`; `row` is one of
/// a table's.
fn seen(epoch: u32, segment: Segment, row: usize) -> usize {
    let first = if epoch & 1 == 0 {
        SEEN
    } else {
        SEEN + SEEN_IN_SET
    };
    let row = row.min(MAX_ROWS - 1);
    let in_set = match segment {
        Segment::Syn => row,
        Segment::Ack => row.wrapping_add(MAX_ROWS),
        Segment::Data => row.wrapping_add(2 * MAX_ROWS),
    };
    first.wrapping_add(in_set)
}

/// The possible CPUs, from the given one on.
struct Cpus(u32);

impl Iterator for Cpus {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        // SAFETY: No preconditions.
        let cpu = unsafe { shim::toa_shim_next_cpu(self.0) };
        self.0 = cpu.checked_add(1)?;
        Some(cpu)
    }
}

/// A row's name.
type Name = Text<NAME_WIDTH>;

fn show_name(seq: &mut Seq, name: &Name) {
    seq.bytes(name.padded()).text(":");
}
