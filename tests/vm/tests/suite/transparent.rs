// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mode in which accept and getpeername themselves tell the client's address.

use std::fs;
use std::io::Read;
use std::mem::size_of_val;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, opcode, types};
use libtoa::Segment;
use nix::errno::Errno;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use toa_cli::client::Client;
use toa_cli::control::{self, Change, Control};
use toa_cli::wire::{self, Flags, toa};
use toa_testbed::Family;
use toa_vm_tests::module::{parameter, status};
use toa_vm_tests::node::{self, PATIENCE};
use toa_vm_tests::stream::{IPPROTO_MPTCP, listen_at, stream_socket};
use toa_vm_tests::{Stats, World, kernel_log, module, original, server_ip, settle, wait_readable};

use crate::control::{control, trusted};
use crate::life::mp_capable;
use crate::module::sleepy;
use crate::segments::fast_open;

/// What the mode redirects.
pub(super) const GETNAMES: [&str; 2] = ["inet_getname", "inet6_getname"];

/// Sets a parameter of the loaded module, as `echo` does.
fn set(parameter: &str, value: &str) -> Result<(), Errno> {
    let path = format!("/sys/module/toa/parameters/{parameter}");
    fs::write(path, format!("{value}\n"))
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap()))
}

/// Runs a test with the module loaded so, and sees that nothing of it is left.
fn with(parameters: &str, work: impl FnOnce(&World) + Send) {
    let _loaded = module::loaded_with(parameters);
    World::beside(work);
    settle();
    module::unload_patiently();
    module::assert_nothing_left();
}

/// An address that the kernel writes.
#[repr(C)]
struct Name {
    address: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl Name {
    fn new() -> Self {
        // SAFETY: All zeroes is a valid sockaddr_storage.
        let address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let len = size_of_val(&address) as libc::socklen_t;
        Self { address, len }
    }

    fn address(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.address).cast()
    }

    /// The address, and that nothing of it is the wire's: neither flow nor scope.
    fn read(&mut self) -> SocketAddr {
        // SAFETY: The kernel has written an address of that length.
        let name = unsafe { SockaddrStorage::from_raw(self.address(), Some(self.len)) }.unwrap();
        if let Some(v4) = name.as_sockaddr_in() {
            return SocketAddr::V4((*v4).into());
        }
        let v6: std::net::SocketAddrV6 = (*name.as_sockaddr_in6().unwrap()).into();
        assert_eq!((v6.flowinfo(), v6.scope_id()), (0, 0));
        v6.into()
    }
}

/// The ways of taking a connection.
#[derive(Clone, Copy, Debug)]
enum Way {
    Accept,
    Accept4,
    IoUring,
}

impl Way {
    const ALL: [Self; 3] = [Self::Accept, Self::Accept4, Self::IoUring];

    fn take(self, listener: RawFd) -> (TcpStream, SocketAddr) {
        let mut name = Name::new();
        let len = &raw mut name.len;
        let address = name.address();
        let fd = match self {
            // SAFETY: The kernel may write an address of that length.
            Self::Accept => Errno::result(unsafe { libc::accept(listener, address, len) }),
            Self::Accept4 => {
                // SAFETY: As above.
                Errno::result(unsafe { libc::accept4(listener, address, len, libc::SOCK_CLOEXEC) })
            }
            Self::IoUring => {
                let mut ring = IoUring::new(2).unwrap();
                let entry = opcode::Accept::new(types::Fd(listener), address, len).build();
                // SAFETY: What the entry points to outlives it: it is waited for here.
                unsafe { ring.submission().push(&entry) }.unwrap();
                ring.submit_and_wait(1).unwrap();
                let result = ring.completion().next().unwrap().result();
                if result < 0 {
                    Err(Errno::from_raw(-result))
                } else {
                    Ok(result)
                }
            }
        };
        // SAFETY: The descriptor was made just now.
        let stream = unsafe { OwnedFd::from_raw_fd(fd.unwrap()) }.into();
        (stream, name.read())
    }

    fn accept(self, listener: &TcpListener) -> (TcpStream, SocketAddr) {
        assert!(wait_readable(listener, PATIENCE), "no connection to accept");
        self.take(listener.as_raw_fd())
    }
}

