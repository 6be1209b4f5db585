// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the node's owner sets while the module works, and what is listed: by generic netlink.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use libtoa::Segment;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use toa_cli::client::Client;
use toa_cli::control::{Change, Config, Control, Error, Session};
use toa_cli::sources::Sources;
use toa_cli::wire::toa;
use toa_testbed::{Family, command};
use toa_vm_tests::module::{parameter, status};
use toa_vm_tests::node::{self, PATIENCE, Sysctl, usual_or_long};
use toa_vm_tests::{Conn, Stats, World, kernel_log, module, original, server_ip, wait_readable};

use crate::cli::{self, Run};
use crate::module::StopAtEnd;
use crate::segments::{deferred, deferring, told};
use crate::transparent::GETNAMES;
use crate::trust::{BELIEVED, NOT_BELIEVED, told_to};

pub(super) fn control() -> Control {
    Control::open().expect("the module answers by netlink")
}

/// The module's own settings, back in the end.
struct AsLoaded(Config);

impl AsLoaded {
    fn now() -> Self {
        Self(control().config().unwrap())
    }
}

impl Drop for AsLoaded {
    fn drop(&mut self) {
        let change = Change {
            generation: None,
            trusted: Some(self.0.trusted.prefixes().to_vec()),
            layouts: Some(self.0.layouts.clone()),
            first_data: Some(self.0.first_data),
            transparent: Some(self.0.transparent),
            transparent_local: Some(self.0.transparent_local),
            transparent_ports: Some(self.0.transparent_ports.clone()),
        };
        if let Err(error) = Control::open().and_then(|control| control.set(&change)) {
            eprintln!("what was set cannot be set back: {error}");
        }
    }
}

fn sources(list: &str) -> Sources {
    list.parse().unwrap()
}

pub(super) fn trusted(list: &str) -> Change {
    Change {
        trusted: Some(sources(list).prefixes().to_vec()),
        ..Change::default()
    }
}

pub(super) fn layouts(set: &str) -> Change {
    Change {
        layouts: Some(set.to_owned()),
        ..Change::default()
    }
}

pub(super) fn first_data(on: bool) -> Change {
    Change {
        first_data: Some(on),
        ..Change::default()
    }
}

/// What is refused, and why.
#[track_caller]
fn refusal(change: &Change) -> (Errno, String) {
    let error = control().set(change).unwrap_err();
    match &error {
        Error::Refused { errno, .. } => (*errno, error.to_string()),
        other => panic!("{other}"),
    }
}

/// `many` addresses from `first` on, of which no two are neighbours.
fn apart(first: Ipv4Addr, many: u32) -> Vec<IpNet> {
    let addresses = (0..many).map(|n| IpAddr::from(Ipv4Addr::from(u32::from(first) + 2 * n)));
    addresses.map(IpNet::from).collect()
}

/// Does `again`, with the number of the time, in a thread of its own for as long as `work` runs; also
/// where that panics.
fn meanwhile<A: Send, R>(
    again: impl Fn(usize) -> A + Sync,
    work: impl FnOnce() -> R,
) -> (Vec<A>, R) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let repeating = scope.spawn(|| {
            let mut results = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                results.push(again(results.len()));
            }
            results
        });
        let over = StopAtEnd(&is_over);
        let result = work();
        drop(over);
        (repeating.join().unwrap(), result)
    })
}

/// Sets the one and the other in turn.
fn changing(sets: &[Change; 2]) -> impl Fn(usize) + Sync {
    |time| control().set(&sets[time % 2]).unwrap()
}

/// The client that a connection from `peer` is told whose SYN and ACK carry these options.
fn client_told(
    world: &World,
    listener: &TcpListener,
    peer: SocketAddr,
    [syn, ack]: [&[u8]; 2],
) -> Option<SocketAddr> {
    let mut end = world.client_from(peer, listener);
    end.connect(syn, ack).unwrap();
    told(&Conn::accepted(end, listener).stream).map(|(client, _)| client)
}

#[test]
fn the_trusted_sources_are_set_at_once_and_told() {
    World::run(|world| {
        let _back = AsLoaded::now();
        let before = control().config().unwrap();
        assert_eq!(before.trusted.prefixes().len(), 9);
        assert_eq!(told_to(world, "203.0.113.66"), NOT_BELIEVED);
        let list = "203.0.113.64/27,2001:db8::/32";
        control().set(&trusted(list)).unwrap();
        assert_eq!(told_to(world, "203.0.113.66"), BELIEVED);
        assert_eq!(told_to(world, "2001:db8::66"), BELIEVED);
        assert_eq!(told_to(world, "10.0.0.2"), NOT_BELIEVED);
        let now = control().config().unwrap();
        assert_eq!(now.trusted, sources(list));
        assert_eq!(now.generation, before.generation + 1);
        assert_eq!((now.layouts, now.first_data), (before.layouts, false));
        assert_eq!(status("trusted"), list);
        // Who has read an older one changes nothing.
        let stale = Change {
            generation: Some(before.generation),
            ..trusted("any")
        };
        let (errno, why) = refusal(&stale);
        assert_eq!(errno, Errno::ESTALE);
        assert!(why.contains("has changed"), "{why}");
        assert_eq!(control().config().unwrap().trusted, sources(list));
        let fresh = Change {
            generation: Some(now.generation),
            ..trusted("none")
        };
        control().set(&fresh).unwrap();
        assert_eq!(told_to(world, "203.0.113.66"), NOT_BELIEVED);
        control().set(&trusted("any")).unwrap();
        assert_eq!(told_to(world, "203.0.113.66"), BELIEVED);
        assert_eq!(status("trusted"), "any");
    });
}

