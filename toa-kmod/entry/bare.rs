// SPDX-License-Identifier: GPL-2.0

//! The real client address of TCP connections behind a full-NAT load balancer (TOA).
//!
//! The module's entry where the kernel has no Rust support, or its metadata is not at hand: called
//! by `shim/bare.c`, which has `module_init`, and the back end for printing, errors and allocation
//! on plain C functions.

#![no_std]

#[path = "../kernel/mod.rs"]
mod kernel_part;
#[path = "../pure/mod.rs"]
#[allow(unreachable_pub, dead_code)]
mod pure;
#[path = "../shared/mod.rs"]
mod shared;
#[path = "../shared/sync.rs"]
mod sync;

use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use backend::Box;
use kernel_part::Module;

static MODULE: AtomicPtr<Option<Module>> = AtomicPtr::new(ptr::null_mut());

/// The module is loaded.
///
/// # Safety
///
/// Called once, by `module_init`.
#[no_mangle]
unsafe extern "C" fn toa_rust_init() -> c_int {
    // The place comes first: once the module is up, nothing may fail.
    let placed = backend::new_box(None).and_then(|mut place| {
        *place = Some(Module::load()?);
        Ok(place)
    });
    match placed {
        Ok(module) => {
            MODULE.store(Box::into_raw(module), Ordering::Relaxed);
            0
        }
        Err(error) => error.to_errno(),
    }
}

/// The module is unloaded.
///
/// # Safety
///
/// Called once, by `module_exit`, after `toa_rust_init` has succeeded.
#[no_mangle]
unsafe extern "C" fn toa_rust_exit() {
    let module = MODULE.swap(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: The pointer came from `Box::into_raw`, and is taken out once.
    drop(unsafe { Box::from_raw(module) });
}

// There is no panic handler, and a library needs none: rust_begin_unwind stays undefined where
// anything can panic, and symbols.allow does not have it.

/// What the two ways to build the module do differently.
mod backend {
    use core::mem::size_of;
    use core::ops::{Deref, DerefMut};
    use core::ptr::NonNull;

    use super::kernel_part::errno::{Error, Result};
    use super::kernel_part::shim;

    /// Which back end this is, for `/proc/net/toa`.
    pub(crate) const NAME: &str = "freestanding";

    /// An object of the kernel's heap.
    pub(crate) struct Box<T>(NonNull<T>);

    // SAFETY: A `Box` owns its object alone.
    unsafe impl<T: Send> Send for Box<T> {}
    // SAFETY: As above.
    unsafe impl<T: Sync> Sync for Box<T> {}

    impl<T> Box<T> {
        fn new(value: T) -> Result<Self> {
            // Kernel allocations are aligned to a word at least.
            const { assert!(align_of::<T>() <= align_of::<usize>()) };
            // SAFETY: Module load may sleep.
            let place = unsafe { shim::toa_shim_alloc(size_of::<T>()) };
            let place = NonNull::new(place.cast::<T>()).ok_or(Error::ENOMEM)?;
            // SAFETY: The place is large enough, aligned, and ours.
            unsafe { place.write(value) };
            Ok(Self(place))
        }

        /// Gives the object away; `from_raw` takes it back.
        pub(crate) fn into_raw(this: Self) -> *mut T {
            let place = this.0.as_ptr();
            core::mem::forget(this);
            place
        }

        /// # Safety
        ///
        /// `place` came from `into_raw`, and is taken back once.
        pub(crate) unsafe fn from_raw(place: *mut T) -> Self {
            // SAFETY: By this function's contract it is not null.
            Self(unsafe { NonNull::new_unchecked(place) })
        }
    }

    impl<T> Deref for Box<T> {
        type Target = T;

        fn deref(&self) -> &T {
            // SAFETY: The object is live while its `Box` is.
            unsafe { self.0.as_ref() }
        }
    }

    impl<T> DerefMut for Box<T> {
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: The object is live while its `Box` is, and the `Box` is borrowed alone.
            unsafe { self.0.as_mut() }
        }
    }

    impl<T> Drop for Box<T> {
        fn drop(&mut self) {
            // SAFETY: The object is live, and not used after this.
            unsafe { self.0.drop_in_place() };
            // SAFETY: The memory came from `toa_shim_alloc` or `toa_shim_alloc_large`.
            unsafe { shim::toa_shim_free(self.0.as_ptr().cast()) };
        }
    }

    /// A large array.
    pub(crate) type BoxedArray<T, const N: usize> = Box<[T; N]>;

    /// Allocates at module load; may sleep.
    pub(crate) fn new_box<T>(value: T) -> Result<Box<T>> {
        Box::new(value)
    }

    /// Allocates `N` times `make()` at module load; may sleep.
    pub(crate) fn new_array<T, const N: usize>(make: impl Fn() -> T) -> Result<BoxedArray<T, N>> {
        const { assert!(align_of::<T>() <= align_of::<usize>()) };
        // SAFETY: Module load may sleep.
        let place = unsafe { shim::toa_shim_alloc_large(size_of::<[T; N]>()) };
        let array = NonNull::new(place.cast::<[T; N]>()).ok_or(Error::ENOMEM)?;
        let first: NonNull<T> = array.cast();
        for place in 0..N {
            // SAFETY: The array has `N` places.
            let place = unsafe { first.add(place) };
            // SAFETY: The place is ours, and nothing is in it yet.
            unsafe { place.write(make()) };
        }
        Ok(Box(array))
    }

    /// Writes one line to the kernel log: why the module was not loaded.
    pub(crate) fn log_error(what: &str, why: &str, errno: i32) {
        // SAFETY: Both texts are readable for their lengths.
        unsafe {
            shim::toa_shim_log_error(what.as_ptr(), what.len(), why.as_ptr(), why.len(), errno)
        };
    }
}
