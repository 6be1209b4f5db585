// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the module shares between CPUs, in every order in which threads can go through it.
//!
//! `shared` is the module's own code, compiled on loom's atomics instead of `core`'s. loom runs a
//! test once for each order that C11's memory model allows, up to a number of preemptions, and
//! fails it where an order exists in which somebody reads what somebody else may be writing.
#![cfg(test)]

#[path = "../../../toa-kmod/shared/mod.rs"]
mod shared;

/// What `shared` stands on: `toa-kmod/shared/sync.rs`, under loom's eyes.
mod sync {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
}

mod chain;
mod current;
mod few;
mod last;
mod locked;
mod places;
mod recent;
mod seen;
mod spares;

/// Tries every order, with at most `preemptions` switches away from a thread that could go on.
/// Most mistakes show at two; what has more threads is bounded lower, so that it ends in seconds.
fn every_order(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(test);
}
