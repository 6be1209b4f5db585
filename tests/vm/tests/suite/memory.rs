// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where memory runs out: each allocation fails once, and nothing else does.
//!
//! Wants a kernel with fault injection, as `tests/debug/debug.config` has and no stock one; one test wants
//! a module that fails allocations by itself.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sched::{CloneFlags, unshare};
use toa_cli::control::{Change, Config, Control, Error};
use toa_cli::wire::toa;
use toa_testbed::Family;
use toa_vm_tests::{Conn, Stats, World, module, node, original, sockopt};

use crate::control::{control, first_data, layouts, trusted};
use crate::segments::fast_open;
use crate::transparent::half_open;

const TOA_SO_ORIGINAL: i32 = 0x544f_4100;

/// More allocations than anything here makes; as many failures mean that nothing was injected.
const MANY: usize = 5_000;

/// Slab caches of kmemleak and of DEBUG_OBJECTS.
const DEBUGGING: [&str; 3] = [
    "kmemleak_object",
    "kmemleak_scan_area",
    "debug_objects_cache",
];

/// The kernel's way to let slab allocations fail, set so that every one may; set back in the end.
struct Faults(Vec<(PathBuf, String)>);

impl Faults {
    /// None where the kernel has no such thing; the test is skipped then.
    fn ready() -> Option<Self> {
        node::require();
        if !Path::new("/sys/kernel/debug/failslab").exists() {
            node::skip("this kernel has no fault injection");
            return None;
        }
        let mut faults = Self(Vec::new());
        // A dump of the stack for each would take longer than all else.
        faults.set("verbose", "0");
        // Allocations that may sleep, too. Whole pages have a switch of their own, and are left: they are
        // many hundreds, and the kernel's own code answers for what becomes of them.
        faults.set("ignore-gfp-wait", "N");
        // Nor what this kernel keeps for its own debugging: that is more than half of all allocations, and
        // goes on without memory by design.
        faults.set("cache-filter", "Y");
        for cache in fs::read_dir("/sys/kernel/slab").expect("/sys/kernel/slab") {
            let cache = cache.expect("a slab cache");
            let name = cache.file_name();
            if !DEBUGGING.iter().any(|own| name == **own) {
                faults.set_file(cache.path().join("failslab"), "1");
            }
        }
        Some(faults)
    }

    #[track_caller]
    fn set(&mut self, knob: &str, value: &str) {
        self.set_file(Path::new("/sys/kernel/debug/failslab").join(knob), value);
    }

    #[track_caller]
    fn set_file(&mut self, path: PathBuf, value: &str) {
        let old =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.0.push((path, old.trim().to_owned()));
    }

    #[track_caller]
    fn set_range(&mut self, what: &str, [start, end]: [u64; 2]) {
        self.set(&format!("{what}-start"), &format!("{start:#x}"));
        self.set(&format!("{what}-end"), &format!("{end:#x}"));
    }

    /// Only what is allocated inside these functions may fail, for as long as what it returns lives.
    fn inside(&mut self, text: [u64; 2]) -> Limited<'_> {
        let first = self.0.len();
        self.set_range("require", text);
        Limited {
            faults: self,
            first,
        }
    }

    /// Only what is allocated for the module as it is loaded now: by its own text, or by what that calls.
    fn inside_the_module(&mut self) -> Limited<'_> {
        let limited = self.inside(module_text());
        // It was not there yet when the others were set.
        let sessions = "/sys/kernel/slab/toa_session/failslab".into();
        limited.faults.set_file(sessions, "1");
        limited
    }

    /// From now on, and until what it returns goes, no slab allocation of the module's own text succeeds.
    fn none_for_the_module(&mut self) -> Limited<'_> {
        let limited = self.inside_the_module();
        limited.faults.set("times", "-1");
        limited.faults.set("probability", "100");
        limited
    }

    /// What the kernel allocates to take a probe out never fails: where it cannot, it leaves the probe
    /// where it is and warns, and nobody can do anything about it.
    fn spare_probes(&mut self) {
        self.set_range("reject", kernel_text("unregister_kprobes"));
    }

    fn set_back(&mut self, first: usize) {
        for (path, old) in self.0.drain(first..).rev() {
            match fs::write(&path, &old) {
                // A cache goes with its module.
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    eprintln!("cannot set {} back to {old}: {error}", path.display());
                }
                _ => {}
            }
        }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.set_back(0);
    }
}

