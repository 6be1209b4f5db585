// SPDX-License-Identifier: MIT OR Apache-2.0
// Made by bindgen from toa-kmod/uapi/toa.h; tests/abi compares. Do not edit.

pub const TOA_ABI_VERSION: u32 = 1;
pub const TOA_SO_ORIGINAL: u32 = 1414480128;
pub const TOA_SO_ABI: u32 = 1414480129;
pub const TOA_SEGMENT_NONE: u32 = 0;
pub const TOA_SEGMENT_SYN: u32 = 1;
pub const TOA_SEGMENT_ACK: u32 = 2;
pub const TOA_SEGMENT_DATA: u32 = 3;
pub const TOA_FLAG_VIP: u32 = 1;
pub const TOA_FLAG_VPC_ID: u32 = 2;
pub const TOA_ORIGINAL_SIZE_V1: u32 = 48;
pub const TOA_SO_GET_LOOKUP: u32 = 4096;
pub const TOA_SO_GET_VS: u32 = 1345;
pub const TOA_SO_GET_VS4RDS: u32 = 1346;
pub const TOA_SO_GET_VS_HYBRID: u32 = 1347;
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
    pub flags: __u8,
    pub reserved: [__u8; 2usize],
    pub addr: [__u8; 16usize],
    pub peer_addr: [__u8; 16usize],
    pub vip: [__u8; 16usize],
    pub vpc_id: __be32,
    pub vip_port: __be16,
    pub vip_family: __u8,
    pub reserved2: __u8,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct toa_nat64_peer {
    pub saddr: [__be32; 4usize],
    pub sport: __be16,
    pub pad: [__u8; 2usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct toa_vs {
    pub vid: __u32,
    pub vaddr: __be32,
    pub vport: __be16,
    pub pad: [__u8; 2usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct toa_vs_hybrid {
    pub vid: __u32,
    pub vaddr: [__u8; 16usize],
    pub vaddr_af: __u16,
    pub vport: __be16,
}
