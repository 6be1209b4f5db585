// SPDX-License-Identifier: MIT OR Apache-2.0
// Made by bindgen from toa-kmod/uapi/toa.h; tests/abi compares. Do not edit.

pub const TOA_ABI_VERSION: u32 = 1;
pub const TOA_SO_ORIGINAL: u32 = 1414480128;
pub const TOA_SO_ABI: u32 = 1414480129;
pub const TOA_SEGMENT_NONE: u32 = 0;
pub const TOA_SEGMENT_SYN: u32 = 1;
pub const TOA_SEGMENT_ACK: u32 = 2;
pub const TOA_SEGMENT_DATA: u32 = 3;
pub const TOA_ORIGINAL_SIZE_V1: u32 = 48;
pub const TOA_SO_GET_LOOKUP: u32 = 4096;
pub type __u8 = ::core::ffi::c_uchar;
pub type __u16 = ::core::ffi::c_ushort;
pub type __u32 = ::core::ffi::c_uint;
pub type __be16 = __u16;
pub type __be32 = __u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct toa_original {
    pub version: __u16,
    pub size: __u16,
    pub family: __u8,
    pub segment: __u8,
    pub kind: __u8,
    pub length: __u8,
    pub port: __be16,
    pub peer_port: __be16,
    pub peer_family: __u8,
    pub reserved: [__u8; 3usize],
    pub addr: [__u8; 16usize],
    pub peer_addr: [__u8; 16usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct toa_nat64_peer {
    pub saddr: [__be32; 4usize],
    pub sport: __be16,
    pub pad: [__u8; 2usize],
}
