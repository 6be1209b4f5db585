// SPDX-License-Identifier: MIT OR Apache-2.0
//! A TCP client whose every segment the caller writes: which options the SYN
//! and the ACK carry, which sequence numbers, when it resets.
//!
//! The server is an ordinary socket in the [`Tun`]'s network namespace. Nothing
//! is resent, nothing is answered, unless the caller says so; only
//! [`Client::connect`] repeats its SYN as any TCP does.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use toa_cli::client::{Client, Link};
//! use toa_cli::tun::Tun;
//! use toa_cli::wire;
//!
//! let tun = Tun::new().map_err(std::io::Error::other)?;
//! tun.add_address([10, 0, 0, 1].into(), 24)?;
//! let server = std::net::TcpListener::bind("10.0.0.1:80")?;
//!
//! let link = Link::new(tun);
//! let mut client = Client::new(&link, "10.0.0.2:40312".parse().unwrap(), server.local_addr()?);
//! client.syn(&wire::toa(254, "203.0.113.7:51820".parse().unwrap()))?;
//! client.recv_syn_ack()?;
//! client.ack(&[])?;
//! client.data(b"hello")?;
//! client.rst()?;
//! # Ok(())
//! # }
//! ```

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::tun::Tun;
use crate::wire::{Flags, Segment};

/// How long to wait for the other side, which may be a slow emulator.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long one of several threads keeps the device to itself while it waits.
const TURN: Duration = Duration::from_millis(20);

/// How long [`Client::connect`] waits before it repeats its SYN.
const RESEND: Duration = Duration::from_secs(1);

/// A TUN device that many clients share: each gets the segments that are its own.
#[derive(Clone, Debug)]
pub struct Link(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    tun: Tun,
    /// What came, by the client's end and the server's end.
    inboxes: HashMap<(SocketAddr, SocketAddr), VecDeque<Segment>>,
}

