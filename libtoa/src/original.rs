// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{SockaddrStorage, getpeername};

use crate::error::Error;
use crate::sys;
use crate::uapi::{self, toa_original};

/// The client of a connection, as the load balancer's TOA option named it, and where it connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Original {
    /// The client's address and TCP port; port 0 where the option carries none (28/7, 28/19).
    ///
    /// On an AF_INET6 socket an IPv4 client is `::ffff:a.b.c.d`, as `getpeername` gives it
    /// ([`std::net::IpAddr::to_canonical`] unwraps it). On an AF_INET socket an IPv6 client
    /// (NAT64) is [`SocketAddr::V6`].
    pub addr: SocketAddr,
    /// The segment that carried the option.
    pub segment: Segment,
    /// The option's kind on the wire: 200, 253, 254, ...
    pub kind: u8,
    /// The option's length on the wire in bytes, kind and length bytes included.
    pub length: u8,
    /// The wire's end of the connection: what `getpeername` says.
    pub peer: SocketAddr,
    /// The VIP: the load balancer's address that the client connected to, where the options carried
    /// it; port 0 where they carried none (249/40). In the same form as `addr`.
    pub vip: Option<SocketAddr>,
    /// The VPC that the VIP is in, where the options carried it: their bytes, read as a number in
    /// network byte order.
    pub vpc_id: Option<u32>,
}

/// The segment of a connection that carried its client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Segment {
    /// The client's SYN.
    Syn,
    /// The segment that completed the handshake.
    Ack,
    /// One of the first data segments behind it (with the module's parameter `first_data` on).
    Data,
    /// One that this version of the library has no name for, by its number in the uapi header.
    Other(u8),
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syn => f.pad("syn"),
            Self::Ack => f.pad("ack"),
            Self::Data => f.pad("data"),
            Self::Other(number) => write!(f, "segment-{number}"),
        }
    }
}

/// The original address of the client of `socket`, a connected TCP socket, or `None` where the
/// connection carried none.
///
/// One system call, no allocation.
///
/// # Errors
///
/// See [`Error`]; a connection without an address is not one.
pub fn original(socket: impl AsFd) -> Result<Option<Original>, Error> {
    let answer = ask(&socket)?;
    Ok(decode(&answer))
}

/// The best address there is for the client of `socket`: the original one, or else the peer's,
/// also where the module is not loaded or cannot answer.
///
/// One system call where the module answers, two where it does not; no allocation.
///
/// # Errors
///
/// That of `getpeername`: the socket is not connected, or no IP socket at all.
pub fn client_addr(socket: impl AsFd) -> io::Result<SocketAddr> {
    if let Ok(answer) = ask(&socket) {
        let peer = address(answer.peer_family, &answer.peer_addr, answer.peer_port);
        if let Some(addr) = decode(&answer).map(|original| original.addr).or(peer) {
            return Ok(addr);
        }
    }
    let peer: SockaddrStorage = getpeername(socket.as_fd().as_raw_fd())?;
    let v4 = peer.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    let v6 = peer
        .as_sockaddr_in6()
        .map(|v6| SocketAddr::V6((*v6).into()));
    v4.or(v6)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not an IP socket"))
}

fn ask(socket: &impl AsFd) -> Result<toa_original, Error> {
    let mut answer = toa_original::default();
    sys::getsockopt(socket.as_fd(), uapi::TOA_SO_ORIGINAL, &mut answer)?;
    Error::check_abi(answer.version.into())?;
    Ok(answer)
}

fn decode(answer: &toa_original) -> Option<Original> {
    let addr = address(answer.family, &answer.addr, answer.port)?;
    let peer = address(answer.peer_family, &answer.peer_addr, answer.peer_port)?;
    Some(Original {
        addr,
        segment: match answer.segment.into() {
            uapi::TOA_SEGMENT_SYN => Segment::Syn,
            uapi::TOA_SEGMENT_ACK => Segment::Ack,
            uapi::TOA_SEGMENT_DATA => Segment::Data,
            _ => Segment::Other(answer.segment),
        },
        kind: answer.kind,
        length: answer.length,
        peer,
        vip: address(answer.vip_family, &answer.vip, answer.vip_port),
        vpc_id: (u32::from(answer.flags) & uapi::TOA_FLAG_VPC_ID != 0)
            .then(|| u32::from_be(answer.vpc_id)),
    })
}

/// An address of the ABI: a family, 16 bytes and a port, both in network byte order.
fn address(family: u8, addr: &[u8; 16], port: u16) -> Option<SocketAddr> {
    let port = u16::from_be(port);
    match i32::from(family) {
        libc::AF_INET => {
            let [a, b, c, d, ..] = *addr;
            Some((Ipv4Addr::new(a, b, c, d), port).into())
        }
        libc::AF_INET6 => Some((Ipv6Addr::from(*addr), port).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> toa_original {
        toa_original {
            version: uapi::TOA_ABI_VERSION as u16,
            size: size_of::<toa_original>() as u16,
            peer_family: libc::AF_INET as u8,
            peer_port: 40312u16.to_be(),
            peer_addr: [10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ..Default::default()
        }
    }

    #[test]
    fn no_address() {
        assert_eq!(decode(&answer()), None);
    }

    #[test]
    fn v4() {
        let original = decode(&toa_original {
            family: libc::AF_INET as u8,
            segment: 2,
            kind: 200,
            length: 8,
            port: 51820u16.to_be(),
            addr: [203, 0, 113, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ..answer()
        })
        .expect("there is an address");
        assert_eq!(original.addr, "203.0.113.7:51820".parse().unwrap());
        assert_eq!(original.peer, "10.0.0.2:40312".parse().unwrap());
        assert_eq!(original.segment, Segment::Ack);
        assert_eq!((original.kind, original.length), (200, 8));
        assert_eq!((original.vip, original.vpc_id), (None, None));
    }

    #[test]
    fn vip_and_vpc() {
        let client = toa_original {
            family: libc::AF_INET as u8,
            ..answer()
        };
        let original = decode(&toa_original {
            flags: (uapi::TOA_FLAG_VIP | uapi::TOA_FLAG_VPC_ID) as u8,
            vip_family: libc::AF_INET as u8,
            vip_port: 443u16.to_be(),
            vip: [198, 51, 100, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            vpc_id: 0x0102_0304u32.to_be(),
            ..client
        })
        .expect("there is an address");
        assert_eq!(original.vip, Some("198.51.100.1:443".parse().unwrap()));
        assert_eq!(original.vpc_id, Some(0x0102_0304));
        let zero = decode(&toa_original {
            flags: uapi::TOA_FLAG_VPC_ID as u8,
            ..client
        })
        .expect("there is an address");
        assert_eq!((zero.vip, zero.vpc_id), (None, Some(0)));
    }

    #[test]
    fn v6() {
        let original = decode(&toa_original {
            family: libc::AF_INET6 as u8,
            segment: 1,
            port: 1u16.to_be(),
            addr: "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets(),
            ..answer()
        })
        .expect("there is an address");
        assert_eq!(original.addr, "[2001:db8::7]:1".parse().unwrap());
        assert_eq!(original.segment.to_string(), "syn");
    }

    #[test]
    fn a_segment_of_the_future_is_kept() {
        let original = decode(&toa_original {
            family: libc::AF_INET as u8,
            segment: 9,
            ..answer()
        })
        .expect("there is an address");
        assert_eq!(original.segment, Segment::Other(9));
    }
}
