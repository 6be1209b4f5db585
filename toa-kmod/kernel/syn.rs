// SPDX-License-Identifier: GPL-2.0

//! Addresses seen in a SYN, or in an ACK that the kernel dropped, waiting for the connection that
//! comes of it.
//!
//! The table has a fixed size and forgets: a bucket holds [`WAYS`] addresses, and the oldest of the
//! network namespace that holds the most of them makes room, so a flood costs no memory, an honest
//! handshake, which takes a round trip, outlives all but the worst, and a flood in one namespace
//! harms that one. An address is handed out only for the very SYN that brought it: network
//! namespace, both ends, bound device and sequence number must be those of the new connection.
//!
//! Only the entry hooks come here with bottom halves off, and others with interrupts off, so a
//! bucket's lock is never wanted by somebody who interrupted its holder.

use core::mem::{size_of, size_of_val};

use super::errno::Result;
use super::shim::{self, toa_flow};
use crate::backend::{self, BoxedArray};
use crate::pure::layout::Toa;
use crate::pure::policy::{self, Reading, Rows, Segment};
use crate::shared::places::{Key, Places, Room};
use crate::shared::recent::Recent;

/// Buckets; a power of two.
const BUCKETS: usize = 1 << 11;

/// Addresses in a bucket.
const WAYS: usize = 4;

/// How long an address waits, in seconds: a little more than Linux repeats a SYN-ACK by default
/// (`tcp_synack_retries` = 5: 63 seconds).
const LIFETIME: u32 = 64;

/// Whether it is the same connection; what differs most often comes first.
impl PartialEq for toa_flow {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
            && self.peer_port == other.peer_port
            && self.local_port == other.local_port
            && self.peer == other.peer
            && self.local == other.local
            && self.ifindex == other.ifindex
            && self.net == other.net
    }
}

impl Key for toa_flow {
    type Owner = core::ffi::c_ulong;

    /// The network namespace: one must not push out the addresses that others wait for.
    fn owner(&self) -> Self::Owner {
        self.net
    }
}

/// What waits for its connection.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) toa: Toa,
    pub(super) segment: Segment,
    /// The rows of the options of ACKs that were dropped, which are counted when the connection comes.
    pub(super) rows: Rows,
    /// And the set of layouts that they are rows of.
    pub(super) epoch: u32,
}

impl Waiting {
    /// What a SYN told, which has been counted.
    pub(super) fn by_syn(toa: Toa) -> Self {
        Self {
            toa,
            segment: Segment::Syn,
            rows: Rows::default(),
            epoch: 0,
        }
    }

    /// What has waited, if anything did, with what a dropped `ack` tells by the set of layouts `epoch`.
    /// It counts as it would had it not been dropped, so the one does not push out the other.
    pub(super) fn by_ack(waited: Option<Self>, ack: &Reading, epoch: u32) -> Option<Self> {
        let (toa, segment) = policy::choose(waited.map(|waited| waited.told()), ack.toa)?;
        let before = waited.map_or(Rows::default(), |waited| waited.rows_of(epoch));
        Some(Self {
            toa,
            segment,
            rows: before.with(ack.rows),
            epoch,
        })
    }

    /// What was told, and the segment that named the client.
    pub(super) fn told(&self) -> (Toa, Segment) {
        (self.toa, self.segment)
    }

    /// The rows that are yet to be counted, where they are those of this set of layouts.
    pub(super) fn rows_of(&self, epoch: u32) -> Rows {
        if self.epoch == epoch {
            self.rows
        } else {
            Rows::default()
        }
    }
}

type Bucket = Places<toa_flow, Waiting, WAYS, LIFETIME>;

const _: () = assert!(BUCKETS * size_of::<Bucket>() <= 1 << 20);

/// The table.
pub(super) struct Syns {
    buckets: BoxedArray<Bucket, BUCKETS>,
    /// The key of the hash that chooses a bucket, so that nobody outside can aim at one.
    key: [core::ffi::c_ulong; 2],
    /// When the newest address came. While that is long ago, connections need not look.
    newest: Recent,
}

impl Syns {
    pub(super) fn new() -> Result<Self> {
        let mut key = [0; 2];
        // SAFETY: `key` is writable for that many bytes.
        unsafe { shim::toa_shim_random((&raw mut key).cast(), size_of_val(&key)) };
        Ok(Self {
            buckets: backend::new_array(Bucket::new)?,
            key,
            newest: Recent::new(),
        })
    }

    /// The bucket of a connection, by the parts of it that differ most. To aim at that of another's SYN
    /// takes its sequence number, and who has that can send the SYN itself again.
    fn bucket(&self, flow: &toa_flow) -> Option<&Bucket> {
        let [.., a, b, c, d] = flow.peer;
        let peer = u32::from_ne_bytes([a, b, c, d]);
        let [a, b] = flow.peer_port;
        let [c, d] = flow.local_port;
        let ports = u32::from_ne_bytes([a, b, c, d]);
        // SAFETY: The key has two words.
        let hash = unsafe { shim::toa_shim_hash(flow.seq, ports, peer, self.key.as_ptr()) };
        self.buckets.get(hash as usize & (BUCKETS - 1))
    }

    /// Keeps what a segment of `flow` carried, in place of what an earlier one did; which fresh
    /// address of another connection had to make room for it.
    pub(super) fn insert(&self, flow: &toa_flow, waiting: &Waiting) -> Room {
        let Some(bucket) = self.bucket(flow) else {
            return Room::Free;
        };
        // SAFETY: No preconditions.
        let now = unsafe { shim::toa_shim_seconds() };
        self.newest.note(now);
        bucket.insert(flow, *waiting, now)
    }

    /// Takes out what waits for `flow`.
    pub(super) fn take(&self, flow: &toa_flow, now: u32) -> Option<Waiting> {
        self.bucket(flow)?.take(flow, now)
    }

    /// What waits for `flow`, and goes on waiting.
    pub(super) fn peek(&self, flow: &toa_flow, now: u32) -> Option<Waiting> {
        self.bucket(flow)?.peek(flow, now)
    }

    /// Whether an address ever waited.
    pub(super) fn ever(&self) -> bool {
        self.newest.ever()
    }

    /// Whether any address can be waiting, and the time.
    pub(super) fn waiting(&self) -> Option<u32> {
        if !self.ever() {
            return None;
        }
        // SAFETY: No preconditions.
        let now = unsafe { shim::toa_shim_seconds() };
        (self.newest.age(now) <= LIFETIME).then_some(now)
    }
}
