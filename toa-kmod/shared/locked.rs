// SPDX-License-Identifier: GPL-2.0

//! A value behind a lock that its holders hold for some dozens of instructions.

use crate::sync::{spin_loop, AtomicU32, Ordering, UnsafeCell};

/// The value, and its lock. Nobody who could want the lock may interrupt its holder.
pub(crate) struct Locked<T> {
    locked: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: The value is reached with the lock held only, by one CPU at a time.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            locked: AtomicU32::new(0),
            value: UnsafeCell::new(value),
        }
    }

    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        while !self.lock() {
            while self.locked.load(Ordering::Relaxed) != 0 {
                spin_loop();
            }
        }
        self.locked_with(work)
    }

    /// The same, or nothing while another holds the lock: for what may be left out.
    pub(crate) fn try_with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        // One that is seen to be held is only read: its cache line stays with its holder.
        let free = self.locked.load(Ordering::Relaxed) == 0;
        (free && self.lock()).then(|| self.locked_with(work))
    }

    fn lock(&self) -> bool {
        self.locked
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Whoever calls this has locked it.
    fn locked_with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: The lock is held, so this is the only reference.
        let result = self.value.with_mut(|value| work(unsafe { &mut *value }));
        self.locked.store(0, Ordering::Release);
        result
    }
}
