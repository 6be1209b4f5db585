// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream sockets that the standard library does not make.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{Backlog, SockaddrIn, SockaddrIn6, SockaddrLike, bind, listen};
use toa_testbed::Family;

/// The protocol of MPTCP's own sockets (`include/uapi/linux/in.h`).
pub const IPPROTO_MPTCP: libc::c_int = 262;

/// A stream socket of the calling thread's network namespace; `protocol` 0 is TCP.
///
/// # Panics
///
/// Where the kernel makes none.
#[must_use]
#[track_caller]
pub fn stream_socket(family: Family, protocol: libc::c_int) -> OwnedFd {
    let domain = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    // SAFETY: No memory is involved.
    let fd = unsafe { libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol) };
    let fd = Errno::result(fd).expect("a socket");
    // SAFETY: The descriptor was made just now, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The address as the system calls take it.
#[must_use]
pub fn sockaddr(addr: SocketAddr) -> Box<dyn SockaddrLike> {
    match addr {
        SocketAddr::V4(addr) => Box::new(SockaddrIn::from(addr)),
        SocketAddr::V6(addr) => Box::new(SockaddrIn6::from(addr)),
    }
}

/// Makes a listener of the socket.
///
/// # Panics
///
/// Where the address is not to be had.
#[must_use]
#[track_caller]
pub fn listen_at(fd: OwnedFd, at: SocketAddr) -> TcpListener {
    bind(fd.as_raw_fd(), &*sockaddr(at)).expect("bind");
    listen(&fd, Backlog::new(16).expect("a backlog")).expect("listen");
    fd.into()
}
