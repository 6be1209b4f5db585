// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may speak: from whom an option is believed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use libtoa::Segment as Carrier;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};
use toa_cli::client::Client;
use toa_cli::state::ModuleReport;
use toa_cli::wire::{Flags, Segment, toa};
use toa_testbed::Family;
use toa_vm_tests::{Conn, Stats, World, kernel_log, module, node, original, server_ip};

use crate::table::{COOKIES_ALWAYS, cookies};

fn family_of(peer: IpAddr) -> Family {
    if peer.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}

/// What a connection from `peer` is told, with the option in its SYN and in its ACK, and how many
/// options were not believed.
#[track_caller]
pub(super) fn told_to(world: &World, peer: &str) -> ([Option<Carrier>; 2], u64) {
    let peer: IpAddr = peer.parse().unwrap();
    let family = family_of(peer);
    let listener = world.listen(family);
    let client = original(family, 7, 7);
    let kind = if peer.is_ipv4() { 200 } else { 253 };
    let before = Stats::read();
    let mut port = 30_000;
    let told = [(true, false), (false, true)].map(|carried| {
        port += 1;
        let mut end = world.client_from(SocketAddr::new(peer, port), &listener);
        let option = |there| if there { toa(kind, client) } else { vec![] };
        end.connect(&option(carried.0), &option(carried.1)).unwrap();
        let mut conn = Conn::accepted(end, &listener);
        conn.exchange();
        let told = libtoa::original(&conn.stream).unwrap();
        told.map(|told| {
            assert_eq!(told.addr, client);
            told.segment
        })
    });
    (told, Stats::read().since(&before).get("untrusted"))
}

pub(super) const BELIEVED: ([Option<Carrier>; 2], u64) =
    ([Some(Carrier::Syn), Some(Carrier::Ack)], 0);
pub(super) const NOT_BELIEVED: ([Option<Carrier>; 2], u64) = ([None, None], 2);

/// The first and the last address of each range that is trusted by default, and the ones beside it.
#[test]
fn by_default_private_shared_and_local_sources_are_believed_and_no_others() {
    World::run(|world| {
        for peer in [
            "10.0.0.2",
            "10.255.255.254",
            "172.16.0.1",
            "172.31.255.254",
            "192.168.0.1",
            "192.168.255.254",
            "100.64.0.1",
            "100.127.255.254",
            "169.254.0.1",
            "169.254.255.254",
            "fe80::2",
            "febf:ffff::2",
            "fc00::1",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
        ] {
            assert_eq!(told_to(world, peer), BELIEVED, "{peer}");
        }
        for peer in [
            "9.255.255.254",
            "11.0.0.1",
            "172.15.255.254",
            "172.32.0.1",
            "192.167.255.254",
            "192.169.0.1",
            "100.63.255.254",
            "100.128.0.1",
            "169.253.255.254",
            "169.255.0.1",
            "203.0.113.66",
            "2001:db8::66",
            "fbff::1",
            "fec0::1",
            "2000::1",
        ] {
            assert_eq!(told_to(world, peer), NOT_BELIEVED, "{peer}");
            assert_eq!(refused(peer), 2, "{peer}");
        }
        // Of the last 16, no more.
        told_to(world, "198.51.100.1");
        told_to(world, "198.51.100.2");
        assert_eq!(refused("198.51.100.2"), 2);
        assert_eq!(refused("9.255.255.254"), 0);
    });
}

/// How many options of that source the module says it refused.
fn refused(source: &str) -> u64 {
    let length = if source.contains(':') { 128 } else { 32 };
    let source = format!("{source}/{length}");
    let report = fs::read_to_string("/proc/net/toa").unwrap();
    let report = ModuleReport::parse(&report).unwrap();
    let of = report.refused.iter().find(|of| of.source == source);
    of.map_or(0, |of| of.options)
}

/// Sends a SYN with TOA from this machine to itself, as only loopback lets pass.
fn syn_by_loopback(from: SocketAddr, to: SocketAddr) {
    let syn = Segment {
        source: from,
        destination: to,
        seq: 1,
        ack: 0,
        flags: Flags::SYN,
        window: 1_000,
        options: toa(254, original(Family::V4, 7, 7)),
        payload: Vec::new(),
    };
    let packet = syn.to_packet().unwrap();
    let family = if from.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let raw = socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )
    .unwrap();
    // A raw socket takes no port.
    let to = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
    let sent = sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty());
    assert_eq!(sent, Ok(packet.len()), "{from}");
}

