// SPDX-License-Identifier: GPL-2.0

//! The real client address of TCP connections behind a full-NAT load balancer (TOA).
//!
//! The module's entry where the kernel has Rust support of its own: `module!`, and the back end for
//! printing, errors and allocation on the `kernel` crate.

use kernel::prelude::*;

#[path = "../kernel/mod.rs"]
mod kernel_part;
#[path = "../pure/mod.rs"]
#[allow(unreachable_pub, dead_code)]
mod pure;
#[path = "../shared/mod.rs"]
mod shared;
#[path = "../shared/sync.rs"]
mod sync;

module! {
    type: Toa,
    name: "toa",
    authors: ["The toa authors"],
    description: "The real client address of TCP connections behind a full-NAT load balancer",
    license: "GPL v2",
}

struct Toa {
    _module: kernel_part::Module,
}

impl kernel::Module for Toa {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        match kernel_part::Module::load() {
            Ok(module) => Ok(Self { _module: module }),
            Err(error) => Err(kernel::error::Error::from_errno(error.to_errno())),
        }
    }
}

/// What the two ways to build the module do differently.
mod backend {
    use kernel::prelude::*;

    use super::kernel_part::errno::{Error, Result};

    /// Which back end this is, for `/proc/net/toa`.
    pub(crate) const NAME: &str = "kernel";

    /// An object of the kernel's heap.
    pub(crate) type Box<T> = KBox<T>;

    /// A large array.
    pub(crate) type BoxedArray<T, const N: usize> = KVBox<[T; N]>;

    /// An error where the next allocation is to fail: see `shim/nomem.h`.
    #[inline(always)]
    fn may_allocate() -> Result {
        #[cfg(toa_seed_nomem)]
        {
            extern "C" {
                fn toa_shim_nomem() -> u8;
            }
            // SAFETY: No preconditions.
            if unsafe { toa_shim_nomem() } != 0 {
                return Err(Error::ENOMEM);
            }
        }
        Ok(())
    }

    /// Allocates at module load; may sleep.
    pub(crate) fn new_box<T>(value: T) -> Result<Box<T>> {
        may_allocate()?;
        KBox::new(value, GFP_KERNEL).map_err(|_| Error::ENOMEM)
    }

    /// Allocates `N` times `make()` at module load; may sleep.
    pub(crate) fn new_array<T, const N: usize>(make: impl Fn() -> T) -> Result<BoxedArray<T, N>> {
        may_allocate()?;
        let mut array = KVBox::<[T; N]>::new_uninit(GFP_KERNEL).map_err(|_| Error::ENOMEM)?;
        let first: *mut T = array.as_mut_ptr().cast();
        for place in 0..N {
            // SAFETY: The array has `N` places.
            let place = unsafe { first.add(place) };
            // SAFETY: The place is ours, and nothing is in it yet.
            unsafe { place.write(make()) };
        }
        // SAFETY: Every place was written.
        Ok(unsafe { array.assume_init() })
    }

    /// Writes one line to the kernel log: why the module was not loaded.
    pub(crate) fn log_error(what: &str, why: &str, errno: i32) {
        if errno == 0 {
            pr_err!("{}: {}\n", what, why);
        } else {
            pr_err!("{}: {} (error {})\n", what, why, errno);
        }
    }
}