/// The client's end of a connection, made with these options.
fn connect(
    world: &World,
    family: Family,
    listener: &TcpListener,
    syn: &[u8],
    ack: &[u8],
) -> Client {
    let mut client = world.client(family, listener);
    client.connect(syn, ack).unwrap();
    client
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// A connection of each kind: how it comes over the wire, what its option carries.
const KINDS: [(Family, Family, u8); 4] = [
    (Family::V4, Family::V4, 200),
    (Family::V6, Family::V6, 253),
    // A translator between the two families.
    (Family::V4, Family::V6, 253),
    (Family::V6, Family::V4, 200),
];

#[test]
fn off_by_default() {
    World::run(|world| {
        assert_eq!(status("transparent"), "off");
        assert_eq!(status("transparent_local"), "off");
        let text = fs::read_to_string("/proc/net/toa").unwrap();
        assert!(!text.contains("getname"), "{text}");
        assert_eq!(module::hooked_of(&GETNAMES), Vec::<String>::new());
        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        let mut client = connect(world, Family::V4, &listener, &option, &[]);
        let (stream, told) = Way::Accept4.accept(&listener);
        assert_eq!(told, client.local());
        assert_eq!(stream.peer_addr().unwrap(), client.local());
        client.rst().unwrap();
    });
}

/// On the wire's family and on `[::]`, by SYN and by ACK, in every way: the same answer, and the
/// module's own call goes on telling the wire's peer.
#[test]
fn accept_and_getpeername_tell_the_client_and_agree() {
    with("transparent=1", |world| {
        assert_eq!(status("transparent"), "all ports");
        assert_eq!(status("hook inet_getname"), "ftrace missed 0");
        assert_eq!(status("hook inet6_getname"), "ftrace missed 0");
        for (wire, carried, kind) in KINDS {
            for dual in [false, true] {
                let listener = if dual {
                    TcpListener::bind("[::]:0").unwrap()
                } else {
                    world.listen(wire)
                };
                for way in Way::ALL {
                    for in_syn in [true, false] {
                        let before = Stats::read();
                        let client = original(carried, 7, 51_820);
                        let option = toa(kind, client);
                        let (syn, ack): (&[u8], &[u8]) = if in_syn {
                            (&option, &[])
                        } else {
                            (&[], &option)
                        };
                        let mut peer = connect(world, wire, &listener, syn, ack);
                        let (stream, accepted) = way.accept(&listener);
                        let v6_socket = dual || wire == Family::V6;
                        let kept = !v6_socket && carried == Family::V6;
                        let expected = match (v6_socket, kept) {
                            (_, true) => peer.local(),
                            (true, _) => mapped(client),
                            (false, _) => client,
                        };
                        let what = format!("{wire:?} {carried:?} dual {dual} {way:?}");
                        assert_eq!(accepted, expected, "{what}");
                        assert_eq!(stream.peer_addr().unwrap(), expected, "{what}");
                        let counter = if kept {
                            "transparent_kept_v6"
                        } else {
                            "transparent_told"
                        };
                        assert_eq!(
                            Stats::read().since(&before).get(counter),
                            2,
                            "{what}: {:?}",
                            Stats::read().since(&before)
                        );

                        let asked = libtoa::original(&stream).unwrap().unwrap();
                        let wires = peer.local();
                        let wires = if v6_socket { mapped(wires) } else { wires };
                        assert_eq!(asked.peer, wires, "{what}");
                        let server =
                            SocketAddr::new(server_ip(wire), listener.local_addr().unwrap().port());
                        let server = if v6_socket { mapped(server) } else { server };
                        assert_eq!(stream.local_addr().unwrap(), server, "{what}");
                        peer.rst().unwrap();
                    }
                }
            }
        }
    });
}

#[test]
fn connections_without_an_address_and_other_sockets_are_as_ever() {
    with("transparent=1", |world| {
        let before = Stats::read();
        for family in Family::ALL {
            let listener = world.listen(family);
            for way in Way::ALL {
                let mut client = connect(world, family, &listener, &[], &[]);
                let (stream, accepted) = way.accept(&listener);
                assert_eq!(accepted, client.local());
                assert_eq!(stream.peer_addr().unwrap(), client.local());
                client.rst().unwrap();
                node::wait_until("the connection is reset", || stream.peer_addr().is_err());
                assert_eq!(
                    stream.peer_addr().unwrap_err().raw_os_error(),
                    Some(libc::ENOTCONN)
                );
            }
            assert_eq!(
                TcpStream::peer_addr(&TcpStream::from(OwnedFd::from(
                    listener.try_clone().unwrap()
                )))
                .unwrap_err()
                .raw_os_error(),
                Some(libc::ENOTCONN)
            );
            let datagrams = UdpSocket::bind((server_ip(family), 0)).unwrap();
            datagrams.connect((server_ip(family), 9)).unwrap();
            assert_eq!(
                datagrams.peer_addr().unwrap(),
                SocketAddr::new(server_ip(family), 9)
            );
        }
        assert_eq!(Stats::read().since(&before).get("transparent_told"), 0);
    });
}

/// Servers that listen with MPTCP, as Go's do by default: plain TCP clients are told, and a true MPTCP
/// connection has the wire's peer for both.
#[test]
fn clients_of_mptcp_listeners() {
    if !node::has_mptcp() {
        return;
    }
    with("transparent=1", |world| {
        let _on = node::Sysctl::set("net/mptcp/enabled", "1");
        for (wire, kind) in [(Family::V4, 200), (Family::V6, 253)] {
            let client = original(wire, 7, 51_820);
            let option = toa(kind, client);
            for dual in [false, true] {
                let (family, at) = if dual {
                    (Family::V6, "[::]:0".parse().unwrap())
                } else {
                    (wire, SocketAddr::new(server_ip(wire), 0))
                };
                let listener = listen_at(stream_socket(family, IPPROTO_MPTCP), at);
                let as_told = |addr| match family {
                    Family::V4 => addr,
                    Family::V6 => mapped(addr),
                };
                for way in Way::ALL {
                    let what = format!("{wire:?} dual {dual} {way:?}");
                    for (syn, ack) in [(&option[..], &[][..]), (&[], &option)] {
                        let mut peer = connect(world, wire, &listener, syn, ack);
                        let (stream, accepted) = way.accept(&listener);
                        assert_eq!(accepted, as_told(client), "{what}");
                        assert_eq!(stream.peer_addr().unwrap(), accepted, "{what}");
                        peer.rst().unwrap();
                    }
                    let mut end = world.client(wire, &listener);
                    mp_capable(&mut end, &option);
                    let (stream, accepted) = way.accept(&listener);
                    let asked = libtoa::original(&stream);
                    assert!(matches!(asked, Err(libtoa::Error::NotTcp)), "{asked:?}");
                    assert_eq!(accepted, as_told(end.local()), "{what}");
                    assert_eq!(stream.peer_addr().unwrap(), accepted, "{what}");
                    end.rst().unwrap();
                }
            }
        }
    });
}

/// Errors are the kernel's also where the client is known.
#[test]
fn a_reset_connection_with_an_address_is_not_connected() {
    with("transparent=1", |world| {
        let listener = world.listen(Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        let mut client = connect(world, Family::V4, &listener, &[], &option);
        let (stream, told) = Way::Accept.accept(&listener);
        assert_eq!(told, original(Family::V4, 7, 7));
        client.rst().unwrap();
        node::wait_until("the connection is reset", || stream.peer_addr().is_err());
        let errno = stream.peer_addr().unwrap_err().raw_os_error();
        assert_eq!(errno, Some(libc::ENOTCONN));
    });
}

#[test]
fn only_the_ports_of_the_list() {
    let ports = |list: &str| format!("transparent=1 transparent_ports={list}");
    with(&ports("8080,65535,1"), |world| {
        assert_eq!(status("transparent"), "8080,65535,1");
        let client = original(Family::V4, 7, 7);
        let option = toa(200, client);
        for (port, covered) in [
            (8080, true),
            (65535, true),
            (1, true),
            (8081, false),
            (80, false),
        ] {
            let listener = TcpListener::bind((server_ip(Family::V4), port)).unwrap();
            let mut peer = connect(world, Family::V4, &listener, &option, &[]);
            let (stream, accepted) = Way::Accept4.accept(&listener);
            let expected = if covered { client } else { peer.local() };
            assert_eq!(accepted, expected, "{port}");
            assert_eq!(stream.peer_addr().unwrap(), expected, "{port}");
            assert_eq!(libtoa::original(&stream).unwrap().unwrap().addr, client);
            peer.rst().unwrap();
        }
    });
}

#[test]
fn a_bad_list_or_switch_is_einval_and_names_what_is_wrong() {
    let _unloaded = module::Unloaded::now();
    for (parameters, named) in [
        ("transparent=1 transparent_ports=80,0,443", "0"),
        ("transparent=1 transparent_ports=65536", "65536"),
        ("transparent=1 transparent_ports=80,http", "http"),
        ("transparent=1 transparent_ports=80,,443", ""),
        ("transparent=1 transparent_ports=80,", ""),
        ("transparent=1 transparent_ports=-1", "-1"),
        ("transparent_ports=x", "x"),
    ] {
        let (result, lines) = kernel_log::during(|| module::load(parameters));
        assert_eq!(result, Err(Errno::EINVAL), "{parameters}");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains(&format!("parameter transparent_ports, entry \"{named}\": ")),
            "{lines:?}"
        );
        module::assert_nothing_left();
    }
    for bad in [
        "transparent=maybe",
        "transparent=",
        "transparent=2",
        "transparent_local=maybe",
    ] {
        let (result, lines) = kernel_log::during(|| module::load(bad));
        assert_eq!(result, Err(Errno::EINVAL), "{bad}");
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (name, value) = bad.split_once('=').unwrap();
        assert!(
            lines[0].contains(&format!("`{value}' invalid for parameter `{name}'")),
            "{lines:?}"
        );
        module::assert_nothing_left();
    }
    // A list alone does not switch it on.
    module::load("transparent_ports=80").unwrap();
    assert_eq!(status("transparent"), "off");
}

/// How connection set-up is watched is another matter.
#[test]
fn beside_kprobes() {
    with("hook=kprobe transparent=1", |world| {
        let client = original(Family::V6, 7, 7);
        let listener = world.listen(Family::V6);
        let mut peer = connect(world, Family::V6, &listener, &toa(253, client), &[]);
        let (stream, accepted) = Way::Accept.accept(&listener);
        assert_eq!((accepted, stream.peer_addr().unwrap()), (client, client));
        peer.rst().unwrap();
    });
}

/// A kernel's own client of sockets must reach its peer, not the peer's client.
#[test]
fn callers_inside_the_kernel_are_left_alone() {
    with("transparent=1", |world| {
        for (family, kind) in [(Family::V4, 200), (Family::V6, 253)] {
            let client = original(family, 7, 7);
            let listener = world.listen(family);
            let mut peer = connect(world, family, &listener, &toa(kind, client), &[]);
            let (stream, accepted) = Way::Accept.accept(&listener);
            assert_eq!(accepted, client);
            for _ in 0..2 {
                let asker = module::Other::load("asker", &format!("fd={}", stream.as_raw_fd()));
                for way in ["by_call", "by_socket"] {
                    let told =
                        fs::read_to_string(format!("/sys/module/asker/parameters/{way}")).unwrap();
                    assert_eq!(told.trim(), peer.local().to_string(), "{way}");
                }
                drop(asker);
                assert_eq!(stream.peer_addr().unwrap(), client);
            }
            peer.rst().unwrap();
        }
    });
}

/// Only one may redirect a function. Where the second of the two is another's, the first is given
/// back.
#[test]
fn a_livepatch_that_owns_a_function_is_reported_and_the_mode_refused() {
    let _unloaded = module::Unloaded::now();
    for function in GETNAMES {
        let parameters = format!("function={function}");
        let own = || module::Other::load("owner", &parameters);
        // It is refused with one line, and the functions are as they were.
        let refused = |by: &dyn Fn() -> Result<(), Errno>| {
            let before = module::hooked_of(&GETNAMES);
            let names = |line: &String| line.starts_with(&format!("{function} in "));
            assert!(!before.is_empty() && before.iter().all(names), "{before:?}");
            let (result, lines) = kernel_log::during(by);
            assert_eq!(result, Err(Errno::EBUSY), "{function}");
            assert_eq!(lines.len(), 1, "{lines:?}");
            for word in [function, "livepatch", "transparent"] {
                assert!(lines[0].contains(word), "{lines:?}");
            }
            assert_eq!(module::hooked_of(&GETNAMES), before);
        };
        let owner = own();
        refused(&|| module::load("transparent=1"));
        drop(owner);
        module::assert_nothing_left();

        // Without the mode they do not meet; and it cannot be switched on later.
        let owner = own();
        module::load("").unwrap();
        refused(&|| set("transparent", "1"));
        assert_eq!(
            (status("transparent"), parameter("transparent")),
            ("off".to_owned(), "N".to_owned())
        );
        drop(owner);
        set("transparent", "1").unwrap();
        module::unload_patiently();

        // And whoever comes later is refused.
        module::load("transparent=1").unwrap();
        assert_eq!(
            module::load_file(&node::test_module("owner"), &parameters),
            Err(Errno::EBUSY)
        );
        module::unload_patiently();
    }
}

/// Tracers of the same functions, which change where they return to, do not hide who calls.
#[test]
fn traced_functions_serve_on() {
    let tracing = |file: &str, value: &str| {
        fs::write(format!("/sys/kernel/tracing/{file}"), value)
            .unwrap_or_else(|error| panic!("{file} {value}: {error}"));
    };
    let tracers = fs::read_to_string("/sys/kernel/tracing/available_tracers").unwrap();
    with("transparent=1", |world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let mut tried = 0;
        for tracer in ["function", "function_graph"] {
            if !tracers.split_whitespace().any(|word| word == tracer) {
                continue;
            }
            tried += 1;
            tracing(
                "set_ftrace_filter",
                "inet_getname inet6_getname __sys_getpeername",
            );
            tracing("current_tracer", tracer);
            let mut peer = connect(world, Family::V4, &listener, &toa(200, client), &[]);
            let (stream, accepted) = Way::Accept.accept(&listener);
            let named = stream.peer_addr().unwrap();
            let trace = fs::read_to_string("/sys/kernel/tracing/trace").unwrap();
            tracing("current_tracer", "nop");
            tracing("set_ftrace_filter", "");
            assert_eq!((accepted, named), (client, client), "{tracer}");
            assert!(
                trace.contains("inet_getname"),
                "{tracer} saw nothing: {trace}"
            );
            peer.rst().unwrap();
        }
        if tried == 0 {
            node::skip("this kernel has neither tracer of functions");
        }
    });
}

