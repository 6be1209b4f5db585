// SPDX-License-Identifier: GPL-2.0

//! A few numbers that were seen, told without a lock.

use crate::sync::{AtomicUsize, Ordering};

/// Up to `N` numbers, none of them 0. None is ever taken out.
pub(crate) struct Seen<const N: usize> {
    /// From the first on; 0 is a free place.
    places: [AtomicUsize; N],
}

impl<const N: usize> Seen<N> {
    /// Not `const`: loom's atomics cannot be.
    pub(crate) fn new() -> Self {
        Self {
            places: core::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }

    /// A number is a fact by itself, so nothing here orders memory.
    #[inline(always)]
    pub(crate) fn has(&self, number: usize) -> bool {
        let mut places = self.places.iter();
        places.any(|place| place.load(Ordering::Relaxed) == number)
    }

    /// Adds a number, if there is room.
    pub(crate) fn add(&self, number: usize) {
        for place in &self.places {
            match place.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) if seen == number => return,
                Err(_) => {}
            }
        }
    }
}
