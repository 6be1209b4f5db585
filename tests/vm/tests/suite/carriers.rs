// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which segment, which kind: what the server is told.

use std::net::{SocketAddr, TcpListener};

use libtoa::Segment;
use toa_cli::wire::{Flags, toa};
use toa_testbed::{Carrier, Family, Kinds, Plan, Topology, in_ns};
use toa_vm_tests::{Conn, Stats, World, accept, original};

/// The layouts that are read: kind, and the family of the address that it carries.
const LAYOUTS: [(u8, Family); 5] = [
    (200, Family::V4),
    (254, Family::V4),
    (253, Family::V6),
    (254, Family::V6),
    (200, Family::V6),
];

fn length(family: Family) -> u8 {
    match family {
        Family::V4 => 8,
        Family::V6 => 20,
    }
}

#[track_caller]
fn assert_told(conn: &Conn, addr: SocketAddr, segment: Segment, kind: u8) {
    let told = libtoa::original(&conn.stream).expect("the module answers");
    let told = told.expect("there is an address");
    assert_eq!(
        (told.addr, told.segment, told.kind),
        (addr, segment, kind),
        "{told:?}"
    );
    assert_eq!(told.length, if addr.is_ipv4() { 8 } else { 20 });
    assert_eq!(told.peer, conn.client.local());
    assert_eq!(libtoa::client_addr(&conn.stream).unwrap(), addr);
    // The wire's own end is as it was.
    assert_eq!(conn.stream.peer_addr().unwrap(), conn.client.local());
}

#[track_caller]
fn assert_not_told(conn: &Conn) {
    assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
    assert_eq!(
        libtoa::client_addr(&conn.stream).unwrap(),
        conn.client.local()
    );
}

/// Ordinary clients with their own TCP, through the full-NAT hop that inserts the option.
#[test]
fn real_clients_by_ack_by_syn_by_both_and_by_none_over_both_families() {
    toa_vm_tests::module::ensure_fresh();
    let topology = Topology::builder("carry").build().unwrap();
    for family in Family::ALL {
        let listener = TcpListener::bind((topology.server_ip(family), 0)).unwrap();
        let vip = SocketAddr::new(topology.vip(family), listener.local_addr().unwrap().port());
        for (carrier, segment) in [
            (Carrier::Ack, Some(Segment::Ack)),
            (Carrier::Syn, Some(Segment::Syn)),
            (Carrier::Both, Some(Segment::Ack)),
            (Carrier::None, None),
        ] {
            topology.set_plan(Plan::client(carrier, Kinds { v4: 200, v6: 253 }));
            let client = in_ns(topology.client(), || std::net::TcpStream::connect(vip))
                .unwrap()
                .unwrap();
            let (stream, peer) = accept(&listener);
            assert_eq!(peer.ip(), topology.hop_ip(family));
            let told = libtoa::original(&stream).unwrap();
            assert_eq!(
                told.map(|told| (told.addr, told.segment)),
                segment.map(|segment| (client.local_addr().unwrap(), segment)),
                "{family:?} {carrier:?}"
            );
        }
    }
    toa_vm_tests::settle();
    drop(topology);
}

#[test]
fn each_kind_and_length_by_syn_and_by_ack() {
    World::run(|world| {
        for (kind, family) in LAYOUTS {
            let listener = world.listen(family);
            for (segment, name) in [(Segment::Syn, "syn"), (Segment::Ack, "ack")] {
                let client = original(family, kind, 51_820);
                let option = toa(kind, client);
                let (syn, ack): (&[u8], &[u8]) = match segment {
                    Segment::Syn => (&option, &[]),
                    _ => (&[], &option),
                };
                let before = Stats::read();
                let mut conn = world.connect(family, &listener, syn, ack);
                let row = format!("{name}_{kind}_{}", length(family));
                assert_eq!(
                    Stats::read().since(&before),
                    [("syn_recv_sock_toa", 1), (&row, 1)],
                    "kind {kind}"
                );
                assert_told(&conn, client, segment, kind);
                conn.exchange();
            }
        }
    });
}

#[test]
fn of_two_segments_with_different_addresses_the_ack_wins() {
    World::run(|world| {
        for family in Family::ALL {
            let [early, late] = [1, 2].map(|host| original(family, host, 1000 + u16::from(host)));
            let listener = world.listen(family);
            let conn = world.connect(family, &listener, &toa(254, early), &toa(200, late));
            assert_told(&conn, late, Segment::Ack, 200);
        }
    });
}

