// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kinds of sockets, and the ways in which a program comes by one.
//!
//! Others are where they belong by another theme: both families, dual-stack listeners and NAT64 in
//! `servers`, VRF and link-local addresses in `odd_packets`, the same tuple in two namespaces in
//! `table`, MPTCP's handshake by hand in `life`, sockets older than the module in `module`.

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, types};
use libtoa::{Error, Segment};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, connect,
    recvmsg, sendmsg, setsockopt, socketpair, sockopt as option,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use toa_cli::client::{Client, Link};
use toa_cli::tun::Tun;
use toa_cli::wire::toa;
use toa_testbed::{Carrier, Family, Kinds, Plan, Topology, in_ns};
use toa_vm_tests::node::{self, PATIENCE, Sysctl, ip, netstat, wait_until};
use toa_vm_tests::stream::{IPPROTO_MPTCP, listen_at, sockaddr, stream_socket};
use toa_vm_tests::{
    Conn, World, accept, module, original, server_ip, sessions, settle, sockopt, wait_readable,
};

use super::bpf;

const KINDS: Kinds = Kinds { v4: 200, v6: 253 };
const TOA_SO_ORIGINAL: i32 = 0x544f_4100;

#[track_caller]
fn told(socket: impl AsFd) -> Option<(SocketAddr, Segment)> {
    let told = libtoa::original(socket).expect("the module answers")?;
    let addr = SocketAddr::new(told.addr.ip().to_canonical(), told.addr.port());
    Some((addr, told.segment))
}

/// An option, and where it is put: the SYN's options and the ACK's.
fn ways(client: SocketAddr) -> [(Segment, Vec<u8>, Vec<u8>); 2] {
    let option = toa(if client.is_ipv4() { 200 } else { 253 }, client);
    [
        (Segment::Syn, option.clone(), vec![]),
        (Segment::Ack, vec![], option),
    ]
}

/// One of several listeners at one address.
fn one_of_many(at: SocketAddr) -> TcpListener {
    let family = if at.is_ipv4() { Family::V4 } else { Family::V6 };
    let fd = stream_socket(family, 0);
    setsockopt(&fd, option::ReusePort, &true).expect("SO_REUSEPORT");
    listen_at(fd, at)
}

/// Whichever of a group the kernel picks, its connection is the client's.
#[test]
fn every_listener_of_a_reuseport_group_tells_its_own_clients() {
    World::run(|world| {
        for family in Family::ALL {
            let at = SocketAddr::new(server_ip(family), 8080);
            let group: Vec<TcpListener> = (0..4).map(|_| one_of_many(at)).collect();
            let mut picked = [0; 4];
            let mut conns = Vec::new();
            for host in 0..32 {
                let client = original(family, host, 1000);
                let [syn_way, ack_way] = ways(client);
                let (segment, syn, ack) = if host % 2 == 0 { syn_way } else { ack_way };
                let mut end = world.client(family, &group[0]);
                end.connect(&syn, &ack).unwrap();
                let mut which = None;
                wait_until("a listener has the connection", || {
                    which = (0..4).find(|&n| wait_readable(&group[n], Duration::ZERO));
                    which.is_some()
                });
                let which = which.unwrap();
                picked[which] += 1;
                conns.push((Conn::accepted(end, &group[which]), client, segment));
            }
            assert!(
                picked.iter().filter(|&&count| count > 0).count() > 1,
                "{picked:?}"
            );
            for (conn, client, segment) in &mut conns {
                assert_eq!(told(&conn.stream), Some((*client, *segment)));
                conn.exchange();
            }
        }
    });
}

/// A client's connection to a listener that closes, half-way through the handshake or with the
/// connection in its queue, and the other listener of its group, which comes last.
fn moved(
    world: &World,
    syn: &[u8],
    ack: &[u8],
    at: SocketAddr,
    half_open: bool,
) -> (Client, TcpListener) {
    let first = one_of_many(at);
    let family = if at.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut end = world.client(family, &first);
    end.syn(syn).unwrap();
    end.recv_syn_ack().unwrap();
    if !half_open {
        end.ack(ack).unwrap();
        assert!(wait_readable(&first, PATIENCE));
    }
    let second = one_of_many(at);
    drop(first);
    if half_open {
        end.ack(ack).unwrap();
    }
    (end, second)
}

