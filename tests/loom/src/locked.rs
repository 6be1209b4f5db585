// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whoever holds the lock is alone, and sees what the one before has written.

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
