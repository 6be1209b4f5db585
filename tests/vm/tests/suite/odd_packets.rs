// SPDX-License-Identifier: MIT OR Apache-2.0
//! Segments whose packets are not one plain piece of memory with the TCP header in its usual place.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use libtoa::Segment;
use toa_cli::wire::{self, Flags, toa};
use toa_testbed::{Family, command};
use toa_vm_tests::node::{PATIENCE, Sysctl, ip};
use toa_vm_tests::{Conn, World, accept, original, peer_ip, server_ip, wait_readable};

/// Connects with TOA in the SYN and then with TOA in the ACK, every packet changed by `change` into
/// those that are sent.
fn connect_both_ways(world: &World, family: Family, change: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let kind = match family {
        Family::V4 => 200,
        Family::V6 => 253,
    };
    let client = original(family, 7, 7);
    let listener = world.listen(family);
    let option = toa(kind, client);
    for (segment, syn, ack) in [
        (Segment::Syn, &option[..], &[][..]),
        (Segment::Ack, &[], &option),
    ] {
        let mut end = world.client(family, &listener);
        let send = |segment: &wire::Segment| {
            for packet in change(&segment.to_packet().unwrap()) {
                world.link().send_packet(&packet).unwrap();
            }
        };
        send(&wire::Segment {
            options: syn.to_vec(),
            ..end.segment(Flags::SYN)
        });
        end.seq = end.seq.wrapping_add(1);
        end.recv_syn_ack().unwrap();
        send(&wire::Segment {
            options: ack.to_vec(),
            payload: b"data".to_vec(),
            ..end.segment(Flags::ACK | Flags::PSH)
        });
        end.seq = end.seq.wrapping_add(4);
        let mut conn = Conn::accepted(end, &listener);
        let told = libtoa::original(&conn.stream).unwrap().unwrap();
        assert_eq!((told.addr, told.segment), (client, segment));
        conn.server_reads(b"data");
        conn.exchange();
    }
}

fn put16(packet: &mut [u8], at: usize, value: usize) {
    packet[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_be_bytes());
}

fn ipv4_checksum(header: &mut [u8]) {
    put16(header, 10, 0);
    let mut sum: usize = header
        .chunks(2)
        .map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    put16(header, 10, !sum & 0xffff);
}

/// IP options, or an extension header, move the TCP header.
#[test]
fn behind_options_of_the_ip_header() {
    World::run(|world| {
        connect_both_ways(world, Family::V4, |packet| {
            // Eight NOPs.
            let mut longer = [&packet[..20], &[1; 8], &packet[20..]].concat();
            longer[0] = 0x47;
            let length = longer.len();
            put16(&mut longer, 2, length);
            ipv4_checksum(&mut longer[..28]);
            vec![longer]
        });
        connect_both_ways(world, Family::V6, |packet| {
            // Destination options: the next header is TCP, then padding to 8 bytes.
            let options = [6, 0, 1, 4, 0, 0, 0, 0];
            let mut longer = [&packet[..40], &options, &packet[40..]].concat();
            let length = longer.len() - 40;
            put16(&mut longer, 4, length);
            longer[6] = 60;
            vec![longer]
        });
    });
}

/// IP fragments of few bytes, which the kernel leaves in separate buffers when it has put the packet
/// together. Those of IPv4 split even the fixed TCP header; IPv6 wants that in the first.
#[test]
fn in_ip_fragments_that_split_the_tcp_header_and_the_option() {
    World::run(|world| {
        for piece in [8, 16, 24] {
            connect_both_ways(world, Family::V4, |packet| {
                let (header, data) = packet.split_at(20);
                let last = data.len().div_ceil(piece) - 1;
                let fragment = |(n, data): (usize, &[u8])| {
                    let mut fragment = [header, data].concat();
                    let length = fragment.len();
                    put16(&mut fragment, 2, length);
                    // The same identification; more fragments but for the last.
                    put16(&mut fragment, 4, usize::from(packet[23]) * 256 + piece);
                    let more = if n < last { 0x2000 } else { 0 };
                    put16(&mut fragment, 6, more | (n * piece / 8));
                    ipv4_checksum(&mut fragment[..20]);
                    fragment
                };
                data.chunks(piece).enumerate().map(fragment).collect()
            });
        }
        for piece in [24, 32] {
            connect_both_ways(world, Family::V6, |packet| {
                let (header, data) = packet.split_at(40);
                let last = data.len().div_ceil(piece) - 1;
                let fragment = |(n, piece_data): (usize, &[u8])| {
                    let more = u8::from(n < last);
                    let offset = u16::try_from(n * piece).unwrap().to_be_bytes();
                    let extension = [
                        6,
                        0,
                        offset[0],
                        offset[1] | more,
                        data[16],
                        data[17],
                        data[4],
                        data[7],
                    ];
                    let mut fragment = [header, &extension, piece_data].concat();
                    let length = fragment.len() - 40;
                    put16(&mut fragment, 4, length);
                    fragment[6] = 44;
                    fragment
                };
                data.chunks(piece).enumerate().map(fragment).collect()
            });
        }
    });
}