/// A task that sleeps inside the function in the kernel's place is waited for; but not by who switches,
/// who keeps all of generic netlink waiting.
#[test]
fn unloading_waits_for_a_task_that_sleeps_inside() {
    with("transparent=1", |world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let mut peer = connect(world, Family::V4, &listener, &toa(200, client), &[]);
        let (stream, _) = Way::Accept.accept(&listener);
        let mut other = connect(world, Family::V4, &listener, &toa(200, client), &[]);
        let (others, _) = Way::Accept.accept(&listener);
        let page = sleepy::Page::new();
        thread::scope(|scope| {
            // Whoever writes holds the socket's lock, and sleeps on what it is to write.
            let from = page.address() as usize;
            let fd = stream.as_raw_fd();
            let writing = scope.spawn(move || {
                // SAFETY: The page is as long, and the kernel only reads it.
                unsafe { libc::write(fd, from as *const libc::c_void, 100) }
            });
            let sleeper = page.wait_for_sleeper();
            let (answer, answered) = mpsc::channel();
            let stream = &stream;
            scope.spawn(move || answer.send(stream.peer_addr()).unwrap());
            if let Ok(name) = answered.recv_timeout(Duration::from_secs(2)) {
                // Before 5.15 the kernel takes no lock to tell a name.
                assert_eq!(name.unwrap(), client);
                node::skip("this kernel's inet_getname does not sleep");
                drop(sleeper);
                writing.join().unwrap();
                return;
            }
            for (on, expected) in [(false, other.local()), (true, client)] {
                let (done, switched) = mpsc::channel();
                scope.spawn(move || {
                    let change = control::Change {
                        transparent: Some(on),
                        ..control::Change::default()
                    };
                    let result = Control::open().and_then(|control| control.set(&change));
                    done.send(result).unwrap();
                });
                let result = switched.recv_timeout(PATIENCE);
                result.expect("switched while a task is inside").unwrap();
                assert_eq!(others.peer_addr().unwrap(), expected);
            }
            let (gone, unloaded) = mpsc::channel();
            scope.spawn(move || {
                module::unload_patiently();
                gone.send(()).unwrap();
            });
            // The wire's peer is told as soon as unloading has begun.
            node::wait_until("unloading has begun", || {
                others.peer_addr().unwrap() == other.local()
            });
            assert_eq!(
                unloaded.recv_timeout(Duration::from_secs(3)),
                Err(mpsc::RecvTimeoutError::Timeout),
                "the module is gone, and a task is inside"
            );
            drop(sleeper);
            assert_eq!(writing.join().unwrap(), 100);
            // It was asked while the mode was on, and is answered after.
            let name = answered.recv_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!(name, peer.local());
            unloaded.recv_timeout(PATIENCE).unwrap();
        });
        peer.rst().unwrap();
        other.rst().unwrap();
        if !module::is_loaded() {
            module::assert_nothing_left();
            module::load("").unwrap();
        }
    });
}

