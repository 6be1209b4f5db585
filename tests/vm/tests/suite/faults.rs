// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes wrong from outside: pointers that cannot be written, a kernel that lacks what is to be
//! hooked, another module that holds what this one must have. Each gets an error, and nothing is
//! left behind.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::ptr;

use nix::errno::Errno;
use toa_cli::kmsg::Cursor;
use toa_cli::wire::toa;
use toa_kmod::pure::uapi::toa_original;
use toa_testbed::Family;
use toa_vm_tests::node::{self, Sysctl};
use toa_vm_tests::{World, accept, kernel_log, module, original};

use crate::cli;

const TOA_SO_ORIGINAL: i32 = 0x544f_4100;
const TOA_SO_ABI: i32 = 0x544f_4101;
const TOA_SO_GET_LOOKUP: i32 = 4096;
/// Those of Alibaba's vtoa, at both levels.
const TOA_SO_GET_VS: [i32; 3] = [1345, 1346, 1347];

/// Each call, the least that its buffer must hold, and its whole answer.
const OPTIONS: [(i32, usize, usize); 3] = [
    (TOA_SO_ORIGINAL, 48, size_of::<toa_original>()),
    (TOA_SO_ABI, 4, 4),
    (TOA_SO_GET_LOOKUP, 20, 20),
];

const PAGE: usize = 4096;

/// A page of memory with nothing mapped behind it.
struct Page(*mut u8);

impl Page {
    fn new(protection: libc::c_int) -> Self {
        // SAFETY: A new mapping takes nobody's memory.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                2 * PAGE,
                protection,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(address, libc::MAP_FAILED);
        // SAFETY: The second page is this mapping's own, and nobody knows it.
        let result = unsafe { libc::munmap(address.wrapping_add(PAGE), PAGE) };
        Errno::result(result).unwrap();
        Self(address.cast())
    }

    fn start(&self) -> usize {
        self.0.addr()
    }

    fn end(&self) -> usize {
        self.start() + PAGE
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: The page is this mapping's own, and nobody uses it any more.
        unsafe { libc::munmap(self.0.cast(), PAGE) };
    }
}

/// Where no program may write, whatever is mapped there.
const NOT_OURS: [usize; 6] = [
    8,
    // Across the end of a program's half.
    0x7fff_ffff_efff,
    0x8000_0000_0000,
    // The kernel's half: all memory, its text, its very end.
    0xffff_8880_0000_0000,
    0xffff_ffff_8100_0000,
    usize::MAX - 3,
];

/// getsockopt(2) with addresses that may be anything.
fn ask(socket: impl AsFd, name: i32, buffer: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: The kernel checks both addresses; where it can write, at the pages of this file and
    // at lengths of theirs, nothing else is.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            name,
            ptr::with_exposed_provenance_mut(buffer),
            ptr::with_exposed_provenance_mut(len),
        )
    };
    Errno::result(result).map(drop)
}

/// Connections with an address, one that 4096 answers too and one that carried none.
fn connections(world: &World, work: impl Fn(&TcpStream, bool)) {
    let listener = world.listen(Family::V4);
    let client = original(Family::V6, 7, 7);
    for option in [toa(253, client), vec![]] {
        let conn = world.connect(Family::V4, &listener, &[], &option);
        work(&conn.stream, !option.is_empty());
        // No reference was lost, and the next question is answered.
        assert_eq!(module::references(), 0);
        let told = libtoa::original(&conn.stream).unwrap();
        assert_eq!(told.map(|told| told.addr).is_some(), !option.is_empty());
    }
}