/// An Ethernet device whose packets come in pieces, as from a network card that splits headers.
struct Tap(File);

const TAP: &str = "pieces";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

mod ioctl {
    nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, libc::ifreq);
}

impl Tap {
    fn new() -> Self {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .unwrap();
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_NAPI | libc::IFF_NAPI_FRAGS;
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_flags: flags as libc::c_short,
            },
        };
        for (to, from) in request.ifr_name.iter_mut().zip(TAP.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: The file is open, and `request` a whole ifreq that outlives the call.
        unsafe { ioctl::tun_set_iff(file.as_raw_fd(), &request) }.expect("a TAP device");
        for line in [
            format!("ip link set {TAP} address 02:00:00:00:00:01 up"),
            format!("ip addr add 10.7.0.1/24 dev {TAP}"),
            format!("ip neigh add 10.7.0.2 lladdr 02:00:00:00:00:02 dev {TAP}"),
            format!("ip addr add fd07::1/64 dev {TAP} nodad"),
            format!("ip neigh add fd07::2 lladdr 02:00:00:00:00:02 dev {TAP}"),
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let output = command(words[0]).args(&words[1..]).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
        Self(file)
    }

    /// Sends a segment cut at these places of the frame, each piece in a buffer of its own.
    fn send(&self, segment: &wire::Segment, cuts: &[usize]) {
        let kind: [u8; 2] = if segment.source.is_ipv4() {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        };
        let packet = segment.to_packet().unwrap();
        let frame = [&MAC[..], &PEER_MAC, &kind, &packet].concat();
        let mut pieces = Vec::new();
        let mut rest = &frame[..];
        let mut at = 0;
        for &cut in cuts {
            let (piece, behind) = rest.split_at((cut - at).min(rest.len()));
            if !piece.is_empty() {
                pieces.push(IoSlice::new(piece));
            }
            (rest, at) = (behind, cut);
        }
        if !rest.is_empty() {
            pieces.push(IoSlice::new(rest));
        }
        let written = (&self.0).write_vectored(&pieces).unwrap();
        assert_eq!(written, frame.len());
    }

    /// The next segment that the kernel sends from the server.
    fn receive(&self, from: SocketAddr) -> wire::Segment {
        let deadline = Instant::now() + PATIENCE;
        let mut frame = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(wait_readable(&self.0, left), "no segment from {from}");
            let length = (&self.0).read(&mut frame).unwrap();
            let segment = wire::Segment::from_packet(&frame[14..length]);
            if let Some(segment) = segment.filter(|segment| segment.source == from) {
                return segment;
            }
        }
    }
}

