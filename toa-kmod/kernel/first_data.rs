// SPDX-License-Identifier: GPL-2.0

//! The mode in which the first data segments of a connection are read, too.
//!
//! It is off by default, and then nothing is attached where data pass. While it is on, a new
//! connection without an address is noted here by its socket, whose address is compared and never
//! followed, until its first [`SEGMENTS`] data segments have passed, an address has come, or the
//! socket is destroyed. The table has a fixed size: where a bucket is full, the next connection takes
//! somebody's place, who then goes without.

use core::sync::atomic::{AtomicBool, Ordering};

use super::errno::Result;
use crate::backend::{self, BoxedArray};
use crate::shared::few::Few;

/// Data segments of a connection that are read.
const SEGMENTS: usize = 3;

/// Buckets; a power of two. Each is a cache line.
const BUCKETS: usize = 1 << 11;

/// Connections in a bucket.
const WAYS: usize = 7;

/// Whether the mode is on, and the connections whose first data are still to come.
pub(super) struct FirstData {
    on: AtomicBool,
    buckets: BoxedArray<Few<WAYS>, BUCKETS>,
}

impl FirstData {
    /// The mode is off.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            on: AtomicBool::new(false),
            buckets: backend::new_array(Few::new)?,
        })
    }

    /// Switches the mode. What was noted before is void: nobody has seen which sockets died since.
    /// Called before the hook on data is attached, and after it is detached.
    pub(super) fn switch(&self, on: bool) {
        for bucket in self.buckets.iter() {
            bucket.clear();
        }
        self.on.store(on, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// As [`super::session::Sessions`] does it.
    #[inline(always)]
    fn bucket(&self, sk: usize) -> Option<&Few<WAYS>> {
        const SHIFT: u32 = u64::BITS - BUCKETS.trailing_zeros();
        let hash = (sk as u64).wrapping_mul(0x61c8_8646_80b5_83eb) >> SHIFT;
        self.buckets.get(hash as usize)
    }

    /// The new connection of `sk` has no address; whether another had to make room for it.
    pub(super) fn note(&self, sk: usize) -> bool {
        self.bucket(sk)
            .is_some_and(|bucket| bucket.note(sk, SEGMENTS))
    }

    /// Whether the first data of `sk` are still to come.
    #[inline(always)]
    pub(super) fn awaits(&self, sk: usize) -> bool {
        self.bucket(sk).is_some_and(|bucket| bucket.has(sk))
    }

    /// One data segment of `sk` has passed.
    pub(super) fn pass(&self, sk: usize) {
        if let Some(bucket) = self.bucket(sk) {
            bucket.meet(sk);
        }
    }

    /// No more of `sk`.
    pub(super) fn forget(&self, sk: usize) {
        if let Some(bucket) = self.bucket(sk) {
            bucket.forget(sk);
        }
    }
}
