// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parameter `layouts`: each vendor's options on real connections, and what is refused.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use libtoa::Segment;
use nix::errno::Errno;
use toa_testbed::Family;
use toa_vm_tests::{Conn, Stats, World, kernel_log, module, settle, sockopt};

#[path = "../../../../toa-kmod/tests/oracle/profiles.rs"]
mod profiles;

use profiles::{PROFILES, Row};

/// What an option tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    client: Option<SocketAddr>,
    vip: Option<SocketAddr>,
    vpc_id: Option<u32>,
}

/// The layouts of `docs/wire-formats.md`: an option's bytes behind kind and length, and what they tell.
fn layout(name: &str) -> (Vec<u8>, Told) {
    let [c4, v4] = [[203, 0, 113, 7], [198, 51, 100, 9]];
    let [c6, v6] = [7, 0x99].map(|host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host));
    let [cport, vport] = [51_820u16, 443].map(u16::to_be_bytes);
    let client4 = |port: u16| Some(SocketAddr::from((Ipv4Addr::from(c4), port)));
    let client6 = |port: u16| Some(SocketAddr::from((c6, port)));
    let vip4 = Some(SocketAddr::from((Ipv4Addr::from(v4), 443)));
    let told = |client, vip, vpc_id| Told {
        client,
        vip,
        vpc_id,
    };
    let (c6, v6_bytes) = (c6.octets(), v6.octets());
    match name {
        "client-v4" => (
            [&cport[..], &c4].concat(),
            told(client4(51_820), None, None),
        ),
        "client-v6" => (
            [&cport[..], &c6].concat(),
            told(client6(51_820), None, None),
        ),
        "client-v4-noport" => ([&[1][..], &c4].concat(), told(client4(0), None, None)),
        "client-v6-noport" => ([&[1][..], &c6].concat(), told(client6(0), None, None)),
        "vip-v4" => ([&vport[..], &v4].concat(), told(None, vip4, None)),
        "vip-v6" => (
            [&vport[..], &v6_bytes].concat(),
            told(None, Some((v6, 443).into()), None),
        ),
        "vpc-id" => (vec![1, 2, 3, 4], told(None, None, Some(0x0102_0304))),
        "client-vip-v4" => (
            [&cport[..], &c4, &[0; 2], &vport, &v4].concat(),
            told(client4(51_820), vip4, None),
        ),
        "client-vip-vpc-v4" => (
            [&cport[..], &c4, &[1, 2, 3, 4], &v4, &vport, &[0; 2]].concat(),
            told(client4(51_820), vip4, Some(0x0102_0304)),
        ),
        "client-vip-vpc-v6" => (
            [&cport[..], &c6, &[0x12, 0x34, 0x56], &[0], &v6_bytes].concat(),
            told(client6(51_820), Some((v6, 0).into()), Some(0x0012_3456)),
        ),
        other => panic!("no layout {other}"),
    }
}

/// An option of this kind and layout on the wire, and what it tells.
fn option(kind: u8, name: &str) -> (Vec<u8>, Told) {
    let (body, told) = layout(name);
    let length = body.len() as u8 + 2;
    ([&[kind, length], &body[..]].concat(), told)
}

