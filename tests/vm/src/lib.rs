// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of the whole share.
//!
//! The tests themselves are in `tests/suite`, one file per theme. They run as root, in a node of
//! their own (`scripts/test`, or `scripts/vm` with the program as its command), one after another:
//! the module's counters are the machine's, and some tests load and unload it.
//!
//! - [`World`] is a network namespace whose wire is the test: it writes the clients' segments, and
//!   ordinary sockets are the server.
//! - `toa-testbed`'s topology carries real clients, where their own TCP matters.
//! - [`module`] loads and unloads, [`Stats`] reads the counters, [`sockopt`] asks as a program
//!   without libtoa does.

#[cfg(test)]
mod docs;
pub mod kernel_log;
pub mod module;
pub mod node;
pub mod sockopt;
mod stats;
pub mod stream;
mod world;

pub use stats::{Difference, Stats, sessions, sessions_become, settle};
pub use world::{Conn, World, accept, original, peer_ip, server_ip, wait_readable};
