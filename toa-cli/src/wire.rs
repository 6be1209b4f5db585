// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP segments as they are on the wire.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use etherparse::{
    IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetSlice, SlicedPacket, TcpHeader,
    TransportSlice,
};

bitflags::bitflags! {
    /// The flags of a TCP segment.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// The sender has no more data.
        const FIN = 0x01;
        /// The first segment of each side.
        const SYN = 0x02;
        /// The connection is refused or broken off.
        const RST = 0x04;
        /// Data for the application at once.
        const PSH = 0x08;
        /// `ack` counts.
        const ACK = 0x10;
    }
}

/// The most bytes of options that a TCP header holds.
pub const MAX_OPTIONS: usize = 40;

/// One TCP segment and the addresses of its IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes to; of the same address family.
    pub destination: SocketAddr,
    /// The sequence number of its first byte.
    pub seq: u32,
    /// The sequence number that its sender expects next.
    pub ack: u32,
    /// Its flags.
    pub flags: Flags,
    /// The receive window, unscaled.
    pub window: u16,
    /// The options' bytes as they are, well formed or not.
    pub options: Vec<u8>,
    /// The data.
    pub payload: Vec<u8>,
}

impl Segment {
    /// The IP packet, checksums included. Options whose length is no multiple of
    /// four are filled up with zeroes (end of options).
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with what does not fit: the options, the data, or two
    /// addresses of different families.
    pub fn to_packet(&self) -> io::Result<Vec<u8>> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let mut tcp = TcpHeader::new(
            self.source.port(),
            self.destination.port(),
            self.seq,
            self.window,
        );
        tcp.acknowledgment_number = self.ack;
        tcp.fin = self.flags.contains(Flags::FIN);
        tcp.syn = self.flags.contains(Flags::SYN);
        tcp.rst = self.flags.contains(Flags::RST);
        tcp.psh = self.flags.contains(Flags::PSH);
        tcp.ack = self.flags.contains(Flags::ACK);
        tcp.set_options_raw(&self.options).map_err(|_| {
            invalid(format!(
                "{} bytes of options, and a TCP header holds {MAX_OPTIONS}",
                self.options.len()
            ))
        })?;
        let too_long = || invalid(format!("{} bytes of data", self.payload.len()));
        let length =
            u16::try_from(tcp.header_len() + self.payload.len()).map_err(|_| too_long())?;
        let mut packet = Vec::with_capacity(usize::from(length) + Ipv6Header::LEN);
        match (self.source, self.destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                let mut ip = Ipv4Header::new(
                    length,
                    64,
                    IpNumber::TCP,
                    source.ip().octets(),
                    destination.ip().octets(),
                )
                .map_err(|_| too_long())?;
                ip.header_checksum = ip.calc_header_checksum();
                tcp.checksum = tcp
                    .calc_checksum_ipv4(&ip, &self.payload)
                    .map_err(|_| too_long())?;
                packet.extend_from_slice(&ip.to_bytes());
            }
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
                let ip = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: length,
                    next_header: IpNumber::TCP,
                    hop_limit: 64,
                    source: source.ip().octets(),
                    destination: destination.ip().octets(),
                };
                tcp.checksum = tcp
                    .calc_checksum_ipv6(&ip, &self.payload)
                    .map_err(|_| too_long())?;
                packet.extend_from_slice(&ip.to_bytes());
            }
            (source, destination) => {
                return Err(invalid(format!(
                    "{source} and {destination} are of two families"
                )));
            }
        }
        packet.extend_from_slice(&tcp.to_bytes());
        packet.extend_from_slice(&self.payload);
        Ok(packet)
    }

    /// Reads an IP packet; `None` where it is no whole TCP segment.
    #[must_use]
    pub fn from_packet(packet: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ip(packet).ok()?;
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
            return None;
        };
        let (source, destination) = match sliced.net? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                )
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                )
            }
            NetSlice::Arp(_) => return None,
        };
        let mut flags = Flags::empty();
        flags.set(Flags::FIN, tcp.fin());
        flags.set(Flags::SYN, tcp.syn());
        flags.set(Flags::RST, tcp.rst());
        flags.set(Flags::PSH, tcp.psh());
        flags.set(Flags::ACK, tcp.ack());
        Some(Self {
            source: SocketAddr::new(source, tcp.source_port()),
            destination: SocketAddr::new(destination, tcp.destination_port()),
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags,
            window: tcp.window_size(),
            options: tcp.options().to_vec(),
            payload: tcp.payload().to_vec(),
        })
    }

    /// How far it moves the sequence number on: its data, and one each for SYN and FIN.
    #[must_use]
    pub fn span(&self) -> u32 {
        // A segment's length fits 16 bits on the wire, and `to_packet` refuses a longer one.
        let data = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let control = self
            .flags
            .intersection(Flags::SYN | Flags::FIN)
            .bits()
            .count_ones();
        data.wrapping_add(control)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            destination,
            seq,
            ack,
            options,
            payload,
            ..
        } = self;
        let flags: Vec<&str> = self.flags.iter_names().map(|(name, _)| name).collect();
        write!(
            f,
            "{source} > {destination} {} seq {seq} ack {ack} options {options:02x?} data {}",
            flags.join("+"),
            payload.len()
        )
    }
}

