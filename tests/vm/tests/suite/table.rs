// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses that a SYN brought, waiting for their connection: what floods and forgers gain.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use libtoa::Segment;
use toa_cli::client::Client;
use toa_cli::wire::{Flags, toa};
use toa_testbed::Family;
use toa_vm_tests::node::{self, Sysctl, meminfo, slabs, usual_or_long};
use toa_vm_tests::{Conn, Stats, World, original, settle};

/// Always: no request of a half-open connection is kept, the SYN's sequence number comes back in
/// the ACK.
pub(super) const COOKIES_ALWAYS: &str = "2";

pub(super) fn cookies(value: &str) -> Sysctl {
    Sysctl::set("net/ipv4/tcp_syncookies", value)
}

#[track_caller]
fn assert_told(conn: &Conn, addr: SocketAddr, segment: Segment) {
    let told = libtoa::original(&conn.stream).unwrap().unwrap();
    assert_eq!((told.addr, told.segment), (addr, segment));
}

/// Sends `count` SYNs with TOA from sources that never come back; `seed` makes the sources.
fn flood(world: &World, listener: &TcpListener, count: u32, seed: u32) {
    let port = listener.local_addr().unwrap().port();
    let to = SocketAddr::new(toa_vm_tests::server_ip(Family::V4), port);
    for n in 0..count {
        // A multiplication by an odd number visits every source once. All are of 10.128.0.0/9,
        // which is trusted: what others send never comes to the table.
        let mixed = (n + seed).wrapping_mul(0x9e37_79b1);
        let source = Ipv4Addr::from(0x0a80_0000 | (mixed >> 9));
        let from = SocketAddr::from((source, 1024 + (mixed & 0x1ff) as u16));
        let mut syn = Client::new(world.link(), from, to).segment(Flags::SYN);
        syn.seq = mixed;
        syn.options = toa(200, original(Family::V4, n as u8, n as u16));
        world.link().send(&syn).unwrap();
    }
}

/// A handshake in which the flood does `meanwhile` between the SYN, which carries the address, and
/// the ACK.
fn honest(
    world: &World,
    listener: &TcpListener,
    client: SocketAddr,
    meanwhile: impl FnOnce(),
) -> Conn {
    let mut end = world.client(Family::V4, listener);
    // Empties the device's queue, which is full of SYN-ACKs for nobody.
    assert!(end.recv_within(Duration::ZERO).unwrap().is_none());
    end.syn(&toa(200, client)).unwrap();
    end.recv_syn_ack().unwrap();
    meanwhile();
    end.ack(&[]).unwrap();
    Conn::accepted(end, listener)
}

