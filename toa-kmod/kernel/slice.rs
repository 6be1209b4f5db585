// SPDX-License-Identifier: GPL-2.0

//! As many values as it turns out at run time to take.

use core::mem::size_of;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::slice;

use super::errno::{Error, Result};
use super::shim;

/// `len` values, allocated together. Both ways to build the module take them from here: the kernel
/// crate's own vectors came to their names at different times.
pub(super) struct Slice<T> {
    first: NonNull<T>,
    len: usize,
}

// SAFETY: A `Slice` owns its values alone.
unsafe impl<T: Send> Send for Slice<T> {}
// SAFETY: As above.
unsafe impl<T: Sync> Sync for Slice<T> {}

impl<T: Copy> Slice<T> {
    /// `len` times `value`. May sleep.
    pub(super) fn new(value: T, len: usize) -> Result<Self> {
        const { assert!(align_of::<T>() <= align_of::<usize>()) };
        let Some(bytes) = len.checked_mul(size_of::<T>()) else {
            return Err(Error::ENOMEM);
        };
        if bytes == 0 {
            return Ok(Self {
                first: NonNull::dangling(),
                len: 0,
            });
        }
        // SAFETY: The caller may sleep.
        let first = unsafe { shim::toa_shim_alloc_large(bytes) };
        let first = NonNull::new(first.cast::<T>()).ok_or(Error::ENOMEM)?;
        for at in 0..len {
            // SAFETY: There are `len` places.
            let place = unsafe { first.add(at) };
            // SAFETY: The place is ours, and nothing is in it yet.
            unsafe { place.write(value) };
        }
        Ok(Self { first, len })
    }

    /// These values. May sleep.
    pub(super) fn of(values: &[T]) -> Result<Self> {
        let Some(first) = values.first() else {
            return Ok(Self {
                first: NonNull::dangling(),
                len: 0,
            });
        };
        let mut copy = Self::new(*first, values.len())?;
        for (to, from) in copy.iter_mut().zip(values) {
            *to = *from;
        }
        Ok(copy)
    }
}

impl<T> Deref for Slice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: All the values were written, and live while the `Slice` does.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Slice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: As above, and the `Slice` is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

impl<T> Drop for Slice<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: Allocated by `new`, which takes values that need no destructor.
            unsafe { shim::toa_shim_free(self.first.as_ptr().cast()) };
        }
    }
}
