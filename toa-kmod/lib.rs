// SPDX-License-Identifier: GPL-2.0
//! The pure part of the toa kernel module, as cargo sees it.
//!
//! `pure/` is compiled twice from the same files: here, where it is tested on the host, and into
//! `toa.ko` by Kbuild.
#![no_std]

#[path = "pure/mod.rs"]
pub mod pure;
