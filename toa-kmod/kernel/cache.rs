// SPDX-License-Identifier: GPL-2.0

//! Where objects of one kind are allocated.

use core::ffi::CStr;
use core::marker::PhantomData;
use core::mem::{align_of, needs_drop, size_of};
use core::ptr::NonNull;

use super::errno::{Error, Result};
use super::shim::{self, kmem_cache};

/// A slab cache of the kernel's. Who owns it has freed all that came of it before it goes.
pub(super) struct Cache<T>(NonNull<kmem_cache>, PhantomData<T>);

// SAFETY: The kernel's caches may be used on every CPU; there is no `T` in it.
unsafe impl<T> Send for Cache<T> {}
// SAFETY: As above.
unsafe impl<T> Sync for Cache<T> {}

impl<T> Cache<T> {
    /// The name is that of `/proc/slabinfo`. Module load may sleep.
    pub(super) fn new(name: &'static CStr) -> Result<Self> {
        // Slabs are aligned to a word at least.
        const { assert!(align_of::<T>() <= align_of::<usize>() && !needs_drop::<T>()) };
        // SAFETY: The name ends with a zero, and stays.
        let cache =
            unsafe { shim::toa_shim_cache_new(name.as_ptr().cast(), size_of::<T>() as u32) };
        match NonNull::new(cache) {
            Some(cache) => Ok(Self(cache, PhantomData)),
            None => Err(Error::ENOMEM),
        }
    }

    /// Room for an object, which the caller writes. Never sleeps, and fails without a word in the
    /// log.
    pub(super) fn alloc(&self) -> Option<NonNull<T>> {
        // SAFETY: The cache is live.
        NonNull::new(unsafe { shim::toa_shim_cache_alloc(self.0.as_ptr()) }.cast())
    }

    /// # Safety
    ///
    /// `object` came from `alloc`, is the caller's alone, and is freed once.
    pub(super) unsafe fn free(&self, object: NonNull<T>) {
        // SAFETY: By this function's contract.
        unsafe { shim::toa_shim_cache_free(self.0.as_ptr(), object.as_ptr().cast()) };
    }
}

impl<T> Drop for Cache<T> {
    fn drop(&mut self) {
        // SAFETY: Nothing that came of it is left; module unload may sleep.
        unsafe { shim::toa_shim_cache_destroy(self.0.as_ptr()) };
    }
}