/// As many as there may be, and one more.
#[test]
fn a_list_of_4096_and_none_of_4097() {
    World::run(|world| {
        let _back = AsLoaded::now();
        let first = Ipv4Addr::new(11, 0, 0, 0);
        let many = |many| Change {
            trusted: Some(apart(first, many)),
            ..Change::default()
        };
        control().set(&many(4096)).unwrap();
        let set = Sources::new(&apart(first, 4096));
        assert_eq!(control().config().unwrap().trusted, set);
        assert_eq!(told_to(world, "11.0.0.2"), BELIEVED);
        assert_eq!(told_to(world, "11.0.31.254"), BELIEVED);
        assert_eq!(told_to(world, "11.0.31.255"), NOT_BELIEVED);
        assert_eq!(told_to(world, "11.0.32.0"), NOT_BELIEVED);
        let (errno, why) = refusal(&many(4097));
        assert_eq!(errno, Errno::EINVAL);
        assert_eq!(why, "11.0.32.0/32: too many prefixes: 4096 at most");
        assert_eq!(control().config().unwrap().trusted, set);
    });
}

/// One thing wrong among others that are right: it is named, and nothing of the request is set.
#[test]
fn what_is_wrong_is_named_and_nothing_is_set() {
    World::run(|_| {
        let (before, hooked) = (control().config().unwrap(), module::hooked());
        let prefix = |text: &str| text.parse::<IpNet>().unwrap();
        let right = Change {
            generation: Some(before.generation),
            trusted: Some(vec![prefix("192.0.2.0/24"), prefix("198.51.100.0/24")]),
            layouts: Some("dpvs".to_owned()),
            first_data: Some(true),
            transparent: Some(true),
            transparent_local: Some(true),
            transparent_ports: Some("80,443".to_owned()),
        };
        let ports = |list: &str| Change {
            transparent_ports: Some(list.to_owned()),
            ..right.clone()
        };
        let mut host_bits = right.clone();
        let list = host_bits.trusted.as_mut().unwrap();
        list.insert(1, prefix("10.0.0.1/8"));
        let set = |text: &str| Change {
            layouts: Some(text.to_owned()),
            ..right.clone()
        };
        for (change, says) in [
            (
                host_bits,
                "10.0.0.1/8: an address has bits set behind its prefix length",
            ),
            (set("nobody"), "nobody: no profile is called that"),
            (
                set("200/8=client-v4,9/8=client"),
                "9/8=client: no layout is called that",
            ),
            (
                set("200/8=client-v4,8/10=client-v4,201/6=vpc-id"),
                "8/10=client-v4: the kind is TCP's own",
            ),
            (
                set("200/8=client-v4,200/8=vip-v4"),
                "200/8=vip-v4: an entry before it has this kind and length",
            ),
            (set("200/8=client-v4,"), "an empty entry: must be kind"),
            (set(""), "an empty text is no set of layouts"),
            (ports("80,http,443"), "http: not a port: a number from 1"),
            (ports("80,443,0"), "0: not a port"),
            (ports("80,"), "an empty entry: not a port"),
        ] {
            let (errno, why) = refusal(&change);
            assert_eq!(errno, Errno::EINVAL, "{why}");
            assert!(why.contains(says), "{says}: {why}");
            assert_eq!(control().config().unwrap(), before);
            assert_eq!(module::hooked(), hooked);
        }
    });
}

/// Connections come while what is set goes to and fro between two configurations, each with a source
/// and an option of its own. Who has the one's source and the other's option is never believed.
#[test]
fn a_change_is_whole_for_those_who_come_meanwhile() {
    World::run(|world| {
        let _back = AsLoaded::now();
        let client = original(Family::V4, 7, 7);
        let [mine, others] = [200, 254].map(|kind| toa(kind, client));
        let sets = [
            (
                apart(Ipv4Addr::new(1, 0, 0, 0), 1000),
                "10.0.0.2/32",
                "200/8=client-v4",
            ),
            (
                apart(Ipv4Addr::new(192, 0, 0, 0), 3),
                "10.0.0.3/32",
                "254/8=client-v4",
            ),
        ]
        .map(|(mut list, source, layouts)| {
            list.push(source.parse().unwrap());
            Change {
                trusted: Some(list),
                layouts: Some(layouts.to_owned()),
                ..Change::default()
            }
        });
        // As loaded, all four are believed.
        control().set(&sets[0]).unwrap();
        let (changes, answers) = meanwhile(changing(&sets), || {
            let listener = world.listen(Family::V4);
            let mut answers = [0; 4];
            let mut port = 10_000;
            for _ in 0..150 {
                for (case, (host, option)) in [(2, &mine), (3, &others), (2, &others), (3, &mine)]
                    .into_iter()
                    .enumerate()
                {
                    port += 1;
                    let peer = SocketAddr::from(([10, 0, 0, host], port));
                    let carried = if port % 8 < 4 {
                        [&option[..], &[]]
                    } else {
                        [&[], &option[..]]
                    };
                    if let Some(addr) = client_told(world, &listener, peer, carried) {
                        assert_eq!(addr, client);
                        answers[case] += 1;
                    }
                }
            }
            answers
        });
        println!(
            "{} changes, {answers:?} of 150 each believed",
            changes.len()
        );
        assert!(changes.len() > 5, "{} changes only", changes.len());
        assert!(answers[0] > 0 && answers[1] > 0, "{answers:?}");
        assert_eq!(answers[2..], [0, 0]);
    });
}

