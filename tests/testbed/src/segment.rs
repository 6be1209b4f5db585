// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which segments get an option, and how it gets into them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use etherparse::{IpHeaders, TcpHeader, ip_number};

/// The most bytes that the options of a TCP header can take: a data offset of 15 words, less the
/// fixed header.
const MAX_OPTIONS: usize = 40;

/// A segment that can carry TOA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The first one, which opens the connection.
    Syn,
    /// The one that completes the handshake; it may carry data already.
    Ack,
    /// One with data that comes after it.
    Data,
}

/// The segments that carry TOA, for [`Plan::client`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// None at all: an ordinary NAT.
    None,
    /// The SYN alone.
    Syn,
    /// The segment that completes the handshake alone.
    Ack,
    /// Both of them.
    Both,
}

/// The option kinds that carry a client's address, by its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// For an IPv4 client (the option is 8 bytes long).
    pub v4: u8,
    /// For an IPv6 client (the option is 20 bytes long).
    pub v6: u8,
}

/// What is put into a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Insert {
    /// Nothing: the segment passes as it came.
    #[default]
    Nothing,
    /// The packet's own source, as a load balancer writes it.
    Client(Kinds),
    /// An address of the test's choice, which may be of the other family.
    Address {
        /// The option's kind.
        kind: u8,
        /// What the option says.
        addr: SocketAddr,
    },
    /// These bytes, as the last ones of the option area. They need not make sense. To stand at
    /// the very end of the header they must fill whole 32-bit words (so must the options that
    /// the segment has already, which Linux sees to); otherwise 1 to 3 zero bytes follow.
    Raw(Vec<u8>),
}

/// What is put into the segments that pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Into each SYN, repeated ones included.
    pub syn: Insert,
    /// Into each segment that completes a handshake, and bare repetitions of it.
    pub ack: Insert,
    /// Into each segment with data that comes after the handshake.
    pub data: Insert,
}

impl Plan {
    /// The real client's address, in the segments named.
    #[must_use]
    pub fn client(carrier: Carrier, kinds: Kinds) -> Self {
        let [syn, ack] = match carrier {
            Carrier::None => [false, false],
            Carrier::Syn => [true, false],
            Carrier::Ack => [false, true],
            Carrier::Both => [true, true],
        }
        .map(|carries| {
            if carries {
                Insert::Client(kinds)
            } else {
                Insert::Nothing
            }
        });
        Self {
            syn,
            ack,
            data: Insert::Nothing,
        }
    }

    fn insert(&self, segment: Segment) -> &Insert {
        match segment {
            Segment::Syn => &self.syn,
            Segment::Ack => &self.ack,
            Segment::Data => &self.data,
        }
    }
}

/// The bytes of a TOA option: kind, length (8 or 20), port and address, all in network byte
/// order.
#[must_use]
pub fn option(kind: u8, addr: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend(addr.port().to_be_bytes());
    match addr.ip() {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
    bytes[1] = bytes.len() as u8;
    bytes
}

/// What an [`Inserter`] did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is to pass as it came.
    Untouched,
    /// This packet is to take its place.
    Inserted(Segment, Vec<u8>),
    /// The plan asks for more than the header has room for: it is to pass as it came.
    NoRoom(Segment),
}

/// How far a client's connection has come.
#[derive(Clone, Copy, Debug)]
enum Handshake {
    SynSent,
    /// The segment that completed the handshake had these numbers.
    Completed {
        seq: u32,
        ack: u32,
    },
}

/// Tells the segments of connections apart and inserts what a [`Plan`] asks for.
///
/// It must see all that the clients send, in order.
#[derive(Debug, Default)]
pub struct Inserter {
    connections: HashMap<(SocketAddr, SocketAddr), Handshake>,
}

