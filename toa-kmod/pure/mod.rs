// SPDX-License-Identifier: GPL-2.0

//! From the bytes of a TCP header to the structure that a server reads, without a kernel in sight.
//!
//! An address travels through these files in one direction: [`packet`] walks the options,
//! [`layout`] knows what the vendors put into them, [`policy`] says which of them counts, and
//! [`answer`] turns what was kept into the ABI's structures ([`uapi`], generated). [`profile`] says
//! which vendors' options are read, and [`trust`] knows the sources that may speak; [`netlink`] reads
//! what the node's owner wants of both ([`uapi_netlink`], generated), and [`text`] puts together what
//! the kernel log says.
//!
//! Beside that road, [`callers`] tells programs from the kernel's own clients, and [`ports`] reads a
//! parameter.
//!
//! Nothing here can panic: slices are taken apart by patterns and `get`, never by indexing.

#![forbid(unsafe_code)]

pub mod answer;
pub mod callers;
pub mod layout;
pub mod netlink;
pub mod packet;
pub mod policy;
pub mod ports;
pub mod profile;
pub mod text;
pub mod trust;
#[allow(missing_docs, unreachable_pub, non_camel_case_types)]
#[rustfmt::skip]
pub mod uapi;
#[allow(missing_docs, unreachable_pub, non_camel_case_types)]
#[rustfmt::skip]
pub mod uapi_netlink;
