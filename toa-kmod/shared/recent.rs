// SPDX-License-Identifier: GPL-2.0

//! Whether something happened of late, told without a lock.

use crate::sync::{AtomicU32, Ordering};

/// Seconds from `then` to `now`. Another CPU may have seen the clock tick that this one has not: a
/// little below zero is zero.
pub(crate) fn elapsed(then: u32, now: u32) -> u32 {
    (now.wrapping_sub(then) as i32).max(0) as u32
}

/// When it happened last. Whoever is told of it has seen what came before: a handshake's last
/// segment comes after its SYN, so nothing here orders memory.
pub(crate) struct Recent {
    /// Written once a second at most, and CPU at most, so it is no contended cache line.
    last: AtomicU32,
    ever: AtomicU32,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self {
            last: AtomicU32::new(0),
            ever: AtomicU32::new(0),
        }
    }

    /// It happens `now`.
    pub(crate) fn note(&self, now: u32) {
        if self.last.load(Ordering::Relaxed) != now || !self.ever() {
            self.last.store(now, Ordering::Relaxed);
            self.ever.store(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn ever(&self) -> bool {
        self.ever.load(Ordering::Relaxed) != 0
    }

    /// How many seconds ago it happened last, if it ever did.
    pub(crate) fn age(&self, now: u32) -> u32 {
        elapsed(self.last.load(Ordering::Relaxed), now)
    }
}