/// A listener that closes leaves its connections to another of its group, half-open ones too.
#[test]
fn connections_that_move_to_another_listener_keep_their_address() {
    World::run(|world| {
        let setting = "net/ipv4/tcp_migrate_req";
        let _on = Path::new("/proc/sys")
            .join(setting)
            .exists()
            .then(|| Sysctl::set(setting, "1"));
        for family in Family::ALL {
            let at = SocketAddr::new(server_ip(family), 8080);
            for half_open in [true, false] {
                // The setting alone does not say so: Debian's 5.10 has it, and moves none.
                let (mut plain, listener) = moved(world, &[], &[], at, half_open);
                if !wait_readable(&listener, Duration::from_secs(5)) {
                    return node::skip("this kernel moves no connections between listeners");
                }
                drop(accept(&listener));
                plain.rst().unwrap();
                drop(listener);
                for (segment, syn, ack) in ways(original(family, 7, 7)) {
                    let (end, listener) = moved(world, &syn, &ack, at, half_open);
                    let mut conn = Conn::accepted(end, &listener);
                    let expected = Some((original(family, 7, 7), segment));
                    assert_eq!(
                        told(&conn.stream),
                        expected,
                        "{family:?}, half open: {half_open}"
                    );
                    conn.exchange();
                }
            }
        }
    });
}

/// What a process does that is given a connection: asks, and tells what it was told. It may
/// allocate nothing and take no lock, since it is forked off a program with threads.
fn ask_as_heir(channel: &OwnedFd) -> ! {
    let mut space = [0u64; 8];
    let mut byte = [0u8; 1];
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: A msghdr is plain old data, and all zeroes is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&space) as _;
    let mut answer = [0u8; 48];
    let mut status = 1;
    // SAFETY: Every buffer of the message can be written for the length that is given with it.
    if unsafe { libc::recvmsg(channel.as_raw_fd(), &raw mut message, 0) } == 1 {
        // SAFETY: The kernel has filled the message in.
        let control = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        if !control.is_null() {
            // SAFETY: The first control message is there, and is the descriptor that was sent.
            let data = unsafe { libc::CMSG_DATA(control) };
            // SAFETY: As above; control data need not be aligned.
            let fd = unsafe { data.cast::<i32>().read_unaligned() };
            let mut length = answer.len() as libc::socklen_t;
            // SAFETY: The answer can be written for `length` bytes.
            status = unsafe {
                libc::getsockopt(
                    fd,
                    libc::IPPROTO_IP,
                    TOA_SO_ORIGINAL,
                    answer.as_mut_ptr().cast(),
                    &raw mut length,
                )
            };
        }
    }
    // SAFETY: The answer can be read for its length.
    unsafe { libc::write(channel.as_raw_fd(), answer.as_ptr().cast(), answer.len()) };
    // SAFETY: No destructor of this process is to run, that is the parent's.
    unsafe { libc::_exit(status) }
}

/// A supervisor hands connections to its workers; while a connection is on its way, nobody has it
/// open.
#[test]
fn a_connection_passed_to_another_process_keeps_its_address() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            for (segment, syn, ack) in ways(original(family, 7, 7)) {
                let mut end = world.client(family, &listener);
                end.connect(&syn, &ack).unwrap();
                let (stream, _) = accept(&listener);
                assert_eq!(told(&stream), Some((original(family, 7, 7), segment)));
                let mut before = [0; 48];
                sockopt::get(&stream, libc::IPPROTO_IP, TOA_SO_ORIGINAL, &mut before).unwrap();

                let (own, heirs) = socketpair(
                    AddressFamily::Unix,
                    SockType::SeqPacket,
                    None,
                    SockFlag::SOCK_CLOEXEC,
                )
                .unwrap();
                let passed = [stream.as_raw_fd()];
                sendmsg::<()>(
                    own.as_raw_fd(),
                    &[IoSlice::new(b"!")],
                    &[ControlMessage::ScmRights(&passed)],
                    MsgFlags::empty(),
                    None,
                )
                .unwrap();
                // The server's end is in the channel only.
                drop(stream);
                assert_eq!(sessions(), 1);
                // SAFETY: The child calls nothing that is not safe after a fork of a program with
                // threads: see there.
                let child = match unsafe { fork() }.unwrap() {
                    ForkResult::Child => ask_as_heir(&heirs),
                    ForkResult::Parent { child } => child,
                };
                drop(heirs);
                let mut answer = [0; 48];
                let mut parts = [IoSliceMut::new(&mut answer)];
                let got = recvmsg::<()>(own.as_raw_fd(), &mut parts, None, MsgFlags::empty());
                assert_eq!(got.unwrap().bytes, 48);
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
                assert_eq!(answer, before, "{family:?}, {segment}");
                // With the heir the last descriptor is gone.
                end.rst().unwrap();
                settle();
            }
        }
    });
}

