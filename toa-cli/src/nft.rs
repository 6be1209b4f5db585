// SPDX-License-Identifier: MIT OR Apache-2.0
//! What nf_tables has in this network namespace, asked of the kernel itself, so
//! that looking needs no `nft` program.

use std::io;

use netlink_packet_core::{
    NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlaBuffer, NlasIterator,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

/// nf_tables among the subsystems of nfnetlink (`NFNL_SUBSYS_NFTABLES`).
const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
/// In a table's user data, by the convention of `nft`.
const TABLE_COMMENT: u8 = 0;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_POSTROUTING: u32 = 4;

const FAMILY_ANY: u8 = 0;
const FAMILY_INET: u8 = 1;
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;

/// A message of nf_tables: who asks for what, and the attributes behind `struct nfgenmsg`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Nft {
    kind: u16,
    family: u8,
    attributes: Vec<u8>,
}

/// The family, the protocol's version and the resource.
const NFGENMSG: usize = 4;

impl NetlinkSerializable for Nft {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        NFGENMSG + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..NFGENMSG].copy_from_slice(&[self.family, 0, 0, 0]);
        buffer[NFGENMSG..].copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for Nft {
    type Error = io::Error;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> io::Result<Self> {
        let (head, attributes) = payload
            .split_at_checked(NFGENMSG)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Self {
            kind: header.message_type,
            family: head[0],
            attributes: attributes.to_vec(),
        })
    }
}

/// The comment of the table `name` of the family inet: `None` where there is no such table.
///
/// # Errors
///
/// `PermissionDenied` without CAP_NET_ADMIN; whatever else the kernel says.
pub(crate) fn table_comment(name: &str) -> io::Result<Option<String>> {
    let request = Nft {
        kind: GET_TABLE,
        family: FAMILY_INET,
        attributes: string(TABLE_NAME, name),
    };
    match ask(request, NLM_F_ACK) {
        Ok(tables) => Ok(tables.first().map(|table| comment(&table.attributes))),
        Err(error) if means_nothing_there(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether any chain of nf_tables changes the source of what is sent on: type nat, at postrouting.
///
/// # Errors
///
/// As [`table_comment`].
pub(crate) fn has_source_nat() -> io::Result<bool> {
    let request = Nft {
        kind: GET_CHAIN,
        family: FAMILY_ANY,
        attributes: Vec::new(),
    };
    match ask(request, NLM_F_DUMP) {
        Ok(chains) => Ok(chains.iter().any(|chain| is_source_nat(&chain.attributes))),
        Err(error) if means_nothing_there(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The rules of a chain of IPv4 or IPv6, each as the kernel describes it.
///
/// # Errors
///
/// As [`table_comment`].
pub(crate) fn rules(v6: bool, table: &str, chain: &str) -> io::Result<Vec<Vec<u8>>> {
    let request = Nft {
        kind: GET_RULE,
        family: if v6 { FAMILY_V6 } else { FAMILY_V4 },
        attributes: [string(RULE_TABLE, table), string(RULE_CHAIN, chain)].concat(),
    };
    match ask(request, NLM_F_DUMP) {
        // Kernels that cannot choose give every rule.
        Ok(rules) => Ok((rules.into_iter().map(|rule| rule.attributes))
            .filter(|rule| {
                let is = |kind, name: &str| {
                    let value = attribute(rule, kind).and_then(|value| value.strip_suffix(b"\0"));
                    value == Some(name.as_bytes())
                };
                is(RULE_TABLE, table) && is(RULE_CHAIN, chain)
            })
            .collect()),
        Err(error) if means_nothing_there(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// No such table, no such family, or no nf_tables at all.
fn means_nothing_there(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENOENT
                | libc::EINVAL
                | libc::EOPNOTSUPP
                | libc::EAFNOSUPPORT
                | libc::EPROTONOSUPPORT
        )
    )
}

/// The messages that answer `request`.
fn ask(request: Nft, flags: u16) -> io::Result<Vec<Nft>> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<Nft>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                // The acknowledgement, or the end of the list.
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
        }
    }
}

/// An attribute that is a string, with its padding.
fn string(kind: u16, text: &str) -> Vec<u8> {
    let length = NLA_HEADER_SIZE + text.len() + 1;
    let mut bytes = Vec::new();
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(text.as_bytes());
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The value of the attribute `kind`.
fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute: &NlaBuffer<&[u8]>| attribute.kind() == kind)?;
    let length = found.length().into();
    found.into_inner().get(NLA_HEADER_SIZE..length)
}

/// What `nft` has stored as the table's comment; empty where that is nothing.
fn comment(table: &[u8]) -> String {
    let mut rest = attribute(table, TABLE_USERDATA).unwrap_or_default();
    // Entries of one byte each of type and length, and the value.
    while let Some((&[kind, length], behind)) = rest.split_first_chunk() {
        let Some((value, next)) = behind.split_at_checked(length.into()) else {
            break;
        };
        if kind == TABLE_COMMENT {
            let text = value.split(|&byte| byte == 0).next().unwrap_or_default();
            return String::from_utf8_lossy(text).into_owned();
        }
        rest = next;
    }
    String::new()
}

fn is_source_nat(chain: &[u8]) -> bool {
    let number = attribute(chain, CHAIN_HOOK)
        .and_then(|hook| attribute(hook, HOOK_NUMBER))
        .and_then(|number| number.first_chunk())
        .map(|&number| u32::from_be_bytes(number));
    attribute(chain, CHAIN_TYPE) == Some(b"nat\0") && number == Some(HOOK_POSTROUTING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_comment_is_found_among_user_data_and_broken_data_has_none() {
        let table =
            |userdata: &[u8]| [string(TABLE_NAME, "t"), bytes(TABLE_USERDATA, userdata)].concat();
        assert_eq!(comment(&table(b"\x05\x01x\x00\x03ab\0")), "ab");
        for broken in [&b""[..], b"\0", b"\0\x09ab", b"\x01\x01"] {
            assert_eq!(comment(&table(broken)), "", "{broken:?}");
        }
        assert_eq!(comment(&[]), "");
        assert_eq!(comment(&[1, 0, 6]), "");
    }

    #[test]
    fn only_nat_at_postrouting_is_source_nat() {
        let chain = |kind: &str, number: u32| {
            let hook = bytes(HOOK_NUMBER, &number.to_be_bytes());
            let hook = bytes(0x8000 | CHAIN_HOOK, &hook);
            [string(CHAIN_TYPE, kind), hook, string(3, "name")].concat()
        };
        assert!(is_source_nat(&chain("nat", 4)));
        assert!(!is_source_nat(&chain("nat", 0)));
        assert!(!is_source_nat(&chain("filter", 4)));
        assert!(!is_source_nat(&[]));
    }
}
