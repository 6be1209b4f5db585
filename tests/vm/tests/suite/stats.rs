// SPDX-License-Identifier: MIT OR Apache-2.0
//! The module's two files.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toa_cli::wire::toa;
use toa_testbed::Family;
use toa_vm_tests::{Stats, World, original, sessions};

/// What every classic module has, in its order: existing monitoring reads these.
const CLASSIC: [&str; 6] = [
    "syn_recv_sock_toa",
    "syn_recv_sock_no_toa",
    "getname_toa_ok",
    "getname_toa_mismatch",
    "getname_toa_bypass",
    "getname_toa_empty",
];

const OURS: [&str; 33] = [
    "malformed",
    "duplicate",
    "dropped_no_memory",
    "syn_table_full",
    "syn_quota",
    "untrusted",
    "first_data_full",
    "transparent_told",
    "transparent_local_told",
    "transparent_kept_v6",
    "syn_200_8",
    "syn_254_8",
    "syn_253_20",
    "syn_254_20",
    "syn_200_20",
    "syn_201_6",
    "syn_202_8",
    "ack_200_8",
    "ack_254_8",
    "ack_253_20",
    "ack_254_20",
    "ack_200_20",
    "ack_201_6",
    "ack_202_8",
    "data_200_8",
    "data_254_8",
    "data_253_20",
    "data_254_20",
    "data_200_20",
    "data_201_6",
    "data_202_8",
    "hooks_missed",
    "sessions_live",
];

/// The CPUs that there may be, from a list such as `0-1` or `0,2-3`.
fn possible_cpus() -> usize {
    let list = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let [first, last]: [usize; 2] = [first, last].map(|number| number.parse().unwrap());
        last - first + 1
    });
    ranges.sum()
}

#[test]
fn the_classic_names_come_first_then_ours_with_a_column_per_cpu() {
    World::run(|_| {
        let stats = Stats::read();
        let names: Vec<&str> = stats.rows.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..6], CLASSIC);
        let names: HashSet<&str> = names.into_iter().collect();
        assert_eq!(names.len(), stats.rows.len(), "a name twice");
        for name in OURS {
            assert!(names.contains(name), "{name} is missing");
        }
        let cpus: Vec<String> = (0..possible_cpus())
            .map(|cpu| format!("CPU{cpu}"))
            .collect();
        assert_eq!(stats.cpus, cpus);
    });
}

/// Column by column as the classic modules write it, for those who cut at fixed places.
#[test]
fn the_text_is_laid_out_as_it_always_was() {
    World::run(|_| {
        let text = fs::read_to_string("/proc/net/toa_stats").unwrap();
        assert!(text.ends_with('\n'));
        let mut lines = text.lines();
        let head = lines.next().unwrap();
        assert!(head.starts_with(&format!("{:34}CPU0", "")), "{head:?}");
        for line in lines {
            assert_eq!(line.find(':'), Some(25), "{line:?}");
            assert!(!line.starts_with(' '), "{line:?}");
            // A blank and ten digits per column, unless a number needs more.
            assert_eq!(line.len(), 26 + 11 * possible_cpus(), "{line:?}");
        }
    });
}

#[test]
fn the_status_file_has_its_keys() {
    World::run(|world| {
        let text = fs::read_to_string("/proc/net/toa").unwrap();
        let pairs: Vec<(&str, &str)> = text
            .lines()
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?}")))
            .collect();
        let get = |key| {
            pairs
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, value)| *value)
        };
        let version = fs::read_to_string("/sys/module/toa/version").unwrap();
        assert_eq!(get("version"), Some(version.trim()));
        assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
        assert_eq!(get("abi"), Some("1"));
        assert!(matches!(get("rust"), Some("kernel" | "freestanding")));
        assert_eq!(get("hook tcp_conn_request"), Some("ftrace missed 0"));
        assert_eq!(get("hook tcp_child_process"), Some("ftrace missed 0"));
        assert_eq!(get("hook tcp_disconnect"), Some("ftrace missed 0"));
        assert_eq!(get("hook tcp_check_req"), Some("ftrace missed 0"));
        assert_eq!(get("hook tcp_destroy_sock"), Some("tracepoint missed 0"));
        assert_eq!(get("sessions"), Some("0"));

        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        let _conns = [(); 3].map(|()| world.connect(Family::V4, &listener, &option, &[]));
        let text = fs::read_to_string("/proc/net/toa").unwrap();
        assert!(text.contains("\nsessions: 3\n"), "{text}");
        assert_eq!(sessions(), 3);
    });
}

