// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of Alibaba's vtoa, as OceanBase and others make them. Written against what they publish,
//! and nothing of this project: applications in the field must not notice whose module answers.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use toa_testbed::Family;
use toa_vm_tests::{Stats, World, module};

/// VTOA_BASE_CTL, and what they add to it.
const BASE: libc::c_int = 64 + 1024 + 64 + 64 + 64 + 64;
const GET_VS: libc::c_int = BASE + 1;
const GET_VS4RDS: libc::c_int = BASE + 2;
const HYBRID_GET_VS: libc::c_int = BASE + 3;

/// `struct vtoa_get_vs`: VPC, VIP, its port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vs {
    vid: u32,
    vaddr: u32,
    vport: u16,
}

/// `struct vtoa_get_vs4rds`, with room for one server behind.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vs4Rds {
    protocol: u16,
    caddr: u32,
    cport: u16,
    daddr: u32,
    dport: u16,
    entry: Vs,
}

/// `struct v6vtoa_get_vs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct V6Vs {
    vid: u32,
    vaddr: [u8; 16],
    vaddr_af: u16,
    vport: u16,
}

const VS: Vs = Vs {
    vid: 0xaaaa_aaaa,
    vaddr: 0xaaaa_aaaa,
    vport: 0xaaaa,
};
const VS4RDS: Vs4Rds = Vs4Rds {
    protocol: 6,
    caddr: 0x0101_0101,
    cport: 0x0202,
    daddr: 0x0303_0303,
    dport: 0x0404,
    entry: VS,
};
const V6VS: V6Vs = V6Vs {
    vid: 0xaaaa_aaaa,
    vaddr: [0xaa; 16],
    vaddr_af: 0xaaaa,
    vport: 0xaaaa,
};

#[test]
fn the_structures_have_the_published_sizes() {
    assert_eq!(size_of::<Vs>(), 12);
    assert_eq!(size_of::<Vs4Rds>(), 32);
    assert_eq!(std::mem::offset_of!(Vs4Rds, entry), 20);
    assert_eq!(size_of::<V6Vs>(), 24);
}

/// Asks, with a buffer that is said to be `len` bytes long: what came, and the length that came back.
fn ask<T>(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    blank: T,
    len: usize,
) -> Result<(T, usize), Errno> {
    assert!(len <= size_of::<T>());
    let mut buffer = blank;
    let mut len = len as libc::socklen_t;
    // SAFETY: `buffer` can be written for `len` bytes, and any bytes make one.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            ptr::from_mut(&mut buffer).cast(),
            &mut len,
        )
    };
    Errno::result(result)?;
    Ok((buffer, len as usize))
}

fn get_vs(socket: impl AsFd) -> Result<Vs, Errno> {
    let (vs, len) = ask(socket, libc::SOL_IP, GET_VS, VS, size_of::<Vs>())?;
    assert_eq!(len, size_of::<Vs>());
    Ok(vs)
}

fn get_vs4rds(socket: impl AsFd) -> Result<Vs4Rds, Errno> {
    let size = size_of::<Vs4Rds>();
    let (vs, len) = ask(socket, libc::SOL_IP, GET_VS4RDS, VS4RDS, size)?;
    assert_eq!(len, size);
    Ok(vs)
}

fn get_hybrid(socket: impl AsFd, level: libc::c_int) -> Result<V6Vs, Errno> {
    let (vs, len) = ask(socket, level, HYBRID_GET_VS, V6VS, size_of::<V6Vs>())?;
    assert_eq!(len, size_of::<V6Vs>());
    Ok(vs)
}

const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99);

/// 252/20: client 203.0.113.7:51820, VPC, VIP 198.51.100.9:443.
const VTOA: [u8; 20] = [
    252, 20, 0xca, 0x6c, 203, 0, 113, 7, 1, 2, 3, 4, 198, 51, 100, 9, 1, 187, 0, 0,
];
/// 254/8: the client alone.
const TOA: [u8; 8] = [254, 8, 0xca, 0x6c, 203, 0, 113, 7];
/// 250/8: the VIP alone.
const TOA_VIP: [u8; 8] = [250, 8, 1, 187, 198, 51, 100, 9];