/// A descriptor that comes back to the process that sent it, and its copies, are one connection.
#[test]
fn copies_of_a_descriptor_are_told_alike_and_the_last_one_ends_it() {
    World::run(|world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let mut end = world.client(Family::V4, &listener);
        end.connect(&toa(200, client), &[]).unwrap();
        let (stream, _) = accept(&listener);
        let (own, other) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let passed = [stream.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&passed)];
        sendmsg::<()>(
            own.as_raw_fd(),
            &[IoSlice::new(b"!")],
            &rights,
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        let copy = stream.try_clone().unwrap();
        drop(stream);
        assert_eq!(told(&copy), Some((client, Segment::Syn)));
        drop(copy);
        let mut byte = [0];
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut parts = [IoSliceMut::new(&mut byte)];
        let got = recvmsg::<()>(
            other.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::empty(),
        )
        .unwrap();
        let Some(ControlMessageOwned::ScmRights(fds)) = got.cmsgs().unwrap().next() else {
            panic!("no descriptor came");
        };
        // SAFETY: The kernel has just made the descriptor for this process.
        let back = unsafe { OwnedFd::from_raw_fd(fds[0]) };
        assert_eq!(told(&back), Some((client, Segment::Syn)));
        assert_eq!(sessions(), 1);
        end.rst().unwrap();
        drop(back);
        settle();
    });
}

#[test]
fn accept_and_accept4_whatever_the_flags() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            for flags in [
                None,
                Some(0),
                Some(libc::SOCK_CLOEXEC),
                Some(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC),
            ] {
                for (segment, syn, ack) in ways(original(family, 7, 7)) {
                    let mut end = world.client(family, &listener);
                    end.connect(&syn, &ack).unwrap();
                    assert!(wait_readable(&listener, PATIENCE));
                    let (fd, none) = (listener.as_raw_fd(), std::ptr::null_mut());
                    let fd = match flags {
                        // SAFETY: No address is asked for, so nothing is written.
                        None => unsafe { libc::accept(fd, none, std::ptr::null_mut()) },
                        // SAFETY: As above.
                        Some(flags) => unsafe {
                            libc::accept4(fd, none, std::ptr::null_mut(), flags)
                        },
                    };
                    let fd = Errno::result(fd).expect("accept");
                    // SAFETY: The descriptor was made just now, and nobody else has it.
                    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
                    let expected = Some((original(family, 7, 7), segment));
                    assert_eq!(told(&socket), expected, "{flags:?}");
                    end.rst().unwrap();
                }
            }
        }
    });
}

/// The results of a ring, so many.
fn completions(ring: &mut IoUring, count: usize) -> Vec<cqueue::Entry> {
    let mut got = Vec::new();
    wait_until("the ring's completions", || {
        // Entering the kernel is what lets it finish the work that is this task's.
        ring.submit().expect("the ring");
        got.extend(ring.completion());
        got.len() >= count
    });
    got
}

