// SPDX-License-Identifier: MIT OR Apache-2.0
//! The project's own option, asked without the library, and the library's errors.

use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use libtoa::Error;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, bind, listen, socket,
};
use std::os::fd::AsRawFd;
use toa_cli::wire::toa;
use toa_testbed::Family;
use toa_vm_tests::{World, module, original, sockopt};

const TOA_SO_ORIGINAL: i32 = 0x544f_4100;
const TOA_SO_ABI: i32 = 0x544f_4101;
/// What version 1 answers at least.
const SIZE: usize = 48;
/// What it answers with the VIP and its VPC.
const WHOLE: usize = 72;

fn ask(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    sockopt::get(socket, libc::IPPROTO_IP, TOA_SO_ORIGINAL, buffer)
}

#[test]
fn every_field_of_a_v4_answer_is_where_the_header_says() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let client = original(Family::V4, 7, 51_820);
        let conn = world.connect(Family::V4, &listener, &[], &toa(200, client));
        let mut answer = [0xaa; WHOLE];
        assert_eq!(ask(&conn.stream, &mut answer), Ok(WHOLE));
        assert_eq!(answer[0..2], 1u16.to_ne_bytes(), "version");
        assert_eq!(answer[2..4], 72u16.to_ne_bytes(), "size");
        assert_eq!(
            answer[4..8],
            [2, 2, 200, 8],
            "family, segment, kind, length"
        );
        assert_eq!(answer[8..10], 51_820u16.to_be_bytes(), "port");
        let peer_port = conn.client.local().port().to_be_bytes();
        assert_eq!(answer[10..12], peer_port, "peer_port");
        assert_eq!(answer[12..16], [2, 0, 0, 0], "peer_family, flags, reserved");
        assert_eq!(answer[16..20], [203, 0, 113, 7], "addr");
        assert_eq!(answer[20..32], [0; 12], "the rest of addr");
        assert_eq!(answer[32..36], [10, 0, 0, 2], "peer_addr");
        assert_eq!(answer[36..48], [0; 12], "the rest of peer_addr");
        assert_eq!(answer[48..72], [0; 24], "no VIP, no VPC");

        // The first 48 bytes are what a program of the first version asks for.
        let mut first = [0xaa; SIZE];
        assert_eq!(ask(&conn.stream, &mut first), Ok(SIZE));
        assert_eq!(first, answer[..SIZE]);
    });
}

#[test]
fn every_field_of_a_v6_answer_and_of_an_empty_one() {
    World::run(|world| {
        let listener = world.listen(Family::V6);
        let client = original(Family::V6, 7, 51_821);
        let conn = world.connect(Family::V6, &listener, &toa(253, client), &[]);
        let mut answer = [0xaa; SIZE];
        assert_eq!(ask(&conn.stream, &mut answer), Ok(SIZE));
        assert_eq!(
            answer[4..8],
            [10, 1, 253, 20],
            "family, segment, kind, length"
        );
        assert_eq!(answer[8..10], 51_821u16.to_be_bytes(), "port");
        assert_eq!(answer[12..16], [10, 0, 0, 0], "peer_family, reserved");
        assert_eq!(
            answer[16..32],
            [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]
        );
        assert_eq!(
            answer[32..48],
            [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
        );

        let conn = world.connect(Family::V6, &listener, &[], &[]);
        let mut answer = [0xaa; SIZE];
        assert_eq!(ask(&conn.stream, &mut answer), Ok(SIZE));
        assert_eq!(answer[4..10], [0; 6], "family, segment, kind, length, port");
        assert_eq!(answer[10..12], conn.client.local().port().to_be_bytes());
        assert_eq!(answer[12..32], [vec![10], vec![0; 19]].concat());
        assert_eq!(answer[32..34], [0xfd, 0]);
    });
}

#[test]
fn the_size_is_negotiated() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let client = original(Family::V4, 7, 7);
        let conn = world.connect(Family::V4, &listener, &[], &toa(200, client));
        for short in [0, 1, 4, SIZE - 1] {
            let mut buffer = vec![0xaa; short];
            assert_eq!(
                ask(&conn.stream, &mut buffer),
                Err(Errno::EINVAL),
                "{short}"
            );
            assert_eq!(buffer, vec![0xaa; short], "a refused buffer was written");
        }
        for between in SIZE..=WHOLE {
            let mut buffer = vec![0xaa; between];
            assert_eq!(ask(&conn.stream, &mut buffer), Ok(between), "{between}");
        }
        for long in [WHOLE + 1, 80, 4096] {
            let mut buffer = vec![0xaa; long];
            assert_eq!(ask(&conn.stream, &mut buffer), Ok(WHOLE), "{long}");
            assert_eq!(buffer[WHOLE..], vec![0xaa; long - WHOLE], "written too far");
        }
        // A length that is none.
        let mut buffer = [0xaa; SIZE];
        let mut negative = -1i32 as libc::socklen_t;
        // SAFETY: the kernel may write to all of `buffer`, and must not for a length like this.
        let result = unsafe {
            sockopt::get_at(
                &conn.stream,
                libc::IPPROTO_IP,
                TOA_SO_ORIGINAL,
                buffer.as_mut_ptr().cast(),
                &mut negative,
            )
        };
        assert_eq!(result, Err(Errno::EINVAL));
        assert_eq!(buffer, [0xaa; SIZE]);
    });
}