/// Connections whose source both lists trust are believed all the while.
#[test]
fn nobody_is_refused_whom_both_lists_trust() {
    World::run(|world| {
        let _back = AsLoaded::now();
        // Each has the source somewhere else among others.
        let around = |first, many| {
            let mut list = apart(first, many);
            list.push("10.0.0.2/32".parse().unwrap());
            Change {
                trusted: Some(list),
                ..Change::default()
            }
        };
        let lists = [
            around(Ipv4Addr::new(1, 0, 0, 0), 1000),
            around(Ipv4Addr::new(192, 0, 0, 0), 3),
        ];
        let before = Stats::read();
        let (changes, ()) = meanwhile(changing(&lists), || {
            let listener = world.listen(Family::V4);
            let client = original(Family::V4, 7, 7);
            let option = toa(200, client);
            for n in 0..200 {
                let carried = if n % 2 == 0 {
                    [&option[..], &[]]
                } else {
                    [&[], &option[..]]
                };
                let peer = SocketAddr::from(([10, 0, 0, 2], 10_000 + n));
                let told = client_told(world, &listener, peer, carried);
                assert_eq!(told, Some(client), "{n}");
            }
        });
        assert!(changes.len() > 5, "{} changes only", changes.len());
        assert_eq!(Stats::read().since(&before).get("untrusted"), 0);
    });
}

/// It does not help to have spoken before, in a SYN or in an ACK that was dropped.
#[test]
fn whoever_is_trusted_no_more_when_the_connection_comes_is_not_believed() {
    World::run(|world| {
        let _back = AsLoaded::now();
        for family in Family::ALL {
            let kind = if family == Family::V4 { 200 } else { 253 };
            let option = toa(kind, original(family, 7, 7));
            let by_syn = || {
                let listener = world.listen(family);
                let mut end = world.client(family, &listener);
                end.syn(&option).unwrap();
                end.recv_syn_ack().unwrap();
                (end, listener)
            };
            let by_ack = || {
                let listener = deferring(world, family);
                let end = deferred(world.client(family, &listener), [&[], &option]);
                (end, listener)
            };
            for speak in [&by_syn as &dyn Fn() -> (Client, TcpListener), &by_ack] {
                control().set(&trusted("10.0.0.0/8,fd00::/8")).unwrap();
                let before = Stats::read();
                let (mut end, listener) = speak();
                assert_eq!(Stats::read().since(&before).get("untrusted"), 0);
                control().set(&trusted("none")).unwrap();
                end.data(b"data").unwrap();
                let conn = Conn::accepted(end, &listener);
                assert_eq!(told(&conn.stream), None);
                let counted = Stats::read().since(&before);
                let found = ["untrusted", "syn_recv_sock_toa", "syn_recv_sock_no_toa"]
                    .map(|row| counted.get(row));
                assert_eq!(found, [1, 0, 1], "{counted:?}");
                assert_eq!(toa_vm_tests::sessions(), 0);
            }
        }
    });
}

/// What was read by the old set stays known, and is counted under its own name.
#[test]
fn another_set_of_layouts_is_read_from_the_next_segment_on() {
    World::run(|world| {
        let _back = AsLoaded::now();
        let listener = world.listen(Family::V4);
        let [client, other] = [1, 2].map(|host| original(Family::V4, host, host.into()));
        let [by_200, by_252] = [(200, client), (252, other)].map(|(kind, addr)| toa(kind, addr));
        let old = world.connect(Family::V4, &listener, &[], &by_200);
        let none = world.connect(Family::V4, &listener, &by_252, &[]);
        assert_eq!(told(&none.stream), None);
        // A SYN that the old set has read, and a connection that the new one sees born.
        let mut between = world.client(Family::V4, &listener);
        between.syn(&by_200).unwrap();
        between.recv_syn_ack().unwrap();

        control().set(&layouts("ucloud")).unwrap();
        let set = "200/8=client-v4,253/8=client-v4,252/8=client-v4";
        assert_eq!(control().config().unwrap().layouts, set);
        assert_eq!(status("layouts"), set);
        between.ack(&[]).unwrap();
        let between = Conn::accepted(between, &listener);
        assert_eq!(told(&between.stream), Some((client, Segment::Syn)));
        assert_eq!(told(&old.stream), Some((client, Segment::Ack)));
        // The third row was another option's: its count began anew.
        let before = Stats::read();
        for stats in [&before, &Stats::own()] {
            assert_eq!(stats.get("ack_252_8"), 0);
            assert_eq!(stats.get("ack_200_8"), 0);
        }
        let new = world.connect(Family::V4, &listener, &[], &by_252);
        assert_eq!(told(&new.stream), Some((other, Segment::Ack)));
        assert_eq!(Stats::read().since(&before).get("ack_252_8"), 1);

        control().set(&layouts("254/8=client-v4")).unwrap();
        let gone = world.connect(Family::V4, &listener, &by_200, &by_252);
        assert_eq!(told(&gone.stream), None);
        assert_eq!(told(&new.stream), Some((other, Segment::Ack)));
        // Back, and not to what was counted then.
        control().set(&layouts("ucloud")).unwrap();
        assert_eq!(Stats::read().get("ack_252_8"), 0);
    });
}

