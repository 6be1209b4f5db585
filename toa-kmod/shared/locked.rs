// SPDX-License-Identifier: GPL-2.0

//! A value behind a lock that its holders hold for some dozens of instructions.

use crate::sync::{spin_loop, AtomicU32, Ordering, UnsafeCell};

/// The value, and its lock. Nobody who could want the lock may interrupt its holder.
pub(crate) struct Locked<T> {
    locked: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: The value is reached through `with` only, by one CPU at a time.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            locked: AtomicU32::new(0),
            value: UnsafeCell::new(value),
        }
    }

    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
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
        let result = self.value.with_mut(|value| work(unsafe { &mut *value }));
        self.locked.store(0, Ordering::Release);
        result
    }
}
