// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loaded module by generic netlink: what is set, and which connections have an address.
//! `toa-kmod/uapi/toa_netlink.h` says what goes over the wire.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, ErrorMessage, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_ACK_TLVS,
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla,
    NlasIterator, Parseable, ParseableParametrized,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;
use serde::Serialize;

use crate::sources::{self, Sources};
use crate::uapi;

/// How often what is set may change while it is read.
const ATTEMPTS: usize = 10;

/// Why the module was not asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not take part in netlink: not loaded, or older than this program.
    #[error("the module does not answer by netlink")]
    NotLoaded,
    /// It refused.
    #[error("{}", refusal(*.errno, .why.as_deref(), .entry.as_deref()))]
    Refused {
        /// The kernel's error.
        errno: Errno,
        /// Its words, where it has any.
        why: Option<String>,
        /// The entry that it blames.
        entry: Option<String>,
    },
    /// What is set changes faster than it can be read.
    #[error("the configuration kept changing while it was read")]
    Changing,
    /// Netlink itself did not work.
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
}

fn refusal(errno: Errno, why: Option<&str>, entry: Option<&str>) -> String {
    let why = why.unwrap_or(errno.desc());
    entry.map_or_else(|| why.to_owned(), |entry| format!("{entry}: {why}"))
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Io(io::Error::new(
            io::ErrorKind::InvalidData,
            error.to_string(),
        ))
    }
}

/// What is set in the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Counts the changes.
    pub generation: u32,
    /// The trusted sources.
    pub trusted: Sources,
    /// The options that are read, a list `kind/length=layout`.
    pub layouts: String,
    /// Whether a connection's first data are read.
    pub first_data: bool,
    /// Whether `accept` and `getpeername` tell the client.
    pub transparent: bool,
    /// Whether `getsockname` tells the VIP, while those do.
    pub transparent_local: bool,
    /// The servers' ports to which both are limited, with commas between; empty: all.
    pub transparent_ports: String,
}

/// What is to be set; the rest stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Only if this is the generation in force.
    pub generation: Option<u32>,
    /// The trusted sources, any prefixes: the module judges them.
    pub trusted: Option<Vec<IpNet>>,
    /// The options that are read: a profile, or a list `kind/length=layout`.
    pub layouts: Option<String>,
    /// Whether a connection's first data are read.
    pub first_data: Option<bool>,
    /// Whether `accept` and `getpeername` tell the client.
    pub transparent: Option<bool>,
    /// Whether `getsockname` tells the VIP, while those do.
    pub transparent_local: Option<bool>,
    /// The servers' ports to which both are limited, with commas between; empty: all.
    pub transparent_ports: Option<String>,
}

/// A connection that has an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// The client, where the options named one.
    pub client: Option<Client>,
    /// Where the client connected to, likewise.
    pub vip: Option<SocketAddr>,
    /// The VPC of that, likewise: its bytes as a big-endian number.
    pub vpc_id: Option<u32>,
    /// The wire's peer.
    pub peer: SocketAddr,
    /// The server's port.
    pub local_port: u16,
    /// Its network namespace: the inode of /proc/PID/ns/net.
    pub netns: u32,
}

/// The client of a connection, and what named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Its address.
    pub addr: SocketAddr,
    /// `syn`, `ack` or `data`.
    pub carried_by: String,
    /// The option's kind.
    pub kind: u8,
    /// The option's length.
    pub length: u8,
}

/// A message of the module's family.
#[derive(Clone, Debug)]
struct Message {
    command: u8,
    attributes: Vec<DefaultNla>,
}

impl GenlFamily for Message {
    fn family_name() -> &'static str {
        "toa"
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        uapi::TOA_GENL_VERSION as u8
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Message {
    fn parse_with_param(buffer: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Self {
            command: header.cmd,
            attributes: read_attributes(buffer)?,
        })
    }
}

/// The attributes of a message, which stand behind its headers.
///
/// # Errors
///
/// One with an impossible length.
pub fn read_attributes(message: &[u8]) -> Result<Vec<DefaultNla>, DecodeError> {
    NlasIterator::new(message)
        .map(|attribute| DefaultNla::parse(&attribute?))
        .collect()
}

fn attribute(kind: u32, value: Vec<u8>) -> DefaultNla {
    DefaultNla::new(kind as u16, value)
}

/// The value of an attribute.
fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value
}

/// The module, reached by netlink.
#[derive(Debug)]
pub struct Control {
    socket: Socket,
    family: u16,
}