/// Some of it, until this goes.
struct Limited<'a> {
    faults: &'a mut Faults,
    first: usize,
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        self.faults.set_back(self.first);
    }
}

/// The kernel's function of that name: from its first byte to behind its last.
fn kernel_text(function: &str) -> [u64; 2] {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let symbols: Vec<(u64, &str)> = symbols
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let address = u64::from_str_radix(words.next()?, 16).expect("an address");
            Some((address, words.nth(1)?))
        })
        .collect();
    let (start, _) = *symbols
        .iter()
        .find(|(_, name)| *name == function)
        .unwrap_or_else(|| panic!("no {function} in /proc/kallsyms"));
    assert_ne!(start, 0, "/proc/kallsyms hides addresses");
    let behind = symbols.iter().map(|(address, _)| *address);
    let end = behind.filter(|address| *address > start).min();
    [start, end.expect("a function behind it")]
}

/// From the module's first function to behind its last.
fn module_text() -> [u64; 2] {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let text: Vec<u64> = symbols
        .lines()
        .filter(|line| line.ends_with("[toa]"))
        .filter_map(|line| {
            let (address, rest) = line.split_once(' ')?;
            let is_text = rest.starts_with(['t', 'T']);
            is_text.then(|| u64::from_str_radix(address, 16).expect("an address"))
        })
        .collect();
    let first = *text.iter().min().expect("functions of the module");
    // The last function's end is not told.
    let last = *text.iter().max().expect("functions of the module");
    assert_ne!(first, 0, "/proc/kallsyms hides addresses");
    [first, last + 4096]
}

/// Lets the `nth` allocation that `work` makes in this thread fail; its result, and whether it made
/// that many.
fn fail_nth<T>(nth: usize, work: impl FnOnce() -> T) -> (T, bool) {
    let countdown = File::options()
        .read(true)
        .write(true)
        .open("/proc/thread-self/fail-nth")
        .expect("the kernel has fail-nth");
    countdown
        .write_all_at(nth.to_string().as_bytes(), 0)
        .expect("fail-nth takes a number");
    let result = work();
    let mut left = [0; 16];
    let len = countdown
        .read_at(&mut left, 0)
        .expect("fail-nth can be read");
    let left = String::from_utf8_lossy(&left[..len]);
    countdown.write_all_at(b"0", 0).expect("fail-nth is off");
    (result, left.trim_end_matches(['\n', '\0']) == "0")
}

/// What came of failures: how many were survived, how many were answered with `ENOMEM`.
#[derive(Debug, Default)]
struct Tally {
    survived: usize,
    refused: usize,
}

/// Loads the module again and again, and lets one allocation after another fail, from the `first` on.
fn load_with_each_failure(parameters: &str, first: usize) -> Tally {
    let _unloaded = module::Unloaded::now();
    let file = File::open(node::module_file()).unwrap();
    let arguments = CString::new(parameters).unwrap();
    let mut tally = Tally::default();
    for nth in first..MANY {
        let (result, injected) = fail_nth(nth, || {
            finit_module(&file, &arguments, ModuleInitFlags::empty())
        });
        match result {
            Ok(()) => {
                module::unload_patiently();
                tally.survived += 1;
            }
            // Nobody says why the kernel made no file: see `shim/proc.c`.
            Err(Errno::ENOMEM | Errno::EBUSY) => tally.refused += 1,
            Err(errno) => panic!("allocation {nth} failing, {parameters:?}: {errno}"),
        }
        module::assert_nothing_left();
        if !injected {
            assert_eq!(result, Ok(()), "no allocation {nth}, {parameters:?}");
            tally.survived -= 1;
            return tally;
        }
    }
    panic!("loading makes {MANY} allocations and more");
}

