// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses that a SYN brought, waiting for their connection: what floods and forgers gain.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use libtoa::Segment;
use toa_cli::client::Client;
use toa_cli::wire::{Flags, toa};
use toa_testbed::Family;
use toa_vm_tests::node::Sysctl;
use toa_vm_tests::{Conn, Stats, World, original, sessions};

/// Always: no request of a half-open connection is kept, the SYN's sequence number comes back in
/// the ACK.
const COOKIES_ALWAYS: &str = "2";

fn cookies(value: &str) -> Sysctl {
    Sysctl::set("net/ipv4/tcp_syncookies", value)
}

#[track_caller]
fn assert_told(conn: &Conn, addr: SocketAddr, segment: Segment) {
    let told = libtoa::original(&conn.stream).unwrap().unwrap();
    assert_eq!((told.addr, told.segment), (addr, segment));
}

/// Kilobytes of a line of /proc/meminfo.
fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends `count` SYNs with TOA from sources that never come back; `seed` makes the sources.
fn flood(world: &World, listener: &TcpListener, count: u32, seed: u32) {
    let port = listener.local_addr().unwrap().port();
    let to = SocketAddr::new(toa_vm_tests::server_ip(Family::V4), port);
    for n in 0..count {
        // A multiplication by an odd number visits every source once.
        let mixed = (n + seed).wrapping_mul(0x9e37_79b1);
        let source = Ipv4Addr::from(0x0b00_0000 | (mixed >> 8));
        let from = SocketAddr::from((source, 1024 + (mixed & 0xff) as u16));
        let mut syn = Client::new(world.link(), from, to).segment(Flags::SYN);
        syn.seq = mixed;
        syn.options = toa(200, original(Family::V4, n as u8, n as u16));
        world.link().send(&syn).unwrap();
    }
}

#[test]
fn a_flood_of_syns_makes_no_session_and_takes_no_memory() {
    World::run(|world| {
        const WARM: u32 = 4_000;
        const SYNS: u32 = 20_000;
        /// The table's size, 2,048 buckets of 4.
        const PLACES: u64 = 8192;
        let listener = world.listen(Family::V4);
        // The kernel's own caches grow with the first few thousand.
        flood(world, &listener, WARM, 0);
        let before = Stats::read();
        let slab = meminfo("Slab:");
        flood(world, &listener, SYNS, WARM);
        let counted = Stats::read().since(&before);
        let grown = meminfo("Slab:").saturating_sub(slab);

        assert_eq!(counted.get("syn_200_8"), u64::from(SYNS));
        assert_eq!(sessions(), 0);
        // All but what the table holds made room for others.
        let full = counted.get("syn_table_full");
        assert!(
            (u64::from(SYNS) - PLACES..u64::from(SYNS)).contains(&full),
            "{full} of {SYNS} addresses made room"
        );
        assert_eq!(counted.get("dropped_no_memory"), 0);
        // 20,000 objects of the smallest useful size would be 1.9 MB.
        assert!(grown < 1024, "the slabs grew by {grown} kB");

        // Somebody honest, in the middle of it.
        let client = original(Family::V4, 7, 7);
        let mut end = world.client(Family::V4, &listener);
        // Empties the device's queue, which is full of SYN-ACKs for nobody.
        assert!(end.recv_within(Duration::ZERO).unwrap().is_none());
        end.connect(&toa(200, client), &[]).unwrap();
        let mut conn = Conn::accepted(end, &listener);
        assert_told(&conn, client, Segment::Syn);
        conn.exchange();

        let client = original(Family::V4, 8, 8);
        let conn = world.connect(Family::V4, &listener, &[], &toa(254, client));
        assert_told(&conn, client, Segment::Ack);
    });
}

/// The honest SYN's address outlives a flood of half the table's size.
#[test]
fn an_honest_syn_outlives_a_small_flood() {
    World::run(|world| {
        let _cookies = cookies(COOKIES_ALWAYS);
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let mut end = world.client(Family::V4, &listener);
        end.syn(&toa(200, client)).unwrap();
        end.recv_syn_ack().unwrap();
        flood(world, &listener, 1_000, 0);
        end.ack(&[]).unwrap();
        let conn = Conn::accepted(end, &listener);
        assert_told(&conn, client, Segment::Syn);
    });
}