/// What never leaves the machine: 127.0.0.0/8 and ::1.
#[test]
fn loopback_is_believed_by_default() {
    World::run(|_| {
        for command in [
            "ip link set lo up",
            "ip address add 203.0.113.66/32 dev lo",
            "ip address add 2001:db8::66/128 dev lo nodad",
        ] {
            let mut words = command.split(' ');
            let status = toa_testbed::command(words.next().unwrap())
                .args(words)
                .status();
            assert!(status.unwrap().success(), "{command}");
        }
        for (server, sources) in [
            (
                "127.0.0.1:0",
                [
                    ("127.0.0.1", 0),
                    ("127.255.255.254", 0),
                    ("203.0.113.66", 1),
                ],
            ),
            ("[::1]:0", [("::1", 0), ("fd00::1", 0), ("2001:db8::66", 1)]),
        ] {
            let listener = TcpListener::bind(server).unwrap();
            for (source, untrusted) in sources {
                let before = Stats::read();
                let from = SocketAddr::new(source.parse().unwrap(), 32_000);
                syn_by_loopback(from, listener.local_addr().unwrap());
                // Loopback delivers at once.
                let counted = Stats::read().since(&before);
                assert_eq!(counted.get("syn_254_8"), 1, "{source}: {counted:?}");
                assert_eq!(counted.get("untrusted"), untrusted, "{source}");
            }
        }
    });
}

/// On an AF_INET6 socket an IPv4 peer is an IPv4 source as ever.
#[test]
fn a_dual_stack_listener_tells_the_families_apart() {
    World::run(|world| {
        let listener = TcpListener::bind("[::]:0").unwrap();
        for (peer, believed) in [
            ("10.1.2.3", true),
            ("203.0.113.66", false),
            ("fd00::2", true),
            ("2001:db8::66", false),
        ] {
            let peer: IpAddr = peer.parse().unwrap();
            let client = original(Family::V4, 7, 7);
            let mut end = world.client_from(SocketAddr::new(peer, 31_000), &listener);
            end.connect(&[], &toa(200, client)).unwrap();
            let (stream, _) = toa_vm_tests::accept(&listener);
            let told = libtoa::original(&stream).unwrap().is_some();
            end.rst().unwrap();
            assert_eq!(told, believed, "{peer}");
        }
    });
}

#[test]
fn a_list_a_single_address_everybody_and_nobody() {
    World::run_with(
        "trusted=203.0.113.64/28,2001:db8:7::/48,198.51.100.9",
        |world| {
            for peer in [
                "203.0.113.64",
                "203.0.113.79",
                "2001:db8:7::1",
                "198.51.100.9",
            ] {
                assert_eq!(told_to(world, peer), BELIEVED, "{peer}");
            }
            // A list takes the place of the default.
            for peer in [
                "203.0.113.63",
                "203.0.113.80",
                "2001:db8:8::1",
                "198.51.100.8",
                "10.0.0.2",
                "fd00::2",
            ] {
                assert_eq!(told_to(world, peer), NOT_BELIEVED, "{peer}");
            }
        },
    );
    World::run_with("trusted=any", |world| {
        for peer in ["203.0.113.66", "2001:db8::66", "10.0.0.2"] {
            assert_eq!(told_to(world, peer), BELIEVED, "{peer}");
        }
    });
    World::run_with("trusted=none", |world| {
        for peer in ["203.0.113.66", "10.0.0.2", "fd00::2"] {
            assert_eq!(told_to(world, peer), NOT_BELIEVED, "{peer}");
        }
    });
    // One family's everything is nothing of the other's.
    World::run_with("trusted=::/0", |world| {
        assert_eq!(told_to(world, "2001:db8::66"), BELIEVED);
        assert_eq!(told_to(world, "10.0.0.2"), NOT_BELIEVED);
    });
}

/// As many as fit into a parameter: the kernel takes 1,024 bytes.
#[test]
fn a_long_list() {
    let entries: Vec<String> = (0..75).map(|n| format!("11.{n}.0.0/24")).collect();
    let list = entries.join(",");
    assert!(list.len() < 1024);
    World::run_with(&format!("trusted={list}"), |world| {
        for peer in ["11.0.0.1", "11.41.0.1", "11.74.0.255"] {
            assert_eq!(told_to(world, peer), BELIEVED, "{peer}");
        }
        for peer in ["11.0.1.1", "11.75.0.1", "10.255.255.254"] {
            assert_eq!(told_to(world, peer), NOT_BELIEVED, "{peer}");
        }
    });
}

#[test]
fn a_bad_list_is_einval_with_a_line_that_names_the_entry_and_leaves_nothing() {
    let _unloaded = module::Unloaded::now();
    for (list, says) in [
        ("", "entry 1: \"\" is empty"),
        ("10.0.0.0/8,,::1", "entry 2: \"\" is empty"),
        ("10.0.0.0/8,", "entry 2: \"\" is empty"),
        ("10.0.0.0/8,nonsense", "entry 2: \"nonsense\" is no IPv4"),
        (
            "10.0.0.0/8,10.0.0.256",
            "entry 2: \"10.0.0.256\" is no IPv4",
        ),
        (
            "10.0.0.1/8",
            "entry 1: \"10.0.0.1/8\" has bits set behind its prefix length: must be 10.0.0.0/8",
        ),
        (
            "::1,fd00::1/8",
            "entry 2: \"fd00::1/8\" has bits set behind its prefix length: must be fd00::/8",
        ),
        ("10.0.0.0/33", "no number from 0 to 32"),
        ("fd00::/129", "no number from 0 to 128"),
        ("10.0.0.0/", "no number from 0 to 32"),
        ("any,10.0.0.0/8", "entry 1: \"any\" must stand alone"),
        ("10.0.0.0/8,none", "entry 2: \"none\" must stand alone"),
        ("ANY", "is no IPv4 or IPv6 address, any or none"),
    ] {
        let (result, lines) = kernel_log::during(|| module::load(&format!("trusted={list}")));
        assert_eq!(result, Err(Errno::EINVAL), "{list}");
        assert_eq!(lines.len(), 1, "{list}: {lines:?}");
        assert!(lines[0].starts_with("toa: parameter trusted"), "{lines:?}");
        assert!(lines[0].contains(says), "{list}: {lines:?}");
        module::assert_nothing_left();
    }
}

