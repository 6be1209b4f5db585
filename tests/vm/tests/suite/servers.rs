// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kinds of servers, and many connections at once.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};
use std::thread;

use libtoa::Segment;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, connect, socket,
};
use toa_cli::wire::toa;
use toa_testbed::{
    Carrier, Family, Kinds, Plan, ServerSide, Topology, allow_open_files, command, in_ns,
};
use toa_vm_tests::{World, accept, module, original, sockopt};

const KINDS: Kinds = Kinds { v4: 200, v6: 253 };

fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// A listener on `[::]` takes both families; its sockets speak IPv6.
#[test]
fn a_dual_stack_listener_tells_v4_clients_as_mapped_addresses() {
    World::run(|world| {
        let listener = TcpListener::bind("[::]:0").unwrap();
        for (wire, carried, kind) in [
            (Family::V4, Family::V4, 200),
            (Family::V6, Family::V6, 253),
            // A translator between the two families.
            (Family::V4, Family::V6, 253),
            (Family::V6, Family::V4, 200),
        ] {
            for segment in [Segment::Syn, Segment::Ack] {
                let client = original(carried, 7, 51_820);
                let option = toa(kind, client);
                let (syn, ack): (&[u8], &[u8]) = match segment {
                    Segment::Syn => (&option, &[]),
                    _ => (&[], &option),
                };
                let mut conn = world.connect(wire, &listener, syn, ack);
                let told = libtoa::original(&conn.stream).unwrap().unwrap();
                assert_eq!(told.addr, mapped(client), "{wire:?} {carried:?} {segment}");
                assert_eq!(told.peer, mapped(conn.client.local()));
                assert_eq!(told.peer, conn.stream.peer_addr().unwrap());
                assert_eq!(told.segment, segment);
                conn.exchange();
            }
            let conn = world.connect(wire, &listener, &[], &[]);
            assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
            assert_eq!(
                libtoa::client_addr(&conn.stream).unwrap(),
                mapped(conn.client.local())
            );
        }
    });
}

/// NAT64: an IPv6 client of an IPv4 server.
#[test]
fn an_af_inet_server_is_told_v6_clients() {
    World::run(|world| {
        let client = original(Family::V6, 7, 51_820);
        let listener = world.listen(Family::V4);
        for (segment, syn, ack) in [
            (Segment::Syn, toa(253, client), vec![]),
            (Segment::Ack, vec![], toa(253, client)),
        ] {
            let conn = world.connect(Family::V4, &listener, &syn, &ack);
            let told = libtoa::original(&conn.stream).unwrap().unwrap();
            assert_eq!((told.addr, told.segment), (client, segment));
            assert_eq!((told.kind, told.length), (253, 20));
            assert_eq!(told.peer, conn.client.local());
            let mut old = [0; 20];
            assert_eq!(
                sockopt::get(&conn.stream, libc::IPPROTO_IP, 4096, &mut old),
                Ok(20)
            );
            assert_eq!(
                old[..16],
                "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()
            );
            assert_eq!(old[16..18], 51_820u16.to_be_bytes());
        }
    });
}

/// A pod: its sockets are in a network namespace of their own, the module's files are not.
#[test]
fn a_server_in_another_network_namespace() {
    module::ensure_fresh();
    let topology = Topology::builder("pod")
        .server_side(ServerSide::Own)
        .build()
        .unwrap();
    for family in Family::ALL {
        let bound = SocketAddr::new(topology.server_ip(family), 0);
        let listener = in_ns(topology.server(), || TcpListener::bind(bound))
            .unwrap()
            .unwrap();
        let vip = SocketAddr::new(topology.vip(family), listener.local_addr().unwrap().port());
        for carrier in [Carrier::Syn, Carrier::Ack] {
            topology.set_plan(Plan::client(carrier, KINDS));
            let client = in_ns(topology.client(), || TcpStream::connect(vip))
                .unwrap()
                .unwrap();
            let (stream, _) = accept(&listener);
            let told = libtoa::original(&stream).unwrap().unwrap();
            assert_eq!(told.addr, client.local_addr().unwrap());
            // Also where a thread of the namespace asks.
            let inside = in_ns(topology.server(), || libtoa::original(&stream).unwrap());
            assert_eq!(inside.unwrap(), Some(told));
        }
    }
    toa_vm_tests::settle();
    drop(topology);
}

fn client_address(family: Family, n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(198, 18, high, low).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, n).into(),
    }
}

/// A connection from an address of the caller's choice.
fn connect_from(from: IpAddr, to: SocketAddr) -> TcpStream {
    let (flags, stream) = (SockFlag::SOCK_CLOEXEC, SockType::Stream);
    let fd = match (SocketAddr::new(from, 0), to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let fd = socket(AddressFamily::Inet, stream, flags, None).unwrap();
            bind(fd.as_raw_fd(), &SockaddrIn::from(from)).unwrap();
            connect(fd.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
            fd
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let fd = socket(AddressFamily::Inet6, stream, flags, None).unwrap();
            bind(fd.as_raw_fd(), &SockaddrIn6::from(from)).unwrap();
            connect(fd.as_raw_fd(), &SockaddrIn6::from(to)).unwrap();
            fd
        }
        _ => unreachable!("one family"),
    };
    fd.into()
}

