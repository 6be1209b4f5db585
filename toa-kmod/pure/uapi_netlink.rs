// SPDX-License-Identifier: GPL-2.0
// Made by bindgen from toa-kmod/uapi/toa_netlink.h; tests/abi compares. Do not edit.

pub const TOA_GENL_NAME: &[u8; 4] = b"toa\0";
pub const TOA_GENL_VERSION: u32 = 1;
pub const TOA_CMD_GET_CONFIG: u32 = 1;
pub const TOA_CMD_SET_CONFIG: u32 = 2;
pub const TOA_CMD_GET_SESSIONS: u32 = 3;
pub const TOA_A_GENERATION: u32 = 1;
pub const TOA_A_TRUST: u32 = 2;
pub const TOA_A_PREFIX: u32 = 3;
pub const TOA_A_LAYOUTS: u32 = 4;
pub const TOA_A_FIRST_DATA: u32 = 5;
pub const TOA_A_SESSION: u32 = 6;
pub const TOA_A_TRANSPARENT: u32 = 7;
pub const TOA_A_TRANSPARENT_LOCAL: u32 = 8;
pub const TOA_A_TRANSPARENT_PORTS: u32 = 9;
pub const TOA_A_MAX: u32 = 9;
pub const TOA_PREFIXES_MAX: u32 = 4096;
pub const TOA_LAYOUTS_MAX: u32 = 1024;
pub const TOA_PORTS_MAX: u32 = 1024;
pub type __u8 = ::core::ffi::c_uchar;
pub type __u16 = ::core::ffi::c_ushort;
pub type __u32 = ::core::ffi::c_uint;
pub type __be16 = __u16;
pub type __be32 = __u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct toa_prefix {
    pub addr: [__u8; 16usize],
    pub length: __u8,
    pub reserved: [__u8; 3usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct toa_session {
    pub client: [__u8; 16usize],
    pub vip: [__u8; 16usize],
    pub peer: [__u8; 16usize],
    pub client_port: __be16,
    pub vip_port: __be16,
    pub peer_port: __be16,
    pub local_port: __be16,
    pub netns: __u32,
    pub vpc_id: __be32,
    pub client_family: __u8,
    pub vip_family: __u8,
    pub segment: __u8,
    pub kind: __u8,
    pub length: __u8,
    pub flags: __u8,
    pub reserved: [__u8; 2usize],
}
