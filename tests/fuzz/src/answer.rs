// SPDX-License-Identifier: MIT OR Apache-2.0
//! The module's answer, and what libtoa makes of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use toa_cli::control;
use toa_kmod::pure::answer::{
    Name, Named, Origin, Peer, Refusal, SockaddrIn, SockaddrIn6, listed, nat64, original, room, vs,
    vs_hybrid,
};
use toa_kmod::pure::layout::{Address, Client, Family, Toa, v4_mapped};
use toa_kmod::pure::policy::Segment;
use toa_kmod::pure::uapi::toa_original;
use toa_kmod::pure::uapi_netlink::toa_session;

use crate::bytes::Bytes;
use crate::kernel::{Reply, answering, socket};

fn family(v6: bool) -> Family {
    if v6 { Family::V6 } else { Family::V4 }
}

/// An address as the module keeps it.
fn kept(bytes: &mut Bytes<'_>, v6: bool) -> [u8; 16] {
    if v6 {
        bytes.array()
    } else {
        v4_mapped(bytes.array())
    }
}

/// An address as a socket of that family shows it.
fn shown(socket: Family, family: Family, addr: [u8; 16]) -> IpAddr {
    let [.., a, b, c, d] = addr;
    match (socket, family) {
        (Family::V4, Family::V4) => Ipv4Addr::new(a, b, c, d).into(),
        _ => Ipv6Addr::from(addr).into(),
    }
}

/// What of the ABI is of integers alone, without padding: tests/abi.
trait Plain {}

impl Plain for toa_original {}
impl Plain for toa_session {}

/// The structure as bytes.
fn bytes_of(structure: &impl Plain) -> Vec<u8> {
    let at = std::ptr::from_ref(structure).cast::<u8>();
    // SAFETY: All bytes of a plain structure are there to read.
    unsafe { std::slice::from_raw_parts(at, size_of_val(structure)) }.to_vec()
}

/// A buffer of any size, for an answer that must have its first `least` bytes there.
fn check_room(asked: i32, least: usize) {
    let whole = size_of::<toa_original>();
    match room(asked, least, whole) {
        None => assert!(asked < 0 || (asked as u32) < least as u32),
        Some(bytes) => {
            assert!(asked >= 0 && asked as usize >= least);
            assert_eq!(bytes, [asked as usize, whole].into_iter().min().unwrap());
        }
    }
}

/// An address and a port, as a list shows them: what is mapped is an IPv4 address.
fn plainly(address: &Address) -> SocketAddr {
    let addr = Ipv6Addr::from(address.addr).to_canonical();
    SocketAddr::new(addr, u16::from_be_bytes(address.port))
}

/// The connection listed, as toa-cli reads the list.
fn check_listed(origin: &Origin, peer: &Address, netns: u32, local_port: [u8; 2]) {
    let connection = toa_session {
        peer: peer.addr,
        peer_port: u16::from_ne_bytes(peer.port),
        local_port: u16::from_ne_bytes(local_port),
        netns,
        ..toa_session::default()
    };
    let listed = listed(origin, connection);
    assert_eq!(listed.reserved, [0; 2]);
    let toa = &origin.toa;
    let family = |addr: Option<Address>| match addr.map(|addr| addr.family) {
        None => 0,
        Some(Family::V4) => 2,
        Some(Family::V6) => 10,
    };
    let client = toa.client.map(|client| client.addr);
    assert_eq!(listed.client_family, family(client));
    assert_eq!(listed.vip_family, family(toa.vip));
    let flags = u8::from(toa.vip.is_some()) | u8::from(toa.vpc_id.is_some()) << 1;
    assert_eq!(listed.flags, flags);
    let session = control::read_session(&bytes_of(&listed)).expect("a whole structure");
    let named = toa.client.map(|client| control::Client {
        addr: plainly(&client.addr),
        carried_by: match origin.segment {
            Segment::Syn => "syn".to_owned(),
            Segment::Ack => "ack".to_owned(),
            Segment::Data => "data".to_owned(),
        },
        kind: client.kind,
        length: client.length,
    });
    let want = control::Session {
        client: named,
        vip: toa.vip.as_ref().map(plainly),
        vpc_id: toa.vpc_id.map(u32::from_be_bytes),
        peer: plainly(peer),
        local_port: u16::from_be_bytes(local_port),
        netns,
    };
    assert_eq!(session, want);
}