#[test]
fn syn_cookies_lose_neither_syn_nor_ack() {
    World::run(|world| {
        let _cookies = cookies(COOKIES_ALWAYS);
        for (kind, family) in [(200, Family::V4), (253, Family::V6)] {
            let client = original(family, 7, 7);
            let listener = world.listen(family);
            let sent = || {
                let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
                counter(&text, "TcpExt:", "SyncookiesRecv")
            };
            let before = sent();
            let mut conn = world.connect(family, &listener, &toa(kind, client), &[]);
            assert_told(&conn, client, Segment::Syn);
            conn.exchange();
            let mut conn = world.connect(family, &listener, &[], &toa(kind, client));
            assert_told(&conn, client, Segment::Ack);
            conn.exchange();
            let mut conn = world.connect(family, &listener, &[], &[]);
            assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
            conn.exchange();
            assert_eq!(sent() - before, 3, "cookies were not in use");
        }
    });
}

/// A number of /proc/net/netstat: names on a line, numbers on the next.
fn counter(text: &str, group: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let names = lines.next().unwrap().split_whitespace();
    let numbers = lines.next().unwrap().split_whitespace();
    let mut pairs = names.zip(numbers);
    let (_, number) = pairs.find(|(n, _)| *n == name).unwrap();
    number.parse().unwrap()
}

/// Who guesses the addresses and ports but not the sequence number gains nothing, whether cookies
/// are on, when both SYNs are taken, or not.
#[test]
fn a_forged_syn_with_another_sequence_number_gains_nothing() {
    World::run(|world| {
        // Without cookies a second SYN within the window of the first makes Linux reset the
        // request, whoever sent which; so there they are further apart.
        for (cookie, distances) in [
            ("1", &[100_000, 1 << 31][..]),
            (COOKIES_ALWAYS, &[1, u32::MAX, 100_000, 1 << 31]),
        ] {
            let _cookies = cookies(cookie);
            for family in Family::ALL {
                for forged_first in [true, false] {
                    for &distance in distances {
                        forged(world, family, forged_first, distance, cookie);
                    }
                }
            }
        }
    });
}

fn forged(world: &World, family: Family, forged_first: bool, distance: u32, cookie: &str) {
    let what = format!("{family:?} forged first: {forged_first}, {distance} off, cookies {cookie}");
    let (honest, evil) = (original(family, 7, 7), original(family, 66, 66));
    let listener = world.listen(family);
    let mut end = world.client(family, &listener);
    let mut forged = end.segment(Flags::SYN);
    forged.seq = end.seq.wrapping_add(distance);
    forged.options = toa(254, evil);
    let mut syn = end.segment(Flags::SYN);
    syn.options = toa(254, honest);

    let [first, second] = if forged_first {
        [&forged, &syn]
    } else {
        [&syn, &forged]
    };
    end.send(first).unwrap();
    end.send(second).unwrap();
    end.seq = end.seq.wrapping_add(1);
    // Without cookies the kernel keeps the first SYN's request and answers the other's client by
    // an ACK of the wrong number, to which any TCP replies by a reset; then it sends its SYN anew.
    let ours = |segment: &toa_cli::wire::Segment, seq: u32| {
        segment.flags.contains(Flags::SYN | Flags::ACK) && segment.ack == seq
    };
    let mut answer = None;
    while let Some(segment) = end.recv_within(Duration::ZERO).unwrap() {
        if ours(&segment, end.seq) {
            answer = Some(segment);
        }
    }
    if answer.is_none() {
        assert!(forged_first && cookie == "1", "{what}: no SYN-ACK");
        let mut reset = end.segment(Flags::RST);
        reset.seq = forged.seq.wrapping_add(1);
        end.send(&reset).unwrap();
        end.send(&syn).unwrap();
        answer = Some(end.recv_syn_ack().unwrap());
    }
    end.ack = answer.unwrap().seq.wrapping_add(1);
    end.ack(&[]).unwrap();
    let mut conn = Conn::accepted(end, &listener);
    let told = libtoa::original(&conn.stream).unwrap();
    assert_eq!(told.map(|told| told.addr), Some(honest), "{what}");
    conn.exchange();
}

/// The first connection was given up; its address is not the next one's.
#[test]
fn an_address_waits_for_its_own_connection_only() {
    World::run(|world| {
        for cookie in ["1", COOKIES_ALWAYS] {
            let _cookies = cookies(cookie);
            for family in Family::ALL {
                let listener = world.listen(family);
                let peer = world.fresh_peer(family);
                let mut first = world.client_from(peer, &listener);
                first.seq = 1_000_000;
                first.syn(&toa(200, original(Family::V4, 66, 66))).unwrap();
                first.recv_syn_ack().unwrap();
                first.send(&first.segment(Flags::RST)).unwrap();
                drop(first);

                let mut second = world.client_from(peer, &listener);
                second.seq = 2_000_000;
                second.connect(&[], &[]).unwrap();
                let conn = Conn::accepted(second, &listener);
                assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
            }
        }
    });
}