impl Inserter {
    /// Looks at one IP packet that a client sent.
    pub fn packet(&mut self, plan: &Plan, packet: &[u8]) -> Outcome {
        let Some(parsed) = Parsed::new(packet) else {
            return Outcome::Untouched;
        };
        let Some(segment) = self.segment(&parsed) else {
            return Outcome::Untouched;
        };
        let bytes = match plan.insert(segment) {
            Insert::Nothing => return Outcome::Untouched,
            Insert::Client(kinds) => {
                let kind = if parsed.source.is_ipv4() {
                    kinds.v4
                } else {
                    kinds.v6
                };
                option(kind, parsed.source)
            }
            Insert::Address { kind, addr } => option(*kind, *addr),
            Insert::Raw(bytes) => bytes.clone(),
        };
        match parsed.with_option(&bytes) {
            Some(packet) => Outcome::Inserted(segment, packet),
            None => Outcome::NoRoom(segment),
        }
    }

    /// Which segment of a connection this is, if it is one that can carry TOA.
    fn segment(&mut self, parsed: &Parsed<'_>) -> Option<Segment> {
        let connection = (parsed.source, parsed.destination);
        let tcp = &parsed.tcp;
        if tcp.rst {
            self.connections.remove(&connection);
            return None;
        }
        if tcp.syn {
            if tcp.ack {
                return None;
            }
            self.connections.insert(connection, Handshake::SynSent);
            return Some(Segment::Syn);
        }
        let (seq, ack) = (tcp.sequence_number, tcp.acknowledgment_number);
        let completes = match self.connections.get(&connection)? {
            Handshake::SynSent => true,
            // The server asked again because the first one was late, or lost.
            Handshake::Completed {
                seq: first_seq,
                ack: first_ack,
            } => (seq, ack) == (*first_seq, *first_ack) && parsed.payload.is_empty() && !tcp.fin,
        };
        if tcp.fin {
            self.connections.remove(&connection);
        } else if completes {
            self.connections
                .insert(connection, Handshake::Completed { seq, ack });
        }
        if completes {
            return Some(Segment::Ack);
        }
        (!parsed.payload.is_empty()).then_some(Segment::Data)
    }
}

/// A whole TCP segment in a whole IP packet.
struct Parsed<'a> {
    ip: IpHeaders,
    tcp: TcpHeader,
    payload: &'a [u8],
    source: SocketAddr,
    destination: SocketAddr,
}

impl<'a> Parsed<'a> {
    /// `None` for all that is not TCP, and for fragments.
    fn new(packet: &'a [u8]) -> Option<Self> {
        let (ip, rest) = IpHeaders::from_slice(packet).ok()?;
        if rest.ip_number != ip_number::TCP || rest.fragmented {
            return None;
        }
        let (tcp, payload) = TcpHeader::from_slice(rest.payload).ok()?;
        let (from, to): (IpAddr, IpAddr) = match &ip {
            IpHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into()),
            IpHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into()),
        };
        let source = SocketAddr::new(from, tcp.source_port);
        let destination = SocketAddr::new(to, tcp.destination_port);
        Some(Self {
            ip,
            tcp,
            payload,
            source,
            destination,
        })
    }

    /// The packet with `bytes` after its other options, lengths and checksums put right; `None`
    /// where they do not fit.
    fn with_option(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut options = self.tcp.options[..used(&self.tcp.options)].to_vec();
        options.extend(bytes);
        if options.len() > MAX_OPTIONS {
            return None;
        }
        let (mut ip, mut tcp) = (self.ip.clone(), self.tcp.clone());
        // This pads with zeros, the end of the option list, to whole words.
        tcp.set_options_raw(&options).ok()?;
        ip.set_payload_len(tcp.header_len() + self.payload.len())
            .ok()?;
        tcp.checksum = match &ip {
            IpHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(ip, self.payload).ok()?,
            IpHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(ip, self.payload).ok()?,
        };
        let mut packet =
            Vec::with_capacity(ip.header_len() + tcp.header_len() + self.payload.len());
        // This computes the IPv4 header's checksum.
        ip.write(&mut packet).ok()?;
        packet.extend(tcp.to_bytes());
        packet.extend(self.payload);
        Some(packet)
    }
}