/// What is written to the parameters' files is in force when the write returns, for connections
/// that stand already too.
#[test]
fn switched_at_run_time() {
    with("", |world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let port = listener.local_addr().unwrap().port();
        let mut peer = connect(world, Family::V4, &listener, &toa(200, client), &[]);
        let (stream, accepted) = Way::Accept.accept(&listener);
        assert_eq!(accepted, peer.local());
        let accepted = |expected: SocketAddr, what: &str| {
            assert_eq!(stream.peer_addr().unwrap(), expected, "{what}");
            let mut other = connect(world, Family::V4, &listener, &toa(200, client), &[]);
            let (_stream, accepted) = Way::Accept4.accept(&listener);
            let expected = if expected == client {
                client
            } else {
                other.local()
            };
            assert_eq!(accepted, expected, "{what}");
            other.rst().unwrap();
        };
        for round in 0..3 {
            set("transparent", "1").unwrap();
            assert_eq!(parameter("transparent"), "Y");
            assert_eq!(status("transparent"), "all ports");
            assert!(module::hooked_of(&GETNAMES).len() >= 2);
            accepted(client, "on");

            set("transparent_ports", "1,65535").unwrap();
            assert_eq!(status("transparent"), "1,65535");
            accepted(peer.local(), "other ports");
            let list = format!("80,{port}");
            set("transparent_ports", &list).unwrap();
            assert_eq!(parameter("transparent_ports"), list);
            accepted(client, "this port");

            // A bad list leaves all as it was.
            let (result, lines) = kernel_log::during(|| set("transparent_ports", "1,http"));
            assert_eq!(result, Err(Errno::EINVAL));
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(
                lines[0].contains("parameter transparent_ports, entry \"http\": "),
                "{lines:?}"
            );
            assert_eq!(set("transparent", "maybe"), Err(Errno::EINVAL));
            assert_eq!(
                set("transparent_ports", &vec!["80"; 400].join(",")),
                Err(Errno::ENOSPC)
            );
            assert_eq!(
                (parameter("transparent_ports"), parameter("transparent")),
                (list.clone(), "Y".into())
            );
            assert_eq!(status("transparent"), list);
            accepted(client, "as it was");

            set("transparent", "N").unwrap();
            assert_eq!(status("transparent"), "off");
            // Nothing is left of it.
            assert_eq!(
                module::hooked_of(&GETNAMES),
                Vec::<String>::new(),
                "{round}"
            );
            accepted(peer.local(), "off");
            // The list stays, and an empty one is all ports.
            assert_eq!(parameter("transparent_ports"), list);
            set("transparent_ports", "").unwrap();
        }
        peer.rst().unwrap();
    });
}

