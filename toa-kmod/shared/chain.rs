// SPDX-License-Identifier: GPL-2.0

//! A chain that is read without a lock.
//!
//! Writers hold its lock: the lowest bit of its first pointer, as in the kernel's `hlist_bl`, so a
//! chain is two words and nothing else is written. Readers hold off the freeing of what they may be
//! looking at, and no more: under RCU, in the kernel.
//!
//! The second word tells of most keys that are not in the chain: whoever comes with one of those
//! neither locks nor walks, however long the chain is.

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use crate::sync::{spin_loop, AtomicPtr, AtomicUsize, Ordering};

/// The bit of a chain's word that is its lock.
const LOCKED: usize = 1;

/// Spreads keys that are addresses of like objects, as `linux/hash.h` does: 2^64 / golden ratio. The
/// highest bits of the result are the best.
#[inline(always)]
pub(crate) fn hash(key: usize) -> u64 {
    (key as u64).wrapping_mul(0x61c8_8646_80b5_83eb)
}

/// The bit that tells of `key` in a chain's marks. The hash's highest 16 bits, by which a table may
/// have chosen the chain, have no part in it.
#[inline(always)]
fn mark(key: usize) -> usize {
    1 << ((hash(key) >> 42) % u64::from(usize::BITS))
}

/// A value that a chain can hold, and its key.
#[repr(C)]
pub(crate) struct Link<T> {
    /// Room for the kernel's `rcu_head`, used once the link is out of its chain; must come first.
    rcu: [usize; 2],
    next: AtomicPtr<Link<T>>,
    key: usize,
    value: T,
}

impl<T> Link<T> {
    pub(crate) fn new(key: usize, value: T) -> Self {
        Self {
            rcu: [0; 2],
            next: AtomicPtr::new(ptr::null_mut()),
            key,
            value,
        }
    }
}

/// Somebody who reads.
///
/// # Safety
///
/// For as long as the implementor lives, no link is freed that was in a chain at a moment of its
/// life.
pub(crate) unsafe trait Reader {}

/// Values, found by their keys.
pub(crate) struct Chain<T> {
    /// The first pointer of the chain, and the lock in its lowest bit.
    word: AtomicUsize,
    /// The marks of all keys in the chain; written under the lock.
    marks: AtomicUsize,
    links: PhantomData<Link<T>>,
}

impl<T> Chain<T> {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicUsize::new(0),
            marks: AtomicUsize::new(0),
            links: PhantomData,
        }
    }

    fn first(&self) -> *mut Link<T> {
        (self.word.load(Ordering::Acquire) & !LOCKED) as *mut Link<T>
    }

    /// Takes the lock; the first link.
    fn lock(&self) -> *mut Link<T> {
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if word & LOCKED == 0
                && self
                    .word
                    .compare_exchange_weak(
                        word,
                        word | LOCKED,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok()
            {
                return word as *mut Link<T>;
            }
            spin_loop();
        }
    }

    /// Gives the lock back and makes `first` the first of the chain.
    fn unlock(&self, first: *mut Link<T>) {
        self.word.store(first as usize, Ordering::Release);
    }

    /// Whether `key` can be in the chain; false for nearly every key that is not. Who has seen a key
    /// come, and not go, is told so: a mark stays while any key that has it does, so nothing here
    /// orders memory.
    #[inline(always)]
    pub(crate) fn may_hold(&self, key: usize) -> bool {
        self.marks.load(Ordering::Relaxed) & mark(key) != 0
    }

    /// Puts `new` in front of the chain.
    ///
    /// # Safety
    ///
    /// `new` is live and the caller's alone. Once it is out of the chain, it is freed only when
    /// every [`Reader`] of that moment is gone.
    pub(crate) unsafe fn insert(&self, new: *mut Link<T>) {
        let first = self.lock();
        // SAFETY: `new` is the caller's until `unlock` publishes it.
        let link = unsafe { &*new };
        link.next.store(first, Ordering::Relaxed);
        let marks = self.marks.load(Ordering::Relaxed) | mark(link.key);
        self.marks.store(marks, Ordering::Relaxed);
        self.unlock(new);
    }

    /// The value of `key`; of two, the newer.
    pub(crate) fn find<'a>(&self, _reader: &'a impl Reader, key: usize) -> Option<&'a T> {
        // What orders memory here is the first pointer alone: new links come in front, so all that is
        // ever reached from one was in the chain before it.
        let mut at = self.first();
        // SAFETY: By the contract of `insert`, no link of the chain is freed before `_reader`.
        while let Some(link) = unsafe { at.as_ref() } {
            if link.key == key {
                return Some(&link.value);
            }
            at = link.next.load(Ordering::Relaxed);
        }
        None
    }

    /// Takes out the link of `key`; of two, the newer. It is the caller's, who frees it when no
    /// [`Reader`] of this moment is left. Nobody who could spin on the lock may interrupt this.
    pub(crate) fn remove(&self, key: usize) -> Option<NonNull<Link<T>>> {
        let first = self.lock();
        let mut new_first = first;
        let mut found = None;
        let mut before: Option<&Link<T>> = None;
        let mut marks = 0;
        let mut at = first;
        // SAFETY: The chain cannot change under its lock, and holds live links only.
        while let Some(link) = unsafe { at.as_ref() } {
            let next = link.next.load(Ordering::Relaxed);
            if found.is_none() && link.key == key {
                match before {
                    Some(before) => before.next.store(next, Ordering::Relaxed),
                    None => new_first = next,
                }
                found = NonNull::new(at);
            } else {
                marks |= mark(link.key);
                before = Some(link);
            }
            at = next;
        }
        self.marks.store(marks, Ordering::Relaxed);
        self.unlock(new_first);
        found
    }

    /// Takes out the first link, where nobody else can reach the chain any more.
    pub(crate) fn pop(&mut self) -> Option<NonNull<Link<T>>> {
        let link = NonNull::new(self.first())?;
        // SAFETY: What is linked is live, and the chain is borrowed alone.
        let next = unsafe { link.as_ref() }.next.load(Ordering::Relaxed);
        self.unlock(next);
        Some(link)
    }
}