/// The length of the options up to the end-of-list byte, behind which an option would not be
/// read. Options that make no sense are kept to their last byte.
fn used(options: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match options[at..] {
            [] | [0, ..] => return at,
            [1, ..] => at += 1,
            [_, length, ..] if length >= 2 && usize::from(length) <= options.len() - at => {
                at += usize::from(length);
            }
            _ => return options.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use etherparse::PacketBuilder;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const V4: (Ipv4Addr, Ipv4Addr) = (
        Ipv4Addr::new(203, 0, 113, 7),
        Ipv4Addr::new(198, 51, 100, 10),
    );
    const V6: (Ipv6Addr, Ipv6Addr) = (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10),
    );
    const KINDS: Kinds = Kinds { v4: 200, v6: 253 };
    /// What Linux puts into a SYN: MSS, SACK permitted, timestamps, NOP, window scale.
    const SYN_OPTIONS: [u8; 20] = [
        2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
    ];
    /// And into an ACK: two NOPs and timestamps.
    const ACK_OPTIONS: [u8; 12] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

    #[derive(Clone, Copy)]
    enum Flags {
        Syn,
        Ack,
        Fin,
        Rst,
    }

    fn packet(v6: bool, flags: Flags, seq: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let ip = if v6 {
            PacketBuilder::ipv6(V6.0.octets(), V6.1.octets(), 64)
        } else {
            PacketBuilder::ipv4(V4.0.octets(), V4.1.octets(), 64)
        };
        let tcp = ip.tcp(51820, 80, seq, 64240);
        let tcp = match flags {
            Flags::Syn => tcp.syn(),
            Flags::Ack => tcp.ack(9000),
            Flags::Fin => tcp.ack(9000).fin(),
            Flags::Rst => tcp.rst(),
        };
        let mut bytes = Vec::new();
        tcp.options_raw(options)
            .unwrap()
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    }

    /// The Internet checksum over a pseudo header and a segment, or over an IPv4 header, by the
    /// definition (RFC 1071): 0 where the bytes hold the right one.
    fn checksum(parts: &[&[u8]]) -> u16 {
        let mut sum: u32 = 0;
        for part in parts {
            for word in part.chunks(2) {
                sum += (u32::from(word[0]) << 8) | u32::from(*word.get(1).unwrap_or(&0));
            }
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// Checks all lengths and checksums, and takes a packet apart: options and payload.
    fn verify(packet: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let segment = if packet[0] >> 4 == 4 {
            assert_eq!(
                usize::from(u16::from_be_bytes([packet[2], packet[3]])),
                packet.len()
            );
            assert_eq!(checksum(&[&packet[..20]]), 0, "IPv4 header checksum");
            let segment = &packet[20..];
            let length = (segment.len() as u16).to_be_bytes();
            assert_eq!(
                checksum(&[&packet[12..20], &[0, 6], &length, segment]),
                0,
                "TCP checksum"
            );
            segment
        } else {
            assert_eq!(
                usize::from(u16::from_be_bytes([packet[4], packet[5]])),
                packet.len() - 40
            );
            let segment = &packet[40..];
            let length = (segment.len() as u32).to_be_bytes();
            let pseudo: [&[u8]; 4] = [&packet[8..40], &length, &[0, 0, 0, 6], segment];
            assert_eq!(checksum(&pseudo), 0, "TCP checksum");
            segment
        };
        let header = usize::from(segment[12] >> 4) * 4;
        (segment[20..header].to_vec(), segment[header..].to_vec())
    }

    fn inserted(outcome: Outcome) -> (Segment, Vec<u8>, Vec<u8>) {
        match outcome {
            Outcome::Inserted(segment, packet) => {
                let (options, payload) = verify(&packet);
                (segment, options, payload)
            }
            other => panic!("nothing was inserted: {other:?}"),
        }
    }

    #[test]
    fn the_options_are_laid_out_as_published() {
        assert_eq!(
            option(200, "203.0.113.7:51820".parse().unwrap()),
            [200, 8, 0xca, 0x6c, 203, 0, 113, 7]
        );
        assert_eq!(
            option(253, "[2001:db8::7]:51821".parse().unwrap()),
            [
                253, 20, 0xca, 0x6d, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7
            ]
        );
    }

    #[test]
    fn the_client_goes_into_the_segments_asked_for() {
        for v6 in [false, true] {
            let client: SocketAddr = if v6 {
                (V6.0, 51820).into()
            } else {
                (V4.0, 51820).into()
            };
            let toa = option(if v6 { 253 } else { 200 }, client);
            for (carrier, in_syn, in_ack) in [
                (Carrier::None, false, false),
                (Carrier::Syn, true, false),
                (Carrier::Ack, false, true),
                (Carrier::Both, true, true),
            ] {
                let plan = Plan::client(carrier, KINDS);
                let mut inserter = Inserter::default();
                let syn = inserter.packet(&plan, &packet(v6, Flags::Syn, 100, &SYN_OPTIONS, b""));
                if in_syn {
                    let want = (Segment::Syn, [&SYN_OPTIONS[..], &toa].concat(), vec![]);
                    assert_eq!(inserted(syn), want);
                } else {
                    assert_eq!(syn, Outcome::Untouched);
                }
                let ack = inserter.packet(&plan, &packet(v6, Flags::Ack, 101, &ACK_OPTIONS, b""));
                if in_ack {
                    let want = (Segment::Ack, [&ACK_OPTIONS[..], &toa].concat(), vec![]);
                    assert_eq!(inserted(ack), want);
                } else {
                    assert_eq!(ack, Outcome::Untouched);
                }
                let data = packet(v6, Flags::Ack, 101, &ACK_OPTIONS, b"GET / HTTP/1.1\r\n");
                assert_eq!(inserter.packet(&plan, &data), Outcome::Untouched);
                let plan = Plan {
                    data: Insert::Raw(toa.clone()),
                    ..plan
                };
                let want = [&ACK_OPTIONS[..], &toa].concat();
                let got = inserted(inserter.packet(&plan, &data));
                assert_eq!(got, (Segment::Data, want, b"GET / HTTP/1.1\r\n".to_vec()));
                let bare = packet(v6, Flags::Ack, 117, &ACK_OPTIONS, b"");
                assert_eq!(inserter.packet(&plan, &bare), Outcome::Untouched);
            }
        }
    }

    #[test]
    fn an_ack_with_data_keeps_it_and_repetitions_get_the_option_again() {
        let plan = Plan::client(Carrier::Both, KINDS);
        let mut inserter = Inserter::default();
        for _ in 0..2 {
            inserted(inserter.packet(&plan, &packet(false, Flags::Syn, 100, &SYN_OPTIONS, b"")));
        }
        let data = packet(false, Flags::Ack, 101, &ACK_OPTIONS, b"odd");
        let (segment, _, payload) = inserted(inserter.packet(&plan, &data));
        assert_eq!((segment, &payload[..]), (Segment::Ack, &b"odd"[..]));
        assert_eq!(inserter.packet(&plan, &data), Outcome::Untouched);
        inserted(inserter.packet(&plan, &packet(false, Flags::Ack, 101, &ACK_OPTIONS, b"")));
        let later = packet(false, Flags::Ack, 104, &ACK_OPTIONS, b"");
        assert_eq!(inserter.packet(&plan, &later), Outcome::Untouched);
    }

    #[test]
    fn connections_are_forgotten() {
        let plan = Plan::client(Carrier::Ack, KINDS);
        for end in [Flags::Fin, Flags::Rst] {
            let mut inserter = Inserter::default();
            inserter.packet(&plan, &packet(true, Flags::Syn, 100, &SYN_OPTIONS, b""));
            inserter.packet(&plan, &packet(true, Flags::Ack, 101, &ACK_OPTIONS, b""));
            assert_eq!(inserter.connections.len(), 1);
            inserter.packet(&plan, &packet(true, end, 101, &[], b""));
            assert!(inserter.connections.is_empty());
            // Without its SYN, a segment is none of a handshake.
            let stray = packet(true, Flags::Ack, 101, &ACK_OPTIONS, b"");
            assert_eq!(inserter.packet(&plan, &stray), Outcome::Untouched);
        }
    }

    #[test]
    fn a_full_option_area_is_said_so() {
        let mut options = SYN_OPTIONS.to_vec();
        options.extend([1; 4]);
        let plan = Plan::client(Carrier::Syn, KINDS);
        let syn = packet(true, Flags::Syn, 1, &options, b"");
        assert_eq!(
            Inserter::default().packet(&plan, &syn),
            Outcome::NoRoom(Segment::Syn)
        );
    }

    #[test]
    fn the_end_of_the_list_moves_behind_the_option() {
        let plan = Plan {
            syn: Insert::Raw(vec![254, 4, 0, 0]),
            ..Plan::default()
        };
        let syn = packet(false, Flags::Syn, 1, &[2, 4, 5, 180, 3, 3, 7, 0], b"");
        let (_, options, _) = inserted(Inserter::default().packet(&plan, &syn));
        assert_eq!(options, [2, 4, 5, 180, 3, 3, 7, 254, 4, 0, 0, 0]);
    }

    #[test]
    fn what_is_not_a_whole_tcp_segment_passes() {
        let plan = Plan::client(Carrier::Both, KINDS);
        let syn = packet(false, Flags::Syn, 1, &SYN_OPTIONS, b"");
        for length in 0..syn.len() {
            assert_eq!(
                Inserter::default().packet(&plan, &syn[..length]),
                Outcome::Untouched
            );
        }
        let mut fragment = syn.clone();
        fragment[6] = 0x20;
        assert_eq!(
            Inserter::default().packet(&plan, &fragment),
            Outcome::Untouched
        );
        let mut udp = syn;
        udp[9] = 17;
        assert_eq!(Inserter::default().packet(&plan, &udp), Outcome::Untouched);
    }

    proptest! {
        #[test]
        fn any_insertion_leaves_a_sound_packet(
            v6: bool,
            ack: bool,
            seq: u32,
            before in vec(1u8..=1, 0..=40),
            bytes in vec(any::<u8>(), 0..=44),
            payload in vec(any::<u8>(), 0..1400),
        ) {
            let before = &before[..before.len() / 4 * 4];
            let insert = Insert::Raw(bytes.clone());
            let plan = Plan { syn: insert.clone(), ack: insert, ..Plan::default() };
            let mut inserter = Inserter::default();
            let mut original = packet(v6, Flags::Syn, seq, before, &payload);
            if ack {
                inserter.packet(&plan, &original);
                original = packet(v6, Flags::Ack, seq, before, &payload);
            }
            let outcome = inserter.packet(&plan, &original);
            if before.len() + bytes.len() > MAX_OPTIONS {
                prop_assert!(matches!(outcome, Outcome::NoRoom(_)));
            } else {
                let (segment, options, rest) = inserted(outcome.clone());
                prop_assert_eq!(segment, if ack { Segment::Ack } else { Segment::Syn });
                let mut want = [before, &bytes].concat();
                want.resize(want.len().next_multiple_of(4), 0);
                prop_assert_eq!(options, want);
                prop_assert_eq!(rest, payload);
                let Outcome::Inserted(_, changed) = outcome else { unreachable!() };
                // Ports, sequence numbers, flags and window are as they were.
                let at = if v6 { 40 } else { 20 };
                prop_assert_eq!(&changed[at..at + 12], &original[at..at + 12]);
                prop_assert_eq!(&changed[at + 13..at + 16], &original[at + 13..at + 16]);
            }
        }

        #[test]
        fn no_packet_is_too_odd(bytes in vec(any::<u8>(), 0..200), version in 4u8..=6) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = (version << 4) | (*first & 15);
            }
            Inserter::default().packet(&Plan::client(Carrier::Both, KINDS), &bytes);
        }
    }
}
