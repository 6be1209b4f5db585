// SPDX-License-Identifier: MIT OR Apache-2.0
//! toa-cli on a real node. It must be on the PATH.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

use serde_json::Value;
use toa_cli::wire::toa;
use toa_testbed::{Family, command};
use toa_vm_tests::{World, module, node, original, sessions};

/// What a run of the tool gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs toa-cli, or what runs it, and takes what it says.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> Run {
    let output = command
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Run {
        code: output.status.code().expect("it was not killed"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[track_caller]
pub(crate) fn run(args: &[&str]) -> Run {
    finish(command("toa-cli").args(args))
}

fn on_path(program: &str) -> PathBuf {
    let path = env::var_os("PATH").expect("PATH is set");
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{program} is not on the PATH"))
}

#[track_caller]
pub(crate) fn json(run: &Run) -> Value {
    let value: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    assert_eq!(value["schema"], 1, "{run:?}");
    assert_eq!(value["exit"], run.code, "{run:?}");
    value
}

fn load_path() -> String {
    node::module_file().display().to_string()
}

/// What a check could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    devices: Vec<String>,
    namespaces: String,
    sockets: String,
    sessions: Option<u64>,
    loaded: bool,
}

fn traces() -> Traces {
    let output = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = command(words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut devices: Vec<String> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    devices.sort();
    let loaded = module::is_loaded();
    Traces {
        devices,
        namespaces: output("ip netns list"),
        sockets: output("ss -Htan"),
        sessions: loaded.then(sessions),
        loaded,
    }
}

#[test]
fn without_the_module_status_and_check_exit_with_3() {
    let _unloaded = module::Unloaded::now();
    for command in ["status", "check"] {
        let text = run(&[command]);
        assert_eq!(text.code, 3, "{text:?}");
        let said = text.stdout + &text.stderr;
        assert!(
            said.contains("not loaded") && said.contains("toa-cli load"),
            "{said}"
        );
        let document = run(&[command, "-o", "json"]);
        assert_eq!(document.code, 3, "{document:?}");
        let value = json(&document);
        assert_eq!(value["command"], command);
        assert_eq!(value["verdict"], "not_loaded");
    }
    assert!(!module::is_loaded());
}

#[test]
fn load_and_unload_are_idempotent() {
    let _unloaded = module::Unloaded::now();
    let path = load_path();
    assert_eq!(run(&["unload"]).code, 0);
    for _ in 0..2 {
        let loaded = run(&["load", "--module", &path]);
        assert_eq!(loaded.code, 0, "{loaded:?}");
        assert!(module::is_loaded());
    }
    // The same parameters, named: as it is; others: told, and not changed behind one's back.
    assert_eq!(run(&["load", "--module", &path, "hook=auto"]).code, 0);
    let other = run(&["load", "--module", &path, "hook=kprobe"]);
    assert_eq!(other.code, 1, "{other:?}");
    assert!(
        other.stderr.contains("hook is auto, not kprobe"),
        "{other:?}"
    );
    for _ in 0..2 {
        let unloaded = run(&["unload"]);
        assert_eq!(unloaded.code, 0, "{unloaded:?}");
        assert!(!module::is_loaded());
    }
    module::assert_nothing_left();
}

#[test]
fn load_says_in_plain_words_why_it_failed() {
    let _unloaded = module::Unloaded::now();
    let path = load_path();
    let bad = run(&["load", "--module", &path, "hook=xyz"]);
    assert_eq!(bad.code, 2, "{bad:?}");
    assert!(bad.stderr.contains("auto, ftrace or kprobe"), "{bad:?}");
    let unknown = run(&["load", "--module", &path, "nonsense=1"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.stderr.contains("nonsense"), "{unknown:?}");
    let absent = run(&["load", "--module", "/nowhere/toa.ko"]);
    assert_eq!(absent.code, 2, "{absent:?}");
    let no_module = run(&["load", "--module", "/etc/passwd"]);
    assert_eq!(no_module.code, 2, "{no_module:?}");
    if let Some(_off) = node::ftrace_off() {
        let hook = if node::KPROBES_WANT_FTRACE {
            "hook=auto"
        } else {
            "hook=ftrace"
        };
        let off = run(&["load", "--module", &path, hook]);
        assert_eq!(off.code, 5, "{off:?}");
        assert!(off.stderr.contains("ftrace"), "{off:?}");
    }
    assert!(!module::is_loaded());
    assert_eq!(run(&["load", "--module", &path, "hook=kprobe"]).code, 0);
    let status = run(&["status", "-o", "json"]);
    assert_eq!(json(&status)["module"]["parameters"]["hook"], "kprobe");
}

#[test]
fn status_of_a_good_node() {
    World::run(|world| {
        let text = run(&["status"]);
        assert_eq!(text.code, 0, "{text:?}");
        assert!(text.stdout.ends_with("status: good\n"), "{text:?}");

        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        let _conns = [(); 2].map(|()| world.connect(Family::V4, &listener, &option, &[]));
        let status = run(&["status", "-o", "json"]);
        assert_eq!(status.code, 0, "{status:?}");
        let value = json(&status);
        assert_eq!(value["verdict"], "good");
        assert_eq!(value["state"], "loaded");
        let module = &value["module"];
        assert_eq!(module["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(module["abi"], 1);
        assert_eq!(module["sessions"], 2);
        assert_eq!(module["parameters"]["hook"], "auto");
        let hooks = module["hooks"].as_array().unwrap();
        let hooks: Vec<(&str, &str)> = hooks
            .iter()
            .map(|hook| {
                (
                    hook["function"].as_str().unwrap(),
                    hook["by"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            hooks,
            [
                ("tcp_conn_request", "ftrace"),
                ("tcp_child_process", "ftrace"),
                ("tcp_disconnect", "ftrace"),
                ("tcp_check_req", "ftrace"),
                ("tcp_destroy_sock", "tracepoint")
            ]
        );
        let counters = module["counters"].as_object().unwrap();
        for (name, _) in &toa_vm_tests::Stats::read().rows {
            assert!(counters.contains_key(name), "no {name} in {counters:?}");
        }
    });
}

#[test]
fn check_proves_all_ways_and_leaves_nothing() {
    module::ensure_fresh();
    let before = traces();
    for _ in 0..2 {
        let check = run(&["check"]);
        assert_eq!(check.code, 0, "{check:?}");
        let lines: Vec<&str> = check
            .stdout
            .lines()
            .filter(|line| line.contains("IPv"))
            .collect();
        assert_eq!(lines.len(), 6, "{check:?}");
        for line in lines {
            assert!(line.starts_with('√'), "{line}");
        }
        for way in [
            "IPv4, TOA in the SYN",
            "IPv4, TOA in the ACK",
            "IPv6, TOA in the SYN",
            "IPv6, TOA in the ACK",
        ] {
            assert!(check.stdout.contains(way), "no {way} in {check:?}");
        }
    }
    let check = run(&["check", "-o", "json"]);
    let value = json(&check);
    assert_eq!(value["verdict"], "good");
    let connections = value["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 6);
    assert!(
        connections
            .iter()
            .all(|connection| connection["mark"] == "good")
    );
    // The kernel takes a namespace down in its own time.
    let mut after = traces();
    node::wait_until("the check's traces are gone", || {
        after = traces();
        after == before
    });
    assert_eq!(after, before);
}

/// Whatever is read, status says so, and check makes its connections with options of it.
#[test]
fn status_and_check_go_by_the_set_of_layouts_in_force() {
    for (layouts, entry, line) in [
        (
            "alibaba-cdn",
            "28/7=client-v4-noport",
            "203.0.113.7:0, carried by syn, kind 28",
        ),
        (
            "bytedance",
            "254/16=client-vip-v4",
            "203.0.113.7:51800, carried by syn, kind 254",
        ),
        (
            "ucloud",
            "252/8=client-v4",
            "IPv6, TOA in the SYN: skipped: none of the options",
        ),
        (
            "77/16=client-vip-v4",
            "77/16=client-vip-v4",
            "carried by ack, kind 77",
        ),
        (
            "78/40=client-vip-vpc-v6",
            "78/40=client-vip-vpc-v6",
            "[2001:db8::7]:51810",
        ),
        (
            "202/8=vip-v4",
            "202/8=vip-v4",
            "IPv4, TOA in the ACK: skipped",
        ),
    ] {
        let _loaded = module::loaded_with(&format!("layouts={layouts}"));
        let status = run(&["status"]);
        assert_eq!(status.code, 0, "{status:?}");
        assert!(status.stdout.contains(entry), "{status:?}");
        let entries = &json(&run(&["status", "-o", "json"]))["module"]["layouts"];
        let entries = entries.as_array().expect("a list");
        assert!(entries.iter().any(|shown| shown == entry), "{entries:?}");
        let check = run(&["check"]);
        assert_eq!(check.code, 0, "{layouts}: {check:?}");
        assert!(check.stdout.contains(line), "{layouts}: {check:?}");
    }
}

/// A check beside real connections disturbs them not.
#[test]
fn check_leaves_live_connections_alone() {
    World::run(|world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let mut conn = world.connect(Family::V4, &listener, &toa(200, client), &[]);
        assert_eq!(run(&["check"]).code, 0);
        let told = libtoa::original(&conn.stream).unwrap().unwrap();
        assert_eq!(told.addr, client);
        conn.exchange();
        toa_vm_tests::sessions_become(1);
    });
}

/// The hooks are there, and nobody calls them: status cannot always tell, check must.
#[test]
fn check_finds_a_node_whose_hooks_are_silent() {
    let _loaded = module::loaded_with("hook=kprobe");
    let off = node::kprobes_off();
    let (status, check) = (run(&["status"]), run(&["check"]));
    drop(off);
    assert_eq!(status.code, 1, "{status:?}");
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.stdout.contains("got no address"), "{check:?}");
    let check = run(&["check"]);
    assert_eq!(check.code, 0, "{check:?}");
}

#[test]
fn namespaces_are_listed_with_what_was_counted_in_each() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        let _conns = [(); 2].map(|()| world.connect(Family::V4, &listener, &option, &[]));
        // A process of this thread's namespace.
        let mut other = command("sleep").arg("600").spawn().unwrap();
        let netns = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let listed = run(&["namespaces", "-o", "json"]);
        let text = run(&["namespaces"]);
        other.kill().unwrap();
        other.wait().unwrap();

        assert_eq!(listed.code, 0, "{listed:?}");
        let value = json(&listed);
        let namespaces = value["namespaces"].as_array().unwrap();
        assert_eq!(namespaces[0]["node"], true, "{listed:?}");
        let own = namespaces.iter().find(|own| own["pid"] == other.id());
        let own = own.unwrap_or_else(|| panic!("{listed:?}"));
        assert_eq!(own["program"], "sleep");
        assert_eq!(format!("net:[{}]", own["netns"]), netns.to_string_lossy());
        assert_eq!(own["counters"]["sessions_live"], 2);
        let line = format!("{} sleep", other.id());
        assert!(text.stdout.contains(&line), "{text:?}");
    });
}

#[test]
fn unload_says_how_many_connections_lose_their_address() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        let _conns = [(); 2].map(|()| world.connect(Family::V4, &listener, &option, &[]));
        let _unloaded = module::Unloaded::now_by(|| {
            let unload = run(&["unload"]);
            assert_eq!(unload.code, 0, "{unload:?}");
            assert!(
                unload
                    .stdout
                    .contains("2 live connections lost their original address"),
                "{unload:?}"
            );
        });
        assert!(!module::is_loaded());
    });
}

#[test]
fn a_user_without_rights_is_told_so() {
    const NOBODY: u32 = 65534;
    module::ensure_fresh();
    // The program, the module and the folders that they are in may be root's own.
    let public = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in("/run")
        .expect("a folder in /run");
    let copy = |from: PathBuf, name: &str| {
        let to = public.path().join(name);
        fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        to.display().to_string()
    };
    let program = copy(on_path("toa-cli"), "toa-cli");
    let path = copy(node::module_file(), "toa.ko");
    let as_nobody = |args: &[&str]| finish(command(&program).args(args).uid(NOBODY).gid(NOBODY));
    let status = as_nobody(&["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    for args in [&["check"][..], &["unload"], &["guard", "install"]] {
        let refused = as_nobody(args);
        assert_eq!(refused.code, 4, "{args:?}: {refused:?}");
        assert!(refused.stderr.contains("CAP_"), "{refused:?}");
    }
    assert!(module::is_loaded());
    let _unloaded = module::Unloaded::now();
    let refused = as_nobody(&["load", "--module", &path]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(!module::is_loaded());
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    node::require();
    for args in [
        &["frobnicate"][..],
        &[],
        &["status", "--bogus"],
        &["load", "no-equals-sign"],
    ] {
        let wrong = run(args);
        assert_eq!(wrong.code, 2, "{args:?}: {wrong:?}");
    }
}