#[test]
fn connections_accepted_by_io_uring() {
    World::run(|world| {
        let mut ring = match IoUring::new(8) {
            Ok(ring) => ring,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                return node::skip("this kernel has no io_uring");
            }
            Err(error) => panic!("a ring: {error}"),
        };
        for family in Family::ALL {
            let listener = world.listen(family);
            for (segment, syn, ack) in ways(original(family, 7, 7)) {
                // Whether the connection is there first, or the call that waits for it.
                for waits in [true, false] {
                    let mut end = world.client(family, &listener);
                    if !waits {
                        end.connect(&syn, &ack).unwrap();
                        assert!(wait_readable(&listener, PATIENCE));
                    }
                    let (listening, none) = (types::Fd(listener.as_raw_fd()), std::ptr::null_mut());
                    let call = opcode::Accept::new(listening, none, std::ptr::null_mut())
                        .flags(libc::SOCK_CLOEXEC)
                        .build();
                    // SAFETY: The call has no buffers, and the listener outlives it.
                    unsafe { ring.submission().push(&call) }.unwrap();
                    ring.submit().unwrap();
                    if waits {
                        assert!(ring.completion().next().is_none());
                        end.connect(&syn, &ack).unwrap();
                    }
                    let done = completions(&mut ring, 1);
                    let fd = done[0].result();
                    assert!(fd >= 0, "{}", Errno::from_raw(-fd));
                    // SAFETY: The kernel has just made the descriptor for this process.
                    let socket = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
                    assert_eq!(socket.peer_addr().unwrap(), end.local());
                    let expected = Some((original(family, 7, 7), segment));
                    assert_eq!(told(&socket), expected, "{family:?}, waits: {waits}");
                    end.rst().unwrap();
                }
            }
        }
    });
}

/// One call that takes connection after connection.
#[test]
fn connections_of_a_multishot_accept() {
    World::run(|world| {
        let Ok(mut ring) = IoUring::new(8) else {
            return node::skip("this kernel has no io_uring");
        };
        let listener = world.listen(Family::V4);
        let call = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build();
        // SAFETY: The call has no buffers, and the ring, which ends it, goes before the listener.
        unsafe { ring.submission().push(&call) }.unwrap();
        ring.submit().unwrap();
        if let Some(refused) = ring.completion().next() {
            assert_eq!(refused.result(), -libc::EINVAL);
            return node::skip("this kernel's io_uring has no multishot accept");
        }
        for host in 1..=8 {
            let client = original(Family::V4, host, 1000);
            let [syn_way, ack_way] = ways(client);
            let (segment, syn, ack) = if host % 2 == 0 { syn_way } else { ack_way };
            let mut end = world.client(Family::V4, &listener);
            end.connect(&syn, &ack).unwrap();
            let done = completions(&mut ring, 1);
            assert!(cqueue::more(done[0].flags()), "the call ended");
            // SAFETY: The kernel has just made the descriptor for this process.
            let socket = unsafe { OwnedFd::from_raw_fd(done[0].result()) };
            assert_eq!(told(&socket), Some((client, segment)));
            end.rst().unwrap();
        }
        drop(ring);
    });
}

