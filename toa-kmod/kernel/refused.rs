// SPDX-License-Identifier: GPL-2.0

//! The sources whose options were not believed of late: a forwarder that nobody thought of is among
//! them, and whoever forges.

use core::ffi::c_ulong;

use super::shim::toa_flow;
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

/// The last of them. Under a flood of forged segments CPUs meet at its lock, and each refused one
/// costs some more; nobody else comes here.
pub(super) struct RefusedSources(Last<Source, KEPT>);

impl RefusedSources {
    pub(super) fn new() -> Self {
        Self(Last::new())
    }

    /// The peer of `flow` was not believed. Called by a hook: bottom halves are off.
    pub(super) fn note(&self, flow: &toa_flow) {
        self.0.note(Source {
            net: flow.net,
            addr: flow.peer,
        });
    }
}