/// An address that found its connection is gone from the table: the same SYN's number again, later,
/// without the option, is nobody's.
#[test]
fn an_address_is_given_out_once() {
    World::run(|world| {
        for family in Family::ALL {
            let client = original(family, 7, 7);
            let listener = world.listen(family);
            let peer = world.fresh_peer(family);
            for (syn, told) in [(toa(254, client), Some(client)), (vec![], None)] {
                let mut end = world.client_from(peer, &listener);
                end.seq = 5_000_000;
                end.connect(&syn, &[]).unwrap();
                let conn = Conn::accepted(end, &listener);
                let got = libtoa::original(&conn.stream).unwrap();
                assert_eq!(got.map(|got| got.addr), told, "{family:?}");
            }
        }
    });
}

/// With cookies the kernel keeps no request, and the module sees each repetition of a SYN.
#[test]
fn a_repeated_syn_leaves_one_address_and_the_last_counts() {
    World::run(|world| {
        let _cookies = cookies(COOKIES_ALWAYS);
        let [early, late] = [1, 2].map(|host| original(Family::V4, host, 1));
        let listener = world.listen(Family::V4);
        let peer = world.fresh_peer(Family::V4);
        let mut end = world.client_from(peer, &listener);
        let mut syn = end.segment(Flags::SYN);
        for addr in [early, early, late] {
            syn.options = toa(200, addr);
            end.send(&syn).unwrap();
        }
        end.seq = end.seq.wrapping_add(1);
        end.recv_syn_ack().unwrap();
        end.ack(&[]).unwrap();
        let conn = Conn::accepted(end, &listener);
        assert_told(&conn, late, Segment::Syn);
        drop(conn);

        let mut end = world.client_from(peer, &listener);
        end.connect(&[], &[]).unwrap();
        let conn = Conn::accepted(end, &listener);
        assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
    });
}

/// The same, where the ACK overruled it.
#[test]
fn an_overruled_address_is_gone_too() {
    World::run(|world| {
        let [early, late] = [1, 2].map(|host| original(Family::V4, host, 1));
        let listener = world.listen(Family::V4);
        let peer = world.fresh_peer(Family::V4);
        for (syn, ack, told) in [
            (toa(254, early), toa(254, late), Some(late)),
            (vec![], vec![], None),
        ] {
            let mut end = world.client_from(peer, &listener);
            end.seq = 5_000_000;
            end.connect(&syn, &ack).unwrap();
            let conn = Conn::accepted(end, &listener);
            let got = libtoa::original(&conn.stream).unwrap();
            assert_eq!(got.map(|got| got.addr), told);
        }
    });
}

/// Two pods behind two load balancers, with the very same four numbers, and sequence number.
#[test]
fn the_same_tuple_in_two_namespaces_at_once() {
    World::run(|one| {
        // A socket belongs to the namespace of the thread that makes it, and this is the first's.
        let bound = |family| SocketAddr::new(toa_vm_tests::server_ip(family), 8080);
        let listeners = Family::ALL.map(|family| TcpListener::bind(bound(family)).unwrap());
        World::beside(|other| {
            for (family, listener) in Family::ALL.into_iter().zip(&listeners) {
                let here = TcpListener::bind(bound(family)).unwrap();
                let peer = one.fresh_peer(family);
                let addresses = [1, 2].map(|host| original(family, host, 1000));
                let mut ends = [
                    one.client_from(peer, listener),
                    other.client_from(peer, &here),
                ];
                for (end, addr) in ends.iter_mut().zip(addresses) {
                    end.syn(&toa(254, addr)).unwrap();
                    end.recv_syn_ack().unwrap();
                }
                assert_eq!(ends[0].seq, ends[1].seq);
                for end in &mut ends {
                    end.ack(&[]).unwrap();
                }
                let [first, second] = ends;
                let conns = [
                    Conn::accepted(first, listener),
                    Conn::accepted(second, &here),
                ];
                for (conn, addr) in conns.iter().zip(addresses) {
                    assert_eq!(conn.stream.peer_addr().unwrap(), peer);
                    assert_told(conn, addr, Segment::Syn);
                }
            }
        });
    });
}
