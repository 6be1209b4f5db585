// SPDX-License-Identifier: GPL-2.0

//! The one value of its kind that is in force, replaced as a whole under its readers.

use core::ptr::NonNull;

use crate::sync::{AtomicPtr, Ordering};

/// Somebody who reads.
///
/// # Safety
///
/// For as long as the implementor lives, nothing is freed that was in force at a moment of its life.
pub(crate) unsafe trait Reader {}

/// Points at the value in force. Whoever reads sees the old one or the new one, never of both.
pub(crate) struct Current<T>(AtomicPtr<T>);

impl<T> Current<T> {
    /// # Safety
    ///
    /// `first`, and what [`Self::replace`] is given later, stays live until it is replaced and
    /// every [`Reader`] of that moment is gone.
    pub(crate) unsafe fn new(first: NonNull<T>) -> Self {
        Self(AtomicPtr::new(first.as_ptr()))
    }

    /// The value in force, which stays readable for as long as the reader does.
    pub(crate) fn get<'a>(&self, _reader: &'a impl Reader) -> &'a T {
        // SAFETY: By the contract of `new` it is live, and nobody writes to what is published.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }

    /// Puts `next` in force. The old one is the caller's, who frees it when no [`Reader`] of this
    /// moment is left.
    pub(crate) fn replace(&self, next: NonNull<T>) -> NonNull<T> {
        let old = self.0.swap(next.as_ptr(), Ordering::AcqRel);
        // SAFETY: Only what came from a `NonNull` is ever stored.
        unsafe { NonNull::new_unchecked(old) }
    }

    /// The value in force, where nobody else can read it any more.
    pub(crate) fn last(&mut self) -> NonNull<T> {
        // SAFETY: As above.
        unsafe { NonNull::new_unchecked(self.0.load(Ordering::Relaxed)) }
    }
}