/// The mode of the first data, on and off and on, by either kind of hook.
#[test]
fn first_data_are_read_while_that_is_on() {
    for hook in ["", "hook=kprobe"] {
        World::run_with(hook, |world| {
            let listener = world.listen(Family::V4);
            let client = original(Family::V4, 7, 7);
            let option = toa(200, client);
            let switch = |on| {
                control().set(&first_data(on)).unwrap();
                assert_eq!(control().config().unwrap().first_data, on);
                let hooked = module::hooked();
                assert_eq!(hooked.iter().any(|f| f.contains("tcp_rcv_established")), on);
            };
            let speak = |conn: &mut Conn| {
                conn.client.data_with(b"data", &option).unwrap();
                conn.server_reads(b"data");
                told(&conn.stream)
            };
            let named = Some((client, Segment::Data));
            let connect = || world.connect(Family::V4, &listener, &[], &[]);
            let [mut a, mut b] = [connect(), connect()];
            assert_eq!(speak(&mut a), None);
            switch(true);
            // Only those that come from then on.
            assert_eq!(speak(&mut b), None);
            let [mut c, mut d] = [connect(), connect()];
            assert_eq!(speak(&mut c), named);
            switch(false);
            assert_eq!(speak(&mut d), None);
            let mut e = connect();
            switch(true);
            switch(true);
            // What was noted before is void.
            assert_eq!(speak(&mut d), None);
            assert_eq!(speak(&mut e), None);
            assert_eq!(speak(&mut connect()), named);
            assert_eq!(told(&c.stream), named);
        });
    }
}

/// Both modes are switched on and off while connections come, whose addresses are in the SYN, the ACK
/// or the first data: whoever carries one in its handshake is told of all the while.
#[test]
fn modes_are_switched_while_connections_come() {
    let changes = usual_or_long(20, 300);
    World::run(|world| {
        let _back = AsLoaded::now();
        let modes = [true, false].map(|on| Change {
            transparent: Some(on),
            ..first_data(on)
        });
        let made = AtomicUsize::new(0);
        let change = changing(&modes);
        let change = |time| {
            change(time);
            made.store(time + 1, Ordering::Relaxed);
            // For some connections to come in each mode.
            thread::sleep(Duration::from_millis(20));
        };
        let (_, (connections, by_name, by_data)) = meanwhile(change, || {
            let listener = world.listen(Family::V4);
            let client = original(Family::V4, 7, 7);
            let option = toa(200, client);
            // How many accept has called by the wire's name, and by the client's.
            let mut by_name = [0; 2];
            let mut by_data = 0;
            let mut n = 0;
            while made.load(Ordering::Relaxed) < changes || by_name.contains(&0) || by_data == 0 {
                assert!(
                    n < 1_000 * changes,
                    "{n} connections, but {made:?} changes, {by_name:?} in accept, {by_data} by data"
                );
                let [syn, ack, data] =
                    [0, 1, 2].map(|place| if n % 3 == place { &option[..] } else { &[] });
                let peer = SocketAddr::from(([10, 0, 0, 2], 20_000 + (n % 40_000) as u16));
                n += 1;
                let mut end = world.client_from(peer, &listener);
                end.connect(syn, ack).unwrap();
                assert!(wait_readable(&listener, PATIENCE), "no connection");
                let (stream, accepted) = listener.accept().unwrap();
                let mut conn = Conn {
                    client: end,
                    stream,
                };
                let in_handshake = data.is_empty();
                let name = conn.stream.peer_addr().unwrap();
                for name in [accepted, name] {
                    assert!(name == peer || (in_handshake && name == client), "{name}");
                }
                by_name[usize::from(accepted == client)] += 1;
                let told_of = |conn: &Conn| told(&conn.stream).map(|(client, _)| client);
                assert_eq!(told_of(&conn), in_handshake.then_some(client));
                conn.client.data_with(b"data", data).unwrap();
                conn.server_reads(b"data");
                match told_of(&conn) {
                    // It came, or its data did, while they were not read.
                    None => assert!(!in_handshake, "{peer} is forgotten"),
                    Some(now) => {
                        assert_eq!(now, client);
                        by_data += usize::from(!in_handshake);
                    }
                }
                conn.exchange();
            }
            (n, by_name, by_data)
        });
        println!(
            "{made:?} changes, {connections} connections: {by_name:?} in accept, {by_data} by data"
        );
    });
}

