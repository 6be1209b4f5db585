// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options that a client forges and a node's NAT launders, and the guard against them.
//!
//! The hop of the testbed stands for such a node: what comes in has an option of the client's own,
//! and goes out with the node's address.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::{env, fs};

use toa_cli::wire::toa;
use toa_testbed::{Family, Insert, Namespace, Plan, Topology, command, in_ns};
use toa_vm_tests::node::{self, PATIENCE};
use toa_vm_tests::{accept, module, original, settle};

use crate::cli::{Run, finish, json};

/// toa-cli, in a network namespace.
fn cli(ns: &Namespace, args: &[&str]) -> Run {
    in_ns(ns, || finish(command("toa-cli").args(args))).unwrap()
}

#[track_caller]
fn good(ns: &Namespace, args: &[&str]) {
    let run = cli(ns, args);
    assert_eq!(run.code, 0, "{args:?}: {run:?}");
}

/// A line of nft in a network namespace: whether it was taken, and what was said.
fn nft(ns: &Namespace, line: &str) -> (bool, String) {
    let output = in_ns(ns, || command("nft").arg(line).output())
        .unwrap()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// Whether this kernel's nftables can take an option out; the test is skipped where it cannot
/// (before 5.18), after a look at what `guard install` says there.
fn can_strip(ns: &Namespace) -> bool {
    assert!(nft(ns, "add table inet probe; add chain inet probe c").0);
    let (can, said) = nft(ns, "add rule inet probe c reset tcp option 200");
    assert!(nft(ns, "delete table inet probe").0);
    if !can {
        assert!(said.contains("not supported"), "{said}");
        let refused = cli(ns, &["guard", "install"]);
        assert_eq!(refused.code, 5, "{refused:?}");
        for word in ["5.18", "--by iptables"] {
            assert!(refused.stderr.contains(word), "{refused:?}");
        }
        assert!(!nft(ns, "list table inet toa_guard").0);
        node::skip("this kernel's nftables cannot take a TCP option out");
    }
    can
}

/// A server behind the node.
struct Service {
    topology: Topology,
    listeners: [TcpListener; 2],
}

impl Service {
    fn new(name: &str) -> Self {
        module::ensure_fresh();
        let topology = Topology::builder(name).build().unwrap();
        let listeners = Family::ALL
            .map(|family| TcpListener::bind((topology.server_ip(family), 0)).expect("a listener"));
        Self {
            topology,
            listeners,
        }
    }

    fn node(&self) -> &Namespace {
        self.topology.hop_namespace()
    }

    /// What the server is told of a client that forges this; data goes both ways in any case.
    #[track_caller]
    fn told(&self, family: Family, plan: Plan) -> Option<SocketAddr> {
        self.topology.set_plan(plan);
        let listener = &self.listeners[usize::from(family == Family::V6)];
        let port = listener.local_addr().unwrap().port();
        let vip = SocketAddr::new(self.topology.vip(family), port);
        let connect = || TcpStream::connect_timeout(&vip, PATIENCE);
        let mut client = in_ns(self.topology.client(), connect)
            .unwrap()
            .expect("the client can connect");
        // Where the handshake's ACK is lost, the data completes it.
        client.write_all(b"ping").unwrap();
        let (mut server, peer) = accept(listener);
        assert_eq!(peer.ip(), self.topology.hop_ip(family), "the node's NAT");
        exchange(&mut server, &mut client);
        let told = libtoa::original(&server).unwrap()?;
        Some(SocketAddr::new(
            told.addr.ip().to_canonical(),
            told.addr.port(),
        ))
    }
}

/// The server reads what the client has written already, and answers.
#[track_caller]
fn exchange(server: &mut TcpStream, client: &mut TcpStream) {
    let mut got = [0; 4];
    for end in [&*server, &*client] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    server.read_exact(&mut got).expect("the client's data");
    assert_eq!(&got, b"ping");
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut got).expect("the server's data");
    assert_eq!(&got, b"pong");
}

/// A kind and an address that is not the client's.
fn forgeries() -> [(Family, u8, SocketAddr); 5] {
    let (v4, v6) = (original(Family::V4, 66, 66), original(Family::V6, 66, 66));
    [
        (Family::V4, 200, v4),
        (Family::V4, 254, v4),
        (Family::V4, 253, v6),
        (Family::V6, 253, v6),
        (Family::V6, 254, v4),
    ]
}

