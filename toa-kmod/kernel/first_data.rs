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
use super::hooks::{self, EntryHook, HookParam};
use super::shim;
use crate::backend::{self, BoxedArray};
use crate::shared::chain;
use crate::shared::few::Few;
use crate::shared::locked::Locked;

/// Data segments of a connection that are read.
const SEGMENTS: usize = 3;

/// Buckets; a power of two. Each is a cache line.
const BUCKETS: usize = 1 << 11;

/// Connections in a bucket.
const WAYS: usize = 7;

/// Whether the mode is on, and the connections whose first data are still to come.
pub(super) struct FirstData {
    on: AtomicBool,
    /// The hook on data, while it is on, and how it is to be attached.
    hook: Locked<Option<EntryHook>>,
    wish: HookParam,
    buckets: BoxedArray<Few<WAYS>, BUCKETS>,
}

impl FirstData {
    /// The mode is off.
    pub(super) fn new(wish: HookParam) -> Result<Self> {
        Ok(Self {
            on: AtomicBool::new(false),
            hook: Locked::new(None),
            wish,
            buckets: backend::new_array(Few::new)?,
        })
    }

    /// Switches the mode; where the hook cannot be attached it stays off, and off is a switch that always
    /// works. One at a time calls this. May sleep.
    pub(super) fn switch(&self, on: bool) -> Result {
        // Taken out, since attaching and detaching sleep.
        let hook = match self.hook.with(Option::take) {
            None if on => Some(self.attach().inspect_err(|_| self.end())?),
            Some(hook) if !on => {
                drop(hook);
                self.end();
                None
            }
            as_it_was => as_it_was,
        };
        self.hook.with(|place| *place = hook);
        Ok(())
    }

    /// On, with nobody noted: nobody has seen which sockets died since it was last on. Connections are
    /// noted, and forgotten, before the first segment is looked at.
    fn attach(&self) -> Result<EntryHook> {
        for bucket in self.buckets.iter() {
            bucket.clear();
        }
        self.on.store(true, Ordering::Relaxed);
        let hook = EntryHook::register(shim::TOA_HOOK_RCV_ESTABLISHED, self.wish)?;
        hooks::refuse_silent_kprobes("first_data")?;
        Ok(hook)
    }

    /// Off, when no segment is looked at any more.
    fn end(&self) {
        self.on.store(false, Ordering::Relaxed);
        // A hook that saw it on must not note a connection when it is on again.
        // SAFETY: The caller may sleep.
        unsafe { shim::toa_shim_synchronize_rcu() };
    }

    #[inline(always)]
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// As [`super::session::Sessions`] does it.
    #[inline(always)]
    fn bucket(&self, sk: usize) -> Option<&Few<WAYS>> {
        const SHIFT: u32 = u64::BITS - BUCKETS.trailing_zeros();
        self.buckets.get((chain::hash(sk) >> SHIFT) as usize)
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

/// Switches the mode off when the module goes, if it is on.
pub(super) struct OffAtLast(());

impl OffAtLast {
    /// The state is published, and stays so for as long as this lives.
    pub(super) fn new() -> Self {
        Self(())
    }
}

impl Drop for OffAtLast {
    fn drop(&mut self) {
        // SAFETY: `Module` drops this before its `Published`.
        if let Some(state) = unsafe { super::state() } {
            // Off is a switch that always works.
            let _ = state.first_data.switch(false);
        }
    }
}
