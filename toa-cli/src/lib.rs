// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pieces of `toa-cli`, the tool that loads, inspects and proves the toa
//! kernel module on a worker node.
//!
//! The program itself is a few lines over [`cmd`]. The rest is a library so that
//! the tests on real kernels can use the same parts: [`state`] reads what the
//! module says of itself, and [`netns`], [`tun`], [`wire`] and [`client`] make
//! TCP connections whose every segment the caller writes.

pub mod cap;
pub mod client;
pub mod cmd;
pub mod control;
pub mod exit;
pub mod failure;
pub mod guard;
pub mod host;
pub mod kmsg;
pub mod modinfo;
pub mod netns;
mod nft;
pub mod packages;
pub mod render;
mod rtnl;
pub mod sources;
pub mod state;
pub mod tun;
#[allow(missing_docs, unreachable_pub, non_camel_case_types, dead_code)]
#[rustfmt::skip]
mod uapi;
pub mod wire;
mod xtables;
