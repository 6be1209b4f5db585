// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is set is replaced under those who read it.

use std::ptr::NonNull;

use loom::alloc::Track;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, RwLock, RwLockReadGuard};
use loom::thread;

use crate::every_order;
use crate::shared::current::Current;
use crate::shared::current::Reader;

/// Two halves that belong together. loom fails a test in which they are read while they are
/// written, which is when they are made and when they are freed, and one in which they never are
/// freed.
struct Setting(Track<UnsafeCell<[u32; 2]>>);

impl Setting {
    fn boxed(value: u32) -> NonNull<Self> {
        let setting = Self(Track::new(UnsafeCell::new([0; 2])));
        // SAFETY: Nobody else knows of it yet.
        let write = |halves: *mut [u32; 2]| unsafe { *halves = [value, value] };
        setting.0.get_ref().with_mut(write);
        NonNull::from(Box::leak(Box::new(setting)))
    }

    fn value(&self) -> u32 {
        // SAFETY: loom fails the test if anybody is writing.
        let [a, b] = self.0.get_ref().with(|halves| unsafe { *halves });
        assert_eq!(a, b);
        a
    }
}

/// What the allocator does to freed memory.
impl Drop for Setting {
    fn drop(&mut self) {
        // SAFETY: loom fails the test if anybody is reading.
        let write = |halves: *mut [u32; 2]| unsafe { *halves = [7, 8] };
        self.0.get_ref().with_mut(write);
    }
}

/// The setting in force, and RCU as its users see it.
struct Settings {
    current: Current<Setting>,
    rcu: RwLock<()>,
}

struct InRcu<'a>(#[allow(dead_code)] RwLockReadGuard<'a, ()>);

// SAFETY: `Settings::set` waits for the lock that this holds.
unsafe impl Reader for InRcu<'_> {}

impl Settings {
    fn new(value: u32) -> Self {
        Self {
            // SAFETY: `set` and `drop` free what no reader can see.
            current: unsafe { Current::new(Setting::boxed(value)) },
            rcu: RwLock::new(()),
        }
    }

    fn get(&self) -> u32 {
        let reader = InRcu(self.rcu.read().unwrap());
        self.current.get(&reader).value()
    }

    fn set(&self, value: u32) {
        let old = self.current.replace(Setting::boxed(value));
        drop(self.rcu.write().unwrap());
        free(old);
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        free(self.current.last());
    }
}

fn free(setting: NonNull<Setting>) {
    // SAFETY: It came from a `Box`, and is in force no more.
    drop(unsafe { Box::from_raw(setting.as_ptr()) });
}

#[test]
fn a_reader_sees_the_old_setting_or_the_new_one() {
    every_order(3, || {
        let settings = Arc::new(Settings::new(1));
        let reader = {
            let settings = settings.clone();
            thread::spawn(move || {
                let (first, second) = (settings.get(), settings.get());
                assert!([(1, 1), (1, 2), (2, 2)].contains(&(first, second)));
            })
        };
        settings.set(2);
        assert_eq!(settings.get(), 2);
        reader.join().unwrap();
    });
}

#[test]
fn two_that_set_leave_one_setting() {
    every_order(2, || {
        let settings = Arc::new(Settings::new(1));
        let threads = [2, 3].map(|value| {
            let settings = settings.clone();
            thread::spawn(move || settings.set(value))
        });
        assert!((1..=3).contains(&settings.get()));
        for thread in threads {
            thread.join().unwrap();
        }
        assert!([2, 3].contains(&settings.get()));
    });
}