#[test]
fn each_allocation_at_load_may_fail_and_leaves_nothing() {
    let Some(mut faults) = Faults::ready() else {
        return;
    };
    // What the kernel allocates before it calls the module's own code is not for the module to answer.
    faults.set_range("require", kernel_text("do_one_initcall"));
    faults.spare_probes();
    let load = |parameters, first| {
        let tally = load_with_each_failure(parameters, first);
        println!("{parameters:?} from {first} on: {tally:?}");
        assert!(tally.refused > 10, "{tally:?}: were there any failures?");
        tally.survived + tally.refused
    };
    let by_default = load("", 1);
    load("hook=kprobe first_data=1", 1);
    // More than the first half is allocated before the modes are switched on, and has failed above.
    let modes = "first_data=1 transparent=1 transparent_ports=80,443";
    load(modes, by_default / 2);
}

/// The server is served as without the module, and the counter says so.
#[test]
fn without_memory_a_connection_works_and_has_no_address() {
    let Some(mut faults) = Faults::ready() else {
        return;
    };
    for parameters in ["hook=ftrace", "hook=kprobe"] {
        World::run_with(parameters, |world| {
            for family in Family::ALL {
                let listener = world.listen(family);
                let client = original(family, 7, 7);
                let option = toa(254, client);
                for (syn, ack) in [(&option[..], &[][..]), (&[], &option)] {
                    let before = Stats::read();
                    let no_memory = faults.none_for_the_module();
                    let mut conn = world.connect(family, &listener, syn, ack);
                    drop(no_memory);
                    let counted = Stats::read().since(&before);
                    assert_eq!(counted.get("dropped_no_memory"), 1, "{counted:?}");
                    assert_eq!(counted.get("syn_recv_sock_toa"), 0, "{counted:?}");
                    assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
                    conn.exchange();

                    let conn = world.connect(family, &listener, syn, ack);
                    let told = libtoa::original(&conn.stream).unwrap();
                    assert_eq!(told.map(|told| told.addr), Some(client));
                }
            }
        });
    }
}

/// `accept` tells the peer, and so does all that is asked later.
#[test]
fn without_memory_a_fast_open_connection_is_told_of_no_client_at_any_time() {
    let Some(mut faults) = Faults::ready() else {
        return;
    };
    World::run_with("transparent=1", |world| {
        for family in Family::ALL {
            let (listener, _on) = fast_open(world, family);
            let option = toa(254, original(family, 7, 7));
            let before = Stats::read();
            let mut end = half_open(world, family, &listener, &option);
            let no_memory = faults.none_for_the_module();
            let (mut stream, accepted) = listener.accept().unwrap();
            drop(no_memory);
            assert_eq!(accepted, end.local());
            let told = |stream: &TcpStream| {
                assert_eq!(stream.peer_addr().unwrap(), accepted);
                assert_eq!(libtoa::original(stream).unwrap(), None);
            };
            told(&stream);
            end.ack(&[]).unwrap();
            end.data(b"more").unwrap();
            stream.read_exact(&mut [0; 9]).unwrap();
            told(&stream);
            let counted = Stats::read().since(&before);
            assert_eq!(counted.get("dropped_no_memory"), 1, "{counted:?}");
            assert_eq!(counted.get("syn_recv_sock_no_toa"), 1, "{counted:?}");
            end.rst().unwrap();
        }
    });
}