/// Where the hook cannot be had, nothing of the request is done, and the module goes on.
#[test]
fn first_data_that_cannot_be_read_change_nothing() {
    World::run_with("hook=kprobe", |world| {
        let (before, hooked) = (control().config().unwrap(), module::hooked());
        let off = node::kprobes_off();
        let change = Change {
            first_data: Some(true),
            layouts: Some("dpvs".to_owned()),
            ..trusted("any")
        };
        let ((errno, why), lines) = kernel_log::during(|| refusal(&change));
        drop(off);
        assert_eq!(errno, Errno::EOPNOTSUPP);
        assert!(why.contains("first data cannot be read"), "{why}");
        assert!(
            lines
                .iter()
                .any(|line| line.contains("kprobes are switched off")),
            "{lines:?}"
        );
        assert_eq!(control().config().unwrap(), before);
        assert_eq!(module::hooked(), hooked);
        assert_eq!(told_to(world, "10.0.0.2"), BELIEVED);
        control().set(&first_data(true)).unwrap();
    });
}

/// The mode `transparent` as the parameters show it, and as netlink tells it.
#[track_caller]
fn assert_mode(on: bool, local: bool, ports: &str) {
    let config = control().config().unwrap();
    let told = (config.transparent, config.transparent_local);
    assert_eq!(told, (on, local));
    assert_eq!(config.transparent_ports, ports);
    let yes = |on| if on { "Y" } else { "N" };
    assert_eq!(parameter("transparent"), yes(on));
    assert_eq!(parameter("transparent_local"), yes(local));
    assert_eq!(parameter("transparent_ports"), ports);
    let hooked = module::hooked_of(&GETNAMES);
    assert_eq!(hooked.is_empty(), !on, "{hooked:?}");
}

/// The mode `transparent`, in force when the request is answered: for a connection that stands, and for
/// the next to be accepted.
#[test]
fn servers_are_told_while_transparent_is_on() {
    World::run(|world| {
        let _back = AsLoaded::now();
        let listener = world.listen(Family::V4);
        let port = listener.local_addr().unwrap().port();
        let (client, vip) = (
            original(Family::V4, 7, 7),
            "198.51.100.9:443".parse().unwrap(),
        );
        let options = [toa(200, client), toa(202, vip)].concat();
        let stands = world.connect(Family::V4, &listener, &options, &[]);
        // What getpeername and accept tell, and getsockname.
        let told = || {
            let mut end = world.client(Family::V4, &listener);
            end.connect(&options, &[]).unwrap();
            assert!(wait_readable(&listener, PATIENCE), "no connection");
            let (stream, accepted) = listener.accept().unwrap();
            let wires = end.local();
            end.rst().unwrap();
            let peers = [
                (stands.stream.peer_addr().unwrap(), stands.client.local()),
                (accepted, wires),
            ];
            let own = SocketAddr::new(server_ip(Family::V4), port);
            let local = stands.stream.local_addr().unwrap();
            assert_eq!(stream.local_addr().unwrap(), local);
            let peers = peers.map(|(told, wires)| {
                assert!(told == client || told == wires, "{told}");
                told == client
            });
            assert!(local == vip || local == own, "{local}");
            (peers, local == vip)
        };
        let set = |transparent, transparent_local, ports: Option<&str>| {
            let change = Change {
                transparent,
                transparent_local,
                transparent_ports: ports.map(str::to_owned),
                ..Change::default()
            };
            control().set(&change).unwrap();
        };
        let generation = control().config().unwrap().generation;
        assert_mode(false, false, "");
        assert_eq!(told(), ([false; 2], false));
        for _ in 0..2 {
            set(Some(true), None, None);
            assert_mode(true, false, "");
            assert_eq!(told(), ([true; 2], false));
            set(None, Some(true), Some("1,65535"));
            assert_mode(true, true, "1,65535");
            assert_eq!(told(), ([false; 2], false));
            let list = format!("80,{port}");
            set(None, None, Some(&list));
            assert_mode(true, true, &list);
            assert_eq!(told(), ([true; 2], true));
            set(Some(false), None, None);
            assert_mode(false, true, &list);
            assert_eq!(told(), ([false; 2], false));
            // All three at once.
            set(Some(true), Some(false), Some(""));
            assert_mode(true, false, "");
            assert_eq!(told(), ([true; 2], false));
            set(Some(false), None, None);
        }
        assert_mode(false, false, "");
        assert_eq!(control().config().unwrap().generation, generation + 12);
    });
}

/// A request that switches both modes switches both or neither, whichever of the two cannot be had.
#[test]
fn both_modes_or_neither() {
    World::run_with("hook=kprobe", |world| {
        let both = Change {
            first_data: Some(true),
            transparent: Some(true),
            transparent_ports: Some("80".to_owned()),
            layouts: Some("200/8=client-v4".to_owned()),
            ..trusted("any")
        };
        let (before, hooked) = (control().config().unwrap(), module::hooked());
        let off = node::kprobes_off();
        let (errno, why) = refusal(&both);
        drop(off);
        assert_eq!(errno, Errno::EOPNOTSUPP);
        assert!(why.contains("first data cannot be read"), "{why}");
        assert_eq!(control().config().unwrap(), before);
        assert_mode(false, false, "");
        assert_eq!(module::hooked(), hooked);
        assert_eq!(told_to(world, "203.0.113.66"), NOT_BELIEVED);

        let refused = |function: &str, change: &Change| {
            let (before, hooked) = (control().config().unwrap(), module::hooked());
            let ((errno, why), lines) = kernel_log::during(|| refusal(change));
            assert_eq!(errno, Errno::EBUSY);
            assert!(why.contains("another has their functions"), "{why}");
            assert!(
                lines.iter().any(|line| line.contains(function)),
                "{lines:?}"
            );
            assert_eq!(control().config().unwrap(), before);
            assert_eq!(module::hooked(), hooked);
        };
        for function in GETNAMES {
            let owner = module::Other::load("owner", &format!("function={function}"));
            control().set(&first_data(false)).unwrap();
            refused(function, &both);
            control().set(&first_data(true)).unwrap();
            // Off, too, only where the other can be had.
            let off = Change {
                first_data: Some(false),
                ..both.clone()
            };
            refused(function, &off);
            drop(owner);
        }
        control().set(&both).unwrap();
        assert_mode(true, false, "80");
        assert!(control().config().unwrap().first_data);
        assert_eq!(told_to(world, "203.0.113.66"), BELIEVED);
    });
}