/// The names that `accept` and its like have filled with this port and address become `other`'s if they
/// are those of `end`, and stay as they are if not.
fn check_names(port: [u8; 2], addr: [u8; 16], rest: [u8; 8], end: &Address, other: &Address) {
    let [.., a, b, c, d] = addr;
    let filled = SockaddrIn {
        family: 2u16.to_ne_bytes(),
        port,
        addr: [a, b, c, d],
        zero: rest,
    };
    let mut name = filled;
    let named = name.rename(end.port, &end.addr, other);
    let own = SocketAddr::from((filled.addr, u16::from_be_bytes(port)));
    let want = match plainly(other) {
        _ if own != plainly(end) => (Named::Other, filled),
        SocketAddr::V4(v4) if other.family == Family::V4 => {
            let renamed = SockaddrIn {
                port: v4.port().to_be_bytes(),
                addr: v4.ip().octets(),
                ..filled
            };
            (Named::Renamed, renamed)
        }
        _ => (Named::Kept, filled),
    };
    assert_eq!((named, name), want);

    let [flow @ .., e, f, g, h] = rest;
    let filled = SockaddrIn6 {
        family: 10u16.to_ne_bytes(),
        port,
        flow,
        addr,
        scope: [e, f, g, h],
    };
    let mut name = filled;
    let named = name.rename(end.port, &end.addr, other);
    let want = if (addr, port) == (end.addr, end.port) {
        let renamed = SockaddrIn6 {
            family: filled.family,
            port: other.port,
            flow: [0; 4],
            addr: other.addr,
            scope: [0; 4],
        };
        (Named::Renamed, renamed)
    } else {
        (Named::Other, filled)
    };
    assert_eq!((named, name), want);
}

