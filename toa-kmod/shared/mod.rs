// SPDX-License-Identifier: GPL-2.0

//! What CPUs share, without a kernel in sight.
//!
//! The connections that have an address are [`chain`]s of sessions, for hooks that cannot allocate
//! there are [`spares`], addresses out of SYNs wait in [`places`] behind a [`locked`] door,
//! [`recent`] tells whether any can be waiting, [`current`] holds what is set at run time, and
//! [`last`] who was refused. Of connections whose data are read, there are to be a [`few`] segments
//! more.
//!
//! Functions that call are remembered as [`seen`].
//!
//! All of it stands on `crate::sync`: `core`'s atomics in the module, loom's in `tests/loom`, which
//! compiles these files as they are and tries every order in which threads may go through them.

pub(crate) mod chain;
pub(crate) mod current;
pub(crate) mod few;
pub(crate) mod last;
pub(crate) mod locked;
pub(crate) mod places;
pub(crate) mod recent;
pub(crate) mod seen;
pub(crate) mod spares;