/// The bytes of an option that carries a client's address and port: 8 bytes for
/// IPv4, 20 for IPv6.
#[must_use]
pub fn toa(kind: u8, client: SocketAddr) -> Vec<u8> {
    let mut option = vec![kind, 0];
    option.extend(client.port().to_be_bytes());
    match client {
        SocketAddr::V4(client) => option.extend(client.ip().octets()),
        SocketAddr::V6(client) => option.extend(client.ip().octets()),
    }
    option[1] = if client.is_ipv4() { 8 } else { 20 };
    option
}

/// A layout of options that name a client, by what the module calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOption {
    /// The option's kind.
    pub kind: u8,
    layout: ClientLayout,
}

/// How such an option is arranged: `docs/wire-formats.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientLayout {
    V4,
    V6,
    V4NoPort,
    V6NoPort,
    /// With a VIP behind.
    V4Vip,
    /// With a VPC and a VIP behind.
    V4VipVpc,
    V6VipVpc,
}

impl ClientOption {
    /// Kind 200, or whichever, that carries a port and an address of that family.
    #[must_use]
    pub const fn plain(kind: u8, v6: bool) -> Self {
        let layout = if v6 {
            ClientLayout::V6
        } else {
            ClientLayout::V4
        };
        Self { kind, layout }
    }

    /// Reads an entry `kind/length=layout`; `None` where that names no client, or is not known here.
    #[must_use]
    pub fn parse(entry: &str) -> Option<Self> {
        let (option, name) = entry.split_once('=')?;
        let (kind, length) = option.split_once('/')?;
        let layout = match name {
            "client-v4" => ClientLayout::V4,
            "client-v6" => ClientLayout::V6,
            "client-v4-noport" => ClientLayout::V4NoPort,
            "client-v6-noport" => ClientLayout::V6NoPort,
            "client-vip-v4" => ClientLayout::V4Vip,
            "client-vip-vpc-v4" => ClientLayout::V4VipVpc,
            "client-vip-vpc-v6" => ClientLayout::V6VipVpc,
            _ => return None,
        };
        let read = Self {
            kind: kind.parse().ok()?,
            layout,
        };
        (length.parse() == Ok(read.length())).then_some(read)
    }

    fn length(self) -> u8 {
        match self.layout {
            ClientLayout::V4NoPort => 7,
            ClientLayout::V4 => 8,
            ClientLayout::V4Vip => 16,
            ClientLayout::V6NoPort => 19,
            ClientLayout::V6 | ClientLayout::V4VipVpc => 20,
            ClientLayout::V6VipVpc => 40,
        }
    }

    /// Whether its clients are IPv6 ones.
    #[must_use]
    pub fn is_v6(self) -> bool {
        matches!(
            self.layout,
            ClientLayout::V6 | ClientLayout::V6NoPort | ClientLayout::V6VipVpc
        )
    }

    /// Whether it carries the client's port.
    #[must_use]
    pub fn has_port(self) -> bool {
        !matches!(self.layout, ClientLayout::V4NoPort | ClientLayout::V6NoPort)
    }