/// The inode by which the network namespace of this thread is known.
fn netns() -> u32 {
    fs::metadata("/proc/thread-self/ns/net").unwrap().ino() as u32
}

/// Runs `work` in this network namespace.
fn in_namespace<T: Send>(net: File, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(net, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn sessions() -> Vec<Session> {
    control().sessions().unwrap()
}

#[test]
fn sessions_are_listed_per_namespace_and_the_first_sees_all() {
    World::run(|world| {
        let listener = world.listen(Family::V6);
        let clients = [original(Family::V6, 1, 1), original(Family::V6, 2, 2)];
        // A VIP and its VPC beside the client: 202/8 and 201/6.
        let vip: SocketAddr = "198.51.100.9:443".parse().unwrap();
        let beside = [toa(253, clients[0]), vec![201, 6, 1, 2, 3, 4]].concat();
        let conns = [
            world.connect(Family::V6, &listener, &beside, &[]),
            world.connect(Family::V6, &listener, &[], &toa(254, clients[1])),
        ];
        let _without = world.connect(Family::V6, &listener, &[], &[]);
        let nameless = world.connect(Family::V6, &listener, &toa(202, vip), &[]);
        let mut found = sessions();
        found.sort_by_key(|session| session.client.as_ref().map(|client| client.addr));
        let here = netns();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found
                .iter()
                .all(|one| one.netns == here && one.local_port == port),
            "{found:?}"
        );
        let first = found.remove(0);
        assert_eq!((first.client, first.vip), (None, Some(vip)));
        assert_eq!(first.peer, nameless.client.local());
        for (n, (session, by)) in found.iter().zip(["syn", "ack"]).enumerate() {
            let client = session.client.as_ref().unwrap();
            assert_eq!(client.addr, clients[n]);
            assert_eq!((client.carried_by.as_str(), client.length), (by, 20));
            assert_eq!(session.peer, conns[n].client.local());
            assert_eq!(session.vpc_id, (n == 0).then_some(0x0102_0304));
        }
        World::beside(|other| {
            assert_eq!(sessions(), []);
            let listener = other.listen(Family::V4);
            let client = original(Family::V4, 3, 3);
            let _conn = other.connect(Family::V4, &listener, &toa(200, client), &[]);
            let found = sessions();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].client.as_ref().unwrap().addr, client);
            let mut all = BTreeMap::new();
            let first = File::open("/proc/1/ns/net").unwrap();
            for session in in_namespace(first, sessions) {
                *all.entry(session.netns).or_insert(0) += 1;
            }
            assert_eq!(all, BTreeMap::from([(here, 3), (netns(), 1)]));
        });
    });
}

/// More than one message holds, and others come and go while they are listed: each that stays is there,
/// and there once.
#[test]
fn a_long_list_has_each_that_stays_once() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let client = original(Family::V4, 7, 7);
        let option = toa(200, client);
        let stay: Vec<Conn> = (0..400)
            .map(|_| world.connect(Family::V4, &listener, &[], &option))
            .collect();
        let (lists, ()) = meanwhile(
            |_| sessions(),
            || {
                for _ in 0..100 {
                    drop(world.connect(Family::V4, &listener, &option, &[]));
                }
            },
        );
        assert!(lists.len() > 1, "{} lists", lists.len());
        for list in lists {
            let mut times: BTreeMap<SocketAddr, usize> = BTreeMap::new();
            for session in list {
                *times.entry(session.peer).or_default() += 1;
            }
            for conn in &stay {
                assert_eq!(times.get(&conn.client.local()), Some(&1));
            }
        }
    });
}

/// toa-cli, run by another program.
fn wrapped(wrapper: &[&str], arguments: &[&str]) -> Run {
    let words = [wrapper, &["toa-cli"], arguments].concat();
    cli::finish(command(words[0]).args(&words[1..]))
}

/// Lets everybody make user namespaces, where the kernel lets nobody else.
fn user_namespaces() -> Option<Sysctl> {
    fs::metadata("/proc/sys/kernel/unprivileged_userns_clone")
        .is_ok()
        .then(|| Sysctl::set("kernel/unprivileged_userns_clone", "1"))
}

/// A process with a user namespace and a network namespace of its own, stopped in the end.
struct Container(Child);

