// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server's network whose wire is this program, and the work that is counted in it.
//!
//! One thread writes the client's packets, takes the server's, and is the server: the kernel does
//! all its work inside these calls, nothing waits for anything, and the machine never idles.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use toa_cli::control::{Change, Control};
use toa_cli::tun::Tun;
use toa_cli::wire;
use toa_vm_tests::node::Sysctl;
use toa_vm_tests::{Stats, module, sockopt as raw};

use crate::counter;
use crate::packets::{self, Handshake, Heard};

/// The option names of toa-kmod/uapi/toa.h.
const TOA_SO_ORIGINAL: i32 = 0x544f_4100;
const TOA_SO_ABI: i32 = 0x544f_4101;
/// The size of its structure.
const ORIGINAL_SIZE: usize = 48;

/// The connections whose segments are made beforehand; they are used again and again, so that
/// each round meets the same hash buckets.
const PEERS: usize = 512;

/// Connections that are counted together: what the kernel puts off and does for many at a time
/// (freed memory, grace periods) belongs to them all.
const BATCH: usize = 4 * PEERS;

/// Those before them that do not count.
const WARM_UP: usize = PEERS;

/// Calls or segments that are counted one by one.
const SINGLES: usize = 2_000;

/// Those before them that do not count.
const SINGLES_WARM_UP: usize = 200;

/// Rounds of the loop that waits for what the kernel has put off: 80 million instructions, or 20
/// ticks of its clock.
const SETTLE: u64 = 40_000_000;

/// More than connections live in any case.
const DESCRIPTORS: u64 = 200_000;

/// Bytes of a data segment.
const DATA: usize = 64;

/// The family of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

use Family::{V4, V6};

/// The segment that carries the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    None,
    Syn,
    Ack,
}

/// What the server asks about its connection, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Nothing,
    /// getpeername.
    Peer,
    /// getsockopt TOA_SO_ORIGINAL, which must name the client.
    Original,
    /// getsockopt TOA_SO_ABI, on any socket the same.
    Abi,
}

/// A connection that the server has accepted.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    client: SocketAddr,
    /// What its client heard last.
    heard: Heard,
}

/// The node's side.
#[derive(Debug)]
pub(crate) struct Node {
    tun: Tun,
    listeners: [TcpListener; 2],
    live: Vec<Connection>,
    slabs_before: f64,
    buffer: Vec<u8>,
}

fn server_ip(family: Family) -> IpAddr {
    match family {
        V4 => Ipv4Addr::new(10, 0, 0, 1).into(),
        V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// The first of the peers whose connections come and go; those before it are the live ones'.
const PASSING: usize = 1 << 20;

/// The `n`th end of a peer: some 16,000 ports of as many addresses as it takes.
fn peer(family: Family, n: usize) -> SocketAddr {
    let port = 10_000 + (n & 0x3fff) as u16;
    let host = 2 + (n >> 14) as u16;
    match family {
        V4 => (Ipv4Addr::new(10, 0, 0, host as u8), port).into(),
        V6 => (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host), port).into(),
    }
}

/// The option that names a client of the same family.
fn toa(family: Family) -> Vec<u8> {
    match family {
        V4 => wire::toa(200, (Ipv4Addr::new(203, 0, 113, 7), 51820).into()),
        V6 => wire::toa(
            253,
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7), 51820).into(),
        ),
    }
}

fn options(family: Family, carrier: Carrier) -> [Vec<u8>; 2] {
    match carrier {
        Carrier::None => [Vec::new(), Vec::new()],
        Carrier::Syn => [toa(family), Vec::new()],
        Carrier::Ack => [Vec::new(), toa(family)],
    }
}