    /// The option's bytes, naming `client`, which is of its family; what is not the client is zero.
    #[must_use]
    pub fn bytes(self, client: SocketAddr) -> Vec<u8> {
        let mut option = if self.has_port() {
            toa(self.kind, client)
        } else {
            // A version stands in the place of the port.
            let mut option = vec![self.kind, 0, 1];
            match client {
                SocketAddr::V4(client) => option.extend(client.ip().octets()),
                SocketAddr::V6(client) => option.extend(client.ip().octets()),
            }
            option
        };
        option[1] = self.length();
        option.resize(self.length().into(), 0);
        option
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(source: &str, destination: &str) -> Segment {
        Segment {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            seq: 0xfedc_ba98,
            ack: 7,
            flags: Flags::PSH | Flags::ACK,
            window: 1024,
            options: toa(200, "203.0.113.7:51820".parse().unwrap()),
            payload: b"odd".to_vec(),
        }
    }

    /// The Internet checksum, written apart from the crate that builds the packets.
    fn checksum(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += (u32::from(pair[0]) << 8) | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn ipv4_packets_have_right_checksums_and_read_back() {
        let segment = segment("10.0.0.2:40312", "10.0.0.1:80");
        let packet = segment.to_packet().unwrap();
        assert_eq!(packet.len(), 20 + 20 + 8 + 3);
        assert_eq!(checksum(&packet[..20]), 0);
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend([0, 6, 0, 31]);
        pseudo.extend(&packet[20..]);
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(Segment::from_packet(&packet), Some(segment));
    }

    #[test]
    fn ipv6_packets_have_right_checksums_and_read_back() {
        let mut segment = segment("[fd00::2]:40312", "[fd00::1]:80");
        segment.options = toa(253, "[2001:db8::7]:51820".parse().unwrap());
        let packet = segment.to_packet().unwrap();
        assert_eq!(packet.len(), 40 + 20 + 20 + 3);
        let mut pseudo = packet[8..40].to_vec();
        pseudo.extend([0, 0, 0, 43, 0, 0, 0, 6]);
        pseudo.extend(&packet[40..]);
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(Segment::from_packet(&packet), Some(segment));
    }

    #[test]
    fn malformed_options_go_out_as_they_are() {
        for options in [&[254, 0][..], &[254], &[200, 8, 1, 2], &[0xff; 40]] {
            let mut segment = segment("10.0.0.2:1", "10.0.0.1:2");
            segment.options = options.to_vec();
            let packet = segment.to_packet().unwrap();
            let mut padded = options.to_vec();
            padded.resize(options.len().next_multiple_of(4), 0);
            assert_eq!(packet[40..40 + padded.len()], padded);
            assert_eq!(usize::from(packet[32] >> 4) * 4, 20 + padded.len());
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut long = segment("10.0.0.2:1", "10.0.0.1:2");
        long.options = vec![1; 41];
        assert!(
            long.to_packet()
                .unwrap_err()
                .to_string()
                .contains("41 bytes of options")
        );
        let mixed = segment("10.0.0.2:1", "[fd00::1]:2");
        assert!(
            mixed
                .to_packet()
                .unwrap_err()
                .to_string()
                .contains("two families")
        );
        let mut huge = segment("10.0.0.2:1", "10.0.0.1:2");
        huge.payload = vec![0; 65_536];
        assert!(huge.to_packet().is_err());
        huge.payload = vec![0; 65_500];
        assert!(huge.to_packet().is_err());
    }

    #[test]
    fn other_packets_are_no_segments() {
        assert_eq!(Segment::from_packet(&[]), None);
        assert_eq!(Segment::from_packet(&[0x60; 48]), None);
        let packet = segment("10.0.0.2:1", "10.0.0.1:2").to_packet().unwrap();
        for length in 0..packet.len() {
            assert_eq!(Segment::from_packet(&packet[..length]), None, "{length}");
        }
    }

    #[test]
    fn options_are_laid_out_as_on_the_wire() {
        assert_eq!(
            toa(200, "203.0.113.7:51820".parse().unwrap()),
            [200, 8, 0xca, 0x6c, 203, 0, 113, 7]
        );
        let v6 = toa(253, "[2001:db8::7]:51820".parse().unwrap());
        assert_eq!(v6[..6], [253, 20, 0xca, 0x6c, 0x20, 0x01]);
        assert_eq!((v6.len(), v6[19]), (20, 7));
    }

    #[test]
    fn clients_options_are_those_of_the_modules_list() {
        let v4: SocketAddr = "203.0.113.7:51820".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::7]:51820".parse().unwrap();
        for (entry, client, begin) in [
            ("200/8=client-v4", v4, &[200, 8, 0xca, 0x6c, 203][..]),
            ("253/20=client-v6", v6, &[253, 20, 0xca, 0x6c, 0x20]),
            ("28/7=client-v4-noport", v4, &[28, 7, 1, 203, 0, 113, 7]),
            ("28/19=client-v6-noport", v6, &[28, 19, 1, 0x20, 1]),
            ("254/16=client-vip-v4", v4, &[254, 16, 0xca, 0x6c, 203]),
            ("252/20=client-vip-vpc-v4", v4, &[252, 20, 0xca, 0x6c, 203]),
            ("249/40=client-vip-vpc-v6", v6, &[249, 40, 0xca, 0x6c, 0x20]),
        ] {
            let option = ClientOption::parse(entry).expect(entry);
            assert_eq!(option.is_v6(), client.is_ipv6(), "{entry}");
            assert_eq!(option.has_port(), !entry.ends_with("noport"), "{entry}");
            let bytes = option.bytes(client);
            assert!(bytes.starts_with(begin), "{entry}: {bytes:?}");
            assert_eq!(bytes.len(), usize::from(bytes[1]), "{entry}");
        }
        for other in [
            "202/8=vip-v4",
            "201/6=vpc-id",
            "200/9=client-v4",
            "256/8=client-v4",
            "200/8=of-the-future",
            "200/8",
            "",
        ] {
            assert_eq!(ClientOption::parse(other), None, "{other}");
        }
        assert_eq!(
            ClientOption::parse("253/20=client-v6"),
            Some(ClientOption::plain(253, true))
        );
    }

    #[test]
    fn syn_and_fin_count_one_each() {
        let mut segment = segment("10.0.0.2:1", "10.0.0.1:2");
        assert_eq!(segment.span(), 3);
        segment.flags = Flags::SYN | Flags::FIN;
        assert_eq!(segment.span(), 5);
    }
}