/// Whoever may write to the file must also have the node's network for his matter.
#[test]
fn switching_wants_cap_net_admin() {
    const CAP_NET_ADMIN: u32 = 12;
    with("", |_| {
        // Capabilities are a thread's.
        let refused = thread::spawn(|| {
            // _LINUX_CAPABILITY_VERSION_3, this thread; two words each of what is effective,
            // permitted and inheritable.
            let head = [0x2008_0522u32, 0];
            let mut sets = [[0u32; 3]; 2];
            // SAFETY: The structures are as capget(2) has them.
            let got = unsafe { libc::syscall(libc::SYS_capget, head.as_ptr(), sets.as_mut_ptr()) };
            assert_eq!(got, 0);
            sets[0][0] &= !(1 << CAP_NET_ADMIN);
            // SAFETY: As above.
            let set_ = unsafe { libc::syscall(libc::SYS_capset, head.as_ptr(), sets.as_ptr()) };
            assert_eq!(set_, 0);
            ["transparent", "transparent_local", "transparent_ports"].map(|name| set(name, "1"))
        });
        assert_eq!(refused.join().unwrap(), [Err(Errno::EPERM); 3]);
        assert_eq!(status("transparent"), "off");
        for (name, mode) in [("transparent", 0o644), ("transparent_ports", 0o644)] {
            let path = format!("/sys/module/toa/parameters/{name}");
            let file = fs::metadata(path).unwrap();
            assert_eq!((file.mode() & 0o777, file.uid()), (mode, 0));
        }
    });
}

/// What comes when a server may have accepted the connection already is not told: getpeername would
/// say what accept has not. The module's own call tells it.
#[test]
fn what_comes_after_accept_is_told_by_neither() {
    with("transparent=1 first_data=1", |world| {
        for (family, kind) in [(Family::V4, 200), (Family::V6, 253)] {
            let client = original(family, 7, 7);
            let option = toa(kind, client);
            let listener = world.listen(family);
            let mut peer = connect(world, family, &listener, &[], &[]);
            let (mut stream, accepted) = Way::Accept.accept(&listener);
            assert_eq!(accepted, peer.local());
            peer.data_with(b"data", &option).unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            let asked = libtoa::original(&stream).unwrap().unwrap();
            assert_eq!((asked.addr, asked.segment), (client, Segment::Data));
            assert_eq!(stream.peer_addr().unwrap(), accepted);
            peer.rst().unwrap();
        }
    });
}

/// A Fast Open client that has sent a SYN with data and these options, and no ACK.
pub(super) fn half_open(
    world: &World,
    family: Family,
    listener: &TcpListener,
    options: &[u8],
) -> Client {
    let mut end = world.client(family, listener);
    let first = wire::Segment {
        options: options.to_vec(),
        payload: b"early".to_vec(),
        ..end.segment(Flags::SYN)
    };
    end.send(&first).unwrap();
    end.seq = end.seq.wrapping_add(first.span());
    end.recv_syn_ack().unwrap();
    end
}

/// A Fast Open connection is accepted before its handshake is complete.
#[test]
fn accept_and_getpeername_agree_on_fast_open_connections() {
    with("transparent=1", |world| {
        for (family, kind) in [(Family::V4, 200), (Family::V6, 253)] {
            let [early, late] = [1, 2].map(|host| original(family, host, 7));
            let [in_syn, in_ack] = [early, late].map(|client| toa(kind, client));
            let (listener, _on) = fast_open(world, family);
            for (syn, ack, named, own) in [
                (&in_syn[..], &[][..], true, Some(early)),
                (&in_syn, &in_ack, true, Some(early)),
                // Too late for accept.
                (&[], &in_ack, false, Some(late)),
                (&[], &[], false, None),
            ] {
                for way in Way::ALL {
                    let mut end = half_open(world, family, &listener, syn);
                    let (mut stream, accepted) = way.accept(&listener);
                    let expected = if named { early } else { end.local() };
                    assert_eq!(accepted, expected, "{way:?}");
                    assert_eq!(stream.peer_addr().unwrap(), expected, "{way:?}");
                    end.ack(ack).unwrap();
                    end.data(b"more").unwrap();
                    stream.read_exact(&mut [0; 9]).unwrap();
                    let asked = libtoa::original(&stream).unwrap();
                    assert_eq!(asked.map(|asked| asked.addr), own);
                    assert_eq!(stream.peer_addr().unwrap(), expected, "{way:?}");
                    end.rst().unwrap();
                }
            }
        }
    });
}

