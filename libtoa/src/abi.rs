// SPDX-License-Identifier: MIT OR Apache-2.0

use std::os::fd::AsFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::Error;
use crate::{sys, uapi};

/// The ABI version that this library speaks.
pub const ABI: u32 = uapi::TOA_ABI_VERSION;

/// The ABI version of the loaded module, whether this library speaks it or not.
///
/// Opens a socket for the question; meant for a server's start, and for tools.
///
/// # Errors
///
/// [`Error::NotLoaded`], or [`Error::Os`] where no socket can be had.
pub fn abi() -> Result<u32, Error> {
    let any = |family| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let socket = any(AddressFamily::Inet)
        .or_else(|_| any(AddressFamily::Inet6))
        .map_err(|errno| Error::from_raw(errno as i32))?;
    let mut version = 0u32;
    sys::getsockopt(socket.as_fd(), uapi::TOA_SO_ABI, &mut version)?;
    Ok(version)
}