/// 249/40: client [2001:db8::7]:51820, VPC 0x123456, VIP 2001:db8::99.
fn v6vtoa() -> Vec<u8> {
    let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    let head = [249, 40, 0xca, 0x6c];
    let vpc = [0x12, 0x34, 0x56, 0];
    [&head[..], &client.octets(), &vpc, &VIP6.octets()].concat()
}

/// The structure that tells the VIP, with this VPC.
fn vs(vid: [u8; 4]) -> Vs {
    Vs {
        // As it came: the field is the sender's business.
        vid: u32::from_ne_bytes(vid),
        vaddr: u32::from_ne_bytes(VIP.octets()),
        vport: 443u16.to_be(),
    }
}

fn hybrid(vid: [u8; 4]) -> V6Vs {
    let [a, b, c, d] = VIP.octets();
    V6Vs {
        vid: u32::from_ne_bytes(vid),
        vaddr: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        vaddr_af: libc::AF_INET as u16,
        vport: 443u16.to_be(),
    }
}

/// With the layouts of vtoa.
fn as_vtoa(work: impl FnOnce(&World) + Send) {
    World::run_with("layouts=alibaba", work);
}

#[test]
fn a_v4_vip_is_told_by_all_three() {
    as_vtoa(|world| {
        for (option, vid) in [
            (VTOA.to_vec(), [1, 2, 3, 4]),
            ([TOA, TOA_VIP].concat(), [0; 4]),
            // A VIP and no client.
            (TOA_VIP.to_vec(), [0; 4]),
        ] {
            for family in Family::ALL {
                let listener = world.listen(family);
                for (syn, ack) in [(&option[..], &[][..]), (&[], &option)] {
                    let conn = world.connect(family, &listener, syn, ack);
                    let socket = &conn.stream;
                    assert_eq!(get_vs(socket), Ok(vs(vid)), "{option:?} {family:?}");
                    // What the caller wrote of its connection is left alone.
                    let rds = Vs4Rds {
                        entry: vs(vid),
                        ..VS4RDS
                    };
                    assert_eq!(get_vs4rds(socket), Ok(rds), "{option:?} {family:?}");
                    assert_eq!(get_hybrid(socket, libc::SOL_IP), Ok(hybrid(vid)));
                }
            }
        }
    });
}

#[test]
fn a_v6_vip_is_told_by_the_last_alone_at_both_levels() {
    as_vtoa(|world| {
        let told = V6Vs {
            vid: 0x0012_3456,
            vaddr: VIP6.octets(),
            vaddr_af: libc::AF_INET6 as u16,
            vport: 0,
        };
        for family in Family::ALL {
            let listener = world.listen(family);
            let conn = world.connect(family, &listener, &v6vtoa(), &[]);
            let socket = &conn.stream;
            assert_eq!(get_hybrid(socket, libc::SOL_IP), Ok(told), "{family:?}");
            assert_eq!(get_vs(socket), Err(Errno::ESRCH), "{family:?}");
            assert_eq!(get_vs4rds(socket), Err(Errno::ESRCH), "{family:?}");
        }
        let listener = world.listen(Family::V6);
        let conn = world.connect(Family::V6, &listener, &[], &v6vtoa());
        assert_eq!(get_hybrid(&conn.stream, libc::SOL_IPV6), Ok(told));
    });
}

#[test]
fn at_the_level_of_ipv6_there_is_the_last_call_alone_and_no_v4_vip() {
    as_vtoa(|world| {
        let listener = world.listen(Family::V6);
        let v6 = libc::SOL_IPV6;
        for option in [v6vtoa(), VTOA.to_vec(), vec![]] {
            let conn = world.connect(Family::V6, &listener, &[], &option);
            let socket = &conn.stream;
            let einval = Err(Errno::EINVAL);
            assert_eq!(ask(socket, v6, GET_VS, VS, 12).map(|_| ()), einval);
            assert_eq!(ask(socket, v6, GET_VS4RDS, VS4RDS, 32).map(|_| ()), einval);
            let short = ask(socket, v6, HYBRID_GET_VS, V6VS, 23).map(|_| ());
            assert_eq!(short, einval);
            if option != v6vtoa() {
                assert_eq!(get_hybrid(socket, v6), Err(Errno::ESRCH));
            }
        }
        // An AF_INET6 socket with an IPv4 connection, and an AF_INET one, which has no such level.
        let dual = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let conn = world.connect(Family::V4, &dual, &[], &VTOA);
        assert_eq!(get_hybrid(&conn.stream, v6), Err(Errno::ESRCH));
        assert_eq!(get_vs(&conn.stream), Ok(vs([1, 2, 3, 4])));
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &[], &v6vtoa());
        // The kernel's own word, which no module hears of.
        let refused = get_hybrid(&conn.stream, v6);
        assert!(
            matches!(refused, Err(Errno::EOPNOTSUPP | Errno::ENOPROTOOPT)),
            "{refused:?}"
        );
    });
}

