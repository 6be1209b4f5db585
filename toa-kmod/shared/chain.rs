// SPDX-License-Identifier: GPL-2.0

//! A chain that is read without a lock.
//!
//! Writers hold its lock: the lowest bit of its first pointer, as in the kernel's `hlist_bl`, so a
//! chain is one word and nothing else is written. Readers hold off the freeing of what they may be
//! looking at, and no more: under RCU, in the kernel.

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use crate::sync::{spin_loop, AtomicPtr, AtomicUsize, Ordering};

/// The bit of a chain's word that is its lock.
const LOCKED: usize = 1;

/// A value that a chain can hold.
#[repr(C)]
pub(crate) struct Link<T> {
    /// Room for the kernel's `rcu_head`, used once the link is out of its chain; must come first.
    rcu: [usize; 2],
    next: AtomicPtr<Link<T>>,
    value: T,
}

impl<T> Link<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            rcu: [0; 2],
            next: AtomicPtr::new(ptr::null_mut()),
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

/// The first pointer of the chain, and the lock in its lowest bit.
pub(crate) struct Chain<T> {
    word: AtomicUsize,
    links: PhantomData<Link<T>>,
}

impl<T> Chain<T> {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicUsize::new(0),
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

    pub(crate) fn is_empty(&self) -> bool {
        self.first().is_null()
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
        unsafe { (*new).next.store(first, Ordering::Relaxed) };
        self.unlock(new);
    }

    /// The first value that is `wanted`.
    pub(crate) fn find<'a>(
        &self,
        _reader: &'a impl Reader,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<&'a T> {
        // What orders memory here is the first pointer alone: new links come in front, so all that is
        // ever reached from one was in the chain before it.
        let mut at = self.first();
        // SAFETY: By the contract of `insert`, no link of the chain is freed before `_reader`.
        while let Some(link) = unsafe { at.as_ref() } {
            if wanted(&link.value) {
                return Some(&link.value);
            }
            at = link.next.load(Ordering::Relaxed);
        }
        None
    }

    /// Takes out the first link whose value is `wanted`. It is the caller's, who frees it when no
    /// [`Reader`] of this moment is left. Nobody who could spin on the lock may interrupt this.
    pub(crate) fn remove(&self, wanted: impl Fn(&T) -> bool) -> Option<NonNull<Link<T>>> {
        let first = self.lock();
        let mut new_first = first;
        let mut before: Option<&Link<T>> = None;
        let mut at = first;
        // SAFETY: The chain cannot change under its lock, and holds live links only.
        while let Some(link) = unsafe { at.as_ref() } {
            let next = link.next.load(Ordering::Relaxed);
            if wanted(&link.value) {
                match before {
                    Some(before) => before.next.store(next, Ordering::Relaxed),
                    None => new_first = next,
                }
                break;
            }
            before = Some(link);
            at = next;
        }
        self.unlock(new_first);
        NonNull::new(at)
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