fn fresh(family: AddressFamily, kind: SockType, protocol: Option<SockProtocol>) -> OwnedFd {
    socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).unwrap()
}

#[test]
fn sockets_without_a_peer_are_enotconn() {
    World::run(|world| {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let fresh = fresh(family, SockType::Stream, None);
            assert_eq!(ask(&fresh, &mut [0; SIZE]), Err(Errno::ENOTCONN));
            assert!(matches!(libtoa::original(&fresh), Err(Error::NotConnected)));
            assert!(libtoa::client_addr(&fresh).is_err());
        }
        for family in Family::ALL {
            let listener = world.listen(family);
            assert_eq!(ask(&listener, &mut [0; SIZE]), Err(Errno::ENOTCONN));
            assert!(matches!(
                libtoa::original(&listener),
                Err(Error::NotConnected)
            ));
        }
        // One whose SYN nobody answers.
        let connecting = TcpStreamConnecting::new();
        assert_eq!(ask(&connecting.0, &mut [0; SIZE]), Err(Errno::ENOTCONN));
    });
}

/// A socket in SYN-SENT.
struct TcpStreamConnecting(OwnedFd);

impl TcpStreamConnecting {
    fn new() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
        let to = SockaddrIn::new(10, 0, 0, 99, 80);
        let result = nix::sys::socket::connect(fd.as_raw_fd(), &to);
        assert_eq!(result, Err(Errno::EINPROGRESS));
        Self(fd)
    }
}

#[test]
fn sockets_of_other_protocols_are_eopnotsupp_or_not_ours() {
    World::run(|_| {
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        assert_eq!(ask(&udp, &mut [0; SIZE]), Err(Errno::EOPNOTSUPP));
        assert!(matches!(libtoa::original(&udp), Err(Error::NotTcp)));
        let udp6 = fresh(AddressFamily::Inet6, SockType::Datagram, None);
        assert_eq!(ask(&udp6, &mut [0; SIZE]), Err(Errno::EOPNOTSUPP));
        // A raw socket of TCP's number is none of TCP's either.
        let raw = fresh(AddressFamily::Inet, SockType::Raw, Some(SockProtocol::Tcp));
        assert_eq!(ask(&raw, &mut [0; SIZE]), Err(Errno::EOPNOTSUPP));
        // Other families never reach the module.
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(libtoa::original(&unix).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(libtoa::original(&file), Err(Error::NotTcp)));
    });
}

