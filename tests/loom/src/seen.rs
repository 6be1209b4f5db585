// SPDX-License-Identifier: MIT OR Apache-2.0

//! What was added is seen, whoever adds beside; what was not is not.

use loom::sync::Arc;
use loom::thread;

use crate::every_order;
use crate::shared::seen::Seen;

#[test]
fn two_that_add_at_once_are_both_seen() {
    every_order(3, || {
        let seen = Arc::new(Seen::<2>::new());
        let other = {
            let seen = seen.clone();
            thread::spawn(move || {
                seen.add(7);
                assert!(seen.has(7));
            })
        };
        seen.add(8);
        assert!(seen.has(8));
        assert!(!seen.has(9));
        other.join().unwrap();
        assert!(seen.has(7) && seen.has(8));
    });
}

#[test]
fn the_same_twice_takes_one_place() {
    every_order(3, || {
        let seen = Arc::new(Seen::<2>::new());
        let other = {
            let seen = seen.clone();
            thread::spawn(move || seen.add(7))
        };
        seen.add(7);
        other.join().unwrap();
        seen.add(8);
        assert!(seen.has(7) && seen.has(8));
    });
}

#[test]
fn what_has_no_room_is_left_out() {
    every_order(0, || {
        let seen = Seen::<2>::new();
        assert!(!seen.has(1));
        for number in 1..=3 {
            seen.add(number);
        }
        assert_eq!(
            [1, 2, 3].map(|number| seen.has(number)),
            [true, true, false]
        );
    });
}
