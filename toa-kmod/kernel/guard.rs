// SPDX-License-Identifier: GPL-2.0

//! States of a CPU, held for as long as an object lives.

use core::marker::PhantomData;

use super::shim;
use crate::shared::current::Reader;

/// A callback that runs with bottom halves off is a reader by that alone: since 5.0 a grace period
/// waits for every stretch of code with bottom halves or preemption off. Costs nothing.
pub(super) struct InHook(PhantomData<*mut ()>);

impl InHook {
    /// # Safety
    ///
    /// Bottom halves, or preemption, are off, and stay so for as long as this lives.
    pub(super) unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

// SAFETY: By the contract of `new`; what was replaced is freed a grace period later.
unsafe impl Reader for InHook {}

/// A task that reads, and does not sleep meanwhile.
pub(super) struct RcuReader(PhantomData<*mut ()>);

impl RcuReader {
    pub(super) fn new() -> Self {
        // SAFETY: `drop` unlocks, and the guard never leaves its function.
        unsafe { shim::toa_shim_rcu_read_lock() };
        Self(PhantomData)
    }
}

impl Drop for RcuReader {
    fn drop(&mut self) {
        // SAFETY: `new` has locked.
        unsafe { shim::toa_shim_rcu_read_unlock() };
    }
}

// SAFETY: What was replaced is freed a grace period later.
unsafe impl Reader for RcuReader {}

/// Keeps interrupts, and so every hook, off this CPU.
pub(super) struct IrqsOff(core::ffi::c_ulong);

impl IrqsOff {
    pub(super) fn new() -> Self {
        // SAFETY: `drop` restores, and the guard never leaves its function.
        Self(unsafe { shim::toa_shim_irq_save() })
    }
}

// SAFETY: Like `InHook`: where interrupts are off, so is preemption.
unsafe impl Reader for IrqsOff {}

/// Whoever is called with interrupts off.
pub(super) struct CalledOff(PhantomData<*mut ()>);

impl CalledOff {
    /// # Safety
    ///
    /// Interrupts are off, and stay so for as long as this lives.
    pub(super) unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

// SAFETY: By the contract of `new`; what was replaced is freed a grace period later.
unsafe impl Reader for CalledOff {}

impl Drop for IrqsOff {
    fn drop(&mut self) {
        // SAFETY: The flags are those that `new` saved.
        unsafe { shim::toa_shim_irq_restore(self.0) };
    }
}