#[test]
fn of_two_options_in_one_segment_the_first_counts() {
    World::run(|world| {
        let [first, second] = [3, 4].map(|host| original(Family::V4, host, 77));
        let both = [toa(254, first), toa(200, second)].concat();
        let listener = world.listen(Family::V4);
        for (segment, syn, ack) in [
            (Segment::Syn, &both[..], &[][..]),
            (Segment::Ack, &[], &both),
        ] {
            let before = Stats::read();
            let conn = world.connect(Family::V4, &listener, syn, ack);
            assert_eq!(Stats::read().since(&before).get("duplicate"), 1);
            assert_told(&conn, first, segment, 254);
        }
    });
}

#[test]
fn options_of_others_before_and_behind_do_not_matter() {
    World::run(|world| {
        let client = original(Family::V4, 5, 5);
        // MSS, NOP, window scale; a VIP (202) and a VPC id (201), which are not the client's.
        let around = |toa: Vec<u8>| {
            let before = [2, 4, 5, 180, 1, 3, 3, 7, 201, 6, 9, 9, 9, 9];
            let behind = [202, 8, 0, 80, 198, 51, 100, 1];
            [&before[..], &toa, &behind].concat()
        };
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &around(toa(200, client)), &[]);
        assert_told(&conn, client, Segment::Syn, 200);
        let conn = world.connect(Family::V4, &listener, &[], &around(toa(254, client)));
        assert_told(&conn, client, Segment::Ack, 254);
    });
}

/// The bare ACK was lost, or the client sends none: the first data completes the handshake.
#[test]
fn an_ack_that_carries_data_too() {
    World::run(|world| {
        for family in Family::ALL {
            let client = original(family, 6, 6);
            let listener = world.listen(family);
            let mut conn = {
                let mut end = world.client(family, &listener);
                end.syn(&[]).unwrap();
                end.recv_syn_ack().unwrap();
                end.data_with(b"early", &toa(254, client)).unwrap();
                Conn::accepted(end, &listener)
            };
            assert_told(&conn, client, Segment::Ack, 254);
            conn.server_reads(b"early");
            conn.exchange();
        }
    });
}

#[test]
fn without_toa_there_is_none() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            for options in [
                &[][..],
                // Timestamps, as nearly every client has.
                &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
                &[2, 4, 5, 180],
            ] {
                let before = Stats::read();
                let mut conn = world.connect(family, &listener, options, &[]);
                assert_eq!(Stats::read().since(&before), [("syn_recv_sock_no_toa", 1)]);
                assert_not_told(&conn);
                conn.exchange();
            }
        }
        assert_eq!(toa_vm_tests::sessions(), 0);
    });
}

#[test]
fn a_repeated_syn_and_a_repeated_ack_change_nothing() {
    World::run(|world| {
        for family in Family::ALL {
            let [early, late] = [7, 8].map(|host| original(family, host, 7));
            let listener = world.listen(family);

            let mut end = world.client(family, &listener);
            let mut syn = end.segment(Flags::SYN);
            syn.options = toa(254, early);
            for _ in 0..3 {
                end.send(&syn).unwrap();
            }
            end.seq = end.seq.wrapping_add(1);
            end.recv_syn_ack().unwrap();
            end.ack(&[]).unwrap();
            end.ack(&[]).unwrap();
            let mut conn = Conn::accepted(end, &listener);
            assert_told(&conn, early, Segment::Syn, 254);
            conn.exchange();

            let mut end = world.client(family, &listener);
            end.syn(&toa(254, early)).unwrap();
            end.recv_syn_ack().unwrap();
            for _ in 0..3 {
                end.ack(&toa(200, late)).unwrap();
            }
            let mut conn = Conn::accepted(end, &listener);
            assert_told(&conn, late, Segment::Ack, 200);
            conn.exchange();
        }
    });
}

/// What comes later is not looked at: neither read, nor counted.
#[test]
fn toa_in_later_segments_is_not_read() {
    World::run(|world| {
        for family in Family::ALL {
            let [early, late] = [9, 10].map(|host| original(family, host, 9));
            let listener = world.listen(family);
            let mut named = world.connect(family, &listener, &toa(200, early), &[]);
            let mut nameless = world.connect(family, &listener, &[], &[]);
            let before = Stats::read();
            for conn in [&mut named, &mut nameless] {
                conn.client.data_with(b"data", &toa(254, late)).unwrap();
                conn.server_reads(b"data");
            }
            assert_eq!(Stats::read().since(&before), []);
            assert_told(&named, early, Segment::Syn, 200);
            assert_not_told(&nameless);
        }
    });
}