#[test]
fn each_allocation_may_fail_when_the_files_are_read() {
    let Some(_faults) = Faults::ready() else {
        return;
    };
    World::run(|_| {
        for path in ["/proc/net/toa", "/proc/net/toa_stats"] {
            let whole = fs::read_to_string(path).unwrap();
            for nth in 1..MANY {
                // Room enough before the failures begin: the text is the kernel's only allocation.
                let mut text = Vec::with_capacity(1 << 20);
                let (result, injected) = fail_nth(nth, || File::open(path)?.read_to_end(&mut text));
                match result {
                    Ok(_) => assert_eq!(text.len(), whole.len(), "{path}, allocation {nth}"),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{path}: {error}")
                    }
                }
                if !injected {
                    assert!(nth > 1, "{path}: no allocation failed");
                    break;
                }
            }
        }
    });
}

/// What does not allocate cannot fail.
#[test]
fn asking_allocates_nothing() {
    let Some(_faults) = Faults::ready() else {
        return;
    };
    World::run(|world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            let option = toa(254, original(family, 7, 7));
            let conn = world.connect(family, &listener, &option, &[]);
            let mut answer = [0; 48];
            let ask = |answer: &mut [u8]| {
                sockopt::get(&conn.stream, libc::IPPROTO_IP, TOA_SO_ORIGINAL, answer)
            };
            // The page is there when it counts.
            ask(&mut answer).unwrap();
            let (asked, injected) = fail_nth(1, || ask(&mut answer));
            assert_eq!((asked, injected), (Ok(48), false), "{family:?}");
        }
    });
}

/// What is set, and what is watched for it.
fn look() -> (Config, Vec<String>) {
    (control().config().unwrap(), module::hooked())
}

/// A connection is told its client.
#[track_caller]
fn assert_serves(world: &World) {
    let listener = world.listen(Family::V4);
    let client = original(Family::V4, 7, 7);
    let conn = world.connect(Family::V4, &listener, &[], &toa(254, client));
    let told = libtoa::original(&conn.stream).unwrap();
    assert_eq!(told.map(|told| told.addr), Some(client));
}

/// Switches something to and fro, each way again and again, and lets one allocation after another fail.
#[track_caller]
fn switch_with_each_failure(what: &str, switch: impl Fn(bool) -> Result<(), Errno>) -> Tally {
    let mut tally = Tally::default();
    // How it is without failures; in the end it is off.
    let [on, off] = [true, false].map(|on| {
        switch(on).unwrap_or_else(|errno| panic!("{what}, {on}: {errno}"));
        look()
    });
    for to in [true, false] {
        for nth in 1.. {
            assert!(nth < MANY, "{what} makes {MANY} allocations and more");
            let before = look();
            let (result, injected) = fail_nth(nth, || switch(to));
            let (mut config, hooked) = look();
            match result {
                Ok(()) => {
                    let wanted = if to { &on } else { &off };
                    // It counts changes, and nothing else.
                    config.generation = wanted.0.generation;
                    assert_eq!(&(config, hooked), wanted, "{what}, {to}, allocation {nth}");
                }
                Err(Errno::ENOMEM) => {
                    assert_eq!((config, hooked), before, "{what}, {to}, allocation {nth}");
                    tally.refused += 1;
                }
                Err(errno) => panic!("{what}, {to}, allocation {nth} failing: {errno}"),
            }
            if !injected {
                assert_eq!(result, Ok(()), "{what}, {to}: no allocation {nth}");
                break;
            }
            if result.is_ok() {
                tally.survived += 1;
                switch(!to).unwrap();
            }
        }
    }
    tally
}

/// What netlink says of a change, or of a question.
fn answer<T>(asked: Result<T, Error>) -> Result<T, Errno> {
    asked.map_err(|error| match error {
        Error::Refused { errno, .. } => errno,
        Error::Io(error) => Errno::from_raw(error.raw_os_error().expect("an error of the kernel")),
        other => panic!("{other}"),
    })
}

fn transparent(on: bool, ports: &str) -> Change {
    Change {
        transparent: Some(on),
        transparent_ports: Some(ports.to_owned()),
        ..Change::default()
    }
}