#[test]
fn in_buffers_that_split_the_tcp_header_and_the_option() {
    World::run(|_| {
        let tap = Tap::new();
        for (server, peer, kind, ip) in [
            ("10.7.0.1:0", "10.7.0.2:1000", 200, 20),
            ("[fd07::1]:0", "[fd07::2]:1000", 253, 40),
        ] {
            let listener = TcpListener::bind(server).unwrap();
            let server = listener.local_addr().unwrap();
            let mut peer: SocketAddr = peer.parse().unwrap();
            let family = if peer.is_ipv4() {
                Family::V4
            } else {
                Family::V6
            };
            let client = original(family, 7, 7);
            let option = toa(kind, client);
            let tcp = 14 + ip;
            for cuts in [
                // Behind the Ethernet header, the IP header, in the middle of the TCP header.
                &[14, tcp, tcp + 10][..],
                &[tcp + 4],
                // Behind the TCP header, and in the middle of the option.
                &[tcp + 20],
                &[tcp + 20, tcp + 21],
                &[tcp + 23, tcp + 26],
            ] {
                for (segment, syn, ack) in [
                    (Segment::Syn, &option[..], &[][..]),
                    (Segment::Ack, &[], &option),
                ] {
                    peer.set_port(peer.port() + 1);
                    let mut out = wire::Segment {
                        source: peer,
                        destination: server,
                        seq: 1_000_000,
                        ack: 0,
                        flags: Flags::SYN,
                        window: u16::MAX,
                        options: syn.to_vec(),
                        payload: Vec::new(),
                    };
                    tap.send(&out, cuts);
                    let answer = tap.receive(server);
                    assert!(answer.flags.contains(Flags::SYN | Flags::ACK), "{answer}");
                    out.seq += 1;
                    out.ack = answer.seq.wrapping_add(1);
                    out.flags = Flags::ACK;
                    out.options = ack.to_vec();
                    tap.send(&out, cuts);
                    let (stream, from) = accept(&listener);
                    assert_eq!(from, peer);
                    let told = libtoa::original(&stream).unwrap().unwrap();
                    assert_eq!((told.addr, told.segment), (client, segment), "{cuts:?}");
                    out.flags = Flags::RST | Flags::ACK;
                    out.options.clear();
                    tap.send(&out, &[tcp + 20]);
                }
            }
        }
    });
}

/// The only device of a [`World`] beside loopback.
fn device() -> String {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let mut names = text
        .lines()
        .skip(2)
        .map(|line| line.split_once(':').unwrap().0.trim());
    names
        .find(|name| name.starts_with("toa"))
        .unwrap()
        .to_owned()
}

/// Link-local addresses mean something on their own device only, so the connection's socket is
/// bound to it, whether the listener is or not.
#[test]
fn between_link_local_addresses() {
    World::run(|world| {
        let device = device();
        ip(&format!("addr add fe80::1/64 dev {device} nodad"));
        let index = nix::net::if_::if_nametoindex(device.as_str()).unwrap();
        let client = original(Family::V6, 7, 7);
        let option = toa(253, client);
        for bind in [format!("[fe80::1%{index}]:0"), "[::]:0".to_owned()] {
            let listener = TcpListener::bind(&bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            for (n, segment, syn, ack) in [
                (1, Segment::Syn, &option[..], &[][..]),
                (2, Segment::Ack, &[], &option),
            ] {
                let peer = SocketAddr::new("fe80::2".parse().unwrap(), 3000 + n);
                let server = SocketAddr::new("fe80::1".parse().unwrap(), port);
                let mut end = toa_cli::client::Client::new(world.link(), peer, server);
                end.connect(syn, ack).unwrap();
                let (stream, _) = accept(&listener);
                let told = libtoa::original(&stream).unwrap();
                let told = told.unwrap_or_else(|| panic!("{bind} was not told, by {segment}"));
                assert_eq!((told.addr, told.segment), (client, segment));
                end.rst().unwrap();
            }
        }
    });
}

/// A VRF: the device is a slave of another, which the connection's socket is bound to.
#[test]
fn into_a_vrf() {
    World::run(|world| {
        let device = device();
        ip("link add red type vrf table 10");
        ip("link set red up");
        ip(&format!("link set {device} master red"));
        // Moving it has taken the IPv6 address and the routes away.
        let [v4, v6] = Family::ALL.map(server_ip);
        ip(&format!("addr replace {v4}/24 dev {device}"));
        ip(&format!("addr replace {v6}/64 dev {device} nodad"));
        // A listener of all VRFs.
        let _all = Sysctl::set("net/ipv4/tcp_l3mdev_accept", "1");
        for (kind, family) in [(200, Family::V4), (253, Family::V6)] {
            let listener = TcpListener::bind("[::]:0").unwrap();
            assert!(peer_ip(family) != server_ip(family));
            let client = original(family, 7, 7);
            let option = toa(kind, client);
            for (segment, syn, ack) in [
                (Segment::Syn, &option[..], &[][..]),
                (Segment::Ack, &[], &option),
            ] {
                let mut conn = world.connect(family, &listener, syn, ack);
                let told = libtoa::original(&conn.stream).unwrap();
                let told = told.unwrap_or_else(|| panic!("{family:?} was not told, by {segment}"));
                assert_eq!(
                    (told.addr.ip().to_canonical(), told.segment),
                    (client.ip(), segment)
                );
                conn.exchange();
            }
        }
    });
}