/// Two customers' networks on one machine: the same addresses, ports and sequence numbers.
#[test]
fn the_same_tuple_in_two_vrfs_at_once() {
    World::run(|world| {
        // The world's own device is toa0.
        let other = Tun::new().expect("a second device");
        for (vrf, table, device) in [("red", 10, "toa0"), ("blue", 20, "toa1")] {
            ip(&format!("link add {vrf} type vrf table {table}"));
            ip(&format!("link set {vrf} up"));
            ip(&format!("link set {device} master {vrf}"));
            // Moving it has taken the IPv6 address and the routes away.
            let [v4, v6] = Family::ALL.map(server_ip);
            ip(&format!("addr replace {v4}/24 dev {device}"));
            ip(&format!("addr replace {v6}/64 dev {device} nodad"));
        }
        let links = [world.link().clone(), Link::new(other)];
        for family in Family::ALL {
            for global in [true, false] {
                let at = SocketAddr::new(server_ip(family), 8080);
                let _all =
                    Sysctl::set("net/ipv4/tcp_l3mdev_accept", if global { "1" } else { "0" });
                let in_vrf = |vrf: &str| {
                    let fd = stream_socket(family, 0);
                    setsockopt(&fd, option::BindToDevice, &vrf.into()).expect("SO_BINDTODEVICE");
                    listen_at(fd, at)
                };
                let listeners = if global {
                    let any = TcpListener::bind("[::]:8080").unwrap();
                    [any.try_clone().unwrap(), any]
                } else {
                    ["red", "blue"].map(in_vrf)
                };
                // By the SYN, which waits for its connection, and by the ACK.
                for way in 0..2 {
                    let peer = world.fresh_peer(family);
                    let mut ends = links.each_ref().map(|link| {
                        let mut end = Client::new(link, peer, at);
                        end.patience = PATIENCE;
                        end
                    });
                    let clients = [1, 2].map(|host| original(family, host, 1000));
                    let ways = clients.map(|client| ways(client)[way].clone());
                    for (end, (_, syn, _)) in ends.iter_mut().zip(&ways) {
                        end.syn(syn).unwrap();
                        end.recv_syn_ack().unwrap();
                    }
                    assert_eq!(ends[0].seq, ends[1].seq);
                    // In turn, so that it is known which connection is whose.
                    let mut conns = Vec::new();
                    for ((end, listener), (_, _, ack)) in ends.iter_mut().zip(&listeners).zip(&ways)
                    {
                        end.ack(ack).unwrap();
                        conns.push(accept(listener).0);
                    }
                    for ((stream, client), (segment, ..)) in conns.iter().zip(clients).zip(&ways) {
                        let told = told(stream);
                        assert_eq!(
                            told,
                            Some((client, *segment)),
                            "{family:?}, global: {global}"
                        );
                    }
                    assert_eq!(sessions(), 2);
                    for end in &mut ends {
                        end.rst().unwrap();
                    }
                    drop(conns);
                    settle();
                }
            }
        }
    });
}

/// Keys for one direction, and the same for the other end.
fn tls_key(salt: u8) -> option::TlsCryptoInfo {
    option::TlsCryptoInfo::Aes128Gcm(libc::tls12_crypto_info_aes_gcm_128 {
        info: libc::tls_crypto_info {
            version: libc::TLS_1_2_VERSION,
            cipher_type: libc::TLS_CIPHER_AES_GCM_128,
        },
        iv: [1; 8],
        key: [2; 16],
        salt: [salt; 4],
        rec_seq: [0; 8],
    })
}