/// All that can be set, in both ways of setting it. What carries a request is the kernel's own.
#[test]
fn each_allocation_may_fail_while_it_is_set() {
    let Some(mut faults) = Faults::ready() else {
        return;
    };
    faults.spare_probes();
    let lists = ["any", "192.0.2.0/24,2001:db8::/32"];
    let sets = ["tencent", "dpvs"];
    let off_and_on = [false, true];
    let changes = [
        ("trusted", lists.map(trusted)),
        ("layouts", sets.map(layouts)),
        ("first_data", off_and_on.map(first_data)),
        ("transparent", off_and_on.map(|on| transparent(on, ""))),
        (
            "transparent_ports",
            ["", "80,443"].map(|ports| transparent(false, ports)),
        ),
        (
            "all",
            [0, 1].map(|to| Change {
                trusted: trusted(lists[to]).trusted,
                layouts: layouts(sets[to]).layouts,
                first_data: Some(off_and_on[to]),
                ..transparent(off_and_on[to], ["", "80"][to])
            }),
        ),
    ];
    let files = [
        ("transparent", ["0\n", "1\n"]),
        ("transparent_ports", ["\n", "80,443\n"]),
    ];
    for parameters in ["hook=ftrace", "hook=kprobe"] {
        World::run_with(parameters, |world| {
            let _own = faults.inside_the_module();
            let control = control();
            for (what, change) in &changes {
                let tally = switch_with_each_failure(what, |on| {
                    answer(control.set(&change[usize::from(on)]))
                });
                println!("{parameters}, {what}: {tally:?}");
                assert!(tally.refused > 0, "{what}: were there any failures?");
                assert_serves(world);
            }
            for (what, values) in files {
                let path = format!("/sys/module/toa/parameters/{what}");
                let tally = switch_with_each_failure(&path, |on| {
                    let written = fs::write(&path, values[usize::from(on)]);
                    written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap()))
                });
                println!("{parameters}, {path}: {tally:?}");
                assert!(tally.refused > 0, "{path}: were there any failures?");
                assert_serves(world);
            }
        });
    }
}

/// Netlink itself says ENOBUFS where it has no room for a message.
#[test]
fn each_allocation_may_fail_while_it_is_listed() {
    let Some(_faults) = Faults::ready() else {
        return;
    };
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let option = toa(254, original(Family::V4, 7, 7));
        // More than one message holds.
        let _conns: Vec<Conn> = (0..100)
            .map(|_| world.connect(Family::V4, &listener, &[], &option))
            .collect();
        let before = look();
        let list = |what: &str, ask: &dyn Fn(&Control) -> Result<usize, Errno>| {
            let whole = ask(&control()).unwrap();
            for nth in 1.. {
                assert!(nth < MANY, "{what} makes {MANY} allocations and more");
                // One that has failed is in the middle of an answer.
                let control = control();
                let (result, injected) = fail_nth(nth, || ask(&control));
                match result {
                    Ok(found) => assert_eq!(found, whole, "{what}, allocation {nth}"),
                    Err(Errno::ENOMEM | Errno::ENOBUFS) => {}
                    Err(errno) => panic!("{what}, allocation {nth} failing: {errno}"),
                }
                assert_eq!(look(), before, "{what}, allocation {nth}");
                if !injected {
                    assert!(nth > 1, "{what}: no allocation failed");
                    assert_eq!(result, Ok(whole), "{what}: no allocation {nth}");
                    println!("{what}: {} failures", nth - 1);
                    break;
                }
            }
        };
        list("the configuration", &|control| {
            answer(control.config()).map(|config| config.trusted.prefixes().len())
        });
        list("the sessions", &|control| {
            answer(control.sessions()).map(|sessions| sessions.len())
        });
    });
}