#[test]
fn without_a_vip_it_is_esrch_whatever_the_socket() {
    as_vtoa(|world| {
        let esrch = |socket: &dyn AsRawFd, what: &str| {
            // SAFETY: the caller's socket outlives this.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(socket.as_raw_fd()) };
            assert_eq!(get_vs(fd), Err(Errno::ESRCH), "{what}");
            assert_eq!(get_vs4rds(fd), Err(Errno::ESRCH), "{what}");
            assert_eq!(get_hybrid(fd, libc::SOL_IP), Err(Errno::ESRCH), "{what}");
        };
        for family in Family::ALL {
            let listener = world.listen(family);
            let bare = world.connect(family, &listener, &[], &[]);
            esrch(&bare.stream, "no option");
            let client = world.connect(family, &listener, &[], &TOA);
            esrch(&client.stream, "a client alone");
            esrch(&listener, "a listener");
            let kind = match family {
                Family::V4 => AddressFamily::Inet,
                Family::V6 => AddressFamily::Inet6,
            };
            let fresh = socket(kind, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            esrch(&fresh, "not connected");
        }
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        esrch(&udp, "UDP");
    });
}

#[test]
fn a_buffer_of_another_size_is_einval_before_all_else() {
    as_vtoa(|world| {
        let listener = world.listen(Family::V4);
        let with = world.connect(Family::V4, &listener, &[], &VTOA);
        let without = world.connect(Family::V4, &listener, &[], &[]);
        for socket in [
            with.stream.as_fd(),
            without.stream.as_fd(),
            listener.as_fd(),
        ] {
            let ip = libc::SOL_IP;
            for len in [0, 1, 8, 11] {
                let got = ask(socket, ip, GET_VS, VS, len).map(|_| ());
                assert_eq!(got, Err(Errno::EINVAL), "{len}");
            }
            // Of this one the size is asked for to the byte.
            let long = (VS4RDS, VS4RDS);
            for len in [0, 12, 19, 20, 31, 33, 64] {
                let got = ask(socket, ip, GET_VS4RDS, long, len).map(|_| ());
                assert_eq!(got, Err(Errno::EINVAL), "{len}");
            }
            for len in [0, 12, 23] {
                let got = ask(socket, ip, HYBRID_GET_VS, V6VS, len).map(|_| ());
                assert_eq!(got, Err(Errno::EINVAL), "{len}");
            }
        }
    });
}

/// Unlike most calls: the length is what the caller said, and nothing behind the structure is written.
#[test]
fn a_longer_buffer_is_as_good_and_its_length_stays() {
    as_vtoa(|world| {
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &[], &VTOA);
        let blank = [0xaau8; 64];
        let got = ask(&conn.stream, libc::SOL_IP, GET_VS, blank, 64);
        let (bytes, len) = got.unwrap();
        assert_eq!(len, 64);
        let written = [1, 2, 3, 4, 198, 51, 100, 9, 1, 187];
        assert_eq!(bytes[..10], written);
        assert_eq!(bytes[12..], [0xaa; 52]);
        let got = ask(&conn.stream, libc::SOL_IP, HYBRID_GET_VS, blank, 64);
        let (bytes, len) = got.unwrap();
        assert_eq!((len, &bytes[..4]), (64, &[1, 2, 3, 4][..]));
        assert_eq!(bytes[24..], [0xaa; 40]);
    });
}

