// SPDX-License-Identifier: GPL-2.0
//! The mode in which the kernel's own calls tell the client: who is told, on which ports, and what.

use proptest::prelude::*;
use toa_kmod::pure::answer::{Name, Named, SockaddrIn, SockaddrIn6};
use toa_kmod::pure::callers::asks_for_a_program;
use toa_kmod::pure::layout::{v4_mapped, Address, Family};
use toa_kmod::pure::ports::parse;

/// As `sprint_symbol_no_offset()` has them, on kernels from 5.4 to 7.x, x86-64 and arm64.
const FOR_PROGRAMS: [&str; 19] = [
    "__sys_getpeername",
    "__sys_getsockname",
    "__x64_sys_getsockname",
    "__sys_accept4",
    "__sys_accept4_file",
    "do_accept",
    "do_accept.isra.0",
    "do_accept.constprop.0",
    "do_accept.part.0.isra.0",
    "do_accept.llvm.1234567890",
    "do_getsockname",
    "io_accept",
    "__do_sys_getpeername",
    "__se_sys_accept4",
    "__x64_sys_getpeername",
    "__x64_sys_accept",
    "__ia32_sys_accept4",
    "__ia32_compat_sys_socketcall",
    "__arm64_sys_getpeername",
];

const OTHERS: [&str; 20] = [
    "",
    ".",
    ".isra.0",
    "kernel_getpeername",
    "svc_tcp_accept",
    "svc_tcp_accept [sunrpc]",
    "nbd_genl_connect [nbd]",
    "iscsi_sw_tcp_conn_get_param [iscsi_tcp]",
    "told_inet_getname [toa]",
    "toa_shim_getname_met [toa]",
    // A module may call its own functions anything.
    "do_accept [other]",
    "do_accept.isra.0 [other]",
    "__sys_getpeername [other]",
    // What only begins or ends like one that asks.
    "__sys_getsockopt",
    "sk_getsockopt",
    "do_accept_all",
    "kdo_accept",
    "__x64_sys_getpeername2",
    "__sys_",
    "0xffffffff81234567",
];

#[test]
fn programs_are_told_and_the_kernel_is_not() {
    for name in FOR_PROGRAMS {
        assert!(asks_for_a_program(name.as_bytes()), "{name}");
    }
    for name in OTHERS {
        assert!(!asks_for_a_program(name.as_bytes()), "{name}");
    }
}

fn ports(list: &str) -> Result<Vec<u16>, &str> {
    let mut found = Vec::new();
    parse(list.as_bytes(), |port| found.push(port))
        .map(|()| found)
        .map_err(|entry| std::str::from_utf8(entry).unwrap())
}

#[test]
fn a_list_of_ports() {
    assert_eq!(ports(""), Ok(vec![]));
    assert_eq!(ports("80"), Ok(vec![80]));
    assert_eq!(ports("443,80,65535,1,80"), Ok(vec![443, 80, 65535, 1, 80]));
    assert_eq!(ports("0080"), Ok(vec![80]));
    for (list, bad) in [
        ("0", "0"),
        ("80,0", "0"),
        ("65536", "65536"),
        ("99999999999999999999", "99999999999999999999"),
        ("80,,443", ""),
        (",", ""),
        ("80,", ""),
        ("80, 443", " 443"),
        ("80\n", "80\n"),
        ("-1", "-1"),
        ("+80", "+80"),
        ("http,80", "http"),
        ("80-90", "80-90"),
    ] {
        assert_eq!(ports(list), Err(bad), "{list:?}");
    }
}

proptest! {
    #[test]
    fn any_list_of_numbers_is_read_as_it_was_written(
        list in proptest::collection::vec(1u16.., 1..20)
    ) {
        let text: Vec<String> = list.iter().map(u16::to_string).collect();
        let text = text.join(",");
        prop_assert_eq!(ports(&text), Ok(list));
    }

    #[test]
    fn any_text_is_read_or_its_first_bad_entry_named(list in "[0-9,a ]{0,12}") {
        let good = |entry: &str| {
            entry.bytes().all(|byte| byte.is_ascii_digit())
                && entry.parse::<u16>().is_ok_and(|port| port > 0)
        };
        let expected = if list.is_empty() {
            None
        } else {
            list.split(',').find(|entry| !good(entry))
        };
        prop_assert_eq!(ports(&list).err(), expected);
    }
}

