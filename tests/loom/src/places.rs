// SPDX-License-Identifier: MIT OR Apache-2.0

//! The address of a SYN goes to one connection, whoever else comes to the same places.

use loom::sync::Arc;
use loom::thread;

use crate::every_order;
use crate::shared::places::Places;

/// Seconds since boot.
const NOW: u32 = 1000;

type Two = Places<u32, u32, 2, 64>;

#[test]
fn an_address_is_taken_once() {
    every_order(3, || {
        let places = Arc::new(Two::new());
        places.insert(&1, 11, NOW);
        let threads = [(), ()].map(|()| {
            let places = places.clone();
            thread::spawn(move || places.take(&1, NOW))
        });
        let mut taken = threads.map(|thread| thread.join().unwrap());
        taken.sort();
        assert_eq!(taken, [None, Some(11)]);
    });
}

#[test]
fn two_that_come_at_once_take_two_places() {
    every_order(3, || {
        let places = Arc::new(Two::new());
        let threads = [1, 2].map(|key| {
            let places = places.clone();
            thread::spawn(move || {
                assert!(!places.insert(&key, key + 10, NOW));
                // The other's coming and going is not seen.
                assert_eq!(places.take(&key, NOW), Some(key + 10));
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(places.take(&1, NOW), None);
    });
}

#[test]
fn an_address_that_waits_is_whole_while_another_comes() {
    every_order(3, || {
        let places = Arc::new(Two::new());
        places.insert(&1, 11, NOW);
        let again = {
            let places = places.clone();
            thread::spawn(move || places.insert(&1, 12, NOW))
        };
        let taken = places.take(&1, NOW);
        assert!([Some(11), Some(12)].contains(&taken));
        assert!(!again.join().unwrap());
        // If the old one was taken, the new one waits.
        let left = places.take(&1, NOW);
        assert_eq!(left.is_some(), taken == Some(11));
    });
}

// These need no second thread: what is forgotten, and for whom.

#[test]
fn a_place_forgets_after_its_time() {
    every_order(0, || {
        let places = Two::new();
        places.insert(&1, 11, NOW);
        assert_eq!(places.take(&1, NOW + 65), None);
        assert_eq!(places.take(&2, NOW), None);
        // Another CPU may not have seen the clock tick yet.
        assert_eq!(places.take(&1, NOW - 1), Some(11));
    });
}

#[test]
fn the_oldest_makes_room_and_the_same_key_does_not() {
    every_order(0, || {
        let places = Two::new();
        assert!(!places.insert(&1, 11, NOW));
        assert!(!places.insert(&2, 12, NOW + 1));
        assert!(!places.insert(&1, 13, NOW + 2));
        assert!(places.insert(&3, 14, NOW + 3));
        assert_eq!(places.take(&2, NOW + 3), None);
        assert_eq!(places.take(&1, NOW + 3), Some(13));
        // The clock's 32 bits may run over, and what is forgotten makes no room: it has none.
        let places = Two::new();
        assert!(!places.insert(&1, 11, u32::MAX));
        assert!(!places.insert(&2, 12, u32::MAX));
        assert_eq!(places.take(&1, 3), Some(11));
        assert!(!places.insert(&3, 13, 70));
        assert!(!places.insert(&4, 14, 70));
    });
}