/// What `accept` has told stays, though nothing of the SYN waits any more when the ACK comes, and its
/// source is trusted no more.
#[test]
fn what_a_fast_open_server_was_told_stays() {
    with("transparent=1", |world| {
        let before = control().config().unwrap().trusted;
        for (family, kind) in [(Family::V4, 200), (Family::V6, 253)] {
            let [early, late] = [1, 2].map(|host| original(family, host, 7));
            let [in_syn, in_ack] = [early, late].map(|client| toa(kind, client));
            let (listener, _on) = fast_open(world, family);
            for way in Way::ALL {
                for ack in [&[][..], &in_ack] {
                    let counters = Stats::read();
                    let mut end = half_open(world, family, &listener, &in_syn);
                    let (stream, accepted) = way.accept(&listener);
                    assert_eq!(accepted, early, "{way:?}");
                    control().set(&trusted("203.0.113.0/24")).unwrap();
                    let told = |what: &str| {
                        assert_eq!(stream.peer_addr().unwrap(), early, "{way:?} {what}");
                        let asked = libtoa::original(&stream).unwrap().unwrap();
                        let told = (asked.addr, asked.segment, asked.peer);
                        assert_eq!(told, (early, Segment::Syn, end.local()), "{way:?} {what}");
                    };
                    told("before the ACK");
                    end.ack(ack).unwrap();
                    end.data(b"more").unwrap();
                    (&stream).read_exact(&mut [0; 9]).unwrap();
                    let told = (
                        stream.peer_addr().unwrap(),
                        libtoa::original(&stream).unwrap().map(|asked| asked.addr),
                    );
                    assert_eq!(told, (early, Some(early)), "{way:?}");
                    let counted = Stats::read().since(&counters);
                    for (name, times) in [
                        ("syn_recv_sock_toa", 1),
                        ("syn_recv_sock_no_toa", 0),
                        ("untrusted", u64::from(!ack.is_empty())),
                    ] {
                        assert_eq!(counted.get(name), times, "{name}: {counted:?}");
                    }
                    let trusted = Some(before.prefixes().to_vec());
                    control()
                        .set(&Change {
                            trusted,
                            ..Change::default()
                        })
                        .unwrap();
                    end.rst().unwrap();
                }
            }
        }
    });
}

/// Trusted again when the ACK comes: `accept` has told the peer.
#[test]
fn what_a_fast_open_server_was_not_told_it_is_not_told_later() {
    with("transparent=1", |world| {
        let (listener, _on) = fast_open(world, Family::V4);
        let option = toa(200, original(Family::V4, 7, 7));
        let before = Stats::read();
        let mut end = half_open(world, Family::V4, &listener, &option);
        let everybody = trusted("any");
        control().set(&trusted("203.0.113.0/24")).unwrap();
        let (mut stream, accepted) = Way::Accept4.accept(&listener);
        assert_eq!(accepted, end.local());
        control().set(&everybody).unwrap();
        end.ack(&[]).unwrap();
        end.data(b"more").unwrap();
        stream.read_exact(&mut [0; 9]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), end.local());
        assert_eq!(libtoa::original(&stream).unwrap(), None);
        let counted = Stats::read().since(&before);
        for (name, times) in [("untrusted", 1), ("syn_recv_sock_no_toa", 1)] {
            assert_eq!(counted.get(name), times, "{counted:?}");
        }
        end.rst().unwrap();
    });
}

/// They wait for the socket's lock, on any kernel, to make what they are told stay.
#[test]
fn unloading_waits_for_tasks_that_sleep_before_a_fast_open_connections_ack() {
    with("transparent=1", |world| {
        let client = original(Family::V4, 7, 7);
        let (listener, _on) = fast_open(world, Family::V4);
        let mut peer = half_open(world, Family::V4, &listener, &toa(200, client));
        let (stream, _) = Way::Accept.accept(&listener);
        let mut other = connect(world, Family::V4, &listener, &toa(200, client), &[]);
        let (others, _) = Way::Accept.accept(&listener);
        let page = sleepy::Page::new();
        thread::scope(|scope| {
            let from = page.address() as usize;
            let fd = stream.as_raw_fd();
            let writing = scope.spawn(move || {
                // SAFETY: The page is as long, and the kernel only reads it.
                unsafe { libc::write(fd, from as *const libc::c_void, 100) }
            });
            let sleeper = page.wait_for_sleeper();
            let (answer, answered) = mpsc::channel();
            let stream = &stream;
            for _ in 0..3 {
                let answer = answer.clone();
                scope.spawn(move || answer.send(stream.peer_addr()).unwrap());
            }
            let early = answered.recv_timeout(Duration::from_secs(2));
            assert!(early.is_err(), "told without the lock: {early:?}");
            let (gone, unloaded) = mpsc::channel();
            scope.spawn(move || {
                module::unload_patiently();
                gone.send(()).unwrap();
            });
            node::wait_until("unloading has begun", || {
                others.peer_addr().unwrap() == other.local()
            });
            assert_eq!(
                unloaded.recv_timeout(Duration::from_secs(3)),
                Err(mpsc::RecvTimeoutError::Timeout),
                "the module is gone, and tasks are inside"
            );
            drop(sleeper);
            assert_eq!(writing.join().unwrap(), 100);
            for _ in 0..3 {
                let name = answered.recv_timeout(PATIENCE).unwrap().unwrap();
                assert_eq!(name, peer.local());
            }
            unloaded.recv_timeout(PATIENCE).unwrap();
        });
        peer.rst().unwrap();
        other.rst().unwrap();
        module::assert_nothing_left();
        module::load("").unwrap();
    });
}