const PORT: [u8; 2] = [0x9d, 0x78];
const PEER: [u8; 4] = [10, 0, 0, 2];
const PEER_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const CLIENT_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];

fn client(family: Family) -> Address {
    Address {
        family,
        port: [0xca, 0x6c],
        addr: match family {
            Family::V4 => v4_mapped([203, 0, 113, 7]),
            Family::V6 => CLIENT_V6,
        },
    }
}

fn name() -> SockaddrIn {
    SockaddrIn {
        family: 2u16.to_ne_bytes(),
        port: PORT,
        addr: PEER,
        zero: [0; 8],
    }
}

fn name6(addr: [u8; 16]) -> SockaddrIn6 {
    SockaddrIn6 {
        family: 10u16.to_ne_bytes(),
        port: PORT,
        flow: [0, 1, 2, 3],
        addr,
        scope: [3, 0, 0, 0],
    }
}

#[test]
fn the_names_are_the_kernels_structures() {
    assert_eq!((size_of::<SockaddrIn>(), align_of::<SockaddrIn>()), (16, 1));
    assert_eq!(
        (size_of::<SockaddrIn6>(), align_of::<SockaddrIn6>()),
        (28, 1)
    );
    assert_eq!(std::mem::offset_of!(SockaddrIn, addr), 4);
    assert_eq!(std::mem::offset_of!(SockaddrIn6, addr), 8);
    assert_eq!(std::mem::offset_of!(SockaddrIn6, scope), 24);
}

#[test]
fn a_v4_client_on_a_v4_socket() {
    let mut told = name();
    let named = told.rename(PORT, &v4_mapped(PEER), &client(Family::V4));
    assert_eq!(named, Named::Renamed);
    assert_eq!((told.family, told.zero), (name().family, [0; 8]));
    assert_eq!((told.port, told.addr), ([0xca, 0x6c], [203, 0, 113, 7]));
}

#[test]
fn a_v6_client_on_a_v4_socket_stays_unsaid() {
    let mut told = name();
    let named = told.rename(PORT, &v4_mapped(PEER), &client(Family::V6));
    assert_eq!((named, told), (Named::Kept, name()));
}

#[test]
fn clients_on_a_v6_socket_without_the_flow_and_scope_of_the_peer() {
    for peer in [PEER_V6, v4_mapped(PEER)] {
        for family in [Family::V4, Family::V6] {
            let mut told = name6(peer);
            let named = told.rename(PORT, &peer, &client(family));
            assert_eq!(named, Named::Renamed);
            let expected = SockaddrIn6 {
                family: name6(peer).family,
                port: [0xca, 0x6c],
                flow: [0; 4],
                addr: client(family).addr,
                scope: [0; 4],
            };
            assert_eq!(told, expected);
        }
    }
}

/// Each bit of the peer's end counts.
#[test]
fn the_name_of_another_peer_stays() {
    let changed = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    for bit in 0..16 {
        let port = changed(&PORT, bit).try_into().unwrap();
        let (mut told, mut told6) = (name(), name6(PEER_V6));
        let client = client(Family::V4);
        assert_eq!(told.rename(port, &v4_mapped(PEER), &client), Named::Other);
        assert_eq!(told6.rename(port, &PEER_V6, &client), Named::Other);
        assert_eq!((told, told6), (name(), name6(PEER_V6)));
    }
    for bit in 0..128 {
        let (mut told, mut told6) = (name(), name6(PEER_V6));
        let client = client(Family::V4);
        let peer = changed(&v4_mapped(PEER), bit).try_into().unwrap();
        assert_eq!(told.rename(PORT, &peer, &client), Named::Other);
        let peer = changed(&PEER_V6, bit).try_into().unwrap();
        assert_eq!(told6.rename(PORT, &peer, &client), Named::Other);
        assert_eq!((told, told6), (name(), name6(PEER_V6)));
    }
}
