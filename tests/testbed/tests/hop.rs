// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real connections through the hop, watched by a packet socket on the server's side.
//!
//! These make network namespaces, devices and NAT rules, so they want root and a kernel of their
//! own: `scripts/vm -- PATH-OF-THIS-BINARY --ignored`. `unshare --mount --net` before it does as
//! well, where the machine's kernel has TUN, veth and nftables' NAT.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use etherparse::{IpHeaders, TcpHeader, ip_number};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrLike, bind, connect, getsockname, recv, socket,
};
use toa_testbed::{
    Carrier, Family, Insert, Kinds, Plan, ServerSide, Topology, allow_open_files, in_ns, option,
};

const KINDS: Kinds = Kinds { v4: 200, v6: 253 };

/// Listens in the server's namespace, and answers every request with `body` for as long as the
/// test runs. Returns the port.
fn serve(topology: &Topology, family: Family, body: String) -> u16 {
    let address = SocketAddr::new(topology.server_ip(family), 0);
    let listener = in_ns(topology.server(), || TcpListener::bind(address))
        .unwrap()
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, body) = (stream.unwrap(), body.clone());
            thread::spawn(move || {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut buffer = [0; 512];
                    match stream.read(&mut buffer).unwrap_or(0) {
                        0 => return,
                        length => request.extend(&buffer[..length]),
                    }
                }
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes());
            });
        }
    });
    port
}

/// A topology in which a [`Capture`] sees none of what other tests send.
fn apart(name: &str) -> Topology {
    Topology::builder(name)
        .server_side(ServerSide::Own)
        .build()
        .unwrap()
}

/// Sees every packet of the server's namespace.
struct Capture(OwnedFd);

/// A TCP segment as it arrived.
struct Arrived {
    source: SocketAddr,
    tcp: TcpHeader,
    payload: usize,
}

impl Capture {
    fn new(topology: &Topology) -> Self {
        // Datagrams of a packet socket begin with the IP header.
        let fd = in_ns(topology.server(), || {
            let kind = SockType::Datagram;
            socket(
                AddressFamily::Packet,
                kind,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
        });
        Self(fd.unwrap().unwrap())
    }

    /// The TCP segments that came in for this address; a bad checksum fails the test.
    fn arrived(&self, server: SocketAddr) -> Vec<Arrived> {
        let mut all = Vec::new();
        let mut buffer = [0; 65_535];
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => return all,
                Err(error) => panic!("packet socket: {error}"),
            };
            let Ok((ip, rest)) = IpHeaders::from_slice(&buffer[..length]) else {
                continue;
            };
            if rest.ip_number != ip_number::TCP {
                continue;
            }
            let (tcp, payload) = TcpHeader::from_slice(rest.payload).unwrap();
            let (from, to): (IpAddr, IpAddr) = match &ip {
                IpHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into()),
                IpHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into()),
            };
            if SocketAddr::new(to, tcp.destination_port) != server {
                continue;
            }
            let checksum = match &ip {
                IpHeaders::Ipv4(ip, _) => {
                    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    tcp.calc_checksum_ipv4(ip, payload)
                }
                IpHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(ip, payload),
            };
            assert_eq!(tcp.checksum, checksum.unwrap(), "TCP checksum");
            let source = SocketAddr::new(from, tcp.source_port);
            all.push(Arrived {
                source,
                tcp,
                payload: payload.len(),
            });
        }
    }
}

/// One connection by curl; checks what arrived. `expect` gets the client's address as curl says
/// it, and returns the bytes that must be the last ones in the options of the SYN and of the ACK.
/// Returns how many segments had no room for them.
fn exchange(
    topology: &Topology,
    family: Family,
    args: &[&str],
    expect: impl Fn(SocketAddr) -> [Vec<u8>; 2],
) -> u64 {
    let port = serve(topology, family, "hello".into());
    let capture = Capture::new(topology);
    let reply = topology.curl(family, port, args).unwrap();
    let (body, client) = reply.split_once(" client=").unwrap();
    let client: SocketAddr = client.parse().unwrap();
    assert_eq!(body, "hello");

    let arrived = capture.arrived(SocketAddr::new(topology.server_ip(family), port));
    assert!(
        arrived
            .iter()
            .all(|segment| segment.source.ip() == topology.hop_ip(family))
    );
    // A slow machine repeats a SYN or an ACK that it takes for lost.
    let (syns, rest): (Vec<_>, Vec<_>) = arrived.iter().partition(|segment| segment.tcp.syn);
    let numbers = |tcp: &TcpHeader| (tcp.sequence_number, tcp.acknowledgment_number);
    let first = numbers(&rest[0].tcp);
    let (acks, data): (Vec<_>, Vec<_>) = rest
        .into_iter()
        .partition(|segment| numbers(&segment.tcp) == first && segment.payload == 0);
    assert!(!syns.is_empty() && !acks.is_empty() && !data.is_empty());
    let [in_syn, in_ack] = &expect(client);
    let mut no_room = 0;
    for (segments, own, added) in [
        (syns, &SYN_OPTIONS[..], &in_syn[..]),
        (acks, &LATER_OPTIONS, in_ack),
        (data, &LATER_OPTIONS, &[]),
    ] {
        for segment in segments {
            let options = &segment.tcp.options;
            let behind = behind(options, own);
            // A D-SACK leaves too little for an IPv6 client's address.
            if options.len() - behind.len() + added.len() > MAX_OPTIONS {
                assert_eq!(behind, []);
                no_room += 1;
            } else {
                assert_eq!(behind, added);
            }
        }
    }
    no_room
}

