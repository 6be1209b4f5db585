// SPDX-License-Identifier: MIT OR Apache-2.0

//! A spare goes to one, whole, and none is lost.

use std::ptr::NonNull;

use loom::alloc::Track;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::every_order;
use crate::shared::spares::Spares;

/// loom fails a test in which two write one of these at once, or one is never freed.
struct Spare(Track<UnsafeCell<u32>>);

const FRESH: u32 = 7;

type Two = Spares<Spare, 2>;

fn make() -> Option<NonNull<Spare>> {
    let spare = Box::new(Spare(Track::new(UnsafeCell::new(FRESH))));
    NonNull::new(Box::into_raw(spare))
}

/// Uses the spare, as an interrupted hook does, and frees it.
fn spend(spare: NonNull<Spare>) {
    // SAFETY: `make` made it of a `Box`; whoever calls this has it alone.
    let spare = unsafe { Box::from_raw(spare.as_ptr()) };
    let was = spare.0.get_ref().with_mut(|value| {
        // SAFETY: loom fails the test if anybody else is here.
        unsafe { std::mem::replace(&mut *value, 0) }
    });
    assert_eq!(was, FRESH);
}

fn empty(spares: &Two) -> usize {
    std::iter::from_fn(|| spares.take()).map(spend).count()
}

#[test]
fn a_spare_is_taken_once() {
    every_order(3, || {
        let spares = Arc::new(Two::new());
        spares.refill(make, spend);
        let threads = [(), ()].map(|()| {
            let spares = spares.clone();
            thread::spawn(move || spares.take().map(spend).is_some())
        });
        // Two were there.
        assert!(threads.map(|thread| thread.join().unwrap()) == [true, true]);
        assert_eq!(empty(&spares), 0);
    });
}

#[test]
fn a_spare_is_whole_as_soon_as_it_is_there() {
    every_order(3, || {
        let spares = Arc::new(Two::new());
        let refill = {
            let spares = spares.clone();
            thread::spawn(move || spares.refill(make, spend))
        };
        let taken = spares.take().map(spend).is_some();
        refill.join().unwrap();
        // The place behind the one that was taken from may have been filled before.
        let left = empty(&spares);
        assert!(left == 2 || (taken && left == 1), "{taken} {left}");
    });
}

#[test]
fn two_that_refill_at_once_lose_none() {
    every_order(2, || {
        let spares = Arc::new(Two::new());
        let threads = [(), ()].map(|()| {
            let spares = spares.clone();
            thread::spawn(move || spares.refill(make, spend))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(empty(&spares), 2);
    });
}

#[test]
fn without_memory_there_are_fewer() {
    every_order(0, || {
        let spares = Two::new();
        spares.refill(|| None, spend);
        assert_eq!(empty(&spares), 0);
    });
}
