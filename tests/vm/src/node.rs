// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node that the tests run in.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use toa_testbed::command;

/// How long to wait for what must come; an emulated machine is slow, and one whose kernel checks
/// every access much slower still.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Fails the test unless this is a node of `scripts/vm`, which is there to be broken.
///
/// # Panics
///
/// On any other machine.
pub fn require() {
    assert!(
        Path::new("/run/node/settings").exists() && std::env::var_os("TOA_KO").is_some(),
        "this test loads and unloads kernel modules, and wants a machine of its own: run it by \
         scripts/test, or by scripts/vm -- PROGRAM --test-threads=1"
    );
}

/// The module's file.
///
/// # Panics
///
/// Where `TOA_KO` is not set, which [`require`] checks.
#[must_use]
pub fn module_file() -> PathBuf {
    std::env::var_os("TOA_KO").expect("TOA_KO is set").into()
}

/// The file of a module that the tests load beside the module, or in its place (`tests/modules`).
///
/// # Panics
///
/// Where `TOA_TEST_MODULES` does not name their folder; scripts/test builds them.
#[must_use]
pub fn test_module(name: &str) -> PathBuf {
    let folder = std::env::var_os("TOA_TEST_MODULES");
    let folder = folder.expect("TOA_TEST_MODULES names the folder of the tests' own modules");
    Path::new(&folder).join(format!("{name}.ko"))
}

/// Whether this is the long run (`TOA_LONG=1`, of scripts/test --debug), which takes its time and does things as often as
/// the project promises.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("TOA_LONG").is_some_and(|value| value == "1")
}

/// `usual`, or `long` in the long run.
#[must_use]
pub fn usual_or_long<T>(usual: T, long: T) -> T {
    if is_long() { long } else { usual }
}

/// A line of /proc/meminfo, in kilobytes.
///
/// # Panics
///
/// Where there is no such line.
#[must_use]
pub fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in /proc/meminfo"))
}

/// What the kernel's slabs hold, in kilobytes. What is free in them is given back first, and so is what
/// KASAN keeps from being used again, which would otherwise look like memory that somebody has.
///
/// # Panics
///
/// Where the kernel does not tell, or cannot be told.
#[must_use]
pub fn slabs() -> u64 {
    let caches = fs::read_dir("/sys/kernel/slab").expect("/sys/kernel/slab");
    for cache in caches {
        let cache = cache.expect("a slab cache");
        // A link is another name of a cache that several users share.
        if cache.file_type().expect("its type").is_dir() {
            match fs::write(cache.path().join("shrink"), "1") {
                // Its last user went meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result.expect("a slab cache shrinks"),
            }
        }
    }
    meminfo("Slab")
}

/// Whether this kernel keeps records of each object that is allocated (kmemleak), several times as large
/// as a small object.
#[must_use]
pub fn counts_its_memory() -> bool {
    Path::new("/sys/kernel/debug/kmemleak").exists()
}

/// Waits until `done`, and fails the test with `what` where that takes too long.
///
/// # Panics
///
/// After [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(
            Instant::now() < deadline,
            "after {} s still not: {what}",
            PATIENCE.as_secs()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// A kernel setting that gets its old value back in the end.
#[derive(Debug)]
pub struct Sysctl {
    path: PathBuf,
    old: String,
}

impl Sysctl {
    /// Sets the setting at `name` below /proc/sys. Those of `net` are the calling thread's network
    /// namespace's.
    ///
    /// # Panics
    ///
    /// Where there is no such setting, or it does not take the value.
    #[must_use]
    #[track_caller]
    pub fn set(name: &str, value: &str) -> Self {
        Self::set_at(Path::new("/proc/sys").join(name), value)
    }

    #[track_caller]
    fn set_at(path: PathBuf, value: &str) -> Self {
        let old = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        fs::write(&path, value)
            .unwrap_or_else(|error| panic!("cannot set {} to {value}: {error}", path.display()));
        Self { path, old }
    }
}

/// Says that the running test cannot be made on this kernel. The line goes past libtest's capture:
/// scripts/test counts the test as skipped for it.
pub fn skip(why: &str) {
    // One write, so that nothing comes between.
    let line = format!("skipped: {why}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Runs ip(8) with these words, in the calling thread's network namespace.
///
/// # Panics
///
/// Where it fails.
#[track_caller]
pub fn ip(line: &str) {
    let output = command("ip")
        .args(line.split_whitespace())
        .output()
        .expect("ip(8) runs");
    assert!(output.status.success(), "ip {line}: {output:?}");
}

/// Whether this kernel has MPTCP; the test is skipped where it has not (Debian's before 6.1).
#[must_use]
pub fn has_mptcp() -> bool {
    let has = Path::new("/proc/sys/net/mptcp/enabled").exists();
    if !has {
        skip("this kernel has no MPTCP");
    }
    has
}

/// A counter of TCP's (`TcpExt`) or MPTCP's (`MPTcpExt`), of the calling thread's network namespace.
///
/// # Panics
///
/// Where the kernel has none of that name.
#[must_use]
#[track_caller]
pub fn netstat(group: &str, name: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").expect("the counters");
    // The names on a line, their numbers on the next.
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let mut words = || {
        let line = lines.next();
        let line = line.unwrap_or_else(|| panic!("no counters of {group}"));
        line.split_whitespace()
    };
    // The names are on a line, and their numbers on the next.
    let (_, number) = words()
        .zip(words())
        .find(|(found, _)| *found == name)
        .unwrap_or_else(|| panic!("no {name} among the counters of {group}"));
    number.parse().expect("a number")
}

/// Switches ftrace off for as long as what it returns lives; `None` where this kernel's switch
/// does nothing any more (7.x: "deprecated and no longer disables ftrace", `EOPNOTSUPP`), and
/// ftrace is always on.
///
/// # Panics
///
/// Where the kernel refuses it otherwise.
#[must_use]
#[track_caller]
pub fn ftrace_off() -> Option<Sysctl> {
    match fs::write("/proc/sys/kernel/ftrace_enabled", "1") {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return None,
        other => other.expect("ftrace can be switched on"),
    }
    match fs::write("/proc/sys/kernel/ftrace_enabled", "0") {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => None,
        Err(error) => panic!("ftrace cannot be switched off: {error}"),
        Ok(()) => Some(Sysctl {
            path: "/proc/sys/kernel/ftrace_enabled".into(),
            old: "1".to_owned(),
        }),
    }
}

/// Switches all kprobes off for as long as what it returns lives.
///
/// # Panics
///
/// Where the kernel refuses it.
#[must_use]
#[track_caller]
pub fn kprobes_off() -> Sysctl {
    Sysctl::set_at("/sys/kernel/debug/kprobes/enabled".into(), "0")
}

/// Whether a kprobe at a function's entry is ftrace's, and silent while that is off
/// (`CONFIG_KPROBES_ON_FTRACE`). On arm64 it is a breakpoint of its own, and serves on.
pub const KPROBES_WANT_FTRACE: bool = cfg!(target_arch = "x86_64");

impl Drop for Sysctl {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.old) {
            eprintln!("cannot set {} back: {error}", self.path.display());
        }
    }
}
