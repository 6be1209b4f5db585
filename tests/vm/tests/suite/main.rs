// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests of the whole: a stock kernel, the module, real sockets. Run by `scripts/test`.

mod bpf;
mod carriers;
mod cli;
mod control;
mod faults;
mod fuzz;
mod guard;
mod layouts;
mod life;
mod locks;
mod lookup_4096;
mod malformed;
mod many;
mod memory;
mod module;
mod odd_packets;
mod own_option;
mod regressions;
mod segments;
mod servers;
mod sockets;
mod stats;
mod table;
mod transparent;
mod trust;
mod vtoa;