impl Container {
    fn start() -> Self {
        let words = ["--user", "--map-root-user", "--net", "sleep", "infinity"];
        let container = Self(command("unshare").args(words).spawn().unwrap());
        let comm = format!("/proc/{}/comm", container.0.id());
        node::wait_until("the container stands", || {
            fs::read_to_string(&comm).unwrap() == "sleep\n"
        });
        container
    }

    /// Runs `work` with a world in its network namespace.
    fn inside<T: Send>(&self, work: impl FnOnce(&World) -> T + Send) -> T {
        let net = File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        in_namespace(net, || World::here(work))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Without the capability nothing is told or set; with that of a user namespace of one's own nothing
/// is set, and only what is one's own is told.
#[test]
fn only_the_nodes_owner_sets() {
    World::run(|world| {
        let _back = AsLoaded::now();
        let before = control().config().unwrap();
        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        let _conn = world.connect(Family::V4, &listener, &option, &[]);
        let _allowed = user_namespaces();
        let plain = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        let contained = ["unshare", "--user", "--map-root-user", "--net"];
        // Root in a user namespace, in the network namespace of somebody else.
        let guest = ["unshare", "--user", "--map-root-user"];
        for wrapper in [&plain[..], &contained, &guest] {
            for arguments in [
                ["--trusted", "any"],
                ["--trust", "203.0.113.0/24"],
                ["--layouts", "dpvs"],
                ["--first-data", "on"],
                ["--transparent", "on"],
                ["--transparent-local", "on"],
                ["--transparent-ports", "80"],
            ] {
                let arguments = [&["set"], &arguments[..]].concat();
                let run = wrapped(wrapper, &arguments);
                assert_eq!(run.code, 4, "{wrapper:?} {arguments:?}: {run:?}");
                assert!(run.stderr.contains("CAP_NET_ADMIN"), "{run:?}");
            }
        }
        for wrapper in [&plain[..], &guest] {
            let run = wrapped(wrapper, &["sessions"]);
            assert_eq!(run.code, 4, "{wrapper:?}: {run:?}");
        }
        let run = wrapped(&contained, &["sessions", "-o", "json"]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains("\"sessions\": []"), "{run:?}");
        assert_eq!(control().config().unwrap(), before);
    });
}

/// A container's root, of a user namespace of its own, sees the sessions of its own network namespace.
#[test]
fn a_container_lists_its_own_sessions() {
    World::run(|world| {
        let _allowed = user_namespaces();
        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 1, 1));
        let _of_others = world.connect(Family::V4, &listener, &option, &[]);
        let container = Container::start();
        let own = original(Family::V6, 2, 2);
        let run = container.inside(|world| {
            let listener = world.listen(Family::V6);
            let conn = world.connect(Family::V6, &listener, &[], &toa(253, own));
            assert_eq!(told(&conn.stream), Some((own, Segment::Ack)));
            let pid = container.0.id().to_string();
            let enter = ["nsenter", "--user", "--net", "--target", &pid];
            wrapped(&enter, &["sessions", "-o", "json"])
        });
        assert_eq!(run.code, 0, "{run:?}");
        let value = cli::json(&run);
        let listed = value["sessions"].as_array().unwrap();
        assert_eq!(listed.len(), 1, "{run:?}");
        assert!(run.stdout.contains(&own.to_string()), "{run:?}");
    });
}

/// The tool, as its owner uses it.
#[test]
fn the_tool_sets_and_lists() {
    World::run(|world| {
        let _back = AsLoaded::now();
        let set = |arguments: &[&str]| {
            let run = cli::run(&[&["set"], arguments].concat());
            (run.code, run.stderr)
        };
        let (code, err) = set(&[
            "--trust",
            "203.0.113.66,10.0.0.0/7",
            "--layouts",
            "ucloud",
            "--first-data",
            "on",
        ]);
        assert_eq!(code, 0, "{err}");
        assert!(
            err.contains("trusted: 10.0.0.0/7,") && err.contains(",203.0.113.66/32,"),
            "{err}"
        );
        assert!(err.contains("layouts: 200/8=client-v4,253/8"), "{err}");
        assert!(err.contains("first data: on"), "{err}");
        assert!(err.contains("transparent: off"), "{err}");
        let listener = world.listen(Family::V4);
        let client = original(Family::V4, 7, 7);
        let peer = "203.0.113.66:30000".parse().unwrap();
        let mut end = world.client_from(peer, &listener);
        end.connect(&[], &toa(252, client)).unwrap();
        let _conn = Conn::accepted(end, &listener);
        let run = cli::run(&["sessions"]);
        assert_eq!(run.code, 0, "{run:?}");
        let row = run.stdout.lines().nth(1).unwrap();
        let row: Vec<&str> = row.split_whitespace().collect();
        let port = listener.local_addr().unwrap().port().to_string();
        let netns = netns().to_string();
        assert_eq!(
            row,
            [
                "203.0.113.7:7",
                "-",
                "203.0.113.66:30000",
                &port,
                "ack",
                "252/8",
                &netns
            ]
        );
        for (list, says) in [
            (["--trusted", "10.1.2.3/8"], "the prefix is 10.0.0.0/8"),
            (["--trusted", ""], "`none` trusts nobody"),
        ] {
            let (code, err) = set(&list);
            assert_eq!(code, 2, "{err}");
            assert!(err.contains(says), "{err}");
        }
        let (code, err) = set(&["--layouts", "nobody"]);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("nobody: no profile is called that"), "{err}");

        let mode = "--transparent on --transparent-local on --transparent-ports 80,443";
        let mode: Vec<&str> = mode.split(' ').collect();
        let (code, err) = set(&mode);
        assert_eq!(code, 0, "{err}");
        for line in [
            "transparent: on",
            "transparent local: on",
            "transparent ports: 80,443",
        ] {
            assert!(
                err.lines().any(|found| found == format!("toa-cli: {line}")),
                "{err}"
            );
        }
        assert_mode(true, true, "80,443");
        let (code, err) = set(&["--transparent", "off", "--transparent-ports", "80,http"]);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("http: not a port"), "{err}");
        let (code, err) = set(&["--transparent-ports", ""]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("`all` is all of them"), "{err}");
        assert_mode(true, true, "80,443");
        let (code, err) = set(&["--transparent", "off", "--transparent-ports", "all"]);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("transparent ports: all\n"), "{err}");
        assert_mode(false, true, "");
    });
}