#[test]
fn a_bad_buffer_is_efault_at_every_boundary() {
    World::run(|world| {
        let writable = Page::new(libc::PROT_READ | libc::PROT_WRITE);
        let readable = Page::new(libc::PROT_READ);
        let closed = Page::new(libc::PROT_NONE);
        connections(world, |stream, told| {
            for (name, least, all) in OPTIONS {
                if name == TOA_SO_GET_LOOKUP && !told {
                    continue;
                }
                for given in [least, least.max(48), PAGE] {
                    let mut len = given as libc::socklen_t;
                    let mut at = |buffer: usize| {
                        len = given as libc::socklen_t;
                        let result = ask(stream, name, buffer, (&raw mut len).expose_provenance());
                        (result, len as usize)
                    };
                    let refused = (Err(Errno::EFAULT), given);
                    for buffer in [readable.start(), closed.start(), writable.end()] {
                        assert_eq!(at(buffer), refused, "{name:#x} at {buffer:#x}");
                    }
                    for buffer in NOT_OURS {
                        assert_eq!(at(buffer), refused, "{name:#x} at {buffer:#x}");
                    }
                    // The published behaviour of 4096.
                    let null = if name == TOA_SO_GET_LOOKUP {
                        (Err(Errno::EINVAL), given)
                    } else {
                        refused
                    };
                    assert_eq!(at(0), null, "{name:#x} at 0");
                    // The page ends after so many bytes of the answer.
                    let whole = all.min(given);
                    for room in 1..whole {
                        let cut = at(writable.end() - room);
                        assert_eq!(cut, refused, "{name:#x}, {room} of {given} bytes mapped");
                    }
                    // Nothing behind the answer is touched.
                    let fits = at(writable.end() - whole);
                    assert_eq!(fits, (Ok(()), whole), "{name:#x}, {given} bytes");
                }
            }
        });
    });
}

#[test]
fn a_bad_length_pointer_is_efault() {
    World::run(|world| {
        let writable = Page::new(libc::PROT_READ | libc::PROT_WRITE);
        let readable = Page::new(libc::PROT_READ);
        let closed = Page::new(libc::PROT_NONE);
        // What can be read, and not written: all zeroes, so the length is too short.
        let short = readable.start();
        let constant = {
            let page = Page::new(libc::PROT_READ | libc::PROT_WRITE);
            // SAFETY: The page is writable, and as long as that.
            unsafe { page.0.cast::<libc::socklen_t>().write(48) };
            // SAFETY: The page is this mapping's own.
            let result = unsafe { libc::mprotect(page.0.cast(), PAGE, libc::PROT_READ) };
            Errno::result(result).unwrap();
            page
        };
        connections(world, |stream, told| {
            for (name, ..) in OPTIONS {
                if name == TOA_SO_GET_LOOKUP && !told {
                    continue;
                }
                let ask = |len| ask(stream, name, writable.start(), len);
                for len in [0, closed.start(), writable.end(), writable.end() - 2] {
                    assert_eq!(
                        ask(len),
                        Err(Errno::EFAULT),
                        "{name:#x}, length at {len:#x}"
                    );
                }
                for len in NOT_OURS {
                    assert_eq!(
                        ask(len),
                        Err(Errno::EFAULT),
                        "{name:#x}, length at {len:#x}"
                    );
                }
                // The answer was written, and its length cannot be.
                assert_eq!(ask(constant.start()), Err(Errno::EFAULT), "{name:#x}");
                assert_eq!(ask(short), Err(Errno::EINVAL), "{name:#x}");
            }
        });
    });
}

/// A load that must fail. The error, and the module's lines in the log.
#[track_caller]
fn refused(file: &Path, parameters: &str) -> (Errno, Vec<String>) {
    let (result, lines) = kernel_log::during(|| module::load_file(file, parameters));
    let errno = result.expect_err("the module was loaded");
    assert_eq!(lines.len(), 1, "one clear line: {lines:?}");
    assert!(!module::is_loaded());
    assert_eq!(module::hooked(), Vec::<String>::new());
    (errno, lines)
}

/// Connections come and go: a hook or probe that was left would be called.
#[track_caller]
fn assert_nothing_left() {
    module::assert_nothing_left();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for _ in 0..3 {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop(accept(&listener));
        drop(client);
    }
}