impl Control {
    /// Finds the module's family.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`] where there is none.
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        // A refusal then has the kernel's words, and not the whole request again.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        let request = GenlMessage::from_payload(GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(Message::family_name().to_owned())],
        });
        let control = Self { socket, family: 0 };
        control.send(request.into(), NLM_F_REQUEST)?;
        let (bytes, _) = control.socket.recv_from_full()?;
        let answer = NetlinkMessage::<GenlMessage<GenlCtrl>>::deserialize(&bytes)?;
        let family = match answer.payload {
            NetlinkPayload::InnerMessage(message) => {
                message
                    .payload
                    .nlas
                    .iter()
                    .find_map(|attribute| match attribute {
                        GenlCtrlAttrs::FamilyId(id) => Some(*id),
                        _ => None,
                    })
            }
            NetlinkPayload::Error(error) if error.raw_code() != -(Errno::ENOENT as i32) => {
                return Err(error.to_io().into());
            }
            _ => None,
        };
        let family = family.ok_or(Error::NotLoaded)?;
        Ok(Self { family, ..control })
    }

    fn send<T>(&self, payload: NetlinkPayload<T>, flags: u16) -> io::Result<()>
    where
        T: netlink_packet_core::NetlinkSerializable,
    {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    fn request(&self, command: u32, attributes: Vec<DefaultNla>, flags: u16) -> io::Result<()> {
        let message = Message {
            command: command as u8,
            attributes,
        };
        let mut message = GenlMessage::from_payload(message);
        message.set_resolved_family_id(self.family);
        self.send(message.into(), NLM_F_REQUEST | flags)
    }

    /// Asks for what is set, without reading the answer. The kernel keeps an answer of more than some
    /// hundred prefixes half-given until it is read, or this is dropped.
    ///
    /// # Errors
    ///
    /// What send(2) says.
    pub fn begin_dump_of_config(&self) -> io::Result<()> {
        self.request(uapi::TOA_CMD_GET_CONFIG, Vec::new(), NLM_F_DUMP)
    }

    /// All attributes that a dump answers with; `None` where what they tell changed meanwhile.
    fn dump(&self, command: u32) -> Result<Option<Vec<DefaultNla>>, Error> {
        self.request(command, Vec::new(), NLM_F_DUMP)?;
        let mut found = Vec::new();
        let mut whole = true;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<GenlMessage<Message>>::deserialize(rest)?;
                whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => {
                        found.extend(message.payload.attributes);
                    }
                    NetlinkPayload::Done(_) => return Ok(whole.then_some(found)),
                    NetlinkPayload::Error(error) => {
                        return Err(refused(message.header.flags, &error, &[]));
                    }
                    _ => {}
                }
                let length = message.header.length as usize;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    /// What is set.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with `EPERM` without `CAP_NET_ADMIN`.
    pub fn config(&self) -> Result<Config, Error> {
        for _ in 0..ATTEMPTS {
            let Some(attributes) = self.dump(uapi::TOA_CMD_GET_CONFIG)? else {
                continue;
            };
            return Ok(read_config(&attributes));
        }
        Err(Error::Changing)
    }

    /// Sets all that is to be set, or nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], with `EPERM` without `CAP_NET_ADMIN` over the node itself and with
    /// `ESTALE` where the generation is another.
    pub fn set(&self, change: &Change) -> Result<(), Error> {
        let attributes = attributes(change);
        self.request(uapi::TOA_CMD_SET_CONFIG, attributes.clone(), NLM_F_ACK)?;
        let (bytes, _) = self.socket.recv_from_full()?;
        let answer = NetlinkMessage::<GenlMessage<Message>>::deserialize(&bytes)?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => {
                Err(refused(answer.header.flags, &error, &attributes))
            }
            NetlinkPayload::Error(_) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no acknowledgement").into()),
        }
    }

    /// The connections that have an address.
    ///
    /// # Errors
    ///
    /// As [`Self::config`].
    pub fn sessions(&self) -> Result<Vec<Session>, Error> {
        let attributes = self.dump(uapi::TOA_CMD_GET_SESSIONS)?.unwrap_or_default();
        let sessions = attributes
            .iter()
            .filter(|attribute| u32::from(attribute.kind()) == uapi::TOA_A_SESSION)
            .filter_map(|attribute| read_session(&value(attribute)));
        Ok(sessions.collect())
    }
}

