// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ordinary TCP connections through a full-NAT hop that inserts TOA.
//!
//! A [`Topology`] is a client, a hop and a server's side, each a network namespace of its own
//! (the server's side can be the machine's initial namespace, as it is on a worker node):
//!
//! ```text
//!   client namespace            hop namespace                              server's side
//!   203.0.113.7/24              VIP 198.51.100.10, 2001:db8:1::10          10.0.N.1/24
//!   2001:db8::7/64              DNAT to the server, then                   fd00:0:0:N::1/64
//!   any of 198.18.0.0/15        masquerade (fully random ports)
//!
//!     eth0 (TUN) <--- [Hop] ---> client0 (TUN)   server0 (veth) <-------> toa-NAME (veth)
//!                    this process                10.0.N.2, fd00:0:0:N::2
//! ```
//!
//! The wire between client and hop is this process: it reads whole IP packets from one TUN device
//! and writes them to the other, and on their way it puts the TOA option into the segments that a
//! [`Plan`] names. The address that it writes is the packet's source, which the kernel's own NAT
//! is about to replace; NAT keeps TCP options, so the server's side sees real segments of real
//! connections, in which only the option is new.
//!
//! A TUN device without a virtio header hands over complete packets: checksums filled in, nothing
//! left to be segmented. A netfilter queue in the hop would do the same work, but it needs
//! `nft_queue` in the kernel, and would see packets before segmentation and checksumming.

mod command;
mod hop;
mod netns;
mod segment;
mod topology;
mod tun;

pub use command::command;
pub use hop::{Counts, Hop};
pub use netns::{Namespace, allow_open_files, in_ns};
pub use segment::{Carrier, Insert, Inserter, Kinds, Outcome, Plan, Segment, option};
pub use topology::{Builder, Family, ServerSide, Topology};
