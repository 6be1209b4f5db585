// SPDX-License-Identifier: GPL-2.0

//! A value of which one is in force at any moment.
//!
//! It never changes once it is published. A change is a new one in its place, so a hook works by the old
//! one or by the new one, and the old one is freed when nobody can be reading it.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::shim;
use crate::backend::Box;
use crate::shared::current::{Current, Reader};

/// The `T` in force.
pub(super) struct InForce<T>(Current<T>, PhantomData<T>);

impl<T> InForce<T> {
    pub(super) fn new(first: Box<T>) -> Self {
        // SAFETY: `replace` and `drop` free it, when no reader is left.
        Self(unsafe { Current::new(to_raw(first)) }, PhantomData)
    }

    #[inline(always)]
    pub(super) fn get<'a>(&self, reader: &'a impl Reader) -> &'a T {
        self.0.get(reader)
    }

    /// Puts `next` in force. When this returns nobody reads the old one any more. May sleep.
    pub(super) fn replace(&self, next: Box<T>) {
        let old = self.0.replace(to_raw(next));
        // SAFETY: The caller may sleep.
        unsafe { shim::toa_shim_synchronize_rcu() };
        // SAFETY: It came from a `Box`, and every hook and reader that saw it is gone.
        drop(unsafe { Box::from_raw(old.as_ptr()) });
    }

    /// Puts in force what `change` makes of the present one, if anything. May sleep, and so may
    /// `change`.
    ///
    /// # Safety
    ///
    /// Only one at a time calls this, and nobody calls [`Self::replace`] meanwhile.
    pub(super) unsafe fn change<E>(
        &self,
        change: impl FnOnce(&T) -> Result<Option<Box<T>>, E>,
    ) -> Result<(), E> {
        // SAFETY: It stays until somebody replaces it, which nobody else does meanwhile.
        let alone = unsafe { Alone::new() };
        if let Some(next) = change(self.get(&alone))? {
            self.replace(next);
        }
        Ok(())
    }
}

impl<T> Drop for InForce<T> {
    fn drop(&mut self) {
        let last = self.0.last();
        // SAFETY: It came from a `Box`; no hook and no other reader is left.
        drop(unsafe { Box::from_raw(last.as_ptr()) });
    }
}

fn to_raw<T>(value: Box<T>) -> NonNull<T> {
    // SAFETY: A `Box` is never null.
    unsafe { NonNull::new_unchecked(Box::into_raw(value)) }
}

/// Whoever changes the value can read it, since nobody else can free it.
struct Alone(());

impl Alone {
    /// # Safety
    ///
    /// Nothing is replaced for as long as what is read by this is used.
    unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: By the contract of `new`.
unsafe impl Reader for Alone {}
