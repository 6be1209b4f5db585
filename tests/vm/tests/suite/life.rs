// SPDX-License-Identifier: MIT OR Apache-2.0
//! A session begins and ends with its connection, and shows nobody else's address.

use std::io::{ErrorKind, Read, Write};
use std::mem::forget;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use libtoa::{Error, Segment};
use nix::errno::Errno;
use nix::sys::socket::{Backlog, SockaddrIn, bind, listen};
use sha2::{Digest, Sha256};
use toa_cli::client::Client;
use toa_cli::wire::{Flags, toa};
use toa_testbed::{Carrier, Family, Kinds, Plan, Topology, command, in_ns};
use toa_vm_tests::node::{self, PATIENCE, netstat, wait_until};
use toa_vm_tests::stream::{IPPROTO_MPTCP, listen_at, stream_socket};
use toa_vm_tests::{
    Conn, Stats, World, accept, module, original, server_ip, sessions, sessions_become, settle,
};

#[track_caller]
fn assert_told(socket: impl AsFd, addr: SocketAddr) {
    let told = libtoa::original(socket).unwrap();
    assert_eq!(told.map(|told| told.addr), Some(addr));
}

/// By an ordinary close of either side, with all that TCP does after it.
#[test]
fn the_session_goes_when_the_connection_closes_whoever_closes_first() {
    module::ensure_fresh();
    let topology = Topology::builder("close").build().unwrap();
    topology.set_plan(Plan::client(Carrier::Ack, Kinds { v4: 200, v6: 253 }));
    for family in Family::ALL {
        let listener = TcpListener::bind((topology.server_ip(family), 0)).unwrap();
        let vip = SocketAddr::new(topology.vip(family), listener.local_addr().unwrap().port());
        for server_first in [true, false] {
            let mut client = in_ns(topology.client(), || TcpStream::connect(vip))
                .unwrap()
                .unwrap();
            let (mut stream, _) = accept(&listener);
            assert_eq!(sessions(), 1);
            client.write_all(b"data").unwrap();
            let mut got = [0; 4];
            stream.read_exact(&mut got).unwrap();
            // Half closed, it is still there.
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut got).unwrap(), 0);
            assert_told(&stream, client.local_addr().unwrap());
            if server_first {
                drop(stream);
                settle();
            } else {
                drop(client);
                drop(stream);
                settle();
            }
        }
    }
}

#[test]
fn the_session_goes_with_a_reset_and_a_close() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            let option = toa(254, original(family, 7, 7));
            let before = Stats::read();
            let conns: Vec<_> = (0..20)
                .map(|n| {
                    let (syn, ack): (&[u8], &[u8]) = if n % 2 == 0 {
                        (&option, &[])
                    } else {
                        (&[], &option)
                    };
                    world.connect(family, &listener, syn, ack)
                })
                .collect();
            assert_eq!(sessions(), 20);
            assert_eq!(Stats::read().since(&before).get("syn_recv_sock_toa"), 20);
            drop(conns);
            settle();
        }
    });
}

#[test]
fn a_listener_closed_with_connections_that_nobody_accepted() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            let option = toa(254, original(family, 7, 7));
            let mut clients = Vec::new();
            for n in 0..20 {
                let mut client = world.client(family, &listener);
                let (syn, ack): (&[u8], &[u8]) = if n % 2 == 0 {
                    (&option, &[])
                } else {
                    (&[], &option)
                };
                client.connect(syn, ack).unwrap();
                clients.push(client);
            }
            sessions_become(20);
            drop(listener);
            settle();
            for client in &mut clients {
                let segment = client.recv().unwrap();
                assert!(segment.flags.contains(Flags::RST), "{segment}");
            }
        }
    });
}

