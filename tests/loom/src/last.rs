// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who came last is kept, and counted right where it was noted.

use loom::sync::Arc;
use loom::thread;

use crate::every_order;
use crate::shared::last::Last;

/// Who is kept and how often each came, the latest first.
fn kept<const N: usize>(last: &Last<u32, N>) -> Vec<(u32, u64)> {
    let mut all = last.all().to_vec();
    all.retain(|entry| entry.count > 0);
    all.sort_by_key(|entry| std::cmp::Reverse(entry.last));
    all.iter().map(|entry| (entry.key, entry.count)).collect()
}

#[test]
fn of_two_that_come_at_once_one_is_noted_or_both() {
    every_order(3, || {
        let last = Arc::new(Last::<u32, 2>::new());
        assert!(last.note(6));
        let other = {
            let last = last.clone();
            thread::spawn(move || last.note(5))
        };
        let noted = [last.note(5), other.join().unwrap()].map(u64::from);
        let count = noted.iter().sum();
        assert!(count > 0, "neither was noted");
        assert_eq!(kept(&last), [(5, count), (6, 1)]);
    });
}

#[test]
fn who_has_not_come_for_the_longest_time_makes_room() {
    every_order(0, || {
        let last = Last::<u32, 3>::new();
        // The key of an empty place is no key that came.
        for key in [0, 1, 2, 1, 3, 1] {
            assert!(last.note(key));
        }
        assert_eq!(kept(&last), [(1, 3), (3, 1), (2, 1)]);
        assert!(last.note(0));
        assert_eq!(kept(&last), [(0, 1), (1, 3), (3, 1)]);
    });
}