fn plans(forged: &[u8]) -> [Plan; 3] {
    let [syn, ack] = [(); 2].map(|()| Insert::Raw(forged.to_vec()));
    let both = Plan {
        syn: syn.clone(),
        ack: ack.clone(),
        ..Plan::default()
    };
    [
        Plan {
            syn,
            ..Plan::default()
        },
        Plan {
            ack,
            ..Plan::default()
        },
        both,
    ]
}

/// Segments that the kernel threw away for their checksum.
fn bad_checksums() -> u64 {
    let text = fs::read_to_string("/proc/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(numbers.split(' '));
    let (_, number) = both.find(|(name, _)| *name == "InCsumErrors").unwrap();
    number.parse().unwrap()
}

/// What the server is told of every forgery: the very address, or with a guard none.
#[track_caller]
fn forge(service: &Service, guarded: bool) {
    for (family, kind, forged) in forgeries() {
        for plan in plans(&toa(kind, forged)) {
            let told = service.told(family, plan.clone());
            let expected = (!guarded).then_some(forged);
            assert_eq!(told, expected, "guarded: {guarded}, {family:?}, {plan:?}");
        }
        assert_eq!(service.told(family, Plan::default()), None);
    }
}

/// Options of which one hides another: the kernel takes out the first of a kind and no other, and
/// a broken one that is taken out no longer ends the list.
#[track_caller]
fn hide(service: &Service) {
    let option = |kind| toa(kind, original(Family::V4, 66, 66));
    let broken = |length: u8, count| [200, length].repeat(count);
    // A SYN has room for 20 bytes.
    for (what, bytes) in [
        ("twice", [option(200), option(200)].concat()),
        ("two kinds", [option(254), option(200)].concat()),
        ("behind a short one", [broken(1, 1), option(200)].concat()),
        ("behind an empty one", [broken(2, 1), option(200)].concat()),
        (
            "behind one of no length",
            [broken(0, 1), option(200)].concat(),
        ),
        (
            "behind four short ones",
            [broken(1, 4), option(200)].concat(),
        ),
        (
            "behind three and another kind",
            [broken(1, 3), option(254)].concat(),
        ),
    ] {
        for plan in plans(&bytes) {
            let told = service.told(Family::V4, plan.clone());
            assert_eq!(told, None, "{what}: {plan:?}");
        }
    }
    // More than a header of whole ones could hold. Where such an ACK is dropped, the data, which
    // has none of them, completes the handshake.
    let ack = Insert::Raw([broken(1, 10), option(200)].concat());
    let plan = Plan {
        ack,
        ..Plan::default()
    };
    assert_eq!(service.told(Family::V4, plan), None);
}

#[test]
fn nat_launders_a_forged_option_and_the_guard_ends_that() {
    let service = Service::new("launder");
    let node = service.node();
    let checksums = bad_checksums();
    forge(&service, false);
    if can_strip(node) {
        good(node, &["guard", "install"]);
        forge(&service, true);
        let (_, rules) = nft(node, "list chain inet toa_guard prerouting");
        for kind in [200, 253, 254] {
            let unused = format!("tcp option {kind} exists counter packets 0 ");
            assert!(!rules.contains(&unused), "kind {kind} met nobody:\n{rules}");
        }
        good(node, &["guard", "remove"]);
        forge(&service, false);
    }
    assert_eq!(bad_checksums(), checksums);
    settle();
}

/// What is in data alone counts where the module reads those too, and is taken out of them as well.
#[test]
fn forged_first_data_are_stripped() {
    let _loaded = module::loaded_with("first_data=1");
    let service = Service::new("data");
    let node = service.node();
    let forge = |guarded: bool| {
        for (family, kind, forged) in forgeries() {
            let plan = Plan {
                data: Insert::Raw(toa(kind, forged)),
                ..Plan::default()
            };
            let before = service.topology.hop().counts().data;
            let told = service.told(family, plan);
            assert_eq!(told, (!guarded).then_some(forged), "{family:?} {kind}");
            assert!(service.topology.hop().counts().data > before);
        }
    };
    forge(false);
    if can_strip(node) {
        good(node, &["guard", "install"]);
        forge(true);
    }
    settle();
}

#[test]
fn nothing_gets_past_the_guard_behind_another_option() {
    let service = Service::new("hide");
    let node = service.node();
    if can_strip(node) {
        good(node, &["guard", "install"]);
        hide(&service);
        let (_, rules) = nft(node, "list chain inet toa_guard again");
        let unused = "tcp option 200 exists counter packets 0 ";
        assert!(
            !rules.contains(unused) && rules.contains("200 exists counter"),
            "{rules}"
        );
        settle();
    }
}

/// For kernels whose nftables cannot; both kinds of iptables, as far as they are there.
#[test]
fn a_guard_of_iptables_does_the_same() {
    let service = Service::new("tables");
    let node = service.node();
    let has = |module: &str| {
        command("modprobe")
            .args(["-q", module])
            .status()
            .unwrap()
            .success()
    };
    if !(has("xt_TCPOPTSTRIP") && has("xt_comment")) {
        return node::skip("this kernel has no xt_TCPOPTSTRIP");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for variant in ["nft", "legacy"] {
        let program = format!("/usr/sbin/xtables-{variant}-multi");
        if !Path::new(&program).exists() || (variant == "legacy" && !has("iptable_mangle")) {
            continue;
        }
        tried += 1;
        for name in [
            "iptables",
            "iptables-restore",
            "ip6tables",
            "ip6tables-restore",
        ] {
            let link = folder.path().join(name);
            let _ = fs::remove_file(&link);
            symlink(&program, link).unwrap();
        }
        let path = format!("{}:{}", folder.path().display(), env::var("PATH").unwrap());
        let by_this = |args: &[&str]| {
            let run = || finish(command("toa-cli").args(args).env("PATH", &path));
            let run = in_ns(node, run).unwrap();
            assert_eq!(run.code, 0, "{variant}: {args:?}: {run:?}");
            run.stdout
        };
        for _ in 0..2 {
            by_this(&["guard", "install", "--by", "iptables"]);
        }
        assert!(
            by_this(&["guard", "status"]).contains("√ the guard"),
            "{variant}"
        );
        forge(&service, true);
        hide(&service);
        for _ in 0..2 {
            by_this(&["guard", "remove"]);
        }
        let status = cli(node, &["guard", "status"]);
        assert_eq!(status.code, 1, "{variant}: {status:?}");
        forge(&service, false);
    }
    assert!(tried > 0, "iptables is not installed");
    settle();
}

#[test]
fn who_may_speak_gets_through_the_guard() {
    let service = Service::new("through");
    let node = service.node();
    if !can_strip(node) {
        return;
    }
    // A thousand others beside; the clients are in the last two.
    let others: Vec<String> = (0..1_000)
        .map(|n| format!("10.{}.{}.0/26", n / 200, n % 200))
        .collect();
    let list = others.join(",") + ",203.0.113.0/24,2001:db8::/64";
    good(node, &["guard", "install", "--trusted", &list]);
    for (family, kind, address) in forgeries() {
        for plan in plans(&toa(kind, address)) {
            assert_eq!(
                service.told(family, plan.clone()),
                Some(address),
                "{plan:?}"
            );
        }
    }
    // The same without the two.
    good(node, &["guard", "install", "--trusted", &others.join(",")]);
    for (family, kind, address) in forgeries() {
        let [plan, ..] = plans(&toa(kind, address));
        assert_eq!(service.told(family, plan), None, "{family:?}");
    }
    settle();
}

/// One transaction, ours alone: what is there already is replaced whole or stays whole.
#[test]
fn installing_is_idempotent_and_touches_nothing_else() {
    node::require();
    let topology = Topology::builder("rules").build().unwrap();
    let node = topology.hop_namespace();
    if !can_strip(node) {
        return;
    }
    let rules = || nft(node, "list ruleset").1;
    let before = rules();
    assert!(before.contains("full_nat"));
    good(node, &["guard", "remove"]);
    assert_eq!(rules(), before);
    good(node, &["guard", "install"]);
    let installed = rules();
    good(node, &["guard", "install"]);
    assert_eq!(rules(), installed);
    assert_eq!(installed.matches("table inet toa_guard").count(), 1);
    assert!(installed.starts_with(&before), "{installed}");

    // What is printed is what is installed.
    let printed = cli(node, &["guard", "print"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(nft(node, "delete table inet toa_guard").0);
    assert_eq!(nft(node, &printed.stdout), (true, String::new()));
    assert_eq!(rules(), installed);

    for (list, entry) in [
        ("10.0.0.0/8,nonsense", "nonsense"),
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("any", "any"),
    ] {
        let bad = cli(node, &["guard", "install", "--trusted", list]);
        assert_eq!(bad.code, 2, "{bad:?}");
        assert!(bad.stderr.contains(entry), "{bad:?}");
    }
    assert_eq!(rules(), installed);

    good(node, &["guard", "install", "--trusted", "192.0.2.1"]);
    assert_ne!(rules(), installed);
    good(node, &["guard", "status"]);
    good(node, &["guard", "remove"]);
    assert_eq!(rules(), before);
    let absent = cli(node, &["guard", "status", "-o", "json"]);
    let value = json(&absent);
    assert_eq!(
        (absent.code, &value["guard"]["state"]),
        (1, &"absent".into())
    );
    assert_eq!(value["guard"]["source_nat"], true);
}

/// Rules in the node's own network namespace; gone with this.
struct OnNode;

impl Drop for OnNode {
    fn drop(&mut self) {
        for table in ["ip masquerading", "inet toa_guard"] {
            nft(
                &Namespace::Current,
                &format!("add table {table}; delete table {table}"),
            );
        }
    }
}

#[test]
fn check_warns_of_a_node_with_nat_and_no_guard() {
    module::ensure_fresh();
    let node = &Namespace::Current;
    let _gone = OnNode;
    let line = |run: &Run, mark: &str, words: &str| {
        let found = run
            .stdout
            .lines()
            .any(|line| line.starts_with(mark) && line.contains(words));
        assert!(found, "no `{mark} ...{words}` in {run:?}");
    };
    // Without NAT no guard is missed.
    let check = cli(node, &["check"]);
    assert_eq!(check.code, 0, "{check:?}");
    line(&check, "·", "no guard");

    let (taken, said) = nft(
        node,
        "add table ip masquerading; \
         add chain ip masquerading c { type nat hook postrouting priority 100; }; \
         add rule ip masquerading c oifname dummy99 masquerade",
    );
    assert!(taken, "{said}");
    let check = cli(node, &["check"]);
    assert_eq!(check.code, 1, "{check:?}");
    line(&check, "‼", "has no guard");
    assert!(
        check.stdout.contains("next: toa-cli guard install"),
        "{check:?}"
    );
    // That says nothing of the module's health.
    let status = cli(node, &["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    line(&status, "·", "has no guard");

    if !can_strip(node) {
        return;
    }
    good(node, &["guard", "install"]);
    for command in ["check", "status"] {
        let run = cli(node, &[command]);
        assert_eq!(run.code, 0, "{run:?}");
        line(&run, "√", "the guard");
        let value = json(&cli(node, &[command, "-o", "json"]));
        assert_eq!(value["guard"]["state"], "installed", "{value}");
    }
}

/// What is set later is not the guard's yet, and whoever looks is told.
#[test]
fn a_guard_for_other_sources_is_outdated() {
    let _loaded = module::loaded_with("");
    let node = &Namespace::Current;
    let _gone = OnNode;
    if !can_strip(node) {
        return;
    }
    good(node, &["guard", "install"]);
    for command in [&["check"][..], &["guard", "status"], &["status"]] {
        let value = json(&cli(node, &[command, &["-o", "json"]].concat()));
        assert_eq!(value["guard"]["state"], "installed", "{command:?}");
    }
    good(node, &["set", "--trust", "203.0.113.66"]);
    for (command, code) in [
        (&["check"][..], 1),
        (&["guard", "status"], 1),
        (&["status"], 0),
    ] {
        let run = cli(node, command);
        assert_eq!(run.code, code, "{command:?}: {run:?}");
        let words = "the guard is there for other sources";
        assert!(run.stdout.contains(words), "{command:?}: {run:?}");
        let next = "next: toa-cli guard install";
        assert!(run.stdout.contains(next), "{command:?}: {run:?}");
        let value = json(&cli(node, &[command, &["-o", "json"]].concat()));
        assert_eq!(value["guard"]["state"], "outdated", "{command:?}");
    }
    good(node, &["guard", "install"]);
    good(node, &["check"]);
    good(node, &["guard", "status"]);
}
