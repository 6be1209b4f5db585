// SPDX-License-Identifier: MIT OR Apache-2.0
//! TOA_SO_GET_LOOKUP, as clients of DPVS and of Tencent CLB's NAT64 call it. Written against what
//! they publish, and nothing of this project: applications in the field must not notice whose
//! module answers.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use toa_cli::wire::toa;
use toa_testbed::Family;
use toa_vm_tests::{Stats, World, original};

/// In their header, TOA_BASE_CTL + 0 or the like.
const TOA_SO_GET_LOOKUP: libc::c_int = 4096;

/// `struct toa_nat64_peer { struct in6_addr saddr; uint16_t sport; };`
#[repr(C)]
struct Nat64Peer {
    saddr: libc::in6_addr,
    sport: u16,
}

fn blank() -> Nat64Peer {
    Nat64Peer {
        saddr: libc::in6_addr {
            s6_addr: [0xaa; 16],
        },
        sport: 0xaaaa,
    }
}

/// As their nginx and Envoy patches call it.
fn look_up(socket: impl AsFd, len: usize) -> Result<(SocketAddr, usize), Errno> {
    let mut peer = blank();
    let mut len = len as libc::socklen_t;
    assert!(len as usize <= size_of::<Nat64Peer>());
    // SAFETY: `peer` can be written for `len` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            TOA_SO_GET_LOOKUP,
            ptr::from_mut(&mut peer).cast(),
            &mut len,
        )
    };
    Errno::result(result)?;
    let addr = Ipv6Addr::from(peer.saddr.s6_addr);
    let addr = SocketAddrV6::new(addr, u16::from_be(peer.sport), 0, 0);
    Ok((addr.into(), len as usize))
}

const SIZE: usize = 20;

#[test]
fn the_structure_has_the_published_size() {
    assert_eq!(size_of::<Nat64Peer>(), SIZE);
}

#[test]
fn a_v6_client_of_a_v4_connection_is_told_and_len_becomes_20() {
    World::run(|world| {
        let client = original(Family::V6, 7, 51_821);
        let listener = world.listen(Family::V4);
        for kind in [253, 254, 200] {
            for (syn, ack) in [(true, false), (false, true)] {
                let option = |carries| {
                    if carries { toa(kind, client) } else { vec![] }
                };
                let conn = world.connect(Family::V4, &listener, &option(syn), &option(ack));
                assert_eq!(look_up(&conn.stream, SIZE), Ok((client, SIZE)), "{kind}");
            }
        }
    });
}

#[test]
fn a_longer_buffer_is_as_good_and_len_becomes_20() {
    World::run(|world| {
        let client = original(Family::V6, 7, 51_821);
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &toa(253, client), &[]);
        let mut buffer = [0xaa; 64];
        let len = toa_vm_tests::sockopt::get(
            &conn.stream,
            libc::IPPROTO_IP,
            TOA_SO_GET_LOOKUP,
            &mut buffer,
        );
        assert_eq!(len, Ok(SIZE));
        assert_eq!(
            &buffer[..16],
            "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()
        );
        assert_eq!(buffer[16..18], 51_821u16.to_be_bytes());
        assert_eq!(buffer[20..], [0xaa; 44], "written past the structure");
    });
}

#[test]
fn any_other_address_is_efault_and_none_is_einval() {
    World::run(|world| {
        let [v4, v6] = Family::ALL.map(|family| original(family, 7, 7));
        for (connection, option, errno) in [
            (Family::V4, toa(200, v4), Errno::EFAULT),
            (Family::V4, vec![], Errno::EINVAL),
            (Family::V6, toa(253, v6), Errno::EFAULT),
            (Family::V6, toa(200, v4), Errno::EFAULT),
            (Family::V6, vec![], Errno::EINVAL),
        ] {
            let listener = world.listen(connection);
            let conn = world.connect(connection, &listener, &[], &option);
            assert_eq!(
                look_up(&conn.stream, SIZE),
                Err(errno),
                "{connection:?} connection, option {option:02x?}"
            );
        }
    });
}

#[test]
fn a_short_buffer_is_einval_before_all_else() {
    World::run(|world| {
        let [v4, v6] = Family::ALL.map(|family| original(family, 7, 7));
        let listener = world.listen(Family::V4);
        let unconnected = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        for len in [0, 1, 16, 18, SIZE - 1] {
            for option in [toa(253, v6), toa(200, v4), vec![]] {
                let conn = world.connect(Family::V4, &listener, &[], &option);
                assert_eq!(look_up(&conn.stream, len), Err(Errno::EINVAL), "{len}");
            }
            assert_eq!(look_up(&unconnected, len), Err(Errno::EINVAL), "{len}");
            assert_eq!(look_up(&listener, len), Err(Errno::EINVAL), "{len}");
        }
    });
}

#[test]
fn a_socket_without_a_peer_is_enotconn() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            assert_eq!(look_up(&listener, SIZE), Err(Errno::ENOTCONN));
            let kind = match family {
                Family::V4 => AddressFamily::Inet,
                Family::V6 => AddressFamily::Inet6,
            };
            let fresh = socket(kind, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            assert_eq!(look_up(&fresh, SIZE), Err(Errno::ENOTCONN));
        }
        // A connection that was one.
        let listener = world.listen(Family::V4);
        let client = original(Family::V6, 7, 7);
        let mut conn = world.connect(Family::V4, &listener, &toa(253, client), &[]);
        conn.client.rst().unwrap();
        toa_vm_tests::node::wait_until("reset", || conn.stream.take_error().unwrap().is_some());
        assert_eq!(look_up(&conn.stream, SIZE), Err(Errno::ENOTCONN));
    });
}

#[test]
fn without_the_module_it_is_enoprotoopt() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &[], &[]);
        let unloaded = toa_vm_tests::module::Unloaded::now();
        assert_eq!(look_up(&conn.stream, SIZE), Err(Errno::ENOPROTOOPT));
        drop(unloaded);
        assert_eq!(look_up(&conn.stream, SIZE), Err(Errno::EINVAL));
    });
}

#[test]
fn the_classic_counters_count_these_questions() {
    World::run(|world| {
        let [v4, v6] = Family::ALL.map(|family| original(family, 7, 7));
        let listener = world.listen(Family::V4);
        let ask = |option: &[u8]| {
            let conn = world.connect(Family::V4, &listener, &[], option);
            let before = Stats::read();
            let _ = look_up(&conn.stream, SIZE);
            Stats::read().since(&before)
        };
        assert_eq!(ask(&toa(253, v6)), [("getname_toa_ok", 1)]);
        assert_eq!(ask(&toa(200, v4)), [("getname_toa_bypass", 1)]);
        assert_eq!(ask(&[]), [("getname_toa_empty", 1)]);
    });
}

#[test]
fn an_outgoing_connection_has_no_client() {
    World::run(|world| {
        // Loopback is another device: up is all it takes.
        let _ = world;
        let lo = toa_testbed::command("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(lo.unwrap().success());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let out = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(look_up(&out, SIZE), Err(Errno::EINVAL));
    });
}
