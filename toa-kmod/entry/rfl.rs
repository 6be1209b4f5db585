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
        let module = kernel_part::Module::load()?;
        Ok(Self { _module: module })
    }
}

/// What the two ways to build the module do differently.
mod backend {
    use kernel::prelude::*;

    pub(crate) use kernel::error::{code as errno, to_result, Error, Result};

    /// Which back end this is, for `/proc/net/toa`.
    pub(crate) const NAME: &str = "kernel";

    /// A `kmalloc`ed object, which `kfree_rcu` may free.
    pub(crate) type Box<T> = KBox<T>;

    /// A large array of a length fixed when it is made.
    pub(crate) type BoxedSlice<T> = KVVec<T>;

    /// Allocates at module load; may sleep.
    pub(crate) fn new_box<T>(value: T) -> Result<Box<T>> {
        Ok(KBox::new(value, GFP_KERNEL)?)
    }

    /// Allocates in a hook: never sleeps, and fails without a word in the log.
    pub(crate) fn new_box_atomic<T>(value: T) -> Result<Box<T>> {
        Ok(KBox::new(value, GFP_ATOMIC | __GFP_NOWARN)?)
    }

    /// Allocates `len` times `make()` at module load; may sleep.
    pub(crate) fn new_slice<T>(len: usize, make: impl Fn() -> T) -> Result<BoxedSlice<T>> {
        let mut slice = KVVec::with_capacity(len, GFP_KERNEL)?;
        for _ in 0..len {
            slice.push(make(), GFP_KERNEL)?;
        }
        Ok(slice)
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
