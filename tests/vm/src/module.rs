// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading and unloading, by the system calls.

use std::ffi::CString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use toa_cli::control::{self, Control};

use crate::{node, sessions, sockopt};

/// Loads the module with these parameters, as `insmod` does.
///
/// # Errors
///
/// What finit_module(2) says.
///
/// # Panics
///
/// Outside a node, or where the module's file cannot be opened.
pub fn load(parameters: &str) -> Result<(), Errno> {
    load_file(&node::module_file(), parameters)
}

/// The same with another file.
///
/// # Errors
///
/// What finit_module(2) says.
///
/// # Panics
///
/// Outside a node, or where the file cannot be opened.
pub fn load_file(path: &Path, parameters: &str) -> Result<(), Errno> {
    node::require();
    let file =
        File::open(path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    let parameters = CString::new(parameters).expect("parameters have no NUL");
    finit_module(&file, &parameters, ModuleInitFlags::empty())
}

/// Unloads the module at once or not at all, as `rmmod` does.
///
/// # Errors
///
/// What delete_module(2) says: `EWOULDBLOCK` (`EAGAIN`) while a task is inside one of its calls.
pub fn unload() -> Result<(), Errno> {
    node::require();
    delete_module(c"toa", DeleteModuleFlags::O_NONBLOCK)
}

/// Unloads the module, trying again while it is in use. Returns how often it was.
///
/// # Panics
///
/// Where it cannot be unloaded within [`node::PATIENCE`].
#[track_caller]
pub fn unload_patiently() -> usize {
    let deadline = Instant::now() + node::PATIENCE;
    let mut refused = 0;
    loop {
        match unload() {
            Ok(()) => return refused,
            Err(Errno::EAGAIN) if Instant::now() < deadline => refused += 1,
            Err(errno) => {
                panic!("the module cannot be unloaded: {errno} (refused {refused} times)")
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A module of `tests/modules`, loaded for as long as this lives.
#[derive(Debug)]
pub struct Other(CString);

impl Other {
    /// Loads it.
    ///
    /// # Panics
    ///
    /// Where the kernel does not take it.
    #[must_use]
    #[track_caller]
    pub fn load(name: &str, parameters: &str) -> Self {
        load_file(&node::test_module(name), parameters)
            .unwrap_or_else(|errno| panic!("the tests' module {name} cannot be loaded: {errno}"));
        Self(CString::new(name).expect("a name has no NUL"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Err(errno) = delete_module(&self.0, DeleteModuleFlags::O_NONBLOCK) {
            eprintln!("the tests' module {:?} cannot be unloaded: {errno}", self.0);
        }
    }
}

/// Whether the module is loaded.
#[must_use]
pub fn is_loaded() -> bool {
    Path::new("/sys/module/toa/initstate").exists()
}

/// Sees to it that the module is loaded and knows of no connection: where a test that failed has
/// left any, it is loaded anew, so that the next test is not blamed.
///
/// # Panics
///
/// Outside a node, and where the module cannot be loaded.
#[track_caller]
pub fn ensure_fresh() {
    node::require();
    if is_loaded() && sessions() > 0 {
        unload_patiently();
    }
    if !is_loaded() {
        load("").unwrap_or_else(|errno| panic!("the module cannot be loaded: {errno}"));
    }
}

/// Without the module, for as long as this lives; then it is loaded with no parameters, whatever
/// became of it in between.
#[derive(Debug)]
pub struct Unloaded(());

impl Unloaded {
    /// Unloads the module.
    ///
    /// # Panics
    ///
    /// As [`unload_patiently`].
    #[must_use]
    #[track_caller]
    pub fn now() -> Self {
        Self::now_by(|| {
            if is_loaded() {
                unload_patiently();
            }
        })
    }

    /// Unloads the module in a way of the caller's.
    ///
    /// # Panics
    ///
    /// Where `unload` does.
    #[must_use]
    #[track_caller]
    pub fn now_by(unload: impl FnOnce()) -> Self {
        node::require();
        // Made first: the module is loaded again also where `unload` panics half-way.
        let unloaded = Self(());
        unload();
        unloaded
    }
}

/// The module with these parameters, for as long as what it returns lives; then with none.
///
/// # Panics
///
/// As [`Unloaded::now`], and where the kernel does not take it.
#[must_use]
#[track_caller]
pub fn loaded_with(parameters: &str) -> Unloaded {
    let unloaded = Unloaded::now();
    load(parameters).unwrap_or_else(|errno| panic!("{parameters:?}: not loaded: {errno}"));
    unloaded
}

impl Drop for Unloaded {
    fn drop(&mut self) {
        if is_loaded() {
            // A second panic would end the whole program.
            if thread::panicking() {
                let _ = delete_module(c"toa", DeleteModuleFlags::O_NONBLOCK);
            } else {
                unload_patiently();
            }
        }
        match load("") {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => eprintln!("the module cannot be loaded again: {errno}"),
        }
    }
}

/// Fails the test if anything of the module is left in the kernel.
///
/// # Panics
///
/// With what is left.
#[track_caller]
pub fn assert_nothing_left() {
    for path in ["/sys/module/toa", "/proc/net/toa", "/proc/net/toa_stats"] {
        assert!(!Path::new(path).exists(), "{path} is still there");
    }
    assert_eq!(hooked(), Vec::<String>::new(), "functions still hooked");
    let family = Control::open();
    assert!(
        matches!(family, Err(control::Error::NotLoaded)),
        "{family:?}"
    );
    let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    for name in [0x544f_4100, 0x544f_4101, 4096, 1345, 1346, 1347] {
        let answer = sockopt::get(&any, libc::IPPROTO_IP, name, &mut [0; 48]);
        assert_eq!(answer, Err(Errno::ENOPROTOOPT), "option {name:#x}");
    }
    if let Ok(any) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        for name in [1345, 1346, 1347] {
            let answer = sockopt::get(&any, libc::IPPROTO_IPV6, name, &mut [0; 48]);
            assert_eq!(answer, Err(Errno::ENOPROTOOPT), "IPv6 option {name}");
        }
    }
}

/// How many references on the module are held.
///
/// # Panics
///
/// Where it is not loaded.
#[must_use]
#[track_caller]
pub fn references() -> u32 {
    let text = fs::read_to_string("/sys/module/toa/refcnt").expect("the module's references");
    text.trim().parse().expect("a number")
}

/// The value of a parameter of the module, as its file shows it.
///
/// # Panics
///
/// Where there is no such file, or no line in it.
#[must_use]
#[track_caller]
pub fn parameter(name: &str) -> String {
    let path = format!("/sys/module/toa/parameters/{name}");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.strip_suffix('\n')
        .unwrap_or_else(|| panic!("{path}: {text:?}"))
        .to_owned()
}

/// What /proc/net/toa says of `key`.
///
/// # Panics
///
/// Where it says nothing.
#[must_use]
#[track_caller]
pub fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/net/toa").expect("/proc/net/toa");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    value
        .unwrap_or_else(|| panic!("no {key} in {text}"))
        .to_owned()
}

/// The kernel's functions that the module watches, as far as something does, by ftrace or kprobe.
///
/// # Panics
///
/// Where the kernel's lists cannot be read.
#[must_use]
pub fn hooked() -> Vec<String> {
    hooked_of(&[
        "tcp_conn_request",
        "tcp_child_process",
        "tcp_disconnect",
        "tcp_check_req",
        "tcp_rcv_established",
        "inet_getname",
        "inet6_getname",
    ])
}

/// Those of these functions that something watches, or has taken over.
///
/// # Panics
///
/// Where the kernel's lists cannot be read.
#[must_use]
pub fn hooked_of(functions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for list in [
        "/sys/kernel/tracing/enabled_functions",
        "/sys/kernel/debug/kprobes/list",
    ] {
        let text = fs::read_to_string(list).unwrap_or_else(|error| panic!("{list}: {error}"));
        for function in functions {
            let names = |line: &str| line.split([' ', '\t', '+']).any(|word| word == *function);
            if text.lines().any(names) {
                found.push(format!("{function} in {list}"));
            }
        }
    }
    found
}