/// The client resets and connects again from the same port, while the server holds on to the old
/// descriptor: two sockets of one tuple.
#[test]
fn after_a_reset_the_old_descriptor_has_none_and_the_same_tuple_the_new_address() {
    World::run(|world| {
        for family in Family::ALL {
            let [first, second] = [1, 2].map(|host| original(family, host, 1));
            let listener = world.listen(family);
            let peer = world.fresh_peer(family);
            let mut end = world.client_from(peer, &listener);
            end.connect(&toa(254, first), &[]).unwrap();
            let mut old = Conn::accepted(end, &listener);
            assert_told(&old.stream, first);
            old.client.rst().unwrap();
            wait_until("the reset has arrived", || {
                old.stream.take_error().unwrap().is_some()
            });
            assert!(matches!(
                libtoa::original(&old.stream),
                Err(Error::NotConnected)
            ));

            for (seq, option, told) in [
                (900_000_000, toa(254, second), Some(second)),
                (1_900_000_000, vec![], None),
            ] {
                let mut end = world.client_from(peer, &listener);
                end.seq = seq;
                end.connect(&option, &[]).unwrap();
                let new = Conn::accepted(end, &listener);
                let got = libtoa::original(&new.stream).unwrap();
                assert_eq!(got.map(|got| got.addr), told);
                assert!(matches!(
                    libtoa::original(&old.stream),
                    Err(Error::NotConnected)
                ));
            }
            drop(old.stream.try_clone().unwrap());
            drop(old);
            settle();
        }
    });
}

fn connect_to_nobody(socket: impl AsFd) {
    let nobody = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    // SAFETY: `nobody` is readable for the length given.
    let result = unsafe {
        libc::connect(
            socket.as_fd().as_raw_fd(),
            &raw const nobody,
            size_of_val(&nobody) as libc::socklen_t,
        )
    };
    Errno::result(result).unwrap();
}

#[test]
fn a_disconnected_socket_has_none_and_is_reused_without() {
    World::run(|world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &toa(254, client), &[]);
        assert_told(&conn.stream, client);
        connect_to_nobody(&conn.stream);
        assert!(matches!(
            libtoa::original(&conn.stream),
            Err(Error::NotConnected)
        ));

        // As a client of somebody else.
        let other = world.fresh_peer(Family::V4);
        let mut end = passive(world, &conn.stream, other);
        let before = Stats::read();
        assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
        assert_eq!(Stats::read().since(&before), [("getname_toa_mismatch", 1)]);
        end.rst().unwrap();
    });
}

/// Connects `socket` to `peer`, whom the test plays.
fn passive(world: &World, socket: &TcpStream, peer: SocketAddr) -> Client {
    let SocketAddr::V4(to) = peer else {
        unreachable!("the tests that call this use IPv4")
    };
    socket.set_nonblocking(true).unwrap();
    let result = nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrIn::from(to));
    assert_eq!(result, Err(Errno::EINPROGRESS));
    let mut end = Client::new(world.link(), peer, socket.local_addr().unwrap());
    end.patience = PATIENCE;
    // The reset of the old connection may come first.
    while !end.recv().unwrap().flags.contains(Flags::SYN) {}
    end.send(&end.segment(Flags::SYN | Flags::ACK)).unwrap();
    end.seq = end.seq.wrapping_add(1);
    while end.recv().unwrap().flags.contains(Flags::SYN) {}
    assert_eq!(socket.peer_addr().unwrap(), peer);
    end
}

/// The meanest reuse: the very socket, the very tuple, another connection, which carried nothing.
#[test]
fn a_socket_disconnected_and_connected_to_the_same_peer_does_not_show_the_old_address() {
    World::run(|world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &toa(254, client), &[]);
        let (peer, local) = (conn.client.local(), conn.stream.local_addr().unwrap());
        assert_told(&conn.stream, client);
        connect_to_nobody(&conn.stream);
        drop(listener);
        let SocketAddr::V4(at) = local else {
            unreachable!("an IPv4 connection")
        };
        bind(conn.stream.as_raw_fd(), &SockaddrIn::from(at)).unwrap();
        let mut end = passive(world, &conn.stream, peer);
        assert_eq!(conn.stream.local_addr().unwrap(), local);
        let told = libtoa::original(&conn.stream).unwrap();
        end.rst().unwrap();
        assert_eq!(
            told, None,
            "a connection without TOA shows an earlier one's"
        );
    });
}