/// Both ends speak kTLS, both ways, on a connection with an address, whenever it is asked for.
#[test]
fn ktls_both_ways_on_a_connection_with_an_address() {
    module::ensure_fresh();
    let topology = Topology::builder("ktls").build().unwrap();
    for family in Family::ALL {
        for carrier in [Carrier::Syn, Carrier::Ack] {
            topology.set_plan(Plan::client(carrier, KINDS));
            let listener = TcpListener::bind((topology.server_ip(family), 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let vip = SocketAddr::new(topology.vip(family), port);
            let mut client = in_ns(topology.client(), || TcpStream::connect(vip))
                .unwrap()
                .unwrap();
            let (mut server, _) = accept(&listener);
            let expected = client.local_addr().unwrap();
            let asked = |server: &TcpStream| told(server).map(|(addr, _)| addr);
            assert_eq!(asked(&server), Some(expected));
            for (end, tx, rx) in [(&server, 3, 4), (&client, 4, 3)] {
                match setsockopt(end, option::TcpUlp::default(), b"tls") {
                    Err(Errno::ENOENT) => return node::skip("this kernel has no kTLS"),
                    done => done.expect("kTLS"),
                }
                assert_eq!(asked(&server), Some(expected));
                setsockopt(end, option::TcpTlsTx, &tls_key(tx)).expect("a key to send by");
                setsockopt(end, option::TcpTlsRx, &tls_key(rx)).expect("a key to receive by");
            }
            assert_eq!(asked(&server), Some(expected));
            let question: Vec<u8> = (0..60_000u32).map(|at| (at % 251) as u8).collect();
            let mut got = vec![0; question.len()];
            client.set_write_timeout(Some(PATIENCE)).unwrap();
            for end in [&client, &server] {
                end.set_read_timeout(Some(PATIENCE)).unwrap();
            }
            std::thread::scope(|scope| {
                scope.spawn(|| client.write_all(&question).expect("records to the server"));
                server
                    .read_exact(&mut got)
                    .expect("records from the client");
            });
            assert!(got == question, "the data changed on its way");
            assert_eq!(asked(&server), Some(expected));
            server.write_all(b"pong").expect("a record to the client");
            let mut answer = [0; 4];
            client
                .read_exact(&mut answer)
                .expect("a record from the server");
            assert_eq!(&answer, b"pong");
            assert_eq!(asked(&server), Some(expected));
        }
    }
    settle();
}

/// A proxy in the kernel: what comes in on one connection goes out by another, and both have an
/// address.
#[test]
fn sockmap_redirects_between_connections_with_addresses() {
    World::run(|world| {
        for family in Family::ALL {
            let (map, _program) = match bpf::redirecting() {
                Err(Errno::EINVAL | Errno::ENOSYS) => {
                    return node::skip("this kernel has no sockmap");
                }
                made => made.expect("a map of sockets and its program"),
            };
            let listener = world.listen(family);
            let clients = [1, 2].map(|host| original(family, host, 1000));
            let [[syn_way, _], [_, ack_way]] = clients.map(ways);
            let conns = [syn_way, ack_way]
                .map(|(segment, syn, ack)| (world.connect(family, &listener, &syn, &ack), segment));
            let [(mut first, _), (mut second, _)] = conns;
            bpf::insert(&map, 0, &first.stream).expect("the first socket");
            bpf::insert(&map, 1, &second.stream).expect("the second socket");
            let both = |first: &Conn, second: &Conn| {
                assert_eq!(told(&first.stream), Some((clients[0], Segment::Syn)));
                assert_eq!(told(&second.stream), Some((clients[1], Segment::Ack)));
            };
            both(&first, &second);
            first.client.data(b"through").unwrap();
            let out = loop {
                let segment = second.client.recv().expect("what the first has sent");
                if !segment.payload.is_empty() {
                    break segment.payload;
                }
            };
            assert_eq!(out, b"through");
            second.client.ack(&[]).unwrap();
            both(&first, &second);
            drop(map);
        }
    });
}

/// The kernel's own MPTCP client, through the hop. A TCP server is told of it as of any other; an
/// MPTCP one cannot ask, is told so clearly, and has the hop for its peer.
#[test]
fn real_mptcp_clients_of_tcp_and_mptcp_servers() {
    if !node::has_mptcp() {
        return;
    }
    module::ensure_fresh();
    let topology = Topology::builder("mptcp").build().unwrap();
    let _on = Sysctl::set("net/mptcp/enabled", "1");
    in_ns(topology.client(), || {
        fs::write("/proc/sys/net/mptcp/enabled", "1")
    })
    .unwrap()
    .unwrap();
    for (true_mptcp, protocol) in [(false, 0), (true, IPPROTO_MPTCP)] {
        for carrier in [Carrier::Syn, Carrier::Ack] {
            topology.set_plan(Plan::client(carrier, KINDS));
            let at = SocketAddr::new(topology.server_ip(Family::V4), 0);
            let listener = listen_at(stream_socket(Family::V4, protocol), at);
            let port = listener.local_addr().unwrap().port();
            let vip = SocketAddr::new(topology.vip(Family::V4), port);
            let before = netstat("MPTcpExt", "MPCapableACKRX");
            let no_room = topology.hop().counts().no_room;
            let mut client = in_ns(topology.client(), || {
                let fd = stream_socket(Family::V4, IPPROTO_MPTCP);
                connect(fd.as_raw_fd(), &*sockaddr(vip)).expect("connect");
                TcpStream::from(fd)
            })
            .unwrap();
            let (mut server, peer) = accept(&listener);
            assert_eq!(netstat("MPTcpExt", "MPCapableACKRX") > before, true_mptcp);
            assert_eq!(topology.hop().counts().no_room, no_room);
            if true_mptcp {
                assert!(matches!(libtoa::original(&server), Err(Error::NotTcp)));
                assert_eq!(libtoa::client_addr(&server).unwrap(), peer);
            } else {
                let real = client.local_addr().unwrap();
                assert_eq!(
                    told(&server).map(|(addr, _)| addr),
                    Some(real),
                    "{carrier:?}"
                );
            }
            client.write_all(b"ping").unwrap();
            let mut got = [0; 4];
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            server.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"ping");
        }
    }
    settle();
}
