// SPDX-License-Identifier: GPL-2.0

//! What is known of a connection becomes the ABI's structures.

use super::layout::{v4_mapped, v4_of, Address, Family, Toa};
use super::policy::Segment;
use super::uapi::{self, toa_nat64_peer, toa_original, toa_vs, toa_vs_hybrid};
use super::uapi_netlink::toa_session;

/// AF_UNSPEC, AF_INET and AF_INET6 (`include/linux/socket.h`): the same on every architecture.
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What is known of a connection, and what told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// What the options told.
    pub toa: Toa,
    /// The segment that named the client; where none did, the one that named the rest.
    pub segment: Segment,
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
    /// ESRCH.
    Unknown,
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
#[inline(always)]
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
    let Some(origin) = origin else {
        return answer;
    };
    let toa = &origin.toa;
    if let Some(client) = &toa.client {
        (answer.family, answer.addr) = spoken(peer.socket, client.addr.family, &client.addr.addr);
        answer.port = u16::from_ne_bytes(client.addr.port);
        answer.kind = client.kind;
        answer.length = client.length;
        answer.segment = number(origin.segment);
    }
    if let Some(vip) = &toa.vip {
        answer.flags |= uapi::TOA_FLAG_VIP as u8;
        (answer.vip_family, answer.vip) = spoken(peer.socket, vip.family, &vip.addr);
        answer.vip_port = u16::from_ne_bytes(vip.port);
    }
    if let Some(vpc_id) = toa.vpc_id {
        answer.flags |= uapi::TOA_FLAG_VPC_ID as u8;
        answer.vpc_id = u32::from_ne_bytes(vpc_id);
    }
    answer
}

/// A segment as the ABI numbers it.
fn number(segment: Segment) -> u8 {
    match segment {
        Segment::Syn => uapi::TOA_SEGMENT_SYN as u8,
        Segment::Ack => uapi::TOA_SEGMENT_ACK as u8,
        Segment::Data => uapi::TOA_SEGMENT_DATA as u8,
    }
}

/// A session as it is listed: what its options told, beside what `connection` says of its connection.
pub fn listed(origin: &Origin, connection: toa_session) -> toa_session {
    let family = |family| match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    let mut listed = connection;
    let toa = &origin.toa;
    if let Some(client) = &toa.client {
        listed.client = client.addr.addr;
        listed.client_port = u16::from_ne_bytes(client.addr.port);
        listed.client_family = family(client.addr.family);
        listed.segment = number(origin.segment);
        listed.kind = client.kind;
        listed.length = client.length;
    }
    if let Some(vip) = &toa.vip {
        listed.flags |= uapi::TOA_FLAG_VIP as u8;
        listed.vip = vip.addr;
        listed.vip_port = u16::from_ne_bytes(vip.port);
        listed.vip_family = family(vip.family);
    }
    if let Some(vpc_id) = toa.vpc_id {
        listed.flags |= uapi::TOA_FLAG_VPC_ID as u8;
        listed.vpc_id = u32::from_ne_bytes(vpc_id);
    }
    listed
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
    let Some(client) = origin.and_then(|origin| origin.toa.client) else {
        return Err(Refusal::Invalid);
    };
    if peer.socket != Family::V4 || client.addr.family != Family::V6 {
        return Err(Refusal::Fault);
    }
    let word = |a, b, c, d| u32::from_ne_bytes([a, b, c, d]);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = client.addr.addr;
    Ok(toa_nat64_peer {
        saddr: [
            word(a, b, c, d),
            word(e, f, g, h),
            word(i, j, k, l),
            word(m, n, o, p),
        ],
        sport: u16::from_ne_bytes(client.addr.port),
        ..toa_nat64_peer::default()
    })
}