impl Link {
    /// Takes the device over.
    #[must_use]
    pub fn new(tun: Tun) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            tun,
            inboxes: HashMap::new(),
        })))
    }

    /// Sends a segment, whatever it is.
    ///
    /// # Errors
    ///
    /// What [`Segment::to_packet`] and the kernel say.
    pub fn send(&self, segment: &Segment) -> io::Result<()> {
        self.send_packet(&segment.to_packet()?)
    }

    /// Sends an IP packet of the caller's own making.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn send_packet(&self, packet: &[u8]) -> io::Result<()> {
        self.lock().tun.send(packet)
    }

    /// The next segment from `remote` to `local`; `None` where none came in time.
    fn receive(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        deadline: Instant,
    ) -> io::Result<Option<Segment>> {
        loop {
            let mut shared = self.lock();
            // What has come is sorted first, so that a deadline in the past still empties the device.
            while let Some(packet) = shared.tun.receive(Instant::now())? {
                shared.sort(&packet);
            }
            let inbox = shared.inboxes.get_mut(&(local, remote));
            if let Some(segment) = inbox.and_then(VecDeque::pop_front) {
                return Ok(Some(segment));
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            if let Some(packet) = shared.tun.receive(deadline.min(now + TURN))? {
                shared.sort(&packet);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A thread that panicked between two packets left nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Puts a packet into its client's inbox. What is for nobody is dropped: the
    /// kernel sends its own IPv6 chatter, and resends to clients that are gone.
    fn sort(&mut self, packet: &[u8]) {
        if let Some(segment) = Segment::from_packet(packet) {
            if let Some(inbox) = self.inboxes.get_mut(&(segment.destination, segment.source)) {
                inbox.push_back(segment);
            }
        }
    }
}

/// One end of one TCP connection.
///
/// Two clients with the same two ends share an inbox, and the first that is
/// dropped closes it.
#[derive(Debug)]
pub struct Client {
    link: Link,
    local: SocketAddr,
    remote: SocketAddr,
    /// The sequence number of the next byte to send.
    pub seq: u32,
    /// The sequence number that is expected next from the server.
    pub ack: u32,
    /// The receive window to tell the server.
    pub window: u16,
    /// How long to wait for a segment.
    pub patience: Duration,
}

impl Client {
    /// A client that has sent nothing yet; its first sequence number is 1,000 times its port.
    #[must_use]
    pub fn new(link: &Link, local: SocketAddr, remote: SocketAddr) -> Self {
        link.lock().inboxes.insert((local, remote), VecDeque::new());
        Self {
            link: link.clone(),
            local,
            remote,
            seq: u32::from(local.port()) * 1000,
            ack: 0,
            window: u16::MAX,
            patience: PATIENCE,
        }
    }

    /// The client's end.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The server's end.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// A segment with the present numbers, to be changed and sent by [`Self::send`].
    #[must_use]
    pub fn segment(&self, flags: Flags) -> Segment {
        Segment {
            source: self.local,
            destination: self.remote,
            seq: self.seq,
            ack: if flags.contains(Flags::ACK) {
                self.ack
            } else {
                0
            },
            flags,
            window: self.window,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Sends a segment as it is; `seq` stays.
    ///
    /// # Errors
    ///
    /// What does not fit into a packet, and what the kernel says.
    pub fn send(&self, segment: &Segment) -> io::Result<()> {
        self.link.send(segment)
    }

    /// Sends a segment and moves `seq` on past it.
    fn send_next(&mut self, segment: &Segment) -> io::Result<()> {
        self.send(segment)?;
        self.seq = self.seq.wrapping_add(segment.span());
        Ok(())
    }

    /// Sends a SYN with these options.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn syn(&mut self, options: &[u8]) -> io::Result<()> {
        let options = options.to_vec();
        self.send_next(&Segment {
            options,
            ..self.segment(Flags::SYN)
        })
    }

    /// Sends an ACK with these options: after a SYN-ACK, the one that completes the handshake.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn ack(&mut self, options: &[u8]) -> io::Result<()> {
        let options = options.to_vec();
        self.send_next(&Segment {
            options,
            ..self.segment(Flags::ACK)
        })
    }

    /// Sends data without options.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn data(&mut self, data: &[u8]) -> io::Result<()> {
        self.data_with(data, &[])
    }

    /// Sends data with these options.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn data_with(&mut self, data: &[u8], options: &[u8]) -> io::Result<()> {
        let (options, payload) = (options.to_vec(), data.to_vec());
        self.send_next(&Segment {
            options,
            payload,
            ..self.segment(Flags::PSH | Flags::ACK)
        })
    }

    /// Sends a FIN.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn fin(&mut self) -> io::Result<()> {
        self.send_next(&self.segment(Flags::FIN | Flags::ACK))
    }

    /// Breaks the connection off.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn rst(&mut self) -> io::Result<()> {
        self.send(&self.segment(Flags::RST | Flags::ACK))
    }

    /// The next segment from the server; `ack` moves on past it where it is the one expected.
    ///
    /// # Errors
    ///
    /// `TimedOut` where none comes within [`Self::patience`].
    pub fn recv(&mut self) -> io::Result<Segment> {
        let patience = self.patience;
        self.recv_within(patience)?.ok_or_else(|| {
            let remote = self.remote;
            let what = format!("no segment from {remote} within {patience:?}");
            io::Error::new(io::ErrorKind::TimedOut, what)
        })
    }

    /// The next segment from the server, `None` where none comes within `patience`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn recv_within(&mut self, patience: Duration) -> io::Result<Option<Segment>> {
        let deadline = Instant::now() + patience;
        let segment = self.link.receive(self.local, self.remote, deadline)?;
        if let Some(segment) = &segment {
            if segment.flags.contains(Flags::SYN) || segment.seq == self.ack {
                self.ack = segment.seq.wrapping_add(segment.span());
            }
        }
        Ok(segment)
    }

    /// Waits for the SYN-ACK.
    ///
    /// # Errors
    ///
    /// `TimedOut` where it does not come, `ConnectionRefused` where a reset does.
    pub fn recv_syn_ack(&mut self) -> io::Result<Segment> {
        let patience = self.patience;
        self.recv_syn_ack_within(patience)?.ok_or_else(|| {
            let remote = self.remote;
            let what = format!("no SYN-ACK from {remote} within {patience:?}");
            io::Error::new(io::ErrorKind::TimedOut, what)
        })
    }

    fn recv_syn_ack_within(&mut self, patience: Duration) -> io::Result<Option<Segment>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(segment) = self.recv_within(left)? else {
                return Ok(None);
            };
            if segment.flags.contains(Flags::RST) {
                let what = format!("{} answered with a reset", self.remote);
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, what));
            }
            if segment.flags.contains(Flags::SYN | Flags::ACK) && segment.ack == self.seq {
                return Ok(Some(segment));
            }
        }
    }

    /// The whole handshake: a SYN with these options, repeated each second until
    /// the SYN-ACK comes, and an ACK with those.
    ///
    /// # Errors
    ///
    /// As [`Self::recv_syn_ack`].
    pub fn connect(&mut self, syn: &[u8], ack: &[u8]) -> io::Result<()> {
        let first = Segment {
            options: syn.to_vec(),
            ..self.segment(Flags::SYN)
        };
        let deadline = Instant::now() + self.patience;
        self.send_next(&first)?;
        while self.recv_syn_ack_within(RESEND)?.is_none() {
            if Instant::now() >= deadline {
                let what = format!("no SYN-ACK from {} within {:?}", self.remote, self.patience);
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            self.send(&first)?;
        }
        self.ack(ack)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.link.lock().inboxes.remove(&(self.local, self.remote));
    }
}
