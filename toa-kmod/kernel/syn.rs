// SPDX-License-Identifier: GPL-2.0

//! Addresses seen in a SYN, waiting for the connection that comes of it.
//!
//! The table has a fixed size and forgets: a bucket holds [`WAYS`] addresses, and the oldest makes
//! room, so a flood costs no memory and an honest handshake, which takes a round trip, outlives
//! all but the worst. An address is handed out only for the very SYN that brought it: network
//! namespace, both ends, bound device and sequence number must be those of the new connection.
//!
//! Only the two entry hooks come here, with bottom halves off, so a bucket's lock is never wanted
//! by somebody who interrupted its holder.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::mem::size_of;
use core::sync::atomic::{AtomicU32, Ordering};

use super::errno::Result;
use super::shim::{self, toa_flow};
use crate::backend::{self, BoxedArray};
use crate::pure::layout::{Address, Family, Toa};

/// Buckets; a power of two.
const BUCKETS: usize = 1 << 11;

/// Addresses in a bucket.
const WAYS: usize = 4;

/// How long an address waits, in seconds: a little more than Linux repeats a SYN-ACK by default
/// (`tcp_synack_retries` = 5: 63 seconds).
const LIFETIME: u32 = 64;

/// One waiting address.
#[derive(Clone, Copy)]
struct Slot {
    /// Whose it is.
    flow: toa_flow,
    /// When it came, in seconds since boot.
    since: u32,
    client: Address,
    row: u8,
    kind: u8,
    length: u8,
    used: bool,
}

impl Slot {
    fn empty() -> Self {
        Self {
            flow: toa_flow::default(),
            since: 0,
            client: Address {
                family: Family::V4,
                port: [0; 2],
                addr: [0; 16],
            },
            row: 0,
            kind: 0,
            length: 0,
            used: false,
        }
    }

    /// Seconds that the address has waited, or none if there is none.
    fn age(&self, now: u32) -> Option<u32> {
        let age = elapsed(self.since, now);
        (self.used && age <= LIFETIME).then_some(age)
    }
}

/// Seconds from `then` to `now`. Another CPU may have seen the clock tick that this one has not: a
/// little below zero is zero.
fn elapsed(then: u32, now: u32) -> u32 {
    (now.wrapping_sub(then) as i32).max(0) as u32
}

fn same(a: &toa_flow, b: &toa_flow) -> bool {
    a.seq == b.seq
        && a.peer_port == b.peer_port
        && a.local_port == b.local_port
        && a.peer == b.peer
        && a.local == b.local
        && a.ifindex == b.ifindex
        && a.net == b.net
}

struct Bucket {
    locked: AtomicU32,
    slots: UnsafeCell<[Slot; WAYS]>,
}

// SAFETY: `slots` is reached through `with` only, which holds the lock.
unsafe impl Sync for Bucket {}

impl Bucket {
    fn new() -> Self {
        Self {
            locked: AtomicU32::new(0),
            slots: UnsafeCell::new([Slot::empty(); WAYS]),
        }
    }

    fn with<R>(&self, work: impl FnOnce(&mut [Slot; WAYS]) -> R) -> R {
        while self
            .locked
            .compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            while self.locked.load(Ordering::Relaxed) != 0 {
                spin_loop();
            }
        }
        // SAFETY: The lock is held, so this is the only reference.
        let result = work(unsafe { &mut *self.slots.get() });
        self.locked.store(0, Ordering::Release);
        result
    }
}

const _: () = assert!(BUCKETS * size_of::<Bucket>() <= 1 << 20);

/// The table.
pub(super) struct Syns {
    buckets: BoxedArray<Bucket, BUCKETS>,
    /// The key of the hash that chooses a bucket, so that nobody outside can aim at one.
    key: [core::ffi::c_ulong; 2],
    /// When the newest address came. While that is long ago, connections need not look. Written
    /// once a second at most, and CPU at most, so it is no contended cache line.
    newest: AtomicU32,
    /// Whether an address ever came.
    ever: AtomicU32,
}

impl Syns {
    pub(super) fn new() -> Result<Self> {
        let mut key = [0; 2];
        // SAFETY: `key` is writable for that many bytes.
        unsafe { shim::toa_shim_random((&raw mut key).cast(), size_of_val(&key)) };
        Ok(Self {
            buckets: backend::new_array(Bucket::new)?,
            key,
            newest: AtomicU32::new(0),
            ever: AtomicU32::new(0),
        })
    }

    fn bucket(&self, flow: &toa_flow) -> Option<&Bucket> {
        let half = |bytes: &[u8; 16]| {
            let word = u128::from_ne_bytes(*bytes);
            [word as u64, (word >> 64) as u64]
        };
        let [peer, peer_low] = half(&flow.peer);
        let [local, local_low] = half(&flow.local);
        let [a, b] = flow.peer_port;
        let [c, d] = flow.local_port;
        let ports = u32::from_ne_bytes([a, b, c, d]);
        let words = [
            peer,
            peer_low,
            local,
            local_low,
            (u64::from(ports) << 32) | u64::from(flow.seq),
            flow.net as u64 ^ (u64::from(flow.ifindex) << 48),
        ];
        // SAFETY: `words` is readable for that many bytes, and the key has two words.
        let hash =
            unsafe { shim::toa_shim_hash(words.as_ptr(), size_of_val(&words), self.key.as_ptr()) };
        self.buckets.get(hash as usize & (BUCKETS - 1))
    }

    /// Keeps what the SYN of `flow` carried; whether a fresh address had to make room for it.
    pub(super) fn insert(&self, flow: &toa_flow, toa: &Toa) -> bool {
        let Some(bucket) = self.bucket(flow) else {
            return false;
        };
        // SAFETY: No preconditions.
        let now = unsafe { shim::toa_shim_seconds() };
        if self.newest.load(Ordering::Relaxed) != now || self.ever.load(Ordering::Relaxed) == 0 {
            self.newest.store(now, Ordering::Relaxed);
            self.ever.store(1, Ordering::Relaxed);
        }
        let new = Slot {
            flow: *flow,
            since: now,
            client: toa.client,
            row: toa.row,
            kind: toa.kind,
            length: toa.length,
            used: true,
        };
        bucket.with(|slots| {
            // The same SYN again, else a free or forgotten place, else the oldest.
            let place = |slot: &Slot| match slot.age(now) {
                Some(_) if same(&slot.flow, flow) => u32::MAX,
                None => u32::MAX - 1,
                Some(age) => age,
            };
            let Some(slot) = slots.iter_mut().max_by_key(|slot| place(slot)) else {
                return false;
            };
            let full = slot.age(now).is_some() && !same(&slot.flow, flow);
            *slot = new;
            full
        })
    }

    /// Takes out what the SYN of `flow` carried.
    pub(super) fn take(&self, flow: &toa_flow, now: u32) -> Option<Toa> {
        self.bucket(flow)?.with(|slots| {
            let slot = slots
                .iter_mut()
                .find(|slot| slot.age(now).is_some() && same(&slot.flow, flow))?;
            slot.used = false;
            Some(Toa {
                row: slot.row,
                kind: slot.kind,
                length: slot.length,
                client: slot.client,
            })
        })
    }

    /// Whether any address can be waiting, and the time.
    pub(super) fn waiting(&self) -> Option<u32> {
        if self.ever.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // SAFETY: No preconditions.
        let now = unsafe { shim::toa_shim_seconds() };
        (elapsed(self.newest.load(Ordering::Relaxed), now) <= LIFETIME).then_some(now)
    }
}