#[test]
fn other_levels_and_names_are_not_ours() {
    World::run(|world| {
        let listener = world.listen(Family::V6);
        let client = original(Family::V6, 7, 7);
        let conn = world.connect(Family::V6, &listener, &[], &toa(253, client));
        for (level, name) in [
            (libc::IPPROTO_IPV6, TOA_SO_ORIGINAL),
            (libc::IPPROTO_TCP, TOA_SO_ORIGINAL),
            (libc::SOL_SOCKET, TOA_SO_ORIGINAL),
            (libc::IPPROTO_IP, TOA_SO_ORIGINAL - 1),
            (libc::IPPROTO_IP, TOA_SO_ABI + 1),
            (libc::IPPROTO_IP, 4095),
            (libc::IPPROTO_IP, 4097),
            (libc::IPPROTO_IPV6, 4096),
            (libc::IPPROTO_IP, 1344),
            (libc::IPPROTO_IP, 1348),
            (libc::IPPROTO_IPV6, 1344),
            (libc::IPPROTO_IPV6, 1348),
            (libc::IPPROTO_TCP, 1345),
        ] {
            let got = sockopt::get(&conn.stream, level, name, &mut [0; 64]);
            assert_eq!(got, Err(Errno::ENOPROTOOPT), "{level} {name:x}");
        }
    });
}

#[test]
fn the_abi_is_told_on_any_ip_socket() {
    World::run(|_| {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for kind in [SockType::Stream, SockType::Datagram] {
                let any = fresh(family, kind, None);
                let mut buffer = [0xaa; 8];
                let got = sockopt::get(&any, libc::IPPROTO_IP, TOA_SO_ABI, &mut buffer);
                assert_eq!(got, Ok(4));
                assert_eq!(buffer[..4], 1u32.to_ne_bytes());
                assert_eq!(buffer[4..], [0xaa; 4]);
                let short = sockopt::get(&any, libc::IPPROTO_IP, TOA_SO_ABI, &mut [0; 3]);
                assert_eq!(short, Err(Errno::EINVAL));
            }
        }
        assert_eq!(libtoa::abi().unwrap(), libtoa::ABI);
    });
}

#[test]
fn the_option_cannot_be_set() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &[], &[]);
        let value = [0u8; SIZE];
        for name in [TOA_SO_ORIGINAL, TOA_SO_ABI, 4096] {
            // SAFETY: `value` is readable for the length given.
            let result = unsafe {
                libc::setsockopt(
                    conn.stream.as_raw_fd(),
                    libc::IPPROTO_IP,
                    name,
                    value.as_ptr().cast(),
                    value.len() as libc::socklen_t,
                )
            };
            assert_eq!(Errno::result(result), Err(Errno::ENOPROTOOPT), "{name:x}");
        }
    });
}

/// The end that connects has no original client, and is told its peer.
#[test]
fn an_outgoing_connection_has_none() {
    World::run(|_| {
        let up = toa_testbed::command("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        let server = fresh(AddressFamily::Inet, SockType::Stream, None);
        bind(server.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 8080)).unwrap();
        listen(&server, Backlog::new(1).unwrap()).unwrap();
        let out = TcpStream::connect("127.0.0.1:8080").unwrap();
        assert_eq!(libtoa::original(&out).unwrap(), None);
        assert_eq!(
            libtoa::client_addr(&out).unwrap(),
            "127.0.0.1:8080".parse().unwrap()
        );
    });
}

#[test]
fn without_the_module_libtoa_says_so_and_client_addr_still_works() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let client = original(Family::V4, 7, 7);
        let conn = world.connect(Family::V4, &listener, &[], &toa(200, client));
        let unloaded = module::Unloaded::now();
        let error = libtoa::original(&conn.stream).unwrap_err();
        assert!(matches!(error, Error::NotLoaded), "{error:?}");
        assert_eq!(error.to_string(), "module not loaded");
        assert!(matches!(libtoa::abi(), Err(Error::NotLoaded)));
        assert_eq!(
            libtoa::client_addr(&conn.stream).unwrap(),
            conn.client.local()
        );
        drop(unloaded);
        // Loaded anew, it knows nothing of connections from before.
        assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
    });
}