/// Of those who were refused the last 16 are shown, each with the command that trusts it.
#[test]
fn the_command_that_status_shows_makes_a_refused_source_believed() {
    World::run_with("", |world| {
        let refused: Vec<String> = (1..=9)
            .map(|host| format!("198.51.100.{host}"))
            .chain((1..=8).map(|host| format!("2001:db8::{host}")))
            .collect();
        for source in &refused {
            assert_eq!(told_to(world, source), NOT_BELIEVED, "{source}");
        }
        // The first has made room for the last.
        let mut expected: Vec<String> = refused[1..]
            .iter()
            .map(|source| IpNet::from(source.parse::<IpAddr>().unwrap()).to_string())
            .collect();
        expected.sort();

        let run = cli::run(&["status", "-o", "json"]);
        let value = cli::json(&run);
        let found = value["module"]["refused"].as_array().unwrap();
        assert!(found.iter().all(|of| of["options"] == 2), "{run:?}");
        let mut found: Vec<&str> = found
            .iter()
            .map(|of| of["source"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected);

        let run = cli::run(&["status"]);
        let lines: Vec<&str> = run.stdout.lines().collect();
        let mut commands = BTreeMap::new();
        for two in lines.windows(2) {
            let Some((source, says)) = two[0].split_once(" is not trusted: ") else {
                continue;
            };
            assert_eq!(says, "2 of its options were refused");
            let source = source.split_whitespace().last().unwrap();
            let (_, command) = two[1].split_once(": toa-cli ").unwrap();
            commands.insert(source, command);
        }
        let found: Vec<&str> = commands.keys().copied().collect();
        assert_eq!(found, expected, "{run:?}");
        assert_eq!(run.stdout.matches("toa-cli set --trust ").count(), 16);
        for (source, other) in [
            ("198.51.100.9", "198.51.100.8"),
            ("2001:db8::8", "2001:db8::7"),
        ] {
            let net = IpNet::from(source.parse::<IpAddr>().unwrap()).to_string();
            let words: Vec<&str> = commands[net.as_str()].split(' ').collect();
            let run = cli::run(&words);
            assert_eq!(run.code, 0, "{words:?}: {run:?}");
            assert_eq!(told_to(world, source), BELIEVED, "{source}");
            assert_eq!(told_to(world, other), NOT_BELIEVED, "{other}");
        }
    });
}

/// The check comes from a source that is trusted, whichever that is.
#[test]
fn a_node_that_trusts_others_only_is_healthy() {
    let _unloaded = module::loaded_with("");
    for (list, skipped) in [("192.0.2.0/24,2001:db8:7::/48", 0), ("198.51.100.9", 3)] {
        control().set(&trusted(list)).unwrap();
        let run = cli::run(&["check", "-o", "json"]);
        assert_eq!(run.code, 0, "{list}: {run:?}");
        let check = cli::json(&run);
        let connections = check["connections"].as_array().unwrap();
        let with = |mark| connections.iter().filter(|one| one["mark"] == mark).count();
        assert_eq!(
            (with("good"), with("skipped")),
            (6 - skipped, skipped),
            "{run:?}"
        );
    }
}

/// A dump that nobody reads to its end keeps the module from going; once it is given up, it goes.
#[test]
fn unloading_waits_for_a_dump_or_says_busy() {
    let _unloaded = module::Unloaded::now();
    for round in 0..3 {
        module::load("").unwrap();
        let everybody = Change {
            trusted: Some(apart(Ipv4Addr::new(11, 0, 0, 0), 4096)),
            first_data: Some(true),
            ..Change::default()
        };
        control().set(&everybody).unwrap();
        let begun = control();
        begun.begin_dump_of_config().unwrap();
        assert_eq!(module::unload(), Err(Errno::EAGAIN), "round {round}");
        drop(begun);
        // Readers and writers that never stop.
        let everything = |_| {
            if let Ok(control) = Control::open() {
                let _ = control.config();
                let _ = control.sessions();
                let _ = control.set(&trusted("any"));
            }
        };
        let (_, (_, refused)) = meanwhile(everything, || {
            meanwhile(everything, || {
                thread::sleep(Duration::from_millis(200));
                module::unload_patiently()
            })
        });
        println!("round {round}: busy {refused} times");
        module::assert_nothing_left();
    }
}