/// A network namespace gets its counters and its file, or is not made; and where the kernel fails in
/// what comes after them, they go again.
#[test]
fn each_allocation_may_fail_while_a_namespace_is_made() {
    let Some(mut faults) = Faults::ready() else {
        return;
    };
    World::run(|world| {
        let before = look();
        let module = faults.inside_the_module();
        // Nobody says why the kernel made no file: see `shim/proc.c`.
        let own = make_namespaces_with_each_failure(&[Errno::ENOMEM, Errno::EBUSY]);
        drop(module);
        let after = faults.inside(kernel_text("loopback_net_init"));
        // The kernel's own have more words for it.
        let others = make_namespaces_with_each_failure(&[]);
        drop(after);
        println!("own: {own:?}, behind it: {others:?}");
        assert_eq!(look(), before);
        assert_serves(world);
    });
}

/// With one of these errors, if there are any, where a namespace is not made.
fn make_namespaces_with_each_failure(errnos: &[Errno]) -> Tally {
    let mut tally = Tally::default();
    for nth in 1..MANY {
        // A thread of its own has the namespace, and takes it with it.
        let (result, injected) = thread::scope(|scope| {
            let made = scope.spawn(|| fail_nth(nth, || unshare(CloneFlags::CLONE_NEWNET)));
            made.join().unwrap()
        });
        match result {
            Ok(()) => tally.survived += 1,
            Err(errno) => {
                let expected = errnos.is_empty() || errnos.contains(&errno);
                assert!(expected, "allocation {nth} failing: {errno}");
                tally.refused += 1;
            }
        }
        if !injected {
            assert_eq!(result, Ok(()), "no allocation {nth}");
            assert!(tally.refused > 0, "{tally:?}: were there any failures?");
            tally.survived -= 1;
            return tally;
        }
    }
    panic!("a namespace makes {MANY} allocations and more");
}

/// Unloading cannot be refused, so it does without.
#[test]
fn each_allocation_may_fail_while_it_is_unloaded() {
    let Some(mut faults) = Faults::ready() else {
        return;
    };
    for parameters in ["first_data=1", "transparent=1 transparent_ports=80,443"] {
        let _unloaded = module::Unloaded::now();
        for nth in 1.. {
            assert!(nth < MANY, "unloading makes {MANY} allocations and more");
            module::load(parameters).unwrap();
            let own = faults.inside_the_module();
            let (result, injected) = fail_nth(nth, module::unload);
            drop(own);
            assert_eq!(result, Ok(()), "{parameters}, allocation {nth} failing");
            module::assert_nothing_left();
            if !injected {
                println!("{parameters}: {} failures", nth - 1);
                break;
            }
        }
    }
}

/// Also those that no slab serves: the tables, and what is per CPU.
#[test]
fn each_allocation_that_the_module_asks_for_may_fail() {
    module::ensure_fresh();
    let nomem = Path::new("/sys/module/toa/parameters/nomem");
    if !nomem.exists() {
        node::skip("this module is not built with TOA_SEED=nomem (tests/debug/seeds)");
        return;
    }
    for parameters in [
        "",
        "hook=kprobe first_data=1",
        "transparent=1 transparent_ports=80,443",
    ] {
        let _unloaded = module::Unloaded::now();
        for nth in 1.. {
            let result = module::load(&format!("{parameters} nomem={nth}"));
            if result.is_ok() {
                // Not one that failed and nobody cared for.
                assert_eq!(module::parameter("nomem"), "1", "{parameters}, {nth}");
                println!("{parameters:?}: {} failures", nth - 1);
                assert!(nth > 10, "{parameters}: were there any failures?");
                break;
            }
            assert_eq!(result, Err(Errno::ENOMEM), "{parameters}, allocation {nth}");
            module::assert_nothing_left();
        }
    }
    World::run(|world| {
        fs::write(nomem, "1").unwrap();
        let make = || unshare(CloneFlags::CLONE_NEWNET);
        let made = || thread::scope(|scope| scope.spawn(make).join().unwrap());
        assert_eq!(made(), Err(Errno::ENOMEM));
        assert_eq!(made(), Ok(()));
        assert_serves(world);
    });
}
