// SPDX-License-Identifier: GPL-2.0

//! Who came last, and how often.

use core::array;

use super::locked::Locked;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<K> {
    pub(crate) key: K,
    /// How often it came at least, since it came to be kept; 0 where nobody is.
    pub(crate) count: u64,
    /// The number of its last coming, among all of them.
    pub(crate) last: u64,
}

/// The `N` that came last. For what need not be exact: they share a lock.
pub(crate) struct Last<K, const N: usize>(Locked<[Entry<K>; N]>);

impl<K: Copy + Default + PartialEq, const N: usize> Last<K, N> {
    pub(crate) fn new() -> Self {
        Self(Locked::new(array::from_fn(|_| Entry {
            key: K::default(),
            count: 0,
            last: 0,
        })))
    }

    /// `key` has come; who has not come for the longest time makes room. Whether that was noted: it is
    /// not while another is at it, for which nobody waits.
    pub(crate) fn note(&self, key: K) -> bool {
        let noted = self.0.try_with(|entries| {
            let number = entries.iter().map(|entry| entry.last).max().unwrap_or(0);
            let number = number.wrapping_add(1);
            let known = |entry: &Entry<K>| entry.count > 0 && entry.key == key;
            let place = entries
                .iter_mut()
                .max_by_key(|entry| (known(entry), u64::MAX.wrapping_sub(entry.last)));
            if let Some(place) = place {
                let before = if known(place) { place.count } else { 0 };
                *place = Entry {
                    key,
                    count: before.saturating_add(1),
                    last: number,
                };
            }
        });
        noted.is_some()
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> [Entry<K>; N] {
        self.0.with(|entries| *entries)
    }
}
