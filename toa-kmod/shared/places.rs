// SPDX-License-Identifier: GPL-2.0

//! A few places that forget.

use core::array;

use super::locked::Locked;
use super::recent::elapsed;

/// Whose a value is.
pub(crate) trait Key: Copy + Default + PartialEq {
    /// What many keys have in common: places are shared out between owners.
    type Owner: PartialEq;

    /// Its owner.
    fn owner(&self) -> Self::Owner;
}

/// Who had to make room for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Nobody: a place was free.
    Free,
    /// The value that came first.
    Oldest,
    /// A later one, whose owner held the most places.
    Quota,
}

/// One value, waiting to be asked for.
struct Place<K, V> {
    /// Whose it is.
    key: K,
    /// When it came, in seconds since boot.
    since: u32,
    value: Option<V>,
}

impl<K: Key, V> Place<K, V> {
    /// How long the value waits, if there is one and it is not forgotten yet.
    fn age(&self, now: u32, lifetime: u32) -> Option<u32> {
        self.value.as_ref()?;
        let age = elapsed(self.since, now);
        (age <= lifetime).then_some(age)
    }
}

/// `N` places; what waits longer than `LIFETIME` seconds is forgotten.
///
/// An owner may have all of them while nobody else wants any. Where all are taken, the owner that
/// would hold the most with the newcomer makes room, so nobody who comes often pushes out more of
/// the others' than leaves each of them as much as himself.
pub(crate) struct Places<K, V, const N: usize, const LIFETIME: u32>(Locked<[Place<K, V>; N]>);

impl<K: Key, V, const N: usize, const LIFETIME: u32> Places<K, V, N, LIFETIME> {
    pub(crate) fn new() -> Self {
        Self(Locked::new(array::from_fn(|_| Place {
            key: K::default(),
            since: 0,
            value: None,
        })))
    }

    /// Keeps `value` for `key`; who made room for it.
    pub(crate) fn insert(&self, key: &K, value: V, now: u32) -> Room {
        self.0.with(|places| {
            // The same key again, else a free or forgotten place, else the oldest.
            let rank = |place: &Place<K, V>| match place.age(now, LIFETIME) {
                Some(_) if place.key == *key => u32::MAX,
                None => u32::MAX - 1,
                Some(age) => age,
            };
            let Some(place) = places.iter_mut().max_by_key(|place| rank(place)) else {
                return Room::Free;
            };
            let fresh = Place {
                key: *key,
                since: now,
                value: Some(value),
            };
            if place.age(now, LIFETIME).is_none() || place.key == *key {
                *place = fresh;
                return Room::Free;
            }
            let oldest = place.key;
            let Some(place) = Self::fullest(places, key, now) else {
                return Room::Free;
            };
            let room = if place.key == oldest {
                Room::Oldest
            } else {
                Room::Quota
            };
            *place = fresh;
            room
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

    /// Of the places, which are all taken, the oldest of the owner that would hold the most with
    /// `key`; the newcomer's own, where another holds as many.
    #[cold]
    fn fullest<'a>(
        places: &'a mut [Place<K, V>; N],
        key: &K,
        now: u32,
    ) -> Option<&'a mut Place<K, V>> {
        // Neither `count` nor `zip`: what they add with can panic where the kernel has overflow
        // checks.
        let mut fullest = 0usize;
        let mut most = (0usize, false, None);
        for at in 0..N {
            let place = places.get(at)?;
            let owner = place.key.owner();
            let own = owner == key.owner();
            let same = |other: &&Place<K, V>| other.key.owner() == owner;
            let held = places.iter().filter(same);
            let held = held.fold(usize::from(own), |held, _| held.wrapping_add(1));
            let rank = (held, own, place.age(now, LIFETIME));
            if rank >= most {
                (fullest, most) = (at, rank);
            }
        }
        places.get_mut(fullest)
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
