// SPDX-License-Identifier: MIT OR Apache-2.0

//! The one system call.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::error::Error;
use crate::uapi::toa_original;

/// Structures of plain integers, which the kernel may fill in part or whole.
///
/// # Safety
///
/// Every bit pattern is a value of the type.
pub(crate) unsafe trait Plain: Default {}

// SAFETY: An integer.
unsafe impl Plain for u32 {}
// SAFETY: Integers and arrays of them.
unsafe impl Plain for toa_original {}

/// `getsockopt(fd, IPPROTO_IP, name, answer)`; how many bytes of `answer` were written.
///
/// An AF_INET6 socket's options of this level are looked up in the same place as an AF_INET one's
/// (`ipv6_getsockopt`, net/ipv6/ipv6_sockglue.c), so this serves both.
pub(crate) fn getsockopt<T: Plain>(
    fd: BorrowedFd<'_>,
    name: u32,
    answer: &mut T,
) -> Result<usize, Error> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `answer` can be written for `len` bytes, and any bytes make a `T`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IP,
            name as libc::c_int,
            std::ptr::from_mut(answer).cast(),
            &mut len,
        )
    };
    if result < 0 {
        return Err(Error::from_raw(Errno::last_raw()));
    }
    Ok(len as usize)
}