/// The answer to `TOA_SO_GET_VS` and `TOA_SO_GET_VS4RDS`, which have room for an IPv4 VIP alone.
///
/// # Errors
///
/// `Unknown` where the connection carried none.
pub fn vs(origin: Option<&Origin>) -> Result<toa_vs, Refusal> {
    let toa = origin.map(|origin| &origin.toa).ok_or(Refusal::Unknown)?;
    let vip = toa.vip.as_ref().ok_or(Refusal::Unknown)?;
    if vip.family != Family::V4 {
        return Err(Refusal::Unknown);
    }
    let vaddr = v4_of(&vip.addr).ok_or(Refusal::Unknown)?;
    Ok(toa_vs {
        // Handed out as it came, as vtoa does.
        vid: u32::from_ne_bytes(toa.vpc_id.unwrap_or_default()),
        vaddr: u32::from_ne_bytes(vaddr),
        vport: u16::from_ne_bytes(vip.port),
        ..toa_vs::default()
    })
}

/// The answer to `TOA_SO_GET_VS_HYBRID`, asked at the level of `level`'s protocol. That of IPv6 tells
/// IPv6 VIPs alone.
///
/// # Errors
///
/// `Unknown` where the connection carried none.
pub fn vs_hybrid(level: Family, origin: Option<&Origin>) -> Result<toa_vs_hybrid, Refusal> {
    let toa = origin.map(|origin| &origin.toa).ok_or(Refusal::Unknown)?;
    let vip = toa.vip.as_ref().ok_or(Refusal::Unknown)?;
    let id = toa.vpc_id.unwrap_or_default();
    let (vaddr_af, vaddr) = spoken(vip.family, vip.family, &vip.addr);
    let vid = match (level, vip.family) {
        (Family::V6, Family::V4) => return Err(Refusal::Unknown),
        (Family::V4, Family::V4) => u32::from_ne_bytes(id),
        // The three bytes of 249/40 are a number in vtoa's hands, too.
        (_, Family::V6) => u32::from_be_bytes(id),
    };
    Ok(toa_vs_hybrid {
        vid,
        vaddr,
        vaddr_af: vaddr_af.into(),
        vport: u16::from_ne_bytes(vip.port),
    })
}

/// What became of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// It is the other one now.
    Renamed,
    /// It stays: the other one is an IPv6 address, which an AF_INET socket cannot tell.
    Kept,
    /// It stays, for it is not the name of that connection's end.
    Other,
}

/// A `sockaddr_in` that the kernel has filled: family, port, address, and nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SockaddrIn {
    /// AF_INET.
    pub family: [u8; 2],
    /// Network byte order.
    pub port: [u8; 2],
    /// Network byte order.
    pub addr: [u8; 4],
    /// Zeroes.
    pub zero: [u8; 8],
}

/// A `sockaddr_in6` that the kernel has filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SockaddrIn6 {
    /// AF_INET6.
    pub family: [u8; 2],
    /// Network byte order.
    pub port: [u8; 2],
    /// The flow label of the peer's packets, where the socket asked for it.
    pub flow: [u8; 4],
    /// Network byte order; an IPv4 one as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
    /// The device by which a link-local peer is reached.
    pub scope: [u8; 4],
}

/// The name of one end of a connection.
pub trait Name {
    /// Puts `other` in the place of the end whose port and address are `port` and `addr`.
    fn rename(&mut self, port: [u8; 2], addr: &[u8; 16], other: &Address) -> Named;
}

impl Name for SockaddrIn {
    #[inline(always)]
    fn rename(&mut self, port: [u8; 2], addr: &[u8; 16], other: &Address) -> Named {
        if self.port != port || v4_mapped(self.addr) != *addr {
            return Named::Other;
        }
        match (other.family, other.addr.last_chunk()) {
            (Family::V4, Some(v4)) => {
                self.port = other.port;
                self.addr = *v4;
                Named::Renamed
            }
            _ => Named::Kept,
        }
    }
}

impl Name for SockaddrIn6 {
    #[inline(always)]
    fn rename(&mut self, port: [u8; 2], addr: &[u8; 16], other: &Address) -> Named {
        if self.port != port || self.addr != *addr {
            return Named::Other;
        }
        self.port = other.port;
        self.addr = other.addr;
        // They were of the way on the wire.
        self.flow = [0; 4];
        self.scope = [0; 4];
        Named::Renamed
    }
}
