// SPDX-License-Identifier: GPL-2.0
//! From what is known of a connection to the structures that servers read.

use toa_kmod::pure::answer::{nat64, original, room, Origin, Peer, Refusal};
use toa_kmod::pure::layout::{v4_mapped, Address, Family};
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

fn origin(family: Family) -> Origin {
    Origin {
        client: Address {
            family,
            port: PORT.to_be_bytes(),
            addr: match family {
                Family::V4 => v4_mapped(V4),
                Family::V6 => V6,
            },
        },
        segment: Segment::Ack,
        kind: 200,
        length: 8,
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
    assert_eq!(answer.reserved, [0; 3]);
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
