// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sessions come, are looked up and go, all at once.

use std::ptr::NonNull;

use loom::alloc::Track;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, RwLock, RwLockReadGuard};
use loom::thread;

use crate::every_order;
use crate::shared::chain::{Chain, Link, Reader};

/// What a session holds. loom fails a test in which somebody reads this while it is written, and
/// it is written when it is made and when it is freed, and one in which it is never freed.
struct Session {
    client: Track<UnsafeCell<usize>>,
}

const GONE: usize = usize::MAX;

impl Session {
    fn of(sk: usize) -> Self {
        Self {
            client: Track::new(UnsafeCell::new(client_of(sk))),
        }
    }

    fn client(&self) -> usize {
        // SAFETY: loom fails the test if anybody is writing.
        self.client.get_ref().with(|client| unsafe { *client })
    }
}

/// What the allocator does to freed memory.
impl Drop for Session {
    fn drop(&mut self) {
        self.client
            .get_ref()
            // SAFETY: loom fails the test if anybody is reading.
            .with_mut(|client| unsafe { *client = GONE });
    }
}

fn client_of(sk: usize) -> usize {
    1000 + sk
}

/// The table's bucket, and RCU as its users see it: what is removed is freed when the readers of
/// that moment are gone. A lock does that; nobody who inserts comes near it.
struct Table {
    chain: Chain<Session>,
    rcu: RwLock<()>,
}

struct InRcu<'a>(#[allow(dead_code)] RwLockReadGuard<'a, ()>);

// SAFETY: `Table::free` waits for the lock that this holds.
unsafe impl Reader for InRcu<'_> {}

impl Table {
    fn new() -> Self {
        Self {
            chain: Chain::new(),
            rcu: RwLock::new(()),
        }
    }

    fn insert(&self, sk: usize) {
        let new = Box::into_raw(Box::new(Link::new(sk, Session::of(sk))));
        // SAFETY: The link is this thread's, and `free` waits for the readers.
        unsafe { self.chain.insert(new) };
    }

    fn find(&self, sk: usize) -> Option<usize> {
        let reader = InRcu(self.rcu.read().unwrap());
        let session = self.chain.find(&reader, sk)?;
        Some(session.client())
    }

    fn remove(&self, sk: usize) -> bool {
        if !self.chain.may_hold(sk) {
            return false;
        }
        let Some(link) = self.chain.remove(sk) else {
            return false;
        };
        self.free(link);
        true
    }

    fn free(&self, link: NonNull<Link<Session>>) {
        drop(self.rcu.write().unwrap());
        free(link);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        while let Some(link) = self.chain.pop() {
            free(link);
        }
    }
}

fn free(link: NonNull<Link<Session>>) {
    // SAFETY: The link came from a `Box`, and is in no chain any more.
    drop(unsafe { Box::from_raw(link.as_ptr()) });
}

/// Runs `threads` side by side on a table that `before` has prepared, then `after` on what is left.
fn together<const N: usize>(
    preemptions: usize,
    before: fn(&Table),
    threads: [fn(&Table); N],
    after: fn(&Table),
) {
    every_order(preemptions, move || {
        let table = Arc::new(Table::new());
        before(&table);
        let threads = threads.map(|work| {
            let table = table.clone();
            thread::spawn(move || work(&table))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        after(&table);
    });
}

/// A session is all there or not there at all.
fn look(table: &Table, sk: usize) -> bool {
    let found = table.find(sk);
    assert!([None, Some(client_of(sk))].contains(&found), "{found:?}");
    found.is_some()
}

#[test]
fn a_reader_never_sees_a_half_made_session() {
    together(
        3,
        |_| {},
        [
            |table| table.insert(1),
            |table| {
                look(table, 1);
            },
        ],
        |table| assert!(look(table, 1)),
    );
}

#[test]
fn a_reader_never_sees_a_freed_session() {
    together(
        3,
        |table| table.insert(1),
        [
            |table| assert!(table.remove(1)),
            |table| {
                look(table, 1);
            },
        ],
        |table| assert!(!look(table, 1)),
    );
}

#[test]
fn those_that_stay_are_found_whatever_comes_and_goes_beside_them() {
    together(
        2,
        |table| {
            table.insert(1);
            table.insert(2);
            table.insert(3);
        },
        [
            |table| assert!(table.remove(2)),
            |table| table.insert(4),
            |table| {
                assert!(look(table, 1));
                look(table, 2);
                assert!(look(table, 3));
            },
        ],
        |table| {
            assert_eq!(
                [1, 2, 3, 4].map(|sk| look(table, sk)),
                [true, false, true, true]
            )
        },
    );
}

#[test]
fn a_session_is_removed_once() {
    // Which thread had it is not known beforehand, so each says so with a session.
    fn remove(table: &Table, mark: usize) {
        if table.remove(1) {
            table.insert(mark);
        }
    }
    together(
        3,
        |table| table.insert(1),
        [|table| remove(table, 2), |table| remove(table, 3)],
        |table| {
            assert!(!look(table, 1));
            assert!(look(table, 2) != look(table, 3));
        },
    );
}

#[test]
fn neighbours_are_removed_at_once() {
    together(
        3,
        |table| {
            table.insert(1);
            table.insert(2);
            table.insert(3);
        },
        [
            |table| assert!(table.remove(1)),
            |table| assert!(table.remove(2)),
        ],
        |table| assert_eq!([1, 2, 3].map(|sk| look(table, sk)), [false, false, true]),
    );
}

#[test]
fn none_is_lost_where_two_come_at_once() {
    together(
        3,
        |_| {},
        [|table| table.insert(1), |table| table.insert(2)],
        |table| assert!(look(table, 1) && look(table, 2)),
    );
}

/// Its mark is that of 1.
const TWIN: usize = 62;

#[test]
fn a_mark_stays_while_any_key_has_it_and_no_longer() {
    together(
        3,
        |table| {
            table.insert(1);
            table.insert(TWIN);
            table.insert(3);
        },
        [
            |table| assert!(table.remove(TWIN)),
            |table| {
                assert!(table.chain.may_hold(1));
                assert!(look(table, 1));
                assert!(table.remove(3));
            },
        ],
        |table| {
            assert!(table.chain.may_hold(TWIN), "the two have different marks");
            assert!(!table.chain.may_hold(3));
            assert!(table.remove(1));
            assert!(!table.chain.may_hold(1));
        },
    );
}