/// `data` is a connection: its socket's family, its peer, what is kept of it; a buffer's size; and a name
/// that the kernel gave out.
pub fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let socket_family = family(bytes.flag());
    let peer = Peer {
        socket: socket_family,
        port: bytes.array(),
        // An AF_INET6 socket has IPv4 peers too, mapped.
        addr: {
            let v6 = socket_family == Family::V6 && bytes.flag();
            kept(&mut bytes, v6)
        },
    };
    let place = |bytes: &mut Bytes<'_>| {
        let family = family(bytes.flag());
        Address {
            family,
            port: bytes.array(),
            addr: kept(bytes, family == Family::V6),
        }
    };
    let client = place(&mut bytes);
    let client_family = client.family;
    let segment = if bytes.flag() {
        Segment::Syn
    } else {
        Segment::Ack
    };
    let (kind, carried) = (bytes.byte(), bytes.byte());
    let is_known = bytes.flag();
    let asked = i32::from_le_bytes(bytes.array());
    let least = usize::from(bytes.byte());
    // What came later stands at the end, so that what was kept of old goes on meaning the same.
    let has_vip = bytes.flag();
    let vip = place(&mut bytes);
    let vpc_id = bytes.flag().then(|| bytes.array());
    let has_no_client = bytes.flag();
    let origin = Origin {
        toa: Toa {
            client: (!has_no_client).then_some(Client {
                addr: client,
                kind,
                length: carried,
            }),
            vip: has_vip.then_some(vip),
            vpc_id,
        },
        segment,
    };
    let end = Address {
        family: peer.socket,
        port: peer.port,
        addr: peer.addr,
    };
    check_listed(
        &origin,
        &end,
        u32::from_ne_bytes(bytes.array()),
        bytes.array(),
    );
    let (port, addr) = if bytes.flag() {
        (bytes.array(), bytes.array())
    } else {
        (end.port, end.addr)
    };
    let rest = bytes.array();
    for other in [&client, &vip] {
        check_names(port, addr, rest, &end, other);
    }

    let known = is_known.then_some(&origin);
    let named = known.filter(|_| !has_no_client);

    let client_port = u16::from_be_bytes(client.port);
    let client_addr = shown(socket_family, client_family, client.addr);
    let peer_addr = SocketAddr::new(
        shown(socket_family, socket_family, peer.addr),
        u16::from_be_bytes(peer.port),
    );

    let answer = original(&peer, known);
    assert_eq!((answer.reserved, answer.reserved2), ([0; 2], 0));
    let reply = bytes_of(&answer);
    assert_eq!(usize::from(answer.size), reply.len());
    check_room(asked, least);
    let length = reply.len() as libc::socklen_t;
    let (heard, _) = answering(Reply::Bytes(reply, length), || libtoa::original(socket()));
    let heard = heard.expect("an answer of this ABI");
    match named {
        None => assert_eq!(heard, None),
        Some(_) => {
            let heard = heard.expect("the client");
            assert_eq!(heard.addr, SocketAddr::new(client_addr, client_port));
            assert_eq!(heard.peer, peer_addr);
            assert_eq!((heard.kind, heard.length), (kind, carried));
            let shown = SocketAddr::new(
                shown(socket_family, vip.family, vip.addr),
                u16::from_be_bytes(vip.port),
            );
            assert_eq!(heard.vip, has_vip.then_some(shown));
            assert_eq!(heard.vpc_id, vpc_id.map(u32::from_be_bytes));
            let segment = match origin.segment {
                Segment::Syn => libtoa::Segment::Syn,
                Segment::Ack => libtoa::Segment::Ack,
                Segment::Data => libtoa::Segment::Data,
            };
            assert_eq!(heard.segment, segment);
        }
    }

    match nat64(&peer, known) {
        Ok(answer) => {
            assert!(named.is_some());
            assert_eq!((socket_family, client_family), (Family::V4, Family::V6));
            let words = answer.saddr.map(u32::to_ne_bytes);
            assert_eq!(words.as_flattened(), client.addr);
            assert_eq!(answer.sport.to_ne_bytes(), client.port);
            assert_eq!(answer.pad, [0; 2]);
        }
        Err(Refusal::Invalid) => assert_eq!(named, None),
        Err(Refusal::Unknown) => unreachable!("an error of other calls"),
        Err(Refusal::Fault) => {
            assert!(named.is_some());
            assert_ne!((socket_family, client_family), (Family::V4, Family::V6));
        }
    }

    let told = known.filter(|_| has_vip).map(|_| vip);
    let id: [u8; 4] = vpc_id.unwrap_or_default();
    match vs(known) {
        Ok(answer) => {
            let vip = told.filter(|vip| vip.family == Family::V4).expect("a VIP");
            assert_eq!(answer.vid.to_ne_bytes(), id);
            assert_eq!(answer.vaddr.to_ne_bytes(), vip.addr[12..]);
            assert_eq!(answer.vport.to_ne_bytes(), vip.port);
            assert_eq!(answer.pad, [0; 2]);
        }
        Err(refusal) => {
            assert_eq!(refusal, Refusal::Unknown);
            assert!(told.is_none_or(|vip| vip.family == Family::V6));
        }
    }
    for level in [Family::V4, Family::V6] {
        match vs_hybrid(level, known) {
            Ok(answer) => {
                let vip = told.expect("a VIP");
                assert_eq!(answer.vport.to_ne_bytes(), vip.port);
                if vip.family == Family::V6 {
                    assert_eq!((answer.vaddr_af, answer.vaddr), (10, vip.addr));
                    assert_eq!(answer.vid.to_be_bytes(), id);
                } else {
                    assert_eq!((answer.vaddr_af, level), (2, Family::V4));
                    assert_eq!(answer.vaddr[..4], vip.addr[12..]);
                    assert_eq!(answer.vaddr[4..], [0; 12]);
                    assert_eq!(answer.vid.to_ne_bytes(), id);
                }
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Unknown);
                let out_of_place = |vip: Address| level == Family::V6 && vip.family == Family::V4;
                assert!(told.is_none_or(out_of_place));
            }
        }
    }
}