#[test]
fn a_flood_of_syns_makes_no_session_takes_no_memory_and_shuts_nobody_out() {
    World::run(|world| {
        const WARM: u32 = 4_000;
        const ROUNDS: u32 = 20;
        /// The table's size, 2,048 buckets of 4.
        const PLACES: u64 = 8192;
        /// For so many seconds an address waits there.
        const LIFETIME: f64 = 64.0;
        let syns: u32 = usual_or_long(10_000, 1_000_000);
        let listener = world.listen(Family::V4);
        // The kernel's own caches grow with the first few thousand.
        flood(world, &listener, WARM, 0);
        let before = Stats::read();
        let memory = || (slabs(), meminfo("MemAvailable"));
        let (slab, available) = memory();
        let (mut most, mut least) = (slab, available);
        let mut outlived = 0;
        let began = Instant::now();
        for round in 0..ROUNDS {
            let half = syns / ROUNDS / 2;
            let first = WARM + round * half * 2;
            flood(world, &listener, half, first);
            // Somebody honest, in the middle of it, in each way.
            let client = original(Family::V4, 7, round as u16);
            let mut conn = honest(world, &listener, client, || ());
            assert_told(&conn, client, Segment::Syn);
            conn.exchange();
            let client = original(Family::V4, 8, round as u16);
            let conn = world.connect(Family::V4, &listener, &[], &toa(254, client));
            assert_told(&conn, client, Segment::Ack);
            // And somebody slow, whose address may have had to make room, for nobody else's.
            let client = original(Family::V4, 9, round as u16);
            let conn = honest(world, &listener, client, || {
                flood(world, &listener, half, first + half);
            });
            if let Some(told) = libtoa::original(&conn.stream).unwrap() {
                assert_eq!(told.addr, client);
                outlived += 1;
            }
            let (slab, available) = memory();
            (most, least) = (most.max(slab), least.min(available));
        }
        let rate = f64::from(syns) / began.elapsed().as_secs_f64();
        let counted = Stats::read().since(&before);
        settle();
        drop(listener);
        let (slab_after, available_after) = memory();
        println!(
            "{syns} SYNs, {rate:.0} a second; slabs {slab} kB before, {most} kB at most, \
             {slab_after} kB after; available {available} kB, {least} kB, {available_after} kB; \
             {outlived} of {ROUNDS} slow handshakes kept their address"
        );

        assert_eq!(
            counted.get("syn_200_8"),
            u64::from(syns + 2 * ROUNDS),
            "{counted:?}"
        );
        // All but what the table holds made room for others; where the flood takes so long that the table
        // forgets before it is full, as with sanitizers, fewer.
        let full = counted.get("syn_table_full");
        let least = if rate * LIFETIME > (2 * PLACES) as f64 {
            u64::from(syns).saturating_sub(PLACES)
        } else {
            0
        };
        assert!(
            (least..=u64::from(syns)).contains(&full),
            "{full} of {syns} addresses made room"
        );
        assert_eq!(counted.get("dropped_no_memory"), 0);
        // 10,000 objects of 64 bytes would be 625 kB, less what free ones there were; a million 63 MB.
        let grown = usual_or_long(200, 2_000);
        assert!(
            most < slab + grown,
            "the slabs grew from {slab} to {most} kB"
        );
        assert!(slab_after < slab + grown, "{slab} kB became {slab_after}");
        // A million of them 94 MB.
        assert!(
            available_after + 10_000 > available,
            "{available} kB became {available_after}"
        );
    });
}

/// The time that a SYN-ACK is repeated for, and no longer: where the table is looked at for somebody
/// else's sake, and where nothing fresh has come at all.
#[test]
fn an_address_waits_64_seconds() {
    if !node::is_long() {
        node::skip("takes two minutes: only in the long run (scripts/test --debug)");
        return;
    }
    World::run(|world| {
        // The kernel keeps no request; a cookie is good for two minutes.
        let _cookies = cookies(COOKIES_ALWAYS);
        let listener = world.listen(Family::V4);
        let syn = |host| {
            let mut end = world.client(Family::V4, &listener);
            end.syn(&toa(200, original(Family::V4, host, 1))).unwrap();
            end.recv_syn_ack().unwrap();
            (end, Instant::now())
        };
        let told = |mut end: Client| {
            end.ack(&[]).unwrap();
            let conn = Conn::accepted(end, &listener);
            let told = libtoa::original(&conn.stream).unwrap();
            told.map(|told| told.addr)
        };
        let wait = |(end, since): (Client, Instant), seconds| {
            let until = since + Duration::from_secs(seconds);
            thread::sleep(until.saturating_duration_since(Instant::now()));
            end
        };
        let (patient, late) = (syn(1), syn(2));
        let patient = wait(patient, 60);
        assert_eq!(told(patient), Some(original(Family::V4, 1, 1)));
        let (fresh, last) = (syn(3), syn(4));
        let late = wait(late, 66);
        assert_eq!(told(late), None);
        assert_eq!(told(fresh.0), Some(original(Family::V4, 3, 1)));
        let last = wait(last, 66);
        assert_eq!(told(last), None);
    });
}

/// The honest SYN's address outlives a flood of half the table's size.
#[test]
fn an_honest_syn_outlives_a_small_flood() {
    // What the tests before left waiting goes with the module: in a full table a namespace has but
    // half of a bucket beside another's.
    World::run_with("", |world| {
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
            let sent = || node::netstat("TcpExt", "SyncookiesRecv");
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