#[test]
fn a_bad_buffer_is_efault_where_there_is_something_to_write() {
    as_vtoa(|world| {
        let listener = world.listen(Family::V4);
        let with = world.connect(Family::V4, &listener, &[], &VTOA);
        let without = world.connect(Family::V4, &listener, &[], &[]);
        for (name, size) in [(GET_VS, 12), (GET_VS4RDS, 32), (HYBRID_GET_VS, 24)] {
            for (conn, errno) in [(&with, Errno::EFAULT), (&without, Errno::ESRCH)] {
                let mut len: libc::socklen_t = size;
                // SAFETY: the kernel can write nothing there.
                let result = unsafe {
                    libc::getsockopt(
                        conn.stream.as_raw_fd(),
                        libc::SOL_IP,
                        name,
                        ptr::null_mut(),
                        &mut len,
                    )
                };
                assert_eq!(Errno::result(result), Err(errno), "{name}");
            }
        }
    });
}

/// OceanBase asks so of every connection, and takes any error for *no load balancer*.
#[test]
fn the_way_of_oceanbase() {
    as_vtoa(|world| {
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &VTOA, &[]);
        let addr = |ip: std::net::IpAddr| match ip {
            std::net::IpAddr::V4(v4) => u32::from_ne_bytes(v4.octets()),
            std::net::IpAddr::V6(_) => unreachable!("an IPv4 connection"),
        };
        let (peer, local) = (
            conn.stream.peer_addr().unwrap(),
            conn.stream.local_addr().unwrap(),
        );
        let mut question = Vs4Rds {
            protocol: libc::IPPROTO_TCP as u16,
            caddr: addr(peer.ip()),
            cport: peer.port().to_be(),
            daddr: addr(local.ip()),
            dport: local.port().to_be(),
            entry: VS,
        };
        let (answer, len) = ask(&conn.stream, libc::IPPROTO_IP, GET_VS4RDS, question, 32).unwrap();
        question.entry = vs([1, 2, 3, 4]);
        assert_eq!((answer, len), (question, 32));
    });
}

/// Tencent's options tell the same things, so they are told by the same calls.
#[test]
fn other_vendors_vips_are_told_too() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let vip = [202, 8, 1, 187, 198, 51, 100, 9];
        let vpc = [201, 6, 0, 0, 0, 9];
        let option = [&[200, 8, 0xca, 0x6c, 203, 0, 113, 7][..], &vpc, &vip].concat();
        let conn = world.connect(Family::V4, &listener, &[], &option);
        assert_eq!(get_vs(&conn.stream), Ok(vs([0, 0, 0, 9])));
        assert_eq!(
            get_hybrid(&conn.stream, libc::SOL_IP),
            Ok(hybrid([0, 0, 0, 9]))
        );
    });
}

#[test]
fn without_the_module_it_is_enoprotoopt() {
    World::run(|world| {
        let listener = world.listen(Family::V6);
        let conn = world.connect(Family::V6, &listener, &[], &[]);
        let unloaded = module::Unloaded::now();
        let gone = Errno::ENOPROTOOPT;
        assert_eq!(get_vs(&conn.stream), Err(gone));
        assert_eq!(get_vs4rds(&conn.stream), Err(gone));
        for level in [libc::SOL_IP, libc::SOL_IPV6] {
            assert_eq!(get_hybrid(&conn.stream, level), Err(gone));
        }
        drop(unloaded);
        assert_eq!(get_vs(&conn.stream), Err(Errno::ESRCH));
    });
}

#[test]
fn the_classic_counters_count_these_questions() {
    as_vtoa(|world| {
        let listener = world.listen(Family::V4);
        let asked = |option: &[u8]| {
            let conn = world.connect(Family::V4, &listener, &[], option);
            let before = Stats::read();
            let _ = get_vs(&conn.stream);
            Stats::read().since(&before)
        };
        assert_eq!(asked(&VTOA), [("getname_toa_ok", 1)]);
        assert_eq!(asked(&TOA), [("getname_toa_empty", 1)]);
        assert_eq!(asked(&v6vtoa()), [("getname_toa_bypass", 1)]);
        assert_eq!(asked(&[]), [("getname_toa_empty", 1)]);
    });
}
