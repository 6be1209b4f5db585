// SPDX-License-Identifier: GPL-2.0

//! The sources whose options were not believed of late: a forwarder that nobody thought of is among
//! them, and whoever forges.

use core::ffi::c_ulong;

use super::guard::IrqsOff;
use super::shim::toa_flow;
use crate::pure::trust::Prefix;
use crate::shared::last::Last;

/// How many are kept.
pub(super) const KEPT: usize = 16;

/// A source, as one network namespace saw it.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Source {
    /// Compared, never followed.
    pub(super) net: c_ulong,
    pub(super) addr: [u8; 16],
}

/// The last of them. Where CPUs meet at its lock, as under a flood of forged segments, one goes on
/// without a note: a source's number is then less than what it sent, and nobody waits. The counter
/// `untrusted` has each.
pub(super) struct RefusedSources(Last<Source, KEPT>);

impl RefusedSources {
    pub(super) fn new() -> Self {
        Self(Last::new())
    }

    /// The peer of `flow` was not believed. Called by a hook: bottom halves are off.
    pub(super) fn note(&self, flow: &toa_flow) {
        let _noted = self.0.note(Source {
            net: flow.net,
            addr: flow.peer,
        });
    }

    /// Calls `show` with each source, as a prefix, and how many of its options were refused at least.
    /// From a task.
    pub(super) fn each(&self, mut show: impl FnMut(&Prefix, u64)) {
        let off = IrqsOff::new();
        let all = self.0.all();
        drop(off);
        for entry in &all {
            if let (Ok(source), 1..) = (Prefix::new(entry.key.addr, 128), entry.count) {
                show(&source, entry.count);
            }
        }
    }
}
