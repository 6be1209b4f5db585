// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sessions come, are looked up and go, all at once.

use std::ptr::NonNull;

use loom::alloc::Track;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::every_order;
use crate::shared::chain::{Chain, Link};

/// What a session holds. loom fails a test in which somebody reads this while somebody else writes it,
/// and it is written when it is made, looked up and freed, and one in which it is never freed.
struct Session(Track<UnsafeCell<usize>>);

const GONE: usize = usize::MAX;

impl Session {
    fn of(sk: usize) -> Self {
        Self(Track::new(UnsafeCell::new(client_of(sk))))
    }

    /// As one who marks it would: alone.
    fn client(&self) -> usize {
        // SAFETY: loom fails the test if anybody else is here.
        self.0.get_ref().with_mut(|client| unsafe { *client })
    }
}

/// What the allocator does to freed memory.
impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: As above.
        let gone = |client: *mut usize| unsafe { *client = GONE };
        self.0.get_ref().with_mut(gone);
    }
}

fn client_of(sk: usize) -> usize {
    1000 + sk
}

/// A bucket of the table: whoever comes looks at the marks first, and what is taken out is freed at
/// once.
struct Table(Chain<Session>);

impl Table {
    fn new() -> Self {
        Self(Chain::new())
    }

    fn insert(&self, sk: usize) {
        let new = Box::new(Link::new(sk, Session::of(sk)));
        // SAFETY: The link is this thread's, and is freed once it is taken out.
        unsafe { self.0.insert(NonNull::from(Box::leak(new))) };
    }

    fn find(&self, sk: usize) -> Option<usize> {
        if !self.0.may_hold(sk) {
            return None;
        }
        self.0.with(sk, |session| session.client())
    }

    fn remove(&self, sk: usize) -> bool {
        if !self.0.may_hold(sk) {
            return false;
        }
        self.0.remove(sk).map(free).is_some()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        while let Some(link) = self.0.pop() {
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
fn nobody_sees_a_half_made_session() {
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
fn nobody_sees_a_freed_session() {
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
        3,
        |table| {
            table.insert(1);
            table.insert(2);
            table.insert(3);
        },
        [
            |table| {
                assert!(table.remove(2));
                table.insert(4);
            },
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
                assert!(table.0.may_hold(1));
                assert!(look(table, 1));
                assert!(table.remove(3));
            },
        ],
        |table| {
            assert!(table.0.may_hold(TWIN), "the two have different marks");
            assert!(!table.0.may_hold(3));
            assert!(table.remove(1));
            assert!(!table.0.may_hold(1));
        },
    );
}

/// What a walk that copies two at a time shows, in its order.
fn list(chain: &Chain<Plain>) -> Vec<usize> {
    let mut found = Vec::new();
    loop {
        let some = chain.above::<2>(found.last().copied().unwrap_or(0));
        for (key, Plain(client)) in some.iter().flatten() {
            assert_eq!(*client, client_of(*key));
            found.push(*key);
        }
        if some.contains(&None) {
            return found;
        }
    }
}

/// What can be copied.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plain(usize);

/// A chain of these, which are never freed before it.
struct Listed(Chain<Plain>);

impl Listed {
    fn insert(&self, key: usize) {
        self.insert_as(key, key);
    }

    fn insert_as(&self, key: usize, client: usize) {
        let new = Box::new(Link::new(key, Plain(client_of(client))));
        // SAFETY: The link is this thread's, and is freed once it is taken out.
        unsafe { self.0.insert(NonNull::from(Box::leak(new))) };
    }

    fn remove(&self, key: usize) {
        let link = self.0.remove(key).unwrap();
        // SAFETY: It came from a `Box`, and is in no chain any more.
        drop(unsafe { Box::from_raw(link.as_ptr()) });
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        while let Some(link) = self.0.pop() {
            // SAFETY: As above.
            drop(unsafe { Box::from_raw(link.as_ptr()) });
        }
    }
}

#[test]
fn a_walk_shows_each_that_stays_once_whatever_comes_and_goes() {
    every_order(2, || {
        let chain = Arc::new(Listed(Chain::new()));
        for key in [5, 1, 4, 2] {
            chain.insert(key);
        }
        let other = {
            let chain = chain.clone();
            thread::spawn(move || {
                chain.remove(2);
                chain.insert(3);
            })
        };
        let found = list(&chain.0);
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        let stayed: Vec<usize> = found
            .iter()
            .copied()
            .filter(|key| ![2, 3].contains(key))
            .collect();
        assert_eq!(stayed, [1, 4, 5]);
        other.join().unwrap();
        assert_eq!(list(&chain.0), [1, 3, 4, 5]);
    });
}

#[test]
fn of_two_with_one_key_the_newer_is_shown() {
    every_order(0, || {
        let chain = Listed(Chain::new());
        assert!(chain.0.is_empty());
        assert_eq!(chain.0.above::<2>(0), [None; 2]);
        // Not what belongs to it.
        chain.insert_as(1, 9);
        for key in [1, 3, 2] {
            chain.insert(key);
        }
        assert!(!chain.0.is_empty());
        assert_eq!(list(&chain.0), [1, 2, 3]);
        assert_eq!(
            chain.0.above::<4>(2),
            [Some((3, Plain(client_of(3)))), None, None, None]
        );
    });
}
