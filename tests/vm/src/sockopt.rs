// SPDX-License-Identifier: MIT OR Apache-2.0
//! getsockopt(2) as it is, without a library between.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// `getsockopt(fd, level, name, buffer, &len)` with `len` the buffer's; the length that came back.
///
/// # Errors
///
/// What the kernel says.
pub fn get(fd: impl AsFd, level: i32, name: i32, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut len = buffer.len() as libc::socklen_t;
    // SAFETY: the buffer can be written for `len` bytes.
    unsafe { get_at(fd, level, name, buffer.as_mut_ptr().cast(), &mut len) }?;
    Ok(len as usize)
}

/// The same with a pointer and a length of the caller's, which may be wrong.
///
/// # Safety
///
/// Where the kernel can write to `buffer`, for `len` bytes, it may do so.
///
/// # Errors
///
/// What the kernel says.
pub unsafe fn get_at(
    fd: impl AsFd,
    level: i32,
    name: i32,
    buffer: *mut libc::c_void,
    len: &mut libc::socklen_t,
) -> Result<(), Errno> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: by this function's contract.
    let result = unsafe { libc::getsockopt(fd, level, name, buffer, len) };
    Errno::result(result).map(drop)
}