/// What its ACK tells beside the client, who is known by its SYN, or instead of one.
#[test]
fn the_ack_of_a_fast_open_connection_that_was_accepted_adds_what_it_tells() {
    with(
        "transparent=1 transparent_local=1 layouts=alibaba",
        |world| {
            let client = original(Family::V4, 7, 7);
            let vip: SocketAddr = "192.0.2.80:443".parse().unwrap();
            let [names_client, names_vip] = [toa(254, client), toa(250, vip)];
            let (listener, _on) = fast_open(world, Family::V4);
            let local =
                SocketAddr::new(server_ip(Family::V4), listener.local_addr().unwrap().port());
            let others_vip = toa(250, "192.0.2.81:444".parse().unwrap());
            for (by_syn, ack) in [
                (true, names_vip.clone()),
                (false, names_client.clone()),
                // Who has been told one is not told another.
                (false, [&names_client[..], &others_vip].concat()),
            ] {
                let syn = if by_syn { &names_client } else { &names_vip };
                let mut end = half_open(world, Family::V4, &listener, syn);
                // A client that is told after `accept` is told by the module's own call alone.
                let peer = if by_syn { client } else { end.local() };
                let (mut stream, accepted) = Way::Accept4.accept(&listener);
                assert_eq!(accepted, peer);
                let at_first = if by_syn { local } else { vip };
                assert_eq!(stream.local_addr().unwrap(), at_first);
                end.ack(&ack).unwrap();
                end.data(b"more").unwrap();
                stream.read_exact(&mut [0; 9]).unwrap();
                assert_eq!(stream.peer_addr().unwrap(), peer);
                assert_eq!(stream.local_addr().unwrap(), vip);
                let asked = libtoa::original(&stream).unwrap().unwrap();
                assert_eq!((asked.addr, asked.vip), (client, Some(vip)));
                end.rst().unwrap();
            }
        },
    );
}

/// Where the option names no port, none is told: the hop's is not the client's.
#[test]
fn a_client_without_a_port_has_port_0() {
    with("transparent=1 layouts=alibaba-cdn", |world| {
        for family in Family::ALL {
            let client = SocketAddr::new(original(family, 7, 0).ip(), 0);
            // Kind, length and version; the address has no port before it.
            let address = &toa(0, client)[4..];
            let option = [&[28, 3 + address.len() as u8, 1], address].concat();
            let listener = world.listen(family);
            for way in Way::ALL {
                for (syn, ack) in [(&option[..], &[][..]), (&[], &option)] {
                    let mut peer = connect(world, family, &listener, syn, ack);
                    let (stream, accepted) = way.accept(&listener);
                    assert_eq!(accepted, client, "{way:?}");
                    assert_eq!(stream.peer_addr().unwrap(), client, "{way:?}");
                    peer.rst().unwrap();
                }
            }
        }
    });
}

/// By its own switch, where the options carry it.
#[test]
fn getsockname_tells_the_vip() {
    with("transparent=1 layouts=alibaba", |world| {
        let client = original(Family::V4, 7, 7);
        let vip: SocketAddr = "192.0.2.80:443".parse().unwrap();
        let options = [toa(254, client), toa(250, vip)].concat();
        let listener = world.listen(Family::V4);
        let local = listener.local_addr().unwrap();
        let mut peer = connect(world, Family::V4, &listener, &options, &[]);
        let (stream, accepted) = Way::Accept.accept(&listener);
        let mut plain = connect(world, Family::V4, &listener, &toa(254, client), &[]);
        let (without, _) = Way::Accept.accept(&listener);
        assert_eq!(accepted, client);
        assert_eq!(stream.local_addr().unwrap(), local);
        assert_eq!(status("transparent_local"), "off");

        set("transparent_local", "1").unwrap();
        assert_eq!(
            (parameter("transparent_local"), status("transparent_local")),
            ("Y".into(), "on".into())
        );
        let before = [Stats::read(), Stats::own()];
        assert_eq!(stream.local_addr().unwrap(), vip);
        assert_eq!(stream.peer_addr().unwrap(), client);
        // Who has none, and who is no connection.
        assert_eq!(without.local_addr().unwrap(), local);
        assert_eq!(listener.local_addr().unwrap(), local);
        // Counted for the node, and for the network namespace.
        for (now, before) in [Stats::read(), Stats::own()].iter().zip(&before) {
            let difference = now.since(before);
            assert_eq!(
                [
                    difference.get("transparent_told"),
                    difference.get("transparent_local_told"),
                    difference.get("transparent_kept_v6")
                ],
                [1, 1, 0],
                "{difference:?}"
            );
        }
        // A VIP alone leaves the peer the wire's.
        let before = Stats::read();
        let mut nameless = connect(world, Family::V4, &listener, &toa(250, vip), &[]);
        let (alone, accepted) = Way::Accept.accept(&listener);
        assert_eq!(accepted, nameless.local());
        assert_eq!(alone.peer_addr().unwrap(), nameless.local());
        assert_eq!(alone.local_addr().unwrap(), vip);
        assert_eq!(Stats::read().since(&before).get("transparent_told"), 0);
        nameless.rst().unwrap();
        // The form is the socket's.
        let dual = TcpListener::bind("[::]:0").unwrap();
        let mut over_v4 = connect(world, Family::V4, &dual, &options, &[]);
        let (on_v6, accepted) = Way::Accept.accept(&dual);
        assert_eq!(accepted, mapped(client));
        assert_eq!(on_v6.local_addr().unwrap(), mapped(vip));
        over_v4.rst().unwrap();
        // The mode's ports are its too.
        set("transparent_ports", "1").unwrap();
        assert_eq!(stream.local_addr().unwrap(), local);
        set("transparent_ports", "").unwrap();
        assert_eq!(stream.local_addr().unwrap(), vip);
        for (parameter, value) in [("transparent_local", "0"), ("transparent", "0")] {
            set(parameter, value).unwrap();
            assert_eq!(stream.local_addr().unwrap(), local, "{parameter}");
        }
        peer.rst().unwrap();
        plain.rst().unwrap();

        // Over IPv6 the VIP comes without a port: the socket's stays. On an AF_INET socket it cannot
        // be told.
        set("transparent", "1").unwrap();
        set("transparent_local", "1").unwrap();
        let client = original(Family::V6, 7, 7);
        let vip = "2001:db8::80".parse().unwrap();
        let mut option = vec![249, 40];
        option.extend(toa(0, client)[2..].iter().copied());
        option.resize(24, 0);
        option.extend(match vip {
            IpAddr::V6(vip) => vip.octets(),
            IpAddr::V4(_) => unreachable!(),
        });
        for family in Family::ALL {
            let listener = world.listen(family);
            let local = listener.local_addr().unwrap();
            let before = Stats::read();
            let mut peer = connect(world, family, &listener, &[], &option);
            let (stream, accepted) = Way::Accept.accept(&listener);
            let expected = match family {
                Family::V4 => (peer.local(), local, 2),
                Family::V6 => (client, SocketAddr::new(vip, local.port()), 0),
            };
            let kept = || Stats::read().since(&before).get("transparent_kept_v6");
            assert_eq!((accepted, stream.local_addr().unwrap(), kept()), expected);
            peer.rst().unwrap();
        }
    });
}

