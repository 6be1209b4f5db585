// SPDX-License-Identifier: MIT OR Apache-2.0

//! A key is met as often as was said, or gives way, and is never another.

use loom::sync::Arc;
use loom::thread;

use crate::every_order;
use crate::shared::few::Few;

type Two = Few<2>;

/// Keys are addresses, whose lowest bits are zero.
const A: usize = 64;
const B: usize = 128;
const C: usize = 192;

#[test]
fn a_key_is_met_so_often() {
    every_order(0, || {
        for times in 1..=3 {
            let few = Two::new();
            assert!(!few.note(A, times));
            assert!(!few.note(B, 3));
            for _ in 0..times {
                assert!(few.has(A));
                few.meet(A);
            }
            assert!(!few.has(A) && few.has(B) && !few.has(C));
            few.meet(A);
            few.forget(B);
            assert!(!few.has(B));
            // Noted anew, it begins anew, and takes no second place.
            for _ in 0..3 {
                assert!(!few.note(B, 2));
            }
            assert!(!few.note(C, 1));
            few.clear();
            assert!(!few.has(B) && !few.has(C));
        }
    });
}

#[test]
fn where_there_is_no_room_the_next_takes_it_in_turn() {
    every_order(0, || {
        let few = Two::new();
        few.note(A, 3);
        few.note(B, 3);
        assert!(few.note(C, 3));
        assert!(!few.has(A) && few.has(B) && few.has(C));
        assert!(few.note(A, 3));
        assert!(few.has(A) && !few.has(B) && few.has(C));
    });
}

#[test]
fn two_that_come_at_once_take_two_places() {
    every_order(3, || {
        let few = Arc::new(Two::new());
        let other = {
            let few = few.clone();
            thread::spawn(move || {
                assert!(!few.note(A, 1));
                assert!(few.has(A));
                few.meet(A);
                assert!(!few.has(A));
            })
        };
        assert!(!few.note(B, 2));
        few.meet(B);
        assert!(few.has(B));
        few.meet(B);
        assert!(!few.has(B));
        other.join().unwrap();
    });
}

/// Who is met, or forgotten, while another takes the place leaves that other alone.
#[test]
fn a_key_that_gives_way_takes_nothing_along() {
    for forget in [false, true] {
        every_order(3, move || {
            let few = Arc::new(Few::<1>::new());
            few.note(A, 1);
            let other = {
                let few = few.clone();
                thread::spawn(move || few.note(B, 3))
            };
            if forget {
                few.forget(A);
            } else {
                few.meet(A);
            }
            other.join().unwrap();
            assert!(!few.has(A) && few.has(B));
            few.meet(B);
            few.meet(B);
            assert!(few.has(B));
        });
    }
}
