// SPDX-License-Identifier: GPL-2.0

//! A chain of values behind a lock of one bit.
//!
//! The lock is the lowest bit of the chain's first pointer, as in the kernel's `hlist_bl`, so a chain
//! is two words and nothing else is written. The second word tells of most keys that are not in the
//! chain: whoever comes with one of those neither locks nor walks, however long the chain is.

use core::marker::PhantomData;
use core::mem;
use core::ptr::{self, NonNull};

use crate::sync::{spin_loop, AtomicUsize, Ordering};

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

/// A value that a chain can hold, behind its key.
#[repr(C)]
pub(crate) struct Link<T> {
    next: *mut Link<T>,
    key: usize,
    value: T,
}

impl<T> Link<T> {
    pub(crate) fn new(key: usize, value: T) -> Self {
        Self {
            next: ptr::null_mut(),
            key,
            value,
        }
    }
}

/// Values, found by their keys. Nobody who could want the lock may interrupt its holder.
pub(crate) struct Chain<T> {
    /// The first pointer of the chain, and the lock in its lowest bit.
    word: AtomicUsize,
    /// The marks of all keys in the chain; written under the lock.
    marks: AtomicUsize,
    links: PhantomData<Link<T>>,
}

// SAFETY: A chain owns its links, and goes with them.
unsafe impl<T: Send> Send for Chain<T> {}
// SAFETY: Links are reached under the lock only, by one CPU at a time.
unsafe impl<T: Send> Sync for Chain<T> {}

impl<T> Chain<T> {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicUsize::new(0),
            marks: AtomicUsize::new(0),
            links: PhantomData,
        }
    }

    /// Takes the lock; the first link.
    #[inline(always)]
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
    /// `new` is live and the caller's alone, and stays so for the chain until it is taken out.
    pub(crate) unsafe fn insert(&self, new: NonNull<Link<T>>) {
        let first = self.lock();
        // SAFETY: `new` is the caller's until `unlock` publishes it.
        let link = unsafe { &mut *new.as_ptr() };
        link.next = first;
        let marks = self.marks.load(Ordering::Relaxed) | mark(link.key);
        self.marks.store(marks, Ordering::Relaxed);
        self.unlock(new.as_ptr());
    }

    /// What `work` makes of the value of `key`; of two, the newer.
    #[inline(always)]
    pub(crate) fn with<R>(&self, key: usize, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let first = self.lock();
        let mut at = first;
        // SAFETY: Under the lock the chain's links are live, and nobody else reaches them.
        while let Some(link) = unsafe { at.as_mut() } {
            if link.key == key {
                let result = work(&mut link.value);
                self.unlock(first);
                return Some(result);
            }
            at = link.next;
        }
        self.unlock(first);
        None
    }

    /// Whether there is nothing in the chain, as far as its marks tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.marks.load(Ordering::Relaxed) == 0
    }

    /// Copies of the values with the lowest keys above `key`, in the order of these; of two with one
    /// key, the newer. Whoever goes on with the last key sees each value that stays, and sees it once.
    pub(crate) fn above<const N: usize>(&self, key: usize) -> [Option<(usize, T)>; N]
    where
        T: Copy,
    {
        let mut found = [None; N];
        let first = self.lock();
        let mut at = first;
        // SAFETY: Under the lock the chain's links are live, and nobody else reaches them.
        while let Some(link) = unsafe { at.as_ref() } {
            if link.key > key {
                put_in_order(&mut found, link.key, link.value);
            }
            at = link.next;
        }
        self.unlock(first);
        found
    }

    /// Takes out the link of `key`; of two, the newer. It is the caller's alone.
    pub(crate) fn remove(&self, key: usize) -> Option<NonNull<Link<T>>> {
        let mut first = self.lock();
        let mut marks = 0;
        let mut found = None;
        let mut place = &mut first;
        // SAFETY: Under the lock the chain's links are live, and nobody else reaches them.
        while let Some(link) = unsafe { place.as_mut() } {
            if found.is_none() && link.key == key {
                found = NonNull::new(*place);
                *place = link.next;
            } else {
                marks |= mark(link.key);
                place = &mut link.next;
            }
        }
        self.marks.store(marks, Ordering::Relaxed);
        self.unlock(first);
        found
    }

    /// Takes out the first link, where nobody else can reach the chain any more.
    pub(crate) fn pop(&mut self) -> Option<NonNull<Link<T>>> {
        let mut link = NonNull::new(self.word.load(Ordering::Acquire) as *mut Link<T>)?;
        // SAFETY: What is linked is live, and the chain is borrowed alone.
        self.unlock(unsafe { link.as_mut() }.next);
        Some(link)
    }
}

/// Puts a value among others, which are in the order of their keys, unless its key is there; the last
/// one makes room.
fn put_in_order<T>(places: &mut [Option<(usize, T)>], key: usize, value: T) {
    let mut carried = Some((key, value));
    for place in places {
        match (&*place, &carried) {
            (Some((here, _)), Some((key, _))) if here == key => return,
            (Some((here, _)), Some((key, _))) if here < key => {}
            _ => mem::swap(place, &mut carried),
        }
    }
}
