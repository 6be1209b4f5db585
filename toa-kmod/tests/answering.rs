// SPDX-License-Identifier: GPL-2.0
//! From what is known of a connection to the structures that servers read.

use toa_kmod::pure::answer::{nat64, original, room, vs, vs_hybrid, Origin, Peer, Refusal};
use toa_kmod::pure::layout::{v4_mapped, Address, Client, Family, Toa};
use toa_kmod::pure::policy::Segment;
use toa_kmod::pure::uapi::{toa_original, TOA_ABI_VERSION};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const V4: [u8; 4] = [203, 0, 113, 7];
const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const V4_IN_16: [u8; 16] = [203, 0, 113, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const PEER_IN_16: [u8; 16] = [10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const PORT: u16 = 51820;
const PEER_PORT: u16 = 40312;

fn peer(socket: Family) -> Peer {
    Peer {
        socket,
        port: PEER_PORT.to_be_bytes(),
        addr: v4_mapped([10, 0, 0, 2]),
    }
}

fn address(family: Family, port: u16) -> Address {
    Address {
        family,
        port: port.to_be_bytes(),
        addr: match family {
            Family::V4 => v4_mapped(V4),
            Family::V6 => V6,
        },
    }
}

fn origin(family: Family) -> Origin {
    Origin {
        toa: Toa {
            client: Some(Client {
                addr: address(family, PORT),
                kind: 200,
                length: 8,
            }),
            vip: None,
            vpc_id: None,
        },
        segment: Segment::Ack,
    }
}

const VIP_PORT: u16 = 443;
const VPC_ID: [u8; 4] = [0, 0x12, 0x34, 0x56];

/// A connection that carried a VIP alone.
fn vip(family: Family) -> Origin {
    Origin {
        toa: Toa {
            client: None,
            vip: Some(address(family, VIP_PORT)),
            vpc_id: None,
        },
        segment: Segment::Syn,
    }
}

#[test]
fn v4_client_on_a_v4_socket() {
    let answer = original(&peer(Family::V4), Some(&origin(Family::V4)));
    assert_eq!((answer.family, answer.addr), (AF_INET, V4_IN_16));
    assert_eq!(u16::from_be(answer.port), PORT);
    assert_eq!((answer.segment, answer.kind, answer.length), (2, 200, 8));
    assert_eq!(
        (answer.peer_family, answer.peer_addr),
        (AF_INET, PEER_IN_16)
    );
    assert_eq!(u16::from_be(answer.peer_port), PEER_PORT);
    assert_eq!(u32::from(answer.version), TOA_ABI_VERSION);
    assert_eq!(usize::from(answer.size), size_of::<toa_original>());
    assert_eq!((answer.flags, answer.reserved), (0, [0; 2]));
    assert_eq!((answer.vip_family, answer.vip), (0, [0; 16]));
    assert_eq!((answer.vip_port, answer.vpc_id), (0, 0));
    assert_eq!(answer.reserved2, 0);
}

#[test]
fn v4_client_on_a_dual_stack_socket_is_mapped() {
    let answer = original(&peer(Family::V6), Some(&origin(Family::V4)));
    assert_eq!((answer.family, answer.addr), (AF_INET6, v4_mapped(V4)));
    assert_eq!(
        (answer.peer_family, answer.peer_addr),
        (AF_INET6, v4_mapped([10, 0, 0, 2]))
    );
}

#[test]
fn v6_client_keeps_its_family_everywhere() {
    for socket in [Family::V4, Family::V6] {
        let answer = original(&peer(socket), Some(&origin(Family::V6)));
        assert_eq!((answer.family, answer.addr), (AF_INET6, V6));
    }
}

#[test]
fn no_address_leaves_only_the_peer() {
    let answer = original(&peer(Family::V4), None);
    assert_eq!((answer.family, answer.addr, answer.port), (0, [0; 16], 0));
    assert_eq!((answer.segment, answer.kind, answer.length), (0, 0, 0));
    assert_eq!(answer.peer_addr, PEER_IN_16);
}

#[test]
fn syn_and_ack_are_told_apart() {
    let by_syn = Origin {
        segment: Segment::Syn,
        ..origin(Family::V4)
    };
    assert_eq!(original(&peer(Family::V4), Some(&by_syn)).segment, 1);
}

#[test]
fn an_answer_is_cut_to_its_buffer() {
    for (asked, bytes) in [
        (i32::MIN, None),
        (-1, None),
        (0, None),
        (47, None),
        (48, Some(48)),
        (59, Some(59)),
        (60, Some(60)),
        (61, Some(60)),
        (i32::MAX, Some(60)),
    ] {
        assert_eq!(room(asked, 48, 60), bytes, "{asked}");
    }
    assert_eq!(room(0, 0, 4), Some(0));
}

#[test]
fn nat64_is_for_v6_clients_of_v4_sockets_alone() {
    let answer = nat64(&peer(Family::V4), Some(&origin(Family::V6))).expect("an answer");
    let bytes: Vec<u8> = answer.saddr.iter().flat_map(|w| w.to_ne_bytes()).collect();
    assert_eq!(bytes, V6);
    assert_eq!(u16::from_be(answer.sport), PORT);
    assert_eq!(answer.pad, [0; 2]);

    let refused = |socket, origin: Option<&Origin>| nat64(&peer(socket), origin).unwrap_err();
    assert_eq!(refused(Family::V4, None), Refusal::Invalid);
    assert_eq!(refused(Family::V6, None), Refusal::Invalid);
    assert_eq!(
        refused(Family::V4, Some(&origin(Family::V4))),
        Refusal::Fault
    );
    assert_eq!(
        refused(Family::V6, Some(&origin(Family::V6))),
        Refusal::Fault
    );
}

#[test]
fn vip_and_vpc_are_told_beside_the_client() {
    for (socket, family, vip_family, vip_addr) in [
        (Family::V4, Family::V4, AF_INET, V4_IN_16),
        (Family::V6, Family::V4, AF_INET6, v4_mapped(V4)),
        (Family::V4, Family::V6, AF_INET6, V6),
        (Family::V6, Family::V6, AF_INET6, V6),
    ] {
        let mut known = origin(Family::V4);
        known.toa.vip = vip(family).toa.vip;
        known.toa.vpc_id = Some(VPC_ID);
        let answer = original(&peer(socket), Some(&known));
        assert_eq!(answer.flags, 3);
        assert_eq!((answer.vip_family, answer.vip), (vip_family, vip_addr));
        assert_eq!(u16::from_be(answer.vip_port), VIP_PORT);
        assert_eq!(answer.vpc_id.to_ne_bytes(), VPC_ID);
        // The rest is as it is without.
        let plain = original(&peer(socket), Some(&origin(Family::V4)));
        assert_eq!((answer.family, answer.addr), (plain.family, plain.addr));
        assert_eq!((answer.port, answer.segment), (plain.port, plain.segment));
    }
}

#[test]
fn a_vip_alone_names_no_client() {
    let answer = original(&peer(Family::V4), Some(&vip(Family::V4)));
    assert_eq!((answer.family, answer.addr, answer.port), (0, [0; 16], 0));
    assert_eq!((answer.segment, answer.kind, answer.length), (0, 0, 0));
    assert_eq!((answer.flags, answer.vip), (1, V4_IN_16));
    let refused = nat64(&peer(Family::V4), Some(&vip(Family::V6))).unwrap_err();
    assert_eq!(refused, Refusal::Invalid);
}

#[test]
fn vtoa_tells_v4_vips() {
    let mut known = vip(Family::V4);
    for (id, vid) in [(None, [0; 4]), (Some([1, 2, 3, 4]), [1, 2, 3, 4])] {
        known.toa.vpc_id = id;
        let answer = vs(Some(&known)).expect("a VIP");
        assert_eq!(answer.vid.to_ne_bytes(), vid);
        assert_eq!(answer.vaddr.to_ne_bytes(), V4);
        assert_eq!(u16::from_be(answer.vport), VIP_PORT);
        assert_eq!(answer.pad, [0; 2]);
        let hybrid = vs_hybrid(Family::V4, Some(&known)).expect("a VIP");
        assert_eq!((hybrid.vid, hybrid.vport), (answer.vid, answer.vport));
        assert_eq!((hybrid.vaddr_af, hybrid.vaddr), (AF_INET.into(), V4_IN_16));
    }
    let refused = vs_hybrid(Family::V6, Some(&known)).unwrap_err();
    assert_eq!(refused, Refusal::Unknown);
}

#[test]
fn vtoa_tells_v6_vips_where_there_is_room() {
    let mut known = vip(Family::V6);
    known.toa.vpc_id = Some(VPC_ID);
    assert_eq!(vs(Some(&known)).unwrap_err(), Refusal::Unknown);
    for level in [Family::V4, Family::V6] {
        let answer = vs_hybrid(level, Some(&known)).expect("a VIP");
        assert_eq!(answer.vid, 0x0012_3456);
        assert_eq!((answer.vaddr_af, answer.vaddr), (AF_INET6.into(), V6));
    }
}

#[test]
fn vtoa_knows_no_vip_where_none_was_carried() {
    for known in [None, Some(&origin(Family::V4)), Some(&origin(Family::V6))] {
        assert_eq!(vs(known).unwrap_err(), Refusal::Unknown);
        for level in [Family::V4, Family::V6] {
            assert_eq!(vs_hybrid(level, known).unwrap_err(), Refusal::Unknown);
        }
    }
}
