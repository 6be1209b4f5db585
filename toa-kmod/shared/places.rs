// SPDX-License-Identifier: GPL-2.0

//! A few places that forget.

use core::array;

use super::locked::Locked;
use super::recent::elapsed;

/// One value, waiting to be asked for.
struct Place<K, V> {
    /// Whose it is.
    key: K,
    /// When it came, in seconds since boot.
    since: u32,
    value: Option<V>,
}

impl<K, V> Place<K, V> {
    /// How long the value waits, if there is one and it is not forgotten yet.
    fn age(&self, now: u32, lifetime: u32) -> Option<u32> {
        self.value.as_ref()?;
        let age = elapsed(self.since, now);
        (age <= lifetime).then_some(age)
    }
}

/// `N` places; what waits longer than `LIFETIME` seconds is forgotten.
pub(crate) struct Places<K, V, const N: usize, const LIFETIME: u32>(Locked<[Place<K, V>; N]>);

impl<K, V, const N: usize, const LIFETIME: u32> Places<K, V, N, LIFETIME>
where
    K: Copy + Default + PartialEq,
{
    pub(crate) fn new() -> Self {
        Self(Locked::new(array::from_fn(|_| Place {
            key: K::default(),
            since: 0,
            value: None,
        })))
    }

    /// Keeps `value` for `key`; whether one that was not forgotten had to make room for it.
    pub(crate) fn insert(&self, key: &K, value: V, now: u32) -> bool {
        self.0.with(|places| {
            // The same key again, else a free or forgotten place, else the oldest.
            let rank = |place: &Place<K, V>| match place.age(now, LIFETIME) {
                Some(_) if place.key == *key => u32::MAX,
                None => u32::MAX - 1,
                Some(age) => age,
            };
            let Some(place) = places.iter_mut().max_by_key(|place| rank(place)) else {
                return false;
            };
            let full = place.age(now, LIFETIME).is_some() && place.key != *key;
            *place = Place {
                key: *key,
                since: now,
                value: Some(value),
            };
            full
        })
    }

    /// What waits for `key`, and goes on waiting.
    pub(crate) fn peek(&self, key: &K, now: u32) -> Option<V>
    where
        V: Copy,
    {
        self.0.with(|places| {
            places
                .iter()
                .find(|place| place.age(now, LIFETIME).is_some() && place.key == *key)?
                .value
        })
    }

    /// Takes out what waits for `key`.
    pub(crate) fn take(&self, key: &K, now: u32) -> Option<V> {
        self.0.with(|places| {
            places
                .iter_mut()
                .find(|place| place.age(now, LIFETIME).is_some() && place.key == *key)?
                .value
                .take()
        })
    }
}