/// Disconnected, the socket may listen; its children are others.
#[test]
fn a_disconnected_socket_that_listens_has_children_of_their_own() {
    World::run(|world| {
        let [first, second] = [1, 2].map(|host| original(Family::V4, host, 1));
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &toa(254, first), &[]);
        connect_to_nobody(&conn.stream);
        let SocketAddr::V4(at) = SocketAddr::new(server_ip(Family::V4), 9090) else {
            unreachable!()
        };
        // It keeps the port of the listener that it came from, unless told otherwise.
        match bind(conn.stream.as_raw_fd(), &SockaddrIn::from(at)) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => panic!("bind: {errno}"),
        }
        drop(listener);
        listen(&conn.stream, Backlog::new(8).unwrap()).unwrap();
        let again = TcpListener::from(OwnedFd::from(conn.stream.try_clone().unwrap()));
        assert!(matches!(libtoa::original(&again), Err(Error::NotConnected)));
        let child = world.connect(Family::V4, &again, &[], &[]);
        assert_eq!(libtoa::original(&child.stream).unwrap(), None);
        let child = world.connect(Family::V4, &again, &[], &toa(254, second));
        assert_told(&child.stream, second);
    });
}

/// Two CPUs where there are two: connections come and go on both, and questions run beside.
#[test]
fn many_connections_come_and_go_on_all_cpus() {
    const THREADS: u16 = 2;
    const EACH: u16 = 400;
    module::ensure_fresh();
    let before = Stats::read();
    thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || {
                World::beside(|world| {
                    let listener = world.listen(Family::V4);
                    for n in 0..EACH {
                        let client = original(Family::V4, number as u8, n);
                        let option = toa(200, client);
                        let conn = if n % 2 == 0 {
                            world.connect(Family::V4, &listener, &option, &[])
                        } else {
                            world.connect(Family::V4, &listener, &[], &option)
                        };
                        assert_told(&conn.stream, client);
                    }
                });
            });
        }
    });
    settle();
    let all = u64::from(THREADS * EACH);
    let counted = Stats::read().since(&before);
    assert_eq!(counted.get("syn_recv_sock_toa"), all, "{counted:?}");
    assert_eq!(counted.get("getname_toa_ok"), all, "{counted:?}");
    assert_eq!(counted.get("dropped_no_memory"), 0);
}

// MPTCP: RFC 8684.

/// The option's kind.
const MPTCP: u8 = 30;

/// A listener whose connections may be MPTCP ones.
fn mptcp_listener(family: Family) -> TcpListener {
    let at = SocketAddr::new(server_ip(family), 8080);
    listen_at(stream_socket(family, IPPROTO_MPTCP), at)
}

/// A plain TCP client makes the connection fall back, and then it is TCP as any other.
#[test]
fn an_mptcp_listener_tells_its_plain_tcp_clients() {
    if !node::has_mptcp() {
        return;
    }
    World::run(|world| {
        let _on = node::Sysctl::set("net/mptcp/enabled", "1");
        for family in Family::ALL {
            let listener = mptcp_listener(family);
            let client = original(family, 7, 7);
            for (segment, syn, ack) in [
                (Segment::Syn, toa(254, client), vec![]),
                (Segment::Ack, vec![], toa(254, client)),
            ] {
                let mut conn = world.connect(family, &listener, &syn, &ack);
                let told = libtoa::original(&conn.stream).unwrap().unwrap();
                assert_eq!((told.addr, told.segment), (client, segment));
                conn.exchange();
            }
        }
    });
}

