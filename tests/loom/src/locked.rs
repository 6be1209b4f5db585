// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whoever holds the lock is alone, and sees what the one before has written; who need not, does not
//! wait for it.

use loom::sync::Arc;
use loom::thread;

use crate::every_order;
use crate::shared::locked::Locked;

#[test]
fn one_at_a_time_and_each_sees_the_others() {
    every_order(3, || {
        let count = Arc::new(Locked::new(0));
        let threads = [(), ()].map(|()| {
            let count = count.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    count.with(|count| *count += 1);
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(count.with(|count| *count), 4);
    });
}

#[test]
fn who_does_not_wait_is_alone_too_or_has_done_nothing() {
    every_order(3, || {
        let count = Arc::new(Locked::new(0));
        let trying = [(), ()].map(|()| {
            let count = count.clone();
            thread::spawn(move || usize::from(count.try_with(|count| *count += 1).is_some()))
        });
        count.with(|count| *count += 1);
        let done: usize = trying.map(|thread| thread.join().unwrap()).iter().sum();
        // With nobody there, nothing keeps it from the lock.
        assert_eq!(count.try_with(|count| *count), Some(done + 1));
    });
}