/// The module's file with the name of a kernel function, where C uses it, made another: this
/// kernel has none of that name.
fn with_another_name(function: &str) -> tempfile::NamedTempFile {
    let mut content = fs::read(node::module_file()).unwrap();
    let wanted = [function.as_bytes(), b"\0"].concat();
    let named: Vec<usize> = (1..content.len() - wanted.len())
        .filter(|&at| {
            let part_of_another =
                content[at - 1].is_ascii_alphanumeric() || content[at - 1] == b'_';
            content[at..].starts_with(&wanted) && !part_of_another
        })
        .collect();
    assert!(!named.is_empty(), "the module does not name {function}");
    for at in named {
        content[at + function.len() - 1] = b'X';
    }
    let mut file = tempfile::NamedTempFile::new_in("/run").unwrap();
    file.write_all(&content).unwrap();
    // The kernel does not execute what somebody has open for writing.
    file.flush().unwrap();
    file
}

/// One registration after another fails, and what stood before it is taken down.
#[test]
fn a_kernel_without_what_is_to_be_hooked_is_refused_by_name() {
    let _unloaded = module::Unloaded::now();
    for (function, wanted_by) in [
        ("tcp_disconnect", ""),
        ("tcp_child_process", ""),
        ("tcp_conn_request", ""),
        ("tcp_check_req", ""),
        ("tcp_rcv_established", "first_data=1"),
    ] {
        let file = with_another_name(function).into_temp_path();
        for (parameters, why) in [
            ("", "can be hooked neither by ftrace nor by kprobe"),
            ("hook=ftrace", "cannot be hooked by ftrace, and"),
            ("hook=kprobe", "cannot be hooked by kprobe, and"),
        ] {
            let (errno, lines) = refused(&file, &format!("{parameters} {wanted_by}"));
            assert_eq!(errno, Errno::EOPNOTSUPP, "{function} {parameters}");
            // The last letter aside: KASAN puts zeroes behind Rust's own copy of the name, too, and then it
            // is another one as C's.
            let said = lines[0].strip_prefix(&format!("toa: {}", &function[..function.len() - 1]));
            let said = said.and_then(|said| said.get(1..)?.strip_prefix(": "));
            assert!(said.is_some_and(|said| said.starts_with(why)), "{lines:?}");
            assert_nothing_left();
        }
    }
    let file = with_another_name("tcp_destroy_sock").into_temp_path();
    let (errno, lines) = refused(&file, "");
    assert_eq!(errno, Errno::ENOENT);
    assert!(lines[0].contains("tracepoint tcp_destroy_soc"), "{lines:?}");
    assert_nothing_left();
}

fn toa_cli(arguments: &[&str]) -> (i32, String) {
    let run = cli::run(arguments);
    (run.code, run.stdout + &run.stderr)
}