/// What is set, by the attributes that the module tells it with. Those of a newer one are passed over.
#[must_use]
pub fn read_config(attributes: &[DefaultNla]) -> Config {
    let mut config = Config::default();
    let mut trusted = Vec::new();
    for attribute in attributes {
        let value = value(attribute);
        match u32::from(attribute.kind()) {
            uapi::TOA_A_GENERATION => {
                if let Ok(number) = value.try_into() {
                    config.generation = u32::from_ne_bytes(number);
                }
            }
            uapi::TOA_A_PREFIX => {
                if let Some((addr, [length, ..])) = value.split_first_chunk() {
                    trusted.extend(sources::from_kernel(*addr, *length));
                }
            }
            uapi::TOA_A_LAYOUTS => {
                config.layouts = String::from_utf8_lossy(&value).into_owned();
            }
            uapi::TOA_A_FIRST_DATA => config.first_data = value != [0],
            uapi::TOA_A_TRANSPARENT => config.transparent = value != [0],
            uapi::TOA_A_TRANSPARENT_LOCAL => config.transparent_local = value != [0],
            uapi::TOA_A_TRANSPARENT_PORTS => {
                config.transparent_ports = String::from_utf8_lossy(&value).into_owned();
            }
            _ => {}
        }
    }
    config.trusted = Sources::new(&trusted);
    config
}

/// Takes values off the front of a structure.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    fn addr(&mut self) -> Option<IpAddr> {
        Some(Ipv6Addr::from(self.take::<16>()?).to_canonical())
    }
}

/// A `struct toa_session`, which a newer module may have made longer; `None` where it is cut off.
#[must_use]
pub fn read_session(bytes: &[u8]) -> Option<Session> {
    let mut fields = Fields(bytes);
    let [client, vip, peer] = [fields.addr()?, fields.addr()?, fields.addr()?];
    let mut port = || fields.take().map(u16::from_be_bytes);
    let [client_port, vip_port, peer_port, local_port] = [port()?, port()?, port()?, port()?];
    let netns = u32::from_ne_bytes(fields.take()?);
    let vpc_id = u32::from_be_bytes(fields.take()?);
    let [client_family, vip_family, segment, kind, length, flags] = fields.take()?;
    let client = Client {
        addr: SocketAddr::new(client, client_port),
        carried_by: match segment {
            1 => "syn".to_owned(),
            2 => "ack".to_owned(),
            3 => "data".to_owned(),
            other => format!("segment {other}"),
        },
        kind,
        length,
    };
    // TOA_FLAG_VPC_ID of toa.h.
    let has_vpc_id = flags & 2 != 0;
    Some(Session {
        client: (client_family != 0).then_some(client),
        vip: (vip_family != 0).then(|| SocketAddr::new(vip, vip_port)),
        vpc_id: has_vpc_id.then_some(vpc_id),
        peer: SocketAddr::new(peer, peer_port),
        local_port,
        netns,
    })
}

/// What a change is on the wire.
fn attributes(change: &Change) -> Vec<DefaultNla> {
    let mut attributes = Vec::new();
    if let Some(generation) = change.generation {
        let value = generation.to_ne_bytes().to_vec();
        attributes.push(attribute(uapi::TOA_A_GENERATION, value));
    }
    if let Some(layouts) = &change.layouts {
        attributes.push(attribute(uapi::TOA_A_LAYOUTS, layouts.clone().into()));
    }
    for (kind, on) in [
        (uapi::TOA_A_FIRST_DATA, change.first_data),
        (uapi::TOA_A_TRANSPARENT, change.transparent),
        (uapi::TOA_A_TRANSPARENT_LOCAL, change.transparent_local),
    ] {
        attributes.extend(on.map(|on| attribute(kind, vec![on.into()])));
    }
    if let Some(ports) = &change.transparent_ports {
        let value = ports.clone().into();
        attributes.push(attribute(uapi::TOA_A_TRANSPARENT_PORTS, value));
    }
    if let Some(trusted) = &change.trusted {
        attributes.push(attribute(uapi::TOA_A_TRUST, Vec::new()));
        attributes.extend(trusted.iter().map(|prefix| {
            let (addr, length) = sources::to_kernel(prefix);
            let value = [&addr[..], &[length, 0, 0, 0]].concat();
            attribute(uapi::TOA_A_PREFIX, value)
        }));
    }
    attributes
}

/// The bytes of a message in front of its attributes: two headers.
const HEADERS: usize = 20;

/// What the kernel says of a request with these attributes.
fn refused(flags: u16, error: &ErrorMessage, attributes: &[DefaultNla]) -> Error {
    // linux/netlink.h: NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS.
    const WORDS: u16 = 1;
    const OFFSET: u16 = 2;
    let (mut why, mut entry) = (None, None);
    // Behind the request's own header, which is all of it that comes back.
    let tlvs = error
        .header
        .get(16..)
        .filter(|_| flags & NLM_F_ACK_TLVS != 0);
    for attribute in NlasIterator::new(tlvs.unwrap_or_default()).flatten() {
        match attribute.kind() {
            WORDS => {
                let words = String::from_utf8_lossy(attribute.value());
                why = Some(words.trim_end_matches('\0').to_owned());
            }
            OFFSET => {
                let offset = attribute.value().try_into().map(u32::from_ne_bytes);
                entry = offset.ok().and_then(|at| entry_at(at as usize, attributes));
            }
            _ => {}
        }
    }
    Error::Refused {
        errno: Errno::from_raw(-error.raw_code()),
        why,
        entry,
    }
}