/// What the client of an MPTCP connection sends last in its handshake, and the connection's token.
pub(super) fn mp_capable(client: &mut Client, ack: &[u8]) -> u32 {
    const KEY: [u8; 8] = *b"testtest";
    // Version 1, HMAC-SHA256.
    client.syn(&[MPTCP, 4, 0x01, 0x01]).unwrap();
    let answer = client.recv_syn_ack().unwrap();
    let options = &answer.options;
    let at = (0..options.len())
        .find(|&at| options[at..].starts_with(&[MPTCP, 12]))
        .unwrap_or_else(|| panic!("no MP_CAPABLE in {answer}"));
    let server_key = &options[at + 4..at + 12];
    let option = [&[MPTCP, 20, 0x01, 0x01], &KEY[..], server_key, ack].concat();
    client.ack(&option).unwrap();
    let hash = Sha256::digest(server_key);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// The kernel does not pass a true MPTCP socket's questions on, and libtoa says so.
#[test]
fn a_true_mptcp_connection_is_refused_clearly_and_leaves_nothing() {
    if !node::has_mptcp() {
        return;
    }
    World::run(|world| {
        let _on = node::Sysctl::set("net/mptcp/enabled", "1");
        let listener = mptcp_listener(Family::V4);
        let client = original(Family::V4, 7, 7);
        let mut end = world.client(Family::V4, &listener);
        mp_capable(&mut end, &toa(254, client));
        let conn = Conn::accepted(end, &listener);
        assert!(matches!(libtoa::original(&conn.stream), Err(Error::NotTcp)));
        assert_eq!(
            libtoa::client_addr(&conn.stream).unwrap(),
            conn.client.local()
        );
    });
}

/// The child of an MP_JOIN that fails its authentication is dead before it lived.
#[test]
fn an_mp_join_with_a_bad_hmac_leaves_no_session() {
    if !node::has_mptcp() {
        return;
    }
    World::run(|world| {
        let _on = node::Sysctl::set("net/mptcp/enabled", "1");
        let limits = command("ip")
            .args(["mptcp", "limits", "set", "subflows", "4"])
            .output()
            .unwrap();
        assert!(limits.status.success(), "{limits:?}");
        for (in_syn, in_ack) in [(true, false), (false, true), (true, true)] {
            let listener = mptcp_listener(Family::V4);
            let mut first = world.client(Family::V4, &listener);
            let token = mp_capable(&mut first, &[]);
            let first = Conn::accepted(first, &listener);
            assert_eq!(sessions(), 0);

            let failures = netstat("MPTcpExt", "MPJoinAckHMacFailure");
            let option = toa(254, original(Family::V4, 66, 66));
            let with = |carries: bool| if carries { &option[..] } else { &[] };
            let mut join = world.client(Family::V4, &listener);
            // Address 1, the connection's token, a nonce.
            let syn = [
                &[MPTCP, 12, 0x10, 1][..],
                &token.to_be_bytes(),
                &[1, 2, 3, 4],
                with(in_syn),
            ]
            .concat();
            join.syn(&syn).unwrap();
            let answer = join.recv_syn_ack().unwrap();
            let joined = answer
                .options
                .windows(3)
                .any(|at| at[..2] == [MPTCP, 16] && at[2] >> 4 == 1);
            assert!(joined, "no MP_JOIN in {answer}");
            let ack = [&[MPTCP, 24, 0x10, 0][..], &[0; 20], with(in_ack)].concat();
            join.ack(&ack).unwrap();
            wait_until("the bad HMAC is counted", || {
                netstat("MPTcpExt", "MPJoinAckHMacFailure") == failures + 1
            });
            let reset = join.recv().unwrap();
            assert!(reset.flags.contains(Flags::RST), "{reset}");
            settle();
            drop(first);
        }
    });
}

/// A child that a full accept queue turns away has no session, and gets one when it is let in.
#[test]
fn a_full_accept_queue_leaves_no_session_behind() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        // A queue of one takes two.
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let client = original(Family::V4, 7, 7);
        let mut ends = Vec::new();
        for _ in 0..4 {
            let mut end = world.client(Family::V4, &listener);
            end.syn(&toa(254, client)).unwrap();
            if end
                .recv_within(Duration::from_millis(300))
                .unwrap()
                .is_some()
            {
                end.ack(&[]).unwrap();
            }
            ends.push(end);
        }
        assert_eq!(sessions(), 2);
        drop(listener);
        settle();
        forget(ends);
    });
}

/// A peer that goes without a word: the session lasts as long as the socket, and no longer.
#[test]
fn a_silent_peer_keeps_its_session_until_the_server_closes() {
    World::run(|world| {
        let client = original(Family::V6, 7, 7);
        let listener = world.listen(Family::V6);
        let mut conn = world.connect(Family::V6, &listener, &toa(253, client), &[]);
        conn.stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let error = conn.stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_told(&conn.stream, client);
        assert_eq!(sessions(), 1);
    });
}