/// How many bytes of options a TCP header has room for.
const MAX_OPTIONS: usize = 40;
/// The kinds that Linux itself puts into a SYN: MSS, SACK permitted, timestamps, window scale, and
/// the padding.
const SYN_OPTIONS: [u8; 5] = [2, 4, 8, 1, 3];
/// And later: timestamps and padding, and SACK, in which a D-SACK answers a repeated segment.
const LATER_OPTIONS: [u8; 3] = [8, 1, 5];

/// What is behind the options of the kinds `own`, which Linux itself wrote: all that was inserted,
/// as nothing else can be in front of it.
fn behind<'a>(mut options: &'a [u8], own: &[u8]) -> &'a [u8] {
    loop {
        let length = match *options {
            [kind, ..] if !own.contains(&kind) => return options,
            [1, ..] => 1,
            [_, length, ..] if length >= 2 => usize::from(length),
            _ => return options,
        };
        options = options
            .get(length..)
            .unwrap_or_else(|| panic!("Linux wrote an option past the end: {options:?}"));
    }
}

fn client_in(carrier: Carrier, client: SocketAddr) -> [Vec<u8>; 2] {
    let kind = if client.is_ipv4() { KINDS.v4 } else { KINDS.v6 };
    let bytes = option(kind, client);
    match carrier {
        Carrier::None => [vec![], vec![]],
        Carrier::Syn => [bytes, vec![]],
        Carrier::Ack => [vec![], bytes],
        Carrier::Both => [bytes.clone(), bytes],
    }
}

#[test]
#[ignore = "makes network namespaces: needs root, and scripts/vm or unshare --mount --net"]
fn each_carrier_brings_the_clients_address() {
    for (net, server_side) in [ServerSide::Node, ServerSide::Own].into_iter().enumerate() {
        let net = net as u8;
        let topology = Topology::builder("carrier")
            .net(net)
            .server_side(server_side)
            .build();
        let topology = topology.unwrap();
        for family in Family::ALL {
            for carrier in [Carrier::None, Carrier::Syn, Carrier::Ack, Carrier::Both] {
                let before = topology.hop().counts();
                topology.set_plan(Plan::client(carrier, KINDS));
                let no_room = exchange(&topology, family, &[], |client| {
                    assert_eq!(client.ip(), topology.client_ip(family));
                    client_in(carrier, client)
                });
                let after = topology.hop().counts();
                let grew = (after.syn > before.syn, after.ack > before.ack);
                let both = carrier == Carrier::Both;
                assert_eq!(
                    grew,
                    (
                        both || carrier == Carrier::Syn,
                        both || carrier == Carrier::Ack
                    )
                );
                assert_eq!(after.no_room - before.no_room, no_room);
            }
        }
    }
}

#[test]
#[ignore = "makes network namespaces: needs root, and scripts/vm or unshare --mount --net"]
fn tests_may_write_what_they_like() {
    let topology = apart("forged");
    let [syn, ack]: [SocketAddr; 2] = [
        "192.0.2.1:1".parse().unwrap(),
        "[2001:db8:9::1]:2".parse().unwrap(),
    ];
    topology.set_plan(Plan {
        syn: Insert::Address {
            kind: 254,
            addr: syn,
        },
        ack: Insert::Address {
            kind: 253,
            addr: ack,
        },
        ..Plan::default()
    });
    for family in Family::ALL {
        exchange(&topology, family, &[], |_| {
            [option(254, syn), option(253, ack)]
        });
    }
    // Length 0, length 1, past the end, the wrong length for the kind: the connection lives.
    for raw in [
        [200, 0, 1, 1],
        [200, 1, 1, 1],
        [200, 8, 1, 1],
        [200, 4, 1, 1],
    ] {
        let insert = Insert::Raw(raw.to_vec());
        topology.set_plan(Plan {
            syn: insert.clone(),
            ack: insert,
            ..Plan::default()
        });
        for family in Family::ALL {
            exchange(&topology, family, &[], |_| [raw.to_vec(), raw.to_vec()]);
        }
    }
    // One byte more than there is room for in a SYN, and it passes as it came.
    let before = topology.hop().counts();
    topology.set_plan(Plan {
        syn: Insert::Raw(vec![1; 21]),
        ..Plan::default()
    });
    let no_room = exchange(&topology, Family::V4, &[], |_| [vec![1; 21], vec![]]);
    assert!(no_room > 0);
    assert_eq!(topology.hop().counts().no_room - before.no_room, no_room);
}

