// SPDX-License-Identifier: GPL-2.0

//! Objects made beforehand, for whoever cannot allocate.

use core::array;
use core::ptr::{self, NonNull};

use crate::sync::{AtomicPtr, Ordering};

/// Room for `N` of them.
pub(crate) struct Spares<T, const N: usize>([AtomicPtr<T>; N]);

impl<T, const N: usize> Spares<T, N> {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| AtomicPtr::new(ptr::null_mut())))
    }

    /// Takes one, which is the caller's alone.
    pub(crate) fn take(&self) -> Option<NonNull<T>> {
        self.0
            .iter()
            .find_map(|place| NonNull::new(place.swap(ptr::null_mut(), Ordering::Acquire)))
    }

    /// Puts what `make` makes into the empty places, until it makes no more. What finds its place
    /// taken goes to `unmake`.
    pub(crate) fn refill(
        &self,
        make: impl Fn() -> Option<NonNull<T>>,
        unmake: impl Fn(NonNull<T>),
    ) {
        for place in &self.0 {
            if !place.load(Ordering::Relaxed).is_null() {
                continue;
            }
            let Some(fresh) = make() else {
                return;
            };
            if place
                .compare_exchange(
                    ptr::null_mut(),
                    fresh.as_ptr(),
                    Ordering::Release,
                    Ordering::Relaxed,
                )
                .is_err()
            {
                unmake(fresh);
            }
        }
    }
}
