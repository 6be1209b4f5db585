// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kernel's part in libtoa's one system call: the program's own `getsockopt` stands before the C
//! library's.

use std::cell::RefCell;
use std::net::TcpListener;
use std::sync::OnceLock;

/// What `getsockopt` is to say next.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// So many bytes, as many of them as the caller's buffer holds, and this length.
    Bytes(Vec<u8>, libc::socklen_t),
    /// This errno.
    Error(i32),
}

/// A question that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) level: i32,
    pub(crate) name: i32,
    pub(crate) room: libc::socklen_t,
}

thread_local! {
    static REPLY: RefCell<Option<Reply>> = const { RefCell::new(None) };
    static ASKED: RefCell<Vec<Asked>> = const { RefCell::new(Vec::new()) };
}

/// A socket to ask on.
pub(crate) fn socket() -> &'static TcpListener {
    static SOCKET: OnceLock<TcpListener> = OnceLock::new();
    SOCKET.get_or_init(|| TcpListener::bind("127.0.0.1:0").expect("a socket"))
}

/// Runs `work` with that answer to its questions; what they were.
pub(crate) fn answering<R>(reply: Reply, work: impl FnOnce() -> R) -> (R, Vec<Asked>) {
    REPLY.set(Some(reply));
    let result = work();
    REPLY.set(None);
    (result, ASKED.take())
}

/// # Safety
///
/// That of getsockopt(2): `value` can be written for the bytes that `len` says.
#[unsafe(no_mangle)]
unsafe extern "C" fn getsockopt(
    _fd: libc::c_int,
    level: libc::c_int,
    name: libc::c_int,
    value: *mut libc::c_void,
    len: *mut libc::socklen_t,
) -> libc::c_int {
    // SAFETY: By this function's contract.
    let len = unsafe { &mut *len };
    let room = *len;
    ASKED.with_borrow_mut(|asked| asked.push(Asked { level, name, room }));
    match REPLY.with_borrow(Clone::clone) {
        Some(Reply::Bytes(bytes, length)) => {
            let count = bytes.len().min(room as usize);
            // SAFETY: By this function's contract, and no more than `value` has room for.
            unsafe { value.cast::<u8>().copy_from(bytes.as_ptr(), count) };
            *len = length;
            0
        }
        reply => {
            let errno = match reply {
                Some(Reply::Error(errno)) => errno,
                _ => libc::ENOSYS,
            };
            nix::errno::Errno::set_raw(errno);
            -1
        }
    }
}
