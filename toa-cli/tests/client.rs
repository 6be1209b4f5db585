// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scriptable client against the real TCP of the running kernel, in a
//! network namespace of its own. Needs root and /dev/net/tun; no module.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use nix::errno::Errno;
use toa_cli::client::{Client, Link};
use toa_cli::netns;
use toa_cli::tun::{Error, Tun};
use toa_cli::wire::{self, Flags, Segment};

const SERVERS: [&str; 2] = ["10.9.0.1", "fd09::1"];

/// Runs `work` with a link to the addresses of [`SERVERS`]; says so and does
/// nothing where this user may not make one.
fn with_link(work: impl FnOnce(&Link) + Send) {
    let outcome = netns::in_new(|| {
        let tun = match Tun::new() {
            Ok(tun) => tun,
            Err(error @ (Error::NoDriver | Error::Refused(..))) => {
                eprintln!("skipped: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        for (server, prefix) in SERVERS.into_iter().zip([24, 64]) {
            tun.add_address(server.parse().unwrap(), prefix).unwrap();
        }
        tun.add_route("0.0.0.0".parse().unwrap(), 0).unwrap();
        tun.add_route("::".parse().unwrap(), 0).unwrap();
        work(&Link::new(tun));
    });
    match outcome {
        Err(Errno::EPERM) => eprintln!("skipped: no network namespace without CAP_SYS_ADMIN"),
        other => other.unwrap(),
    }
}

fn listen(server: &str) -> TcpListener {
    TcpListener::bind((server.parse::<IpAddr>().unwrap(), 0)).unwrap()
}

fn peer(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_connection_carries_data_both_ways_and_ends() {
    with_link(|link| {
        for (server, local) in [
            (SERVERS[0], "10.9.0.2:1234"),
            (SERVERS[1], "[fd09::2]:1234"),
            (SERVERS[0], "203.0.113.9:7"),
        ] {
            let listener = listen(server);
            let mut client = Client::new(link, peer(local), listener.local_addr().unwrap());
            client.syn(&wire::toa(254, peer("192.0.2.1:1"))).unwrap();
            let syn_ack = client.recv_syn_ack().unwrap();
            assert!(syn_ack.flags.contains(Flags::SYN | Flags::ACK), "{syn_ack}");
            client.ack(&[]).unwrap();
            let (mut accepted, from) = listener.accept().unwrap();
            assert_eq!(from, peer(local));

            client.data(b"ping").unwrap();
            let mut got = [0; 4];
            accepted.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"ping");
            assert_eq!(client.recv().unwrap().ack, client.seq);

            accepted.write_all(b"pong!").unwrap();
            let answer = client.recv().unwrap();
            assert_eq!(answer.payload, b"pong!");
            assert_eq!(client.ack, answer.seq + 5);
            client.ack(&[]).unwrap();

            client.fin().unwrap();
            assert_eq!(accepted.read(&mut got).unwrap(), 0);
            drop(accepted);
            while !client.recv().unwrap().flags.contains(Flags::FIN) {}
            client.ack(&[]).unwrap();
        }
    });
}

#[test]
fn a_reset_reaches_the_server() {
    with_link(|link| {
        let listener = listen(SERVERS[0]);
        let mut client = Client::new(link, peer("10.9.0.2:1"), listener.local_addr().unwrap());
        client.connect(&[], &[]).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        client.rst().unwrap();
        let error = accepted.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn sequence_numbers_are_the_callers() {
    with_link(|link| {
        let listener = listen(SERVERS[0]);
        let remote = listener.local_addr().unwrap();
        let mut client = Client::new(link, peer("10.9.0.2:1"), remote);
        client.seq = u32::MAX;
        client.syn(&[]).unwrap();
        assert_eq!(client.seq, 0);
        assert_eq!(client.recv_syn_ack().unwrap().ack, 0);
        // It acknowledges what the server never sent, which only a reset answers.
        let stray = Segment {
            ack: client.ack.wrapping_add(9),
            ..client.segment(Flags::ACK)
        };
        client.send(&stray).unwrap();
        assert!(client.recv().unwrap().flags.contains(Flags::RST));
    });
}

#[test]
fn many_clients_share_a_link() {
    with_link(|link| {
        let listener = listen(SERVERS[1]);
        let remote = listener.local_addr().unwrap();
        let mut clients: Vec<Client> = (0..100)
            .map(|n| Client::new(link, peer(&format!("[fd09::2]:{}", 2000 + n)), remote))
            .collect();
        for client in &mut clients {
            client.syn(&[]).unwrap();
        }
        for client in clients.iter_mut().rev() {
            client.recv_syn_ack().unwrap();
            client.ack(&[]).unwrap();
        }
        for client in clients.iter().rev() {
            assert_eq!(listener.accept().unwrap().1, client.local());
        }
    });
}

#[test]
fn a_port_nobody_listens_on_refuses_and_silence_times_out() {
    with_link(|link| {
        let mut client = Client::new(link, peer("10.9.0.2:1"), peer("10.9.0.1:9"));
        let error = client.connect(&[], &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

        let mut client = Client::new(link, peer("10.9.0.2:2"), peer("10.9.0.1:9"));
        client.patience = Duration::from_millis(50);
        assert_eq!(client.recv().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}