#[test]
#[ignore = "makes network namespaces: needs root, and scripts/vm or unshare --mount --net"]
fn clients_have_many_addresses_and_large_bodies_arrive() {
    let topology = apart("many");
    topology.set_plan(Plan::client(Carrier::Both, KINDS));
    for (family, interface) in [
        (Family::V4, "198.19.255.254"),
        (Family::V6, "2001:db8:7:1234::1"),
    ] {
        exchange(&topology, family, &["--interface", interface], |client| {
            assert_eq!(client.ip(), interface.parse::<IpAddr>().unwrap());
            client_in(Carrier::Both, client)
        });
        let body = "0123456789abcdef".repeat(1 << 16);
        let port = serve(&topology, family, body.clone());
        let upload = format!("@{}", std::env::current_exe().unwrap().display());
        let reply = topology.curl(family, port, &[]).unwrap();
        assert!(reply.starts_with(&body), "{} bytes came", reply.len());
        // The server answers without reading the rest, so curl's verdict does not matter; that
        // the connection took full segments does.
        let _ = topology.curl(family, port, &["--data-binary", &upload]);
        assert_eq!(topology.hop().counts().dropped, 0);
    }
}

#[test]
#[ignore = "makes network namespaces: needs root, and scripts/vm or unshare --mount --net"]
fn a_thousand_clients_at_once() {
    const CLIENTS: u16 = 1000;
    allow_open_files(8192).unwrap();
    let topology = apart("crowd");
    topology.set_plan(Plan::client(Carrier::Both, KINDS));
    for family in Family::ALL {
        let server = SocketAddr::new(topology.server_ip(family), 0);
        let listener = in_ns(topology.server(), || TcpListener::bind(server))
            .unwrap()
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let vip = SocketAddr::new(topology.vip(family), port);
        let acceptor = thread::spawn(move || {
            (0..CLIENTS)
                .map(|_| listener.accept().unwrap())
                .collect::<Vec<_>>()
        });
        let clients = in_ns(topology.client(), || {
            (1..=CLIENTS)
                .map(|n| connect_from(client_address(family, n), vip))
                .collect::<Vec<_>>()
        });
        let accepted = acceptor.join().unwrap();
        assert_eq!((clients.unwrap().len(), accepted.len()), (1000, 1000));
        assert!(
            accepted
                .iter()
                .all(|(_, peer)| peer.ip() == topology.hop_ip(family))
        );
    }
    let counts = topology.hop().counts();
    assert!(
        counts.syn >= 2000 && counts.ack >= 2000 && counts.dropped == 0,
        "{counts:?}"
    );
}

fn client_address(family: Family, n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(198, 18, high, low).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, n).into(),
    }
}

fn connect_from(from: IpAddr, to: SocketAddr) -> OwnedFd {
    fn with<A: SockaddrLike>(family: AddressFamily, from: A, to: A) -> nix::Result<OwnedFd> {
        let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind(fd.as_raw_fd(), &from)?;
        connect(fd.as_raw_fd(), &to)?;
        Ok(fd)
    }
    let result = match (SocketAddr::new(from, 0), to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => with(
            AddressFamily::Inet,
            SockaddrIn::from(from),
            SockaddrIn::from(to),
        )
        .inspect(|fd| {
            let local: SockaddrIn = getsockname(fd.as_raw_fd()).unwrap();
            assert_eq!(local.ip(), *from.ip());
        }),
        (SocketAddr::V6(from), SocketAddr::V6(to)) => with(
            AddressFamily::Inet6,
            SockaddrIn6::from(from),
            SockaddrIn6::from(to),
        ),
        _ => unreachable!("one family"),
    };
    result.unwrap_or_else(|error| panic!("from {from} to {to}: {error}"))
}

#[test]
#[ignore = "makes network namespaces: needs root, and scripts/vm or unshare --mount --net"]
fn nothing_is_left_behind_and_names_are_checked() {
    for _ in 0..3 {
        drop(Topology::builder("again").net(10).build().unwrap());
    }
    let first = Topology::builder("again").net(10).build().unwrap();
    let error = Topology::builder("again").net(11).build().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("toa-again-client exists already"),
        "{error:#}"
    );
    drop(first);
    for name in ["", "far-too-long-a-name", "a b"] {
        assert!(Topology::builder(name).build().is_err());
    }
    let left = std::fs::read_dir("/run/netns").unwrap().flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().contains("again"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