/// A forger's SYNs, from a public source, come nowhere near the table where addresses wait.
#[test]
fn a_flood_of_forged_syns_is_counted_and_takes_no_place() {
    World::run(|world| {
        const SYNS: u32 = 5_000;
        // What a kernel with sanitizers needs for them may be longer than a cookie is good for.
        const AT_MOST: Duration = Duration::from_secs(40);
        // With the first few hundred the kernel begins to drop requests that it has answered twice.
        let _cookies = cookies(COOKIES_ALWAYS);
        let listener = world.listen(Family::V4);
        let to = SocketAddr::new(server_ip(Family::V4), listener.local_addr().unwrap().port());
        let client = original(Family::V4, 7, 7);
        let mut honest = world.client(Family::V4, &listener);
        let before = Stats::read();
        honest.syn(&toa(200, client)).unwrap();
        honest.recv_syn_ack().unwrap();
        let began = Instant::now();
        let mut sent = 0;
        while sent < SYNS && began.elapsed() < AT_MOST {
            let from = SocketAddr::from((Ipv4Addr::from(0x0b00_0000 + sent), 1024));
            let mut syn = Client::new(world.link(), from, to).segment(Flags::SYN);
            syn.options = toa(200, original(Family::V4, 66, 66));
            world.link().send(&syn).unwrap();
            sent += 1;
        }
        honest.ack(&[]).unwrap();
        let conn = Conn::accepted(honest, &listener);
        let told = libtoa::original(&conn.stream).unwrap().unwrap();
        assert_eq!((told.addr, told.segment), (client, Carrier::Syn));
        let counted = Stats::read().since(&before);
        assert_eq!(counted.get("untrusted"), u64::from(sent), "{counted:?}");
        // An earlier test may have filled the table, and the honest one made room for itself.
        assert!(counted.get("syn_table_full") <= 1, "{counted:?}");
    });
}

/// A flood in one network namespace costs its own addresses their places, not those of another.
#[test]
fn a_flood_in_one_namespace_pushes_out_nothing_of_another() {
    World::run(|world| {
        const WAITING: u16 = 50;
        /// The table has 8,192 places.
        const FLOOD: u32 = 12_000;
        /// Who waits is forgotten after 64 seconds.
        const AT_MOST: Duration = Duration::from_secs(50);
        let began = Instant::now();
        let _cookies = cookies(COOKIES_ALWAYS);
        let listener = world.listen(Family::V4);
        let waiting: Vec<(Client, SocketAddr)> = (0..WAITING)
            .map(|n| {
                let client = original(Family::V4, 7, n);
                let mut end = world.client(Family::V4, &listener);
                end.syn(&toa(200, client)).unwrap();
                end.recv_syn_ack().unwrap();
                (end, client)
            })
            .collect();
        let before = Stats::read();
        World::beside(|other| {
            let _cookies = cookies(COOKIES_ALWAYS);
            let listener = other.listen(Family::V4);
            let to = SocketAddr::new(server_ip(Family::V4), listener.local_addr().unwrap().port());
            for n in 0..FLOOD {
                let from = SocketAddr::from((Ipv4Addr::from(0x0a80_0000 + n), 1024));
                let mut syn = Client::new(other.link(), from, to).segment(Flags::SYN);
                syn.seq = n.wrapping_mul(0x9e37_79b1);
                syn.options = toa(200, original(Family::V4, 66, 66));
                other.link().send(&syn).unwrap();
            }
        });
        if began.elapsed() > AT_MOST {
            node::skip("this machine is too slow to fill the table before it forgets");
            return;
        }
        let counted = Stats::read().since(&before);
        assert!(counted.get("syn_table_full") > 2_000, "{counted:?}");
        for (mut end, client) in waiting {
            end.ack(&[]).unwrap();
            let conn = Conn::accepted(end, &listener);
            let told = libtoa::original(&conn.stream).unwrap();
            assert_eq!(told.map(|told| told.addr), Some(client));
        }
        // The oldest of a bucket was spared, since it was somebody else's.
        assert!(counted.get("syn_quota") > 0, "{counted:?}");
    });
}
