// SPDX-License-Identifier: MIT OR Apache-2.0

//! The address of a SYN goes to one connection, whoever else comes to the same places.

use loom::sync::Arc;
use loom::thread;

use crate::every_order;
use crate::shared::places::{Key, Places, Room};

/// Seconds since boot.
const NOW: u32 = 1000;

/// The hundreds are the owner.
impl Key for u32 {
    type Owner = u32;

    fn owner(&self) -> u32 {
        self / 100
    }
}

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
                assert_eq!(places.insert(&key, key + 10, NOW), Room::Free);
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
        let seen = places.peek(&1, NOW);
        let taken = places.take(&1, NOW);
        assert!([Some(11), Some(12)].contains(&taken));
        // What was looked at stays, unless the newer one came in between.
        assert!(seen == taken || (seen, taken) == (Some(11), Some(12)));
        assert_eq!(again.join().unwrap(), Room::Free);
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
        assert_eq!(places.insert(&1, 11, NOW), Room::Free);
        assert_eq!(places.insert(&2, 12, NOW + 1), Room::Free);
        assert_eq!(places.insert(&1, 13, NOW + 2), Room::Free);
        assert_eq!(places.insert(&3, 14, NOW + 3), Room::Oldest);
        assert_eq!(places.take(&2, NOW + 3), None);
        assert_eq!(places.take(&1, NOW + 3), Some(13));
        // The clock's 32 bits may run over, and what is forgotten makes no room: it has none.
        let places = Two::new();
        assert_eq!(places.insert(&1, 11, u32::MAX), Room::Free);
        assert_eq!(places.insert(&2, 12, u32::MAX), Room::Free);
        assert_eq!(places.take(&1, 3), Some(11));
        assert_eq!(places.insert(&3, 13, 70), Room::Free);
        assert_eq!(places.insert(&4, 14, 70), Room::Free);
    });
}

/// Owner 1 comes and comes; owner 2 keeps its place, and owner 1 has all of them while it is alone.
#[test]
fn an_owner_pushes_out_its_own() {
    every_order(0, || {
        let places = Places::<u32, u32, 4, 64>::new();
        for key in 101..=104 {
            assert_eq!(places.insert(&key, key, NOW), Room::Free);
        }
        assert_eq!(places.insert(&105, 105, NOW + 1), Room::Oldest);
        assert_eq!(places.insert(&201, 201, NOW + 1), Room::Oldest);
        // All but 201 are newer now, which is the oldest and stays.
        for key in 106..=120 {
            assert_ne!(places.insert(&key, key, NOW + 2), Room::Free);
        }
        assert_eq!(places.insert(&121, 121, NOW + 3), Room::Quota);
        // With two each, whoever comes makes room himself.
        assert_eq!(places.insert(&202, 202, NOW + 4), Room::Quota);
        assert_eq!(places.insert(&122, 122, NOW + 5), Room::Quota);
        assert_eq!(places.insert(&203, 203, NOW + 6), Room::Oldest);
        assert_eq!(places.take(&202, NOW + 6), Some(202));
        assert_eq!(places.take(&203, NOW + 6), Some(203));
        assert_eq!(places.take(&122, NOW + 6), Some(122));
        assert_eq!(places.take(&121, NOW + 6), Some(121));
    });
}

/// Where each of four owners has one place, nobody gets a second.
#[test]
fn four_owners_share_four_places() {
    every_order(0, || {
        let places = Places::<u32, u32, 4, 64>::new();
        for key in [100, 200, 300, 400] {
            assert_eq!(places.insert(&key, key, NOW), Room::Free);
        }
        for key in 401..=450 {
            assert_ne!(places.insert(&key, key, NOW + 1), Room::Free);
        }
        for key in [100, 200, 300, 450] {
            assert_eq!(places.take(&key, NOW + 1), Some(key));
        }
    });
}
