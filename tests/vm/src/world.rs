// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server's network, in which the test writes what comes in.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use toa_cli::client::{Client, Link};
use toa_cli::netns;
use toa_cli::tun::Tun;
use toa_testbed::Family;

use crate::node::PATIENCE;
use crate::{module, node, settle};

/// The server's address.
#[must_use]
pub fn server_ip(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// The usual address of who connects: the load balancer's.
#[must_use]
pub fn peer_ip(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, 2).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into(),
    }
}

/// A network namespace with the addresses of [`server_ip`], whose every route leads to the test.
///
/// ```text
///   10.0.0.1/24, fd00::1/64    TUN  <---->  the test, which is anybody
/// ```
#[derive(Debug)]
pub struct World {
    link: Link,
    next_port: AtomicU16,
}

impl World {
    /// Runs a test in a new one, with the module loaded. Afterwards no session may be left.
    ///
    /// # Panics
    ///
    /// Where `work` does, or the namespace or the module is not to be had.
    pub fn run<T: Send>(work: impl FnOnce(&Self) -> T + Send) -> T {
        module::ensure_fresh();
        let result = Self::beside(work);
        settle();
        result
    }

    /// As [`Self::run`], with the module loaded anew, with these parameters.
    ///
    /// # Panics
    ///
    /// As [`Self::run`].
    pub fn run_with<T: Send>(parameters: &str, work: impl FnOnce(&Self) -> T + Send) -> T {
        let _loaded = module::loaded_with(parameters);
        let result = Self::beside(work);
        settle();
        result
    }

    /// As [`Self::run`], without a word on the module: for a second one at the same time, and for
    /// tests that unload it.
    ///
    /// # Panics
    ///
    /// Where `work` does, or the namespace is not to be had.
    pub fn beside<T: Send>(work: impl FnOnce(&Self) -> T + Send) -> T {
        node::require();
        netns::in_new(|| Self::here(work)).expect("a network namespace")
    }

    /// As [`Self::beside`], in the calling thread's network namespace.
    ///
    /// # Panics
    ///
    /// Where `work` does, or the namespace has such addresses already.
    pub fn here<T>(work: impl FnOnce(&Self) -> T) -> T {
        let tun = Tun::new().expect("a TUN device");
        for (family, prefix) in [(Family::V4, 24), (Family::V6, 64)] {
            tun.add_address(server_ip(family), prefix)
                .expect("an address");
        }
        for any in [
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Ipv6Addr::UNSPECIFIED.into(),
        ] {
            tun.add_route(any, 0).expect("a default route");
        }
        work(&Self {
            link: Link::new(tun),
            next_port: AtomicU16::new(20_000),
        })
    }

    /// The wire.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Listens on the server's address of this family, on any port.
    ///
    /// # Panics
    ///
    /// Where that is not to be had.
    #[must_use]
    pub fn listen(&self, family: Family) -> TcpListener {
        TcpListener::bind((server_ip(family), 0)).expect("a listener")
    }

    /// A peer that no other connection of this world has.
    #[must_use]
    pub fn fresh_peer(&self, family: Family) -> SocketAddr {
        let port = self.next_port.fetch_add(1, Ordering::Relaxed);
        SocketAddr::new(peer_ip(family), port)
    }

    /// A client that has sent nothing yet, to the listener's port at the server's address of this
    /// family, which a listener on `[::]` has too.
    ///
    /// # Panics
    ///
    /// Where the listener has no address.
    #[must_use]
    pub fn client(&self, family: Family, listener: &TcpListener) -> Client {
        self.client_from(self.fresh_peer(family), listener)
    }

    /// The same with an end of the caller's choice.
    ///
    /// # Panics
    ///
    /// As [`Self::client`].
    #[must_use]
    pub fn client_from(&self, peer: SocketAddr, listener: &TcpListener) -> Client {
        let family = if peer.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let port = listener.local_addr().expect("an address").port();
        let mut client = Client::new(&self.link, peer, SocketAddr::new(server_ip(family), port));
        client.patience = PATIENCE;
        client
    }

    /// A connection whose SYN and last segment of the handshake carry these options.
    ///
    /// # Panics
    ///
    /// Where it does not come about.
    #[track_caller]
    pub fn connect(&self, family: Family, listener: &TcpListener, syn: &[u8], ack: &[u8]) -> Conn {
        let mut client = self.client(family, listener);
        if let Err(error) = client.connect(syn, ack) {
            panic!(
                "the handshake with SYN {syn:02x?} and ACK {ack:02x?} did not come about: {error}"
            );
        }
        Conn::accepted(client, listener)
    }
}

/// Both ends of a connection. The client resets it in the end, so that the server's does not linger.
#[derive(Debug)]
pub struct Conn {
    /// The end that the test writes.
    pub client: Client,
    /// The end that the kernel keeps.
    pub stream: TcpStream,
}

impl Conn {
    /// Takes the connection of `client` from the listener, which must have it as its first.
    ///
    /// # Panics
    ///
    /// Where there is none, or another one.
    #[must_use]
    #[track_caller]
    pub fn accepted(client: Client, listener: &TcpListener) -> Self {
        let (stream, peer) = accept(listener);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        assert_eq!(peer, client.local(), "another connection was accepted");
        Self { client, stream }
    }

    /// Sends data both ways: the connection lives.
    ///
    /// # Panics
    ///
    /// Where it does not.
    #[track_caller]
    pub fn exchange(&mut self) {
        self.client.data(b"ping").expect("data can be sent");
        self.server_reads(b"ping");
        self.stream
            .write_all(b"pong")
            .expect("the server can write");
        loop {
            let segment = self.client.recv().expect("the server's data");
            if segment.payload == b"pong" {
                break;
            }
        }
        self.client.ack(&[]).expect("an ACK can be sent");
    }

    /// Waits until the server has read exactly this.
    ///
    /// # Panics
    ///
    /// Where it reads something else, or nothing.
    #[track_caller]
    pub fn server_reads(&mut self, expected: &[u8]) {
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out");
        let mut got = vec![0; expected.len()];
        self.stream.read_exact(&mut got).expect("the client's data");
        assert_eq!(got, expected);
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let _ = self.client.rst();
    }
}

/// The next connection of a listener.
///
/// # Panics
///
/// Where none comes within [`PATIENCE`].
#[track_caller]
pub fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    assert!(
        wait_readable(listener, PATIENCE),
        "no connection to accept within {} s",
        PATIENCE.as_secs()
    );
    listener.accept().expect("accept")
}

/// Waits until `file` can be read; false where it cannot after `patience`.
///
/// # Panics
///
/// Where poll(2) fails.
pub fn wait_readable(file: &impl AsFd, patience: Duration) -> bool {
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(
            &mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)],
            patience,
        ) {
            Ok(ready) => return ready > 0,
            Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

/// `203.0.113.host`, or `2001:db8::host`, with a port: a client's address, for an option to carry.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn original(family: Family, host: u8, port: u16) -> SocketAddr {
    match family {
        Family::V4 => (Ipv4Addr::new(203, 0, 113, host), port).into(),
        Family::V6 => (
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()),
            port,
        )
            .into(),
    }
}
