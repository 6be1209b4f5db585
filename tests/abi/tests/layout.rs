// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Rust structures lie in memory as the C ones do, and as version 1 published them.

// The tests' library carries the C object.
use toa_abi_tests as _;

#[allow(missing_docs, unreachable_pub, non_camel_case_types, dead_code)]
#[path = "../../../libtoa/src/uapi/bindings.rs"]
mod uapi;

#[allow(missing_docs, unreachable_pub, non_camel_case_types, dead_code)]
#[path = "../../../toa-cli/src/uapi.rs"]
mod netlink;

use netlink::{toa_prefix, toa_session};
use uapi::{toa_nat64_peer, toa_original, toa_vs, toa_vs_hybrid};

unsafe extern "C" {
    static toa_original_layout: [usize; 38];
    static toa_nat64_peer_layout: [usize; 8];
    static toa_vs_layout: [usize; 10];
    static toa_vs_hybrid_layout: [usize; 10];
    static toa_prefix_layout: [usize; 8];
    static toa_session_layout: [usize; 34];
}

macro_rules! layout {
    ($type:ty: $($field:ident),*) => {{
        let value = <$type>::default();
        vec![
            size_of::<$type>(), align_of::<$type>(),
            $(std::mem::offset_of!($type, $field), size_of_val(&value.$field)),*
        ]
    }};
}

#[test]
fn original() {
    // SAFETY: A constant array of that length in src/layout.c.
    let c = unsafe { toa_original_layout };
    assert_eq!(
        layout!(toa_original: version, size, family, segment, kind, length, port, peer_port,
            peer_family, flags, reserved, addr, peer_addr, vip, vpc_id, vip_port, vip_family,
            reserved2),
        c
    );
    // What version 1 promises, whatever is appended later.
    assert!(c[0] >= uapi::TOA_ORIGINAL_SIZE_V1 as usize);
    assert_eq!(std::mem::offset_of!(toa_original, vip), 48);
    assert_eq!(uapi::TOA_ORIGINAL_SIZE_V1, 48);
    assert_eq!(std::mem::offset_of!(toa_original, port), 8);
    assert_eq!(std::mem::offset_of!(toa_original, addr), 16);
    assert_eq!(std::mem::offset_of!(toa_original, peer_addr), 32);
}

#[test]
fn nat64_peer() {
    // SAFETY: A constant array of that length in src/layout.c.
    let c = unsafe { toa_nat64_peer_layout };
    assert_eq!(layout!(toa_nat64_peer: saddr, sport, pad), c);
    // The published structure is `struct in6_addr; __be16` and 20 bytes long.
    assert_eq!(c[..2], [20, 4]);
}

#[test]
fn virtual_servers() {
    // SAFETY: Constant arrays of that length in src/layout.c.
    let (v4, hybrid) = unsafe { (toa_vs_layout, toa_vs_hybrid_layout) };
    assert_eq!(layout!(toa_vs: vid, vaddr, vport, pad), v4);
    assert_eq!(layout!(toa_vs_hybrid: vid, vaddr, vaddr_af, vport), hybrid);
    // The published structures: `__u32; __be32; __be16`, and `__u32; 16 bytes; __u16; __be16`.
    assert_eq!((&v4[..2], &hybrid[..2]), (&[12, 4][..], &[24, 4][..]));
}

#[test]
fn what_is_listed() {
    // SAFETY: Constant arrays of that length in src/layout.c.
    let (prefix, session) = unsafe { (toa_prefix_layout, toa_session_layout) };
    assert_eq!(layout!(toa_prefix: addr, length, reserved), prefix);
    assert_eq!(
        layout!(toa_session: client, vip, peer, client_port, vip_port, peer_port, local_port,
            netns, vpc_id, client_family, vip_family, segment, kind, length, flags, reserved),
        session
    );
    // No padding, and as toa-cli takes it apart.
    assert_eq!((prefix[0], session[0]), (20, 72));
    assert_eq!(std::mem::offset_of!(toa_session, client_port), 48);
    assert_eq!(std::mem::offset_of!(toa_session, netns), 56);
    assert_eq!(std::mem::offset_of!(toa_session, client_family), 64);
}

#[test]
fn numbers() {
    assert_eq!(uapi::TOA_SO_GET_VS, 64 + 1024 + 4 * 64 + 1);
    assert_eq!(uapi::TOA_SO_GET_VS4RDS, uapi::TOA_SO_GET_VS + 1);
    assert_eq!(uapi::TOA_SO_GET_VS_HYBRID, uapi::TOA_SO_GET_VS + 2);
    assert_eq!(uapi::TOA_SO_GET_LOOKUP, 4096);
    assert_eq!(uapi::TOA_SO_ORIGINAL.to_be_bytes(), *b"TOA\0");
    assert_eq!(uapi::TOA_SO_ABI.to_be_bytes(), *b"TOA\x01");
}