/// What is the node's alone, who is confined to another network namespace does not see.
#[test]
fn the_files_are_read_only_and_a_namespace_has_counters_of_its_own_only() {
    World::run(|_| {
        for file in ["toa", "toa_stats"] {
            let path = Path::new("/proc/net").join(file);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o444, "{}", path.display());
            assert!(fs::write(&path, "0").is_err());
        }
        // This thread is in a namespace of its own.
        let own = Path::new("/proc/thread-self/net");
        assert!(!own.join("toa").exists());
        let mode = fs::metadata(own.join("toa_stats"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o444);
        let names = |stats: Stats| stats.rows.into_iter().map(|(name, _)| name);
        let told = names(Stats::own()).collect::<HashSet<_>>();
        let node: Vec<String> = names(Stats::read())
            .filter(|name| !told.contains(name))
            .collect();
        assert_eq!(node, ["hooks_missed"]);
    });
}

/// A container's counters are its own; the node's are everybody's.
#[test]
fn what_happens_in_a_namespace_is_counted_there_and_at_the_node() {
    World::run(|first| {
        let node = Stats::read();
        let work = |world: &World, with: usize, without: usize| {
            let listener = world.listen(Family::V4);
            let option = toa(200, original(Family::V4, 7, 7));
            let carried = [(with, &option[..]), (without, &[])];
            let conns = carried.map(|(count, option)| {
                let connect = |_| world.connect(Family::V4, &listener, option, &[]);
                (0..count).map(connect).collect::<Vec<_>>()
            });
            for conn in conns.iter().flatten() {
                libtoa::original(&conn.stream).unwrap();
            }
            conns
        };
        let counted = |with, without| {
            [
                ("syn_recv_sock_toa", with),
                ("syn_recv_sock_no_toa", without),
                ("syn_200_8", with),
                ("getname_toa_ok", with),
                ("getname_toa_empty", without),
            ]
        };
        let before = Stats::own();
        let _first = work(first, 3, 1);
        assert_eq!(Stats::own().since(&before), counted(3, 1));
        World::beside(|second| {
            let before = Stats::own();
            assert_eq!(before.get("syn_recv_sock_toa"), 0);
            let conns = work(second, 2, 4);
            assert_eq!(Stats::own().since(&before), counted(2, 4));
            assert_eq!(Stats::own().get("sessions_live"), 2);
            drop(conns);
        });
        assert_eq!(Stats::own().since(&before), counted(3, 1));
        assert_eq!(Stats::own().get("sessions_live"), 3);
        // What was counted in a namespace that is no more is not lost.
        assert_eq!(Stats::read().since(&node), counted(5, 5));
    });
}

/// Many readers and writers at once: every text is whole.
#[test]
fn the_files_can_be_read_while_connections_come_and_go() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = Stats::read();
                for _ in 0..100 {
                    let now = Stats::read();
                    // Panics where a counter goes backwards.
                    let _ = now.since(&last);
                    last = now;
                }
            });
            while !reader.is_finished() {
                let conn = world.connect(Family::V4, &listener, &option, &[]);
                libtoa::original(&conn.stream).unwrap();
            }
        });
    });
}

/// A classic module counts what getpeername finds; this one what getsockopt does.
#[test]
fn questions_are_counted_by_their_answer() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        let with = world.connect(Family::V4, &listener, &option, &[]);
        let without = world.connect(Family::V4, &listener, &[], &[]);
        let before = Stats::read();
        for _ in 0..3 {
            libtoa::original(&with.stream).unwrap();
        }
        for _ in 0..2 {
            libtoa::original(&without.stream).unwrap();
        }
        libtoa::original(&listener).unwrap_err();
        assert_eq!(
            Stats::read().since(&before),
            [
                ("getname_toa_ok", 3),
                ("getname_toa_empty", 2),
                ("getname_toa_bypass", 1)
            ]
        );
    });
}
