// SPDX-License-Identifier: GPL-2.0

//! Keys that are to be met a few times more, and then forgotten.

use core::array;

use crate::sync::{AtomicUsize, Ordering};

/// The bits of a key that are zero, where the times left are kept.
const TIMES: usize = 3;

/// `N` of them, without a lock: a word holds a key and its times. Words have nothing to do with each
/// other and tell of nothing else, so nothing here orders memory.
///
/// A key is noted, met and forgotten by one at a time; others may take its place at any moment.
pub(crate) struct Few<const N: usize> {
    words: [AtomicUsize; N],
    /// Whose turn it is to make room.
    turn: AtomicUsize,
}

impl<const N: usize> Few<N> {
    pub(crate) fn new() -> Self {
        Self {
            words: array::from_fn(|_| AtomicUsize::new(0)),
            turn: AtomicUsize::new(0),
        }
    }

    /// The word of `key`, which is not 0, and what it is now.
    #[inline(always)]
    fn find(&self, key: usize) -> Option<(&AtomicUsize, usize)> {
        self.words.iter().find_map(|word| {
            let now = word.load(Ordering::Relaxed);
            (now & !TIMES == key).then_some((word, now))
        })
    }

    /// Whether `key` is to be met.
    #[inline(always)]
    pub(crate) fn has(&self, key: usize) -> bool {
        self.find(key).is_some()
    }

    /// From now on `key` is to be met `times` times, 1 to 3; whether another had to make room.
    pub(crate) fn note(&self, key: usize, times: usize) -> bool {
        let new = key | (times & TIMES);
        // What an earlier holder of the key may have left.
        self.forget(key);
        for word in &self.words {
            let free = word.load(Ordering::Relaxed) == 0;
            if free
                && word
                    .compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            {
                return false;
            }
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match self.words.get(turn.checked_rem(N).unwrap_or(0)) {
            Some(word) => word.swap(new, Ordering::Relaxed) != 0,
            None => false,
        }
    }

    /// `key` was met once.
    pub(crate) fn meet(&self, key: usize) {
        if let Some((word, now)) = self.find(key) {
            let left = (now & TIMES).wrapping_sub(1);
            let new = if left == 0 { 0 } else { key | left };
            // Where it fails, another has taken the place.
            let _ = word.compare_exchange(now, new, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// `key` is not to be met any more.
    pub(crate) fn forget(&self, key: usize) {
        if let Some((word, now)) = self.find(key) {
            let _ = word.compare_exchange(now, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Nor is any other.
    pub(crate) fn clear(&self) {
        for word in &self.words {
            word.store(0, Ordering::Relaxed);
        }
    }
}
