// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whoever comes after a SYN knows that one came.

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::Arc;
use loom::thread;

use crate::every_order;
use crate::shared::recent::{elapsed, Recent};

/// Seconds since boot.
const NOW: u32 = 1000;

#[test]
fn whoever_comes_after_knows() {
    every_order(3, || {
        // What the network does: the handshake's last segment comes after the SYN was seen.
        let recent = Arc::new(Recent::new());
        let answered = Arc::new(AtomicBool::new(false));
        let other = {
            let recent = recent.clone();
            thread::spawn(move || recent.note(NOW))
        };
        let syn = {
            let (recent, answered) = (recent.clone(), answered.clone());
            thread::spawn(move || {
                recent.note(NOW);
                answered.store(true, Ordering::Release);
            })
        };
        if answered.load(Ordering::Acquire) {
            assert!(recent.ever());
            assert_eq!(recent.age(NOW), 0);
        }
        other.join().unwrap();
        syn.join().unwrap();
        assert!(recent.ever());
        assert_eq!(recent.age(NOW + 5), 5);
    });
}

#[test]
fn nothing_came_yet() {
    every_order(0, || assert!(!Recent::new().ever()));
}

#[test]
fn the_clock_runs_over_and_lags() {
    assert_eq!(elapsed(5, 7), 2);
    assert_eq!(elapsed(7, 5), 0);
    assert_eq!(elapsed(u32::MAX, 1), 2);
}
