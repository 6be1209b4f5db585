// SPDX-License-Identifier: GPL-2.0

//! What is known of a connection becomes the ABI's structures.

use super::layout::{v4_of, Address, Family};
use super::policy::Segment;
use super::uapi::{self, toa_nat64_peer, toa_original};

/// AF_UNSPEC, AF_INET and AF_INET6 (`include/linux/socket.h`): the same on every architecture.
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The client of a connection, and the option that told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The client's address and port.
    pub client: Address,
    /// The segment that carried the option.
    pub segment: Segment,
    /// The option's kind on the wire.
    pub kind: u8,
    /// The option's length on the wire.
    pub length: u8,
}

/// The wire's end of a connection, as the socket keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Whether the socket is an AF_INET6 one: addresses are then given in IPv6 form.
    pub socket: Family,
    /// The peer's TCP port, network byte order.
    pub port: [u8; 2],
    /// The peer's address, network byte order; an IPv4 one as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// EINVAL.
    Invalid,
    /// EFAULT.
    Fault,
}

/// An address in the form that a socket of family `socket` speaks: family and 16 bytes.
fn spoken(socket: Family, family: Family, addr: &[u8; 16]) -> (u8, [u8; 16]) {
    match (socket, family, v4_of(addr)) {
        (Family::V4, Family::V4, Some([a, b, c, d])) => {
            (AF_INET, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        _ => (AF_INET6, *addr),
    }
}

/// The answer to `TOA_SO_ORIGINAL`.
pub fn original(peer: &Peer, origin: Option<&Origin>) -> toa_original {
    let (peer_family, peer_addr) = spoken(peer.socket, peer.socket, &peer.addr);
    let mut answer = toa_original {
        version: uapi::TOA_ABI_VERSION as u16,
        size: size_of::<toa_original>() as u16,
        family: AF_UNSPEC,
        peer_port: u16::from_ne_bytes(peer.port),
        peer_family,
        peer_addr,
        ..toa_original::default()
    };
    if let Some(origin) = origin {
        let client = &origin.client;
        (answer.family, answer.addr) = spoken(peer.socket, client.family, &client.addr);
        answer.port = u16::from_ne_bytes(client.port);
        answer.kind = origin.kind;
        answer.length = origin.length;
        answer.segment = match origin.segment {
            Segment::Syn => uapi::TOA_SEGMENT_SYN as u8,
            Segment::Ack => uapi::TOA_SEGMENT_ACK as u8,
            Segment::Data => uapi::TOA_SEGMENT_DATA as u8,
        };
    }
    answer
}

/// How many bytes of an answer of `whole` go into a buffer of `asked`, as the caller's signed number
/// has it; `None` where it must hold `least` and does not.
pub fn room(asked: i32, least: usize, whole: usize) -> Option<usize> {
    let asked = usize::try_from(asked).ok()?;
    (asked >= least).then(|| whole.min(asked))
}

/// The answer to `TOA_SO_GET_LOOKUP` (4096), to the letter of its first implementation: an IPv6
/// client on an AF_INET socket, and nothing else.
///
/// # Errors
///
/// `Invalid` where the connection carried no address, `Fault` where it carried any other.
pub fn nat64(peer: &Peer, origin: Option<&Origin>) -> Result<toa_nat64_peer, Refusal> {
    match origin {
        None => Err(Refusal::Invalid),
        Some(origin) if peer.socket == Family::V4 && origin.client.family == Family::V6 => {
            let word = |a, b, c, d| u32::from_ne_bytes([a, b, c, d]);
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = origin.client.addr;
            Ok(toa_nat64_peer {
                saddr: [
                    word(a, b, c, d),
                    word(e, f, g, h),
                    word(i, j, k, l),
                    word(m, n, o, p),
                ],
                sport: u16::from_ne_bytes(origin.client.port),
                ..toa_nat64_peer::default()
            })
        }
        Some(_) => Err(Refusal::Fault),
    }
}
