// SPDX-License-Identifier: MIT OR Apache-2.0
//! The segments of a client, made before anything is counted.
//!
//! What the client learns only from the server (its sequence number and its time stamp) is put in
//! later, and the checksum put right for it (RFC 1624), which takes a few instructions.

use std::net::SocketAddr;

use anyhow::Result;
use toa_cli::wire::{Flags, Segment};

/// The first sequence number of every client.
const SEQ: u32 = 1_000_000;

/// The time stamp of every client.
const STAMP: u32 = 1_000;

/// What Linux puts into a SYN: MSS, SACK permitted, time stamps, NOP, window scale.
fn syn_options() -> Vec<u8> {
    let mut options = vec![2, 4, 5, 180, 4, 2, 8, 10];
    options.extend(STAMP.to_be_bytes());
    options.extend([0; 4]);
    options.extend([1, 3, 3, 7]);
    options
}

/// And into any later segment: two NOPs, time stamps.
fn options() -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10];
    options.extend(STAMP.to_be_bytes());
    options.extend([0; 4]);
    options
}

/// A packet whose acknowledgment number and echoed time stamp are not known yet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    /// Where the TCP header begins.
    tcp: usize,
}

impl Packet {
    fn new(segment: &Segment) -> Result<Self> {
        Ok(Self {
            bytes: segment.to_packet()?,
            tcp: if segment.source.is_ipv4() { 20 } else { 40 },
        })
    }

    /// The packet that answers `heard`. Both fields lie on even bytes of the header.
    pub(crate) fn answer(&mut self, heard: Heard) -> &[u8] {
        let tcp = &mut self.bytes[self.tcp..];
        let mut sum = u32::from(!u16::from_be_bytes([tcp[16], tcp[17]]));
        for (at, value) in [(8, heard.next), (28, heard.stamp)] {
            for (at, new) in [(at, (value >> 16) as u16), (at + 2, value as u16)] {
                let old = u16::from_be_bytes([tcp[at], tcp[at + 1]]);
                sum += u32::from(!old) + u32::from(new);
                tcp[at..at + 2].copy_from_slice(&new.to_be_bytes());
            }
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        &self.bytes
    }
}

/// What a segment of the server tells its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// The sequence number that follows it.
    next: u32,
    stamp: u32,
    /// Whether it is a SYN or a FIN.
    counts: bool,
}

impl Heard {
    /// Whether it is a SYN or a FIN.
    pub(crate) fn counts(&self) -> bool {
        self.counts
    }

    /// Reads a segment of Linux that carries time stamps and no data: in a SYN-ACK they stand
    /// behind MSS and SACK permitted, elsewhere behind two NOPs.
    pub(crate) fn from(packet: &[u8]) -> Option<Self> {
        let ip = if packet.first()? >> 4 == 4 { 20 } else { 40 };
        let tcp = packet.get(ip..)?;
        let word = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
        let flags = Flags::from_bits_truncate(*tcp.get(13)?);
        let syn = flags.contains(Flags::SYN);
        let stamps = if syn { 26 } else { 22 };
        if tcp.get(stamps..stamps + 2)? != [8, 10] {
            return None;
        }
        let counts = flags
            .intersection(Flags::SYN | Flags::FIN)
            .bits()
            .count_ones();
        Some(Self {
            next: word(4)?.wrapping_add(counts),
            stamp: word(stamps + 2)?,
            counts: counts > 0,
        })
    }
}

/// The segments of a connection that its client sends, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    /// Opens it.
    pub(crate) syn: Vec<u8>,
    /// Completes it.
    pub(crate) ack: Packet,
    /// Has nothing more to send.
    pub(crate) fin: Packet,
    /// Acknowledges the server's FIN.
    pub(crate) last: Packet,
}

impl Handshake {
    /// From `client` to `server`, with these options at the end of the SYN's and the ACK's.
    pub(crate) fn new(
        client: SocketAddr,
        server: SocketAddr,
        in_syn: &[u8],
        in_ack: &[u8],
    ) -> Result<Self> {
        let segment = |seq: u32, flags: Flags, options: Vec<u8>| Segment {
            source: client,
            destination: server,
            seq,
            ack: 0,
            flags,
            window: 64_000,
            options,
            payload: Vec::new(),
        };
        let later = |seq, flags, more: &[u8]| {
            Packet::new(&segment(seq, flags, [&options(), more].concat()))
        };
        Ok(Self {
            syn: segment(SEQ, Flags::SYN, [&syn_options(), in_syn].concat()).to_packet()?,
            ack: later(SEQ + 1, Flags::ACK, in_ack)?,
            fin: later(SEQ + 1, Flags::FIN | Flags::ACK, &[])?,
            last: later(SEQ + 2, Flags::ACK, &[])?,
        })
    }
}

/// Data segments of a client, one behind another, that follow its handshake.
pub(crate) fn data(
    client: SocketAddr,
    server: SocketAddr,
    bytes: usize,
    count: usize,
) -> Result<Vec<Packet>> {
    (0..count)
        .map(|n| {
            Packet::new(&Segment {
                source: client,
                destination: server,
                seq: SEQ + 1 + (n * bytes) as u32,
                ack: 0,
                flags: Flags::PSH | Flags::ACK,
                window: 64_000,
                options: options(),
                payload: vec![0x55; bytes],
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_packet_that_would_have_been_built() {
        for (client, server) in [
            ("10.0.0.2:1000", "10.0.0.1:80"),
            ("[fd00::2]:1000", "[fd00::1]:80"),
        ] {
            let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
            let mut handshake =
                Handshake::new(client, server, &[], &[200, 8, 1, 2, 3, 4, 5, 6]).unwrap();
            let heard = Heard {
                next: 0xfedc_ba98,
                stamp: 0x0102_ff04,
                counts: true,
            };
            // Twice, since packets are sent again in a later round.
            handshake.ack.answer(Heard {
                next: 7,
                stamp: 9,
                counts: true,
            });
            let packet = handshake.ack.answer(heard).to_vec();
            let segment = Segment::from_packet(&packet).unwrap();
            assert_eq!(segment.ack, 0xfedc_ba98);
            assert_eq!(segment.options[8..12], [1, 2, 0xff, 4]);
            assert_eq!(segment.to_packet().unwrap(), packet);
        }
    }

    #[test]
    fn a_syn_ack_and_a_fin_are_heard() {
        let mut segment = Segment {
            source: "10.0.0.1:80".parse().unwrap(),
            destination: "10.0.0.2:1000".parse().unwrap(),
            seq: 5,
            ack: 0,
            flags: Flags::SYN | Flags::ACK,
            window: 1,
            options: syn_options(),
            payload: Vec::new(),
        };
        let heard = Heard::from(&segment.to_packet().unwrap()).unwrap();
        assert_eq!((heard.next, heard.stamp), (6, STAMP));
        segment.options = options();
        segment.flags = Flags::FIN | Flags::ACK;
        let heard = Heard::from(&segment.to_packet().unwrap()).unwrap();
        assert_eq!((heard.next, heard.stamp), (6, STAMP));
        segment.options = Vec::new();
        assert!(Heard::from(&segment.to_packet().unwrap()).is_none());
    }
}