#[test]
fn beside_a_foreign_toa_nothing_is_loaded_or_unloaded_and_the_tool_says_what_to_do() {
    let _unloaded = module::Unloaded::now();
    let path = node::module_file().display().to_string();
    let foreign = module::Other::load("toa", "");
    assert_eq!(module::load(""), Err(Errno::EEXIST));
    for arguments in [
        &["load", "--module", &path][..],
        &["unload"],
        &["status"],
        &["check"],
    ] {
        let (code, said) = toa_cli(arguments);
        assert_eq!(code, 6, "{arguments:?}: {said}");
        assert!(said.contains("2.0.0.0"), "{arguments:?}: {said}");
        assert!(said.contains("rmmod toa"), "{arguments:?}: {said}");
    }
    let (code, said) = toa_cli(&["status", "-o", "json"]);
    assert_eq!(code, 6);
    assert!(said.contains(r#""state": "foreign""#), "{said}");
    assert!(matches!(libtoa::abi(), Err(libtoa::Error::NotLoaded)));
    assert!(module::is_loaded(), "the foreign module was unloaded");
    drop(foreign);
    assert_nothing_left();
    module::load("").unwrap();
    assert_eq!(toa_cli(&["check"]).0, 0);
}

/// A foreign module that has the options' numbers is found before anything is hooked. They are several
/// registrations: those before the one that fails are undone.
#[test]
fn an_option_that_another_module_has_is_ebusy_and_leaves_nothing() {
    let _unloaded = module::Unloaded::now();
    let path = node::module_file();
    let ours = OPTIONS.map(|(name, ..)| (libc::PF_INET, name));
    let vtoa = [libc::PF_INET, libc::PF_INET6].map(|pf| TOA_SO_GET_VS.map(|name| (pf, name)));
    for (pf, name) in ours.into_iter().chain(vtoa.into_iter().flatten()) {
        let occupant = module::Other::load("occupant", &format!("pf={pf} sockopt={name}"));
        for parameters in ["", "hook=kprobe"] {
            let (errno, lines) = refused(&path, parameters);
            assert_eq!(errno, Errno::EBUSY, "{name:#x} of {pf}");
            assert!(lines[0].contains("getsockopt"), "{lines:?}");
            assert!(lines[0].contains("another toa module"), "{lines:?}");
        }
        let (code, said) = toa_cli(&["load", "--module", path.to_str().unwrap()]);
        assert_eq!(code, 6, "{said}");
        assert!(
            said.contains("getsockopt") && said.contains("lsmod"),
            "{said}"
        );
        drop(occupant);
        assert_nothing_left();
    }
    module::load("").unwrap();
}

/// The kernel warns of a second file of one name, whoever makes it: off the console, where it would
/// be taken for a fault of the module's.
#[test]
fn a_file_that_another_module_has_is_ebusy_and_leaves_nothing() {
    let _unloaded = module::Unloaded::now();
    let path = node::module_file();
    for name in ["toa_stats", "toa"] {
        let occupant = module::Other::load("occupant", &format!("proc={name}"));
        let before = Cursor::now().unwrap();
        let quiet = Sysctl::set("kernel/printk", "1");
        let (errno, lines) = refused(&path, "");
        let warnings: Vec<String> = before
            .since()
            .into_iter()
            .filter(|line| line.contains("WARNING:") || line.contains("already registered"))
            .collect();
        assert_eq!(errno, Errno::EBUSY, "{name}");
        let named = lines[0].contains(&format!("/proc/net/{name} (is another toa"));
        assert!(named, "{lines:?}");
        let told = format!("'net/{name}' already registered");
        assert!(
            warnings.iter().any(|line| line.contains(&told)),
            "{warnings:?}"
        );
        let others = warnings.iter().filter(|line| !line.contains("proc"));
        assert_eq!(others.count(), 0, "{warnings:?}");
        // The tool looks first, where it can tell.
        let (code, said) = toa_cli(&["load", "--module", path.to_str().unwrap()]);
        assert_eq!(code, 6, "{said}");
        assert!(said.contains("lsmod"), "{said}");
        drop(quiet);
        drop(occupant);
        assert_nothing_left();
    }
    module::load("").unwrap();
}

/// The family comes last of what can fail: all else stands by then, and is taken down.
#[test]
fn a_netlink_family_that_another_module_has_is_ebusy_and_leaves_nothing() {
    let _unloaded = module::Unloaded::now();
    let path = node::module_file();
    for parameters in ["", "hook=kprobe", "first_data=1 transparent=1"] {
        let occupant = module::Other::load("occupant", "genl=toa");
        let (errno, lines) = refused(&path, parameters);
        assert_eq!(errno, Errno::EBUSY, "{parameters}");
        let named = lines[0].contains("netlink family toa (is another toa module loaded?)");
        assert!(named, "{lines:?}");
        let (code, said) = toa_cli(&["load", "--module", path.to_str().unwrap()]);
        assert_eq!(code, 6, "{said}");
        assert!(
            said.contains("netlink family toa") && said.contains("lsmod"),
            "{said}"
        );
        drop(occupant);
        assert_nothing_left();
    }
    module::load("").unwrap();
}