/// Real clients, each from an address of its own, all connected at once.
#[test]
fn a_thousand_connections_at_once_each_with_its_own_address() {
    const OF_EACH_KIND: u16 = 250;
    module::ensure_fresh();
    allow_open_files(8192).unwrap();
    let topology = Topology::builder("crowd").build().unwrap();
    let mut held = Vec::new();
    let mut seen = HashSet::new();
    let mut n = 0;
    for family in Family::ALL {
        let listener = TcpListener::bind((topology.server_ip(family), 0)).unwrap();
        let vip = SocketAddr::new(topology.vip(family), listener.local_addr().unwrap().port());
        for (carrier, segment) in [(Carrier::Syn, Segment::Syn), (Carrier::Ack, Segment::Ack)] {
            topology.set_plan(Plan::client(carrier, KINDS));
            for _ in 0..OF_EACH_KIND {
                n += 1;
                let client = in_ns(topology.client(), || {
                    connect_from(client_address(family, n), vip)
                });
                let client = client.unwrap();
                let (stream, _) = accept(&listener);
                held.push((client, stream, segment));
            }
        }
    }
    assert_eq!(toa_vm_tests::sessions(), 1000);
    // Asked when all are there, so that none shows another's.
    for (client, stream, segment) in &held {
        let told = libtoa::original(stream).unwrap().unwrap();
        let real = client.local_addr().unwrap();
        assert_eq!((told.addr, told.segment), (real, *segment));
        assert_eq!(told.peer, stream.peer_addr().unwrap());
        assert!(seen.insert(told.addr), "{} twice", told.addr);
    }
    assert_eq!(seen.len(), 1000);
    drop(held);
    toa_vm_tests::settle();
}

/// libtoa's example server; killed in the end.
struct Example(Child);

impl Example {
    fn start(listen: &str) -> Self {
        let mut child = command("server")
            .args(["--listen", listen])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("libtoa's example `server` is on the PATH");
        let stderr = child.stderr.take().unwrap();
        let mut first = String::new();
        let mut lines = BufReader::new(stderr);
        lines.read_line(&mut first).unwrap();
        assert!(first.starts_with("listening on "), "{first:?}");
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn curl_through_the_hop_to_the_example_server() {
    module::ensure_fresh();
    let topology = Topology::builder("curl").build().unwrap();
    let server = Example::start("[::]:8080");
    for (family, carrier, told) in [
        (Family::V4, Carrier::Ack, "carried_by=ack kind=200"),
        (Family::V4, Carrier::Syn, "carried_by=syn kind=200"),
        (Family::V6, Carrier::Ack, "carried_by=ack kind=253"),
        (Family::V6, Carrier::Syn, "carried_by=syn kind=253"),
        (Family::V4, Carrier::None, "carried_by=- kind=-"),
    ] {
        topology.set_plan(Plan::client(carrier, KINDS));
        let line = topology.curl(family, 8080, &[]).unwrap();
        let (answer, client) = line.split_once(" client=").unwrap();
        let client: SocketAddr = client.parse().unwrap();
        let original = match carrier {
            Carrier::None => "none".to_owned(),
            _ => mapped(client).to_string(),
        };
        assert!(
            answer.starts_with("peer=") && answer.ends_with(&format!("original={original} {told}")),
            "{line}"
        );
    }
    drop(server);
    toa_vm_tests::settle();
    drop(topology);
}

/// The data of a connection that has an address is its own from the first byte to the last.
#[test]
fn large_bodies_pass_untouched() {
    module::ensure_fresh();
    const SIZE: usize = 1 << 20;
    let topology = Topology::builder("bulk").build().unwrap();
    topology.set_plan(Plan::client(Carrier::Both, KINDS));
    let listener = TcpListener::bind((topology.server_ip(Family::V6), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let vip = SocketAddr::new(topology.vip(Family::V6), port);
    let body: Vec<u8> = (0..SIZE).map(|at| (at / 7 % 251) as u8).collect();
    let mut client = in_ns(topology.client(), || TcpStream::connect(vip))
        .unwrap()
        .unwrap();
    let (mut stream, _) = accept(&listener);
    thread::scope(|scope| {
        let sender = scope.spawn(|| client.write_all(&body));
        let mut got = vec![0; SIZE];
        stream.read_exact(&mut got).unwrap();
        assert!(got == body, "the data changed on its way");
        sender.join().unwrap().unwrap();
    });
    let told = libtoa::original(&stream).unwrap().unwrap();
    assert_eq!(told.addr, client.local_addr().unwrap());
    drop((client, stream));
    toa_vm_tests::settle();
    drop(topology);
}