/// An address as `family`'s sockets show it.
fn shown(socket: Family, addr: SocketAddr) -> SocketAddr {
    match (socket, addr) {
        (Family::V6, SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        _ => addr,
    }
}

/// Holds what the server is told against what was sent; `None` where nothing was.
#[track_caller]
fn assert_told(conn: &Conn, socket: Family, sent: Told, by: (Segment, u8, u8)) {
    let told = libtoa::original(&conn.stream).expect("the module answers");
    match (told, sent.client) {
        (Some(told), Some(client)) => {
            assert_eq!(told.addr, shown(socket, client));
            assert_eq!(told.vip, sent.vip.map(|vip| shown(socket, vip)));
            assert_eq!(told.vpc_id, sent.vpc_id);
            assert_eq!((told.segment, told.kind, told.length), by);
            assert_eq!(told.peer, shown(socket, conn.client.local()));
        }
        (told, client) => assert_eq!((told, client), (None, None)),
    }
    // What is told without a client is seen in the structure alone.
    let mut answer = [0xaa; 72];
    let length = sockopt::get(&conn.stream, libc::IPPROTO_IP, 0x544f_4100, &mut answer);
    assert_eq!(length, Ok(72));
    let flags = u8::from(sent.vip.is_some()) | u8::from(sent.vpc_id.is_some()) << 1;
    assert_eq!(answer[13..16], [flags, 0, 0]);
    let id = sent.vpc_id.unwrap_or(0);
    assert_eq!(answer[64..68], id.to_be_bytes());
    assert_eq!(answer[70] == 0, sent.vip.is_none());
}

fn load(layouts: &str) -> module::Unloaded {
    module::loaded_with(&format!("layouts={layouts}"))
}

/// The names of the counters of options seen.
fn counted_rows() -> Vec<String> {
    let stats = Stats::read();
    let names = stats.rows.into_iter().map(|(name, _)| name);
    let mut names: Vec<String> = names
        .filter_map(|n| Some(n.strip_prefix("ack_")?.into()))
        .collect();
    names.sort();
    names
}

#[test]
fn each_profile_reads_its_options_in_both_segments_over_both_families() {
    for (profile, rows) in PROFILES {
        let _unloaded = load(profile);
        let mut names: Vec<String> = rows.iter().map(|(k, l, _)| format!("{k}_{l}")).collect();
        names.sort();
        assert_eq!(counted_rows(), names, "{profile}");
        World::beside(|world| {
            for &(kind, length, name) in rows {
                let (bytes, told) = option(kind, name);
                assert_eq!(bytes.len(), usize::from(length));
                for family in Family::ALL {
                    let listener = world.listen(family);
                    for (segment, word) in [(Segment::Syn, "syn"), (Segment::Ack, "ack")] {
                        let before = Stats::read();
                        let (syn, ack): (&[u8], &[u8]) = match segment {
                            Segment::Syn => (&bytes, &[]),
                            _ => (&[], &bytes),
                        };
                        let mut conn = world.connect(family, &listener, syn, ack);
                        let row = format!("{word}_{kind}_{length}");
                        assert_eq!(
                            Stats::read().since(&before),
                            [("syn_recv_sock_toa", 1), (&row, 1)],
                            "{profile} {kind}/{length}"
                        );
                        assert_told(&conn, family, told, (segment, kind, length));
                        conn.exchange();
                    }
                }
            }
        });
        settle();
    }
}

#[test]
fn the_options_of_other_profiles_are_left_alone() {
    for (profile, rows) in PROFILES {
        let _unloaded = load(profile);
        World::beside(|world| {
            let listener = world.listen(Family::V4);
            let others = PROFILES.iter().flat_map(|(_, rows)| *rows);
            for &(kind, length, name) in others {
                let same = |row: &&Row| (row.0, row.1) == (kind, length);
                if rows.iter().any(|row| same(&row)) {
                    continue;
                }
                let (bytes, _) = option(kind, name);
                let before = Stats::read();
                let mut conn = world.connect(Family::V4, &listener, &bytes, &bytes);
                assert_eq!(
                    libtoa::original(&conn.stream).unwrap(),
                    None,
                    "{kind}/{length}"
                );
                // A kind of the set with a length of another's is counted, in both segments.
                let broken = if rows.iter().any(|row| row.0 == kind) {
                    2
                } else {
                    0
                };
                let counted = Stats::read().since(&before);
                assert_eq!(
                    counted.get("malformed"),
                    broken,
                    "{profile} {kind}/{length}"
                );
                assert_eq!(counted.get("syn_recv_sock_no_toa"), 1);
                conn.exchange();
            }
        });
        settle();
    }
}

/// Kind and length of one vendor's client are another's VIP: the reason for sets.
#[test]
fn a_list_of_ones_own_says_what_an_option_is() {
    for (list, kind, name) in [
        ("253/20=vip-v6,200/8=client-v4", 253, "vip-v6"),
        ("253/20=client-vip-vpc-v4", 253, "client-vip-vpc-v4"),
        ("99/7=client-v4-noport", 99, "client-v4-noport"),
        ("9/40=client-vip-vpc-v6", 9, "client-vip-vpc-v6"),
        ("255/6=vpc-id,254/16=client-vip-v4", 254, "client-vip-v4"),
    ] {
        let _unloaded = load(list);
        assert_eq!(module::status("layouts"), list);
        assert_eq!(module::parameter("layouts"), list);
        World::beside(|world| {
            let (bytes, told) = option(kind, name);
            let listener = world.listen(Family::V6);
            let conn = world.connect(Family::V6, &listener, &[], &bytes);
            assert_told(&conn, Family::V6, told, (Segment::Ack, kind, bytes[1]));
        });
        settle();
    }
}

#[test]
fn the_default_is_tencents() {
    World::run(|_| {
        assert_eq!(module::parameter("layouts"), "tencent");
        let (_, rows) = PROFILES[0];
        let in_force = module::status("layouts");
        let mut entries: Vec<&str> = in_force.split(',').collect();
        let mut documented: Vec<String> = rows
            .iter()
            .map(|(kind, length, name)| format!("{kind}/{length}={name}"))
            .collect();
        entries.sort_unstable();
        documented.sort_unstable();
        assert_eq!(entries, documented);
    });
}

#[test]
fn a_bad_set_is_einval_with_a_line_that_names_it_and_leaves_nothing() {
    let _unloaded = module::Unloaded::now();
    let seventeen: Vec<String> = (0..17)
        .map(|n| format!("{}/8=client-v4", 200 + n))
        .collect();
    let seventeen = seventeen.join(",");
    for (bad, named) in [
        (
            "",
            "is empty: must be a list kind/length=layout,... or one of tencent lvs dpvs",
        ),
        ("aliyun", "aliyun: must be a list"),
        ("200/8", "200/8: must be kind/length=layout"),
        ("tencent,lvs", "tencent: must be kind/length=layout"),
        ("200/8=client-v4,", "an empty entry: must be"),
        (
            "256/8=client-v4",
            "256/8=client-v4: the kind must be a number from 9 to 255",
        ),
        (
            "200/8=client",
            "200/8=client: the layout must be one of client-v4 client-v6",
        ),
        (
            "253/8=client-v6",
            "253/8=client-v6: an option client-v6 is 20 bytes long",
        ),
        ("8/8=client-v4", "8/8=client-v4: kind 8 is TCP's own"),
        ("30/8=client-v4", "30/8=client-v4: kind 30 is TCP's own"),
        (
            "200/8=client-v4,253/20=client-v6,253/20=vip-v6",
            "253/20=client-v6 and 253/20=vip-v6 clash",
        ),
        (&seventeen, "216/8=client-v4: more than 16 entries"),
    ] {
        let (result, lines) = kernel_log::during(|| module::load(&format!("layouts={bad}")));
        assert_eq!(result, Err(Errno::EINVAL), "{bad}");
        assert_eq!(lines.len(), 1, "{lines:?}");
        let named = format!("toa: parameter layouts: {named}");
        assert!(lines[0].starts_with(&named), "{bad}: {lines:?}");
        module::assert_nothing_left();
    }
}

/// Beside one another, in any order, in one segment or in two.
#[test]
fn client_vip_and_vpc_come_in_options_of_their_own() {
    World::run(|world| {
        let parts = [(200, "client-v4"), (201, "vpc-id"), (202, "vip-v4")];
        let [client, vpc, vip] = parts.map(|(kind, name)| option(kind, name).0);
        let all = Told {
            client: layout("client-v4").1.client,
            vip: layout("vip-v4").1.vip,
            vpc_id: layout("vpc-id").1.vpc_id,
        };
        let rest = [&vpc[..], &vip].concat();
        let listener = world.listen(Family::V4);
        for (syn, ack, segment) in [
            (vec![], [&client[..], &rest].concat(), Segment::Ack),
            ([&rest[..], &client].concat(), vec![], Segment::Syn),
            (rest.clone(), client.clone(), Segment::Ack),
            (client.clone(), rest.clone(), Segment::Syn),
        ] {
            let before = Stats::read();
            let conn = world.connect(Family::V4, &listener, &syn, &ack);
            assert_told(&conn, Family::V4, all, (segment, 200, 8));
            assert_eq!(Stats::read().since(&before).get("duplicate"), 0);
        }
        // A second one of each is counted.
        let other = [&[202, 8, 0, 1, 9, 9, 9, 9][..], &[201, 6, 9, 9, 9, 9]].concat();
        let twice = [&client[..], &rest, &other].concat();
        for (syn, ack, segment) in [
            (&twice[..], &[][..], Segment::Syn),
            (&[], &twice, Segment::Ack),
        ] {
            let before = Stats::read();
            let conn = world.connect(Family::V4, &listener, syn, ack);
            assert_told(&conn, Family::V4, all, (segment, 200, 8));
            assert_eq!(Stats::read().since(&before).get("duplicate"), 2);
        }
    });
}

/// On a dual-stack listener IPv4 ones are mapped, and NAT64 puts IPv6 ones on an IPv4 connection.
#[test]
fn vips_are_told_in_the_form_of_the_socket() {
    let _unloaded = load("alibaba");
    World::beside(|world| {
        let dual = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let (bytes, told) = option(252, "client-vip-vpc-v4");
        let conn = world.connect(Family::V4, &dual, &bytes, &[]);
        assert_told(&conn, Family::V6, told, (Segment::Syn, 252, 20));
        let listener = world.listen(Family::V4);
        let (bytes, told) = option(249, "client-vip-vpc-v6");
        let conn = world.connect(Family::V4, &listener, &[], &bytes);
        assert_told(&conn, Family::V4, told, (Segment::Ack, 249, 40));
    });
    settle();
}

/// In a SYN the option of 254 and 8 bytes that begins with 0xF989 is a Fast Open cookie, whatever the
/// set; in another segment it is an address. TCP's user time-out has the kind of Alibaba's CDN.
#[test]
fn options_of_tcp_that_look_like_toa_are_told_apart() {
    let cookie = [254, 8, 0xf9, 0x89, 203, 0, 113, 7];
    let client: SocketAddr = "203.0.113.7:63881".parse().unwrap();
    for profile in ["tencent", "lvs", "dpvs", "alibaba", "huawei", "bytedance"] {
        let _unloaded = load(profile);
        World::beside(|world| {
            let listener = world.listen(Family::V4);
            let before = Stats::read();
            let conn = world.connect(Family::V4, &listener, &cookie, &[]);
            assert_eq!(libtoa::original(&conn.stream).unwrap(), None, "{profile}");
            assert_eq!(
                Stats::read().since(&before).get("malformed"),
                0,
                "{profile}"
            );
            let conn = world.connect(Family::V4, &listener, &[], &cookie);
            let told = libtoa::original(&conn.stream).unwrap();
            assert_eq!(told.map(|told| told.addr), Some(client), "{profile}");
        });
        settle();
    }
    let _unloaded = load("alibaba-cdn");
    World::beside(|world| {
        let listener = world.listen(Family::V4);
        let before = Stats::read();
        let timeout = [28, 4, 0, 60];
        let _conn = world.connect(Family::V4, &listener, &timeout, &timeout);
        assert_eq!(Stats::read().since(&before), [("syn_recv_sock_no_toa", 1)]);
    });
}