/// What stands so far from the begin of a message: a prefix, or an entry of a set of layouts or a list of
/// ports.
fn entry_at(offset: usize, attributes: &[DefaultNla]) -> Option<String> {
    let mut within = offset.checked_sub(HEADERS)?;
    let attribute = attributes.iter().find(|attribute| {
        let length = attribute.buffer_len().next_multiple_of(4);
        let is_here = within < length;
        if !is_here {
            within -= length;
        }
        is_here
    })?;
    let value = value(attribute);
    match attribute.kind().into() {
        uapi::TOA_A_PREFIX => {
            let (addr, [length, ..]) = value.split_first_chunk()? else {
                return None;
            };
            sources::from_kernel(*addr, *length).map(|prefix| prefix.to_string())
        }
        uapi::TOA_A_LAYOUTS | uapi::TOA_A_TRANSPARENT_PORTS => {
            let text = value.get(within.checked_sub(NLA_HEADER_SIZE)?..)?;
            let text = String::from_utf8_lossy(text);
            match text.split(',').next() {
                None | Some("") => Some("an empty entry".to_owned()),
                Some(entry) => Some(entry.to_owned()),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read() {
        let mut bytes = [0; 72];
        bytes[10..16].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 7]);
        bytes[32..48].copy_from_slice(&"fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes[48..56].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 80]);
        bytes[56..60].copy_from_slice(&4_026_531_840u32.to_ne_bytes());
        bytes[60..64].copy_from_slice(&[0, 0, 1, 2]);
        bytes[64..70].copy_from_slice(&[2, 0, 1, 200, 8, 2]);
        let session = read_session(&bytes).unwrap();
        let client = Client {
            addr: "203.0.113.7:256".parse().unwrap(),
            carried_by: "syn".to_owned(),
            kind: 200,
            length: 8,
        };
        assert_eq!(session.client, Some(client));
        assert_eq!((session.vip, session.vpc_id), (None, Some(0x102)));
        assert_eq!(session.peer, "[fd00::2]:512".parse().unwrap());
        assert_eq!((session.local_port, session.netns), (80, 4_026_531_840));
        assert_eq!(read_session(&bytes[..69]), None);
        // A newer module's is longer.
        assert_eq!(read_session(&[&bytes[..], &[7; 8]].concat()), Some(session));
    }

    #[test]
    fn the_kernels_words_and_its_culprit_are_found() {
        let change = Change {
            generation: Some(7),
            trusted: Some(
                ["10.0.0.0/8", "::1/128"]
                    .map(|text| text.parse().unwrap())
                    .into(),
            ),
            layouts: Some("200/8=client-v4,9/9=x".to_owned()),
            transparent: Some(true),
            transparent_ports: Some("80,http,".to_owned()),
            ..Change::default()
        };
        // Headers, the generation, the header of the layouts.
        let layouts = 20 + 8 + 4;
        let ports = layouts + 24 + 8 + 4;
        let prefixes = ports + 8 + 4;
        for (at, says) in [
            (layouts, "200/8=client-v4: no good"),
            (layouts + 16, "9/9=x: no good"),
            (layouts + 15, "an empty entry: no good"),
            (layouts - 4, "no good"),
            (layouts + 24, "no good"),
            (ports, "80: no good"),
            (ports + 3, "http: no good"),
            (ports + 7, "an empty entry: no good"),
            (prefixes, "10.0.0.0/8: no good"),
            (prefixes + 24, "::1/128: no good"),
            (prefixes + 48, "no good"),
            (0, "no good"),
        ] {
            let words = [
                attribute(1, b"no good\0".to_vec()),
                attribute(2, (at as u32).to_ne_bytes().to_vec()),
            ];
            let mut bytes = [&(-22i32).to_ne_bytes()[..], &[0; 16]].concat();
            let behind = bytes.len();
            bytes.resize(behind + words.as_slice().buffer_len(), 0);
            words.as_slice().emit(&mut bytes[behind..]);
            let buffer = netlink_packet_core::ErrorBuffer::new_checked(&bytes).unwrap();
            let error = ErrorMessage::parse(&buffer).unwrap();
            let error = refused(NLM_F_ACK_TLVS, &error, &attributes(&change));
            assert_eq!(error.to_string(), says);
        }
    }
}
