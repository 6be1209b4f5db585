// SPDX-License-Identifier: MIT OR Apache-2.0
//! bpf(2), for maps of sockets.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const MAP_TYPE_SOCKMAP: u32 = 15;
const PROG_TYPE_SK_SKB: u32 = 14;
const SK_SKB_STREAM_VERDICT: u32 = 5;

/// The instructions, with the map's descriptor in its place: `return
/// bpf_sk_redirect_map(skb, map, 1, 0)`.
fn redirect_to_1(map: &OwnedFd) -> [u64; 6] {
    let instruction = |code: u8, registers: u8, immediate: u32| {
        u64::from(code) | u64::from(registers) << 8 | u64::from(immediate) << 32
    };
    const LOAD_64: u8 = 0x18;
    const MOVE: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const SK_REDIRECT_MAP: u32 = 52;
    /// Register 2, from a map's descriptor (`BPF_PSEUDO_MAP_FD`).
    const R2_MAP: u8 = 0x12;
    [
        instruction(LOAD_64, R2_MAP, map.as_raw_fd() as u32),
        0,
        instruction(MOVE, 3, 1),
        instruction(MOVE, 4, 0),
        instruction(CALL, 0, SK_REDIRECT_MAP),
        instruction(EXIT, 0, 0),
    ]
}

/// # Safety
///
/// `attributes` is what the command takes, and every pointer in it is good for the call.
unsafe fn call<T>(command: libc::c_int, attributes: &T) -> Result<libc::c_long, Errno> {
    let size = size_of::<T>();
    // SAFETY: By this function's contract.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size) };
    Errno::result(result)
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: bpf(2) has just made the descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// A map with room for so many sockets.
pub(crate) fn sockmap(room: u32) -> Result<OwnedFd, Errno> {
    // Type, key size, value size, entries.
    let create = [MAP_TYPE_SOCKMAP, 4, 4, room];
    // SAFETY: The beginning of that command's structure, without pointers.
    Ok(owned(unsafe { call(MAP_CREATE, &create) }?))
}

/// A map with room for two sockets, of which what comes in for any goes out by the one at 1.
pub(crate) fn redirecting() -> Result<(OwnedFd, OwnedFd), Errno> {
    let map = sockmap(2)?;
    let program = redirect_to_1(&map);
    let licence = c"Dual MIT/GPL";
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        program: u64,
        licence: u64,
    }
    let load = Load {
        kind: PROG_TYPE_SK_SKB,
        count: program.len() as u32,
        program: program.as_ptr() as u64,
        licence: licence.as_ptr() as u64,
    };
    // SAFETY: The beginning of that command's structure; both pointers are to living values.
    let program = owned(unsafe { call(PROG_LOAD, &load) }?);
    // Target, program, type, flags.
    let [target, attached] = [&map, &program].map(|fd| fd.as_raw_fd() as u32);
    let attach = [target, attached, SK_SKB_STREAM_VERDICT, 0];
    // SAFETY: The beginning of that command's structure, without pointers.
    unsafe { call(PROG_ATTACH, &attach) }?;
    Ok((map, program))
}

pub(crate) fn insert(map: &OwnedFd, key: u32, socket: &impl AsRawFd) -> Result<(), Errno> {
    #[repr(C)]
    struct Update {
        map: u32,
        pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let value = socket.as_raw_fd();
    let update = Update {
        map: map.as_raw_fd() as u32,
        pad: 0,
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    // SAFETY: The structure of that command; both pointers are to living values of four bytes.
    unsafe { call(MAP_UPDATE_ELEM, &update) }.map(drop)
}