/// getsockopt(SO_PEERNAME) is asked by programs that want to know the wire's.
#[test]
fn so_peername_goes_on_telling_the_wires_peer() {
    with("transparent=1", |world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let mut peer = connect(world, Family::V4, &listener, &toa(200, client), &[]);
        let (stream, accepted) = Way::Accept.accept(&listener);
        assert_eq!(accepted, client);
        let mut name = Name::new();
        // Not more than there is.
        name.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let (address, len) = (name.address(), &raw mut name.len);
        // SAFETY: The kernel may write an address of that length.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERNAME,
                address.cast(),
                len,
            )
        };
        Errno::result(result).unwrap();
        assert_eq!(name.read(), peer.local());
        peer.rst().unwrap();
    });
}

/// A server as Debian ships it, stopped in the end.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// With these arguments, which are told a folder for its files. None, which is said, if it is not in
    /// the PATH.
    fn start<const N: usize>(
        program: &str,
        arguments: impl FnOnce(&Path) -> [String; N],
    ) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let spawned = Command::new(program)
            .args(arguments(folder.path()))
            // Not every node has files for this machine's locale.
            .env("LC_ALL", "C")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match spawned {
            Ok(process) => Some(Self { process, folder }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                node::skip(&format!("there is no {program} in the PATH"));
                None
            }
            Err(error) => panic!("{program}: {error}"),
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the servers of these tests listen.
fn servers() -> [SocketAddr; 2] {
    Family::ALL.map(|family| SocketAddr::new(server_ip(family), 8080))
}

/// Clients connect over both families, told by SYN, by ACK and not at all, and ask for something until
/// they are answered what has to be in the answer to the address given. Returns these addresses.
fn visit(world: &World, request: &str, answer: impl Fn(SocketAddr) -> String) -> Vec<SocketAddr> {
    let mut visitors = Vec::new();
    for (family, server) in Family::ALL.into_iter().zip(servers()) {
        let kind = match family {
            Family::V4 => 200,
            Family::V6 => 253,
        };
        for (host, in_syn, named) in [(7, true, true), (8, false, true), (9, true, false)] {
            let client = original(family, host, 4000 + u16::from(host));
            let option = if named { toa(kind, client) } else { vec![] };
            let mut end = Client::new(world.link(), world.fresh_peer(family), server);
            end.patience = PATIENCE;
            let (syn, ack): (&[u8], &[u8]) = if in_syn {
                (&option, &[])
            } else {
                (&[], &option)
            };
            end.connect(syn, ack).unwrap();
            end.data(request.as_bytes()).unwrap();
            let who = if named { client } else { end.local() };
            let answer = answer(who);
            loop {
                let segment = end.recv().unwrap();
                if String::from_utf8_lossy(&segment.payload).contains(&answer) {
                    break;
                }
                assert!(segment.payload.is_empty(), "no {answer:?} in {segment}");
            }
            end.rst().unwrap();
            visitors.push(who);
        }
    }
    visitors
}

/// Its access log has the client's address by `$remote_addr`, and nothing of it was changed.
#[test]
fn nginx_logs_the_client() {
    with("transparent=1", |world| {
        let nginx = Server::start("nginx", |folder| {
            let place = folder.display();
            let listen: String = servers().map(|at| format!("listen {at};")).concat();
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|what| format!("{what}_temp_path {place}/{what};"))
                .concat();
            let configuration = format!(
                "daemon off; master_process off; pid {place}/pid; error_log {place}/errors; \
                 events {{ }} \
                 http {{ {temporary} \
                 log_format clients '$remote_addr $remote_port'; \
                 access_log {place}/access clients; \
                 server {{ {listen} return 200 'you are $remote_addr'; }} }}\n"
            );
            let file = folder.join("nginx.conf");
            fs::write(&file, configuration).unwrap();
            ["-c", file.to_str().unwrap(), "-p", &place.to_string()].map(String::from)
        });
        let Some(nginx) = nginx else { return };
        // It is written when nginx listens.
        node::wait_until("nginx is up", || !nginx.read("pid").is_empty());
        let visitors = visit(world, "GET / HTTP/1.0\r\n\r\n", |who| {
            format!("you are {}", who.ip())
        });
        let log = || nginx.read("access");
        node::wait_until("nginx has logged", || {
            log().lines().count() >= visitors.len()
        });
        let expected: Vec<String> = visitors
            .iter()
            .map(|who| format!("{} {}", who.ip(), who.port()))
            .collect();
        let log = log();
        assert_eq!(
            log.lines().collect::<Vec<_>>(),
            expected,
            "{}",
            nginx.read("errors")
        );
    });
}

/// By `CLIENT INFO`, as its operators and its own logs see clients: what accept4 told it.
#[test]
fn redis_lists_the_client() {
    with("transparent=1", |world| {
        let redis = Server::start("redis-server", |folder| {
            let bind: String = servers().map(|at| format!(" {}", at.ip())).concat();
            let configuration = format!(
                "bind{bind}\nport {}\nprotected-mode no\nsave \"\"\ndir {place}\nlogfile {place}/log\n",
                servers()[0].port(),
                place = folder.display()
            );
            let file = folder.join("redis.conf");
            fs::write(&file, configuration).unwrap();
            [file.to_str().unwrap().into()]
        });
        let Some(redis) = redis else { return };
        node::wait_until("redis is up", || {
            redis.read("log").contains("Ready to accept connections")
        });
        visit(world, "CLIENT INFO\r\n", |who| format!(" addr={who} "));
    });
}