impl Node {
    /// In the machine's own network, which nothing else uses.
    pub(crate) fn new() -> Result<Self> {
        // A connection is a descriptor.
        setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS)
            .context("cannot have that many files open")?;
        let tun = Tun::new()?;
        for (family, prefix) in [(V4, 24), (V6, 64)] {
            tun.add_address(server_ip(family), prefix)?;
        }
        let listen = |family| -> Result<TcpListener> {
            let listener = TcpListener::bind((server_ip(family), 80))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        Ok(Self {
            tun,
            listeners: [listen(V4)?, listen(V6)?],
            live: Vec::new(),
            slabs_before: 0.0,
            buffer: vec![0; 2_048],
        })
    }

    fn listener(&self, family: Family) -> &TcpListener {
        match family {
            V4 => &self.listeners[0],
            V6 => &self.listeners[1],
        }
    }

    /// The next packet that the kernel has sent.
    fn receive(&mut self) -> Result<Option<&[u8]>> {
        match nix::unistd::read(self.tun.as_fd(), &mut self.buffer) {
            Ok(length) => Ok(Some(&self.buffer[..length])),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno).context("cannot read the TUN device"),
        }
    }

    /// The next SYN or FIN of the server.
    fn hear(&mut self) -> Result<Heard> {
        while let Some(packet) = self.receive()? {
            if let Some(heard) = Heard::from(packet).filter(Heard::counts) {
                return Ok(heard);
            }
        }
        bail!("the server has not answered")
    }

    fn drain(&mut self) -> Result<()> {
        while self.receive()?.is_some() {}
        Ok(())
    }

    /// Sets a connection up.
    fn open(&mut self, family: Family, handshake: &mut Handshake) -> Result<(TcpStream, Heard)> {
        self.tun.send(&handshake.syn).context("cannot send a SYN")?;
        let heard = self.hear()?;
        self.tun
            .send(handshake.ack.answer(heard))
            .context("cannot send an ACK")?;
        let (stream, _) = self.listener(family).accept().context("cannot accept")?;
        Ok((stream, heard))
    }

    /// One whole connection: the client closes first, so nothing is left waiting.
    fn connection(&mut self, family: Family, handshake: &mut Handshake, ask: Ask) -> Result<()> {
        let (stream, heard) = self.open(family, handshake)?;
        self.ask(&stream, ask)?;
        self.tun
            .send(handshake.fin.answer(heard))
            .context("cannot send a FIN")?;
        drop(stream);
        let heard = self.hear()?;
        self.tun
            .send(handshake.last.answer(heard))
            .context("cannot send the last ACK")
    }

    fn ask(&self, stream: &TcpStream, ask: Ask) -> Result<()> {
        let mut answer = [0; ORIGINAL_SIZE];
        match ask {
            Ask::Nothing => Ok(()),
            Ask::Peer => peer_name(stream),
            Ask::Original => {
                raw::get(stream, libc::IPPROTO_IP, TOA_SO_ORIGINAL, &mut answer)?;
                // The field `family`, at its place in the structure.
                ensure!(answer[4] != 0, "the module does not know the client");
                Ok(())
            }
            Ask::Abi => {
                raw::get(stream, libc::IPPROTO_IP, TOA_SO_ABI, &mut answer[..4])?;
                Ok(())
            }
        }
    }

    /// Instructions of one whole connection, on the average of many.
    pub(crate) fn connections(
        &mut self,
        family: Family,
        carrier: Carrier,
        ask: Ask,
    ) -> Result<f64> {
        self.connections_of(family, carrier, ask, carrier != Carrier::None)
    }

    /// The same where the module, if it is loaded, believes none of their addresses.
    pub(crate) fn connections_untrusted(
        &mut self,
        family: Family,
        carrier: Carrier,
    ) -> Result<f64> {
        self.connections_of(family, carrier, Ask::Nothing, false)
    }

    fn connections_of(
        &mut self,
        family: Family,
        carrier: Carrier,
        ask: Ask,
        believed: bool,
    ) -> Result<f64> {
        let server = SocketAddr::new(server_ip(family), 80);
        let [in_syn, in_ack] = options(family, carrier);
        let mut handshakes = (0..PEERS)
            .map(|n| Handshake::new(peer(family, PASSING + n), server, &in_syn, &in_ack))
            .collect::<Result<Vec<_>>>()?;
        self.drain()?;
        let before = made();
        let mut at = 0;
        let result = batch(|| {
            at = (at + 1) % PEERS;
            self.connection(family, &mut handshakes[at], ask)
        })?;
        let wanted = if believed { WARM_UP + BATCH } else { 0 };
        if let Some((before, after)) = before.zip(made()) {
            ensure!(
                after - before == wanted as u64,
                "of {} connections {} were given sessions, and not {wanted}",
                WARM_UP + BATCH,
                after - before
            );
        }
        Ok(result)
    }

    /// Has the module trust 1,000 prefixes, of which the last is that of the peers.
    pub(crate) fn trust_many(&self) -> Result<()> {
        let others = (0..999).map(|n| IpAddr::from(Ipv4Addr::from(0x0900_0000 + 2 * n)).into());
        let change = Change {
            trusted: Some(others.chain(["10.0.0.0/8".parse()?]).collect()),
            ..Change::default()
        };
        Ok(Control::open()?.set(&change)?)
    }

    /// The same without an address, while those of other SYNs may still wait.
    pub(crate) fn connections_beside(&mut self, family: Family) -> Result<f64> {
        let server = SocketAddr::new(server_ip(family), 80);
        let [in_syn, in_ack] = options(family, Carrier::Syn);
        let mut other = Handshake::new(peer(family, PASSING), server, &in_syn, &in_ack)?;
        self.connection(family, &mut other, Ask::Nothing)?;
        self.connections(family, Carrier::None, Ask::Nothing)
    }

    /// Instructions of one connection between two sockets of the node, by loopback.
    pub(crate) fn loopback(&mut self, family: Family) -> Result<f64> {
        let any: IpAddr = match family {
            V4 => Ipv4Addr::LOCALHOST.into(),
            V6 => Ipv6Addr::LOCALHOST.into(),
        };
        // Ends that wait for stray segments would go at a moment of the kernel's choice.
        let _no_waiting = Sysctl::set("net/ipv4/tcp_max_tw_buckets", "0");
        let listener = TcpListener::bind((any, 0))?;
        let address = listener.local_addr()?;
        batch(|| {
            let client = TcpStream::connect(address)?;
            let (server, _) = listener.accept()?;
            drop(client);
            drop(server);
            Ok(())
        })
    }

    /// Makes connections that stay.
    pub(crate) fn live(&mut self, family: Family, carrier: Carrier, count: usize) -> Result<()> {
        let server = SocketAddr::new(server_ip(family), 80);
        let [in_syn, in_ack] = options(family, carrier);
        self.slabs_before = slabs()?;
        self.live.reserve_exact(count);
        for n in 0..count {
            let client = peer(family, n);
            let mut handshake = Handshake::new(client, server, &in_syn, &in_ack)?;
            let (stream, heard) = self
                .open(family, &mut handshake)
                .with_context(|| format!("connection {n}"))?;
            self.live.push(Connection {
                stream,
                client,
                heard,
            });
        }
        Ok(())
    }

    /// Resets the connections that stayed.
    pub(crate) fn close(&mut self) -> Result<()> {
        for connection in self.live.drain(..) {
            setsockopt(
                &connection.stream,
                sockopt::Linger,
                &libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                },
            )?;
            drop(connection);
            // The resets would fill the device's queue.
            while nix::unistd::read(self.tun.as_fd(), &mut self.buffer).is_ok() {}
        }
        self.live = Vec::new();
        Ok(())
    }

    /// Instructions of one question about a live connection.
    pub(crate) fn asked(&mut self, ask: Ask) -> Result<f64> {
        ensure!(!self.live.is_empty(), "no connection lives");
        // A stride that shares no factor with their number, so that all the table is asked.
        let stride = 7_919;
        let mut at = 0;
        singles(|| {
            at = (at + stride) % self.live.len();
            let stream = &self.live[at].stream;
            single(|| self.ask(stream, ask))
        })
    }

    /// Instructions of one data segment that comes in on a live connection and is read.
    pub(crate) fn data(&mut self) -> Result<f64> {
        let connection = self.live.pop().context("no connection lives")?;
        let server = connection.stream.local_addr()?;
        let mut packets =
            packets::data(connection.client, server, DATA, SINGLES + SINGLES_WARM_UP)?.into_iter();
        let mut data = [0; DATA];
        let result = singles(|| {
            let mut packet = packets.next().context("no segment left")?;
            let packet = packet.answer(connection.heard);
            let count = single(|| {
                self.tun.send(packet)?;
                let got = recv(
                    connection.stream.as_raw_fd(),
                    &mut data,
                    MsgFlags::MSG_DONTWAIT,
                )?;
                ensure!(got == DATA, "{got} bytes of {DATA} have come");
                Ok(())
            })?;
            self.drain()?;
            Ok(count)
        });
        self.live.push(connection);
        result
    }

    /// Bytes of the kernel's slabs that each live connection takes.
    pub(crate) fn memory(&mut self) -> Result<f64> {
        ensure!(!self.live.is_empty(), "no connection lives");
        Ok((slabs()? - self.slabs_before) / self.live.len() as f64)
    }
}

