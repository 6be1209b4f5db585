// SPDX-License-Identifier: MIT OR Apache-2.0
//! The original address of a TCP connection's client, behind a full-NAT load balancer.
//!
//! A server behind a full-NAT hop (Tencent CLB with SNAT, LVS FULLNAT, DPVS, GAAP) sees the hop's
//! address in `getpeername`. The hop writes the client's into a TCP option, TOA, in the first
//! segments of the connection. The kernel module `toa` keeps it; this crate asks for it.
//!
//! ```no_run
//! use std::net::TcpListener;
//!
//! let listener = TcpListener::bind("[::]:8080")?;
//! for stream in listener.incoming() {
//!     let stream = stream?;
//!     match libtoa::original(&stream) {
//!         Ok(Some(original)) => println!("client {}, by its {}", original.addr, original.segment),
//!         Ok(None) => println!("client {}", stream.peer_addr()?),
//!         Err(error) => eprintln!("no original addresses here: {error}"),
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A server that only wants the best address there is takes [`client_addr`], which works without
//! the module too.
//!
//! # What it costs
//!
//! One `getsockopt` a call and no allocation. The answer does not change while the connection
//! lives: ask once, after `accept`, and keep it.
//!
//! # What it is worth
//!
//! The option is written by whoever sends the segment. A client that reaches the server past the
//! load balancer can write any address into it. Let only the load balancer reach the port.
//!
//! # Which kernel side serves it
//!
//! The module `toa` of this repository, on the node where the server runs; the socket may be in any
//! network namespace of it, so a container needs nothing of its own. [`abi()`] tells whether it is
//! there. Sockets of true MPTCP connections are out of reach: the kernel passes no such question on
//! ([`Error::NotTcp`]); one that has fallen back to TCP is answered.
//!
//! The structures come from `toa-kmod/uapi/toa.h`, which C programs can use as it is.
#![deny(missing_docs, missing_debug_implementations)]

mod abi;
mod error;
mod original;
mod sys;
#[allow(missing_docs, unreachable_pub, non_camel_case_types, dead_code)]
#[path = "uapi/bindings.rs"]
mod uapi;

pub use abi::{ABI, abi};
pub use error::Error;
pub use original::{Original, Segment, client_addr, original};