/// Bytes of the kernel's slabs that are in use.
fn slabs() -> Result<f64> {
    // What waits for a grace period is not in use. This machine's time costs nothing.
    thread::sleep(Duration::from_secs(20));
    let text = fs::read_to_string("/proc/slabinfo").context("cannot read /proc/slabinfo")?;
    let bytes = text.lines().skip(2).map(|line| {
        // name, objects in use, objects, bytes of each, objects and pages of each slab
        let mut words = line
            .split_whitespace()
            .skip(1)
            .map(|word| word.parse::<f64>());
        let mut next = || words.next()?.ok();
        let (used, _, _, in_slab, pages) = (next()?, next()?, next()?, next()?, next()?);
        Some(used * pages * 4_096.0 / in_slab)
    });
    bytes
        .sum::<Option<f64>>()
        .context("/proc/slabinfo is of another form")
}

fn peer_name(stream: &TcpStream) -> Result<()> {
    // SAFETY: all zeroes is a valid sockaddr_storage.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address can be written for that length.
    let result =
        unsafe { libc::getpeername(stream.as_raw_fd(), (&raw mut address).cast(), &mut len) };
    Errno::result(result)?;
    Ok(())
}

/// Sessions made so far, where the module is loaded.
fn made() -> Option<u64> {
    module::is_loaded().then(|| Stats::read().get("syn_recv_sock_toa"))
}

/// Gives the kernel time for what it has put off, without letting the processor idle.
fn settle() {
    counter::spin(SETTLE);
}

/// Instructions of one `work`, on the average of a batch, with all that the kernel does for it
/// later.
fn batch(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..WARM_UP {
        work()?;
    }
    settle();
    // The same wait with nothing put off.
    let before = counter::now();
    settle();
    let idle = counter::now() - before;
    let before = counter::now();
    for _ in 0..BATCH {
        work()?;
    }
    settle();
    let busy = counter::now() - before;
    Ok((busy as f64 - idle as f64) / BATCH as f64)
}

/// Instructions of one `work`.
fn single(work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = counter::now();
    work()?;
    Ok(counter::now() - before)
}

/// The average of many counts, without what counting itself takes. Nothing is put off by what is
/// counted so. The hundredth part that is highest is left out: an interrupt came between.
fn singles(mut once: impl FnMut() -> Result<u64>) -> Result<f64> {
    for _ in 0..SINGLES_WARM_UP {
        once()?;
    }
    let mut counts = (0..SINGLES).map(|_| once()).collect::<Result<Vec<_>>>()?;
    counts.sort_unstable();
    let kept = &counts[..SINGLES - SINGLES / 100];
    Ok(kept.iter().sum::<u64>() as f64 / kept.len() as f64 - counter::overhead() as f64)
}
