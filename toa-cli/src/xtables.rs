// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guard where it is made of iptables' rules, found in the kernel itself: by
//! the calls of iptables-legacy, or in nf_tables, where iptables-nft puts it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::nft;

/// The guard's chain in the table mangle.
pub(crate) const CHAIN: &str = "TOA-GUARD";

/// What a guard's comment begins with.
pub(crate) const MARK: &str = "toa-cli guard: ";

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, and those of IPv6, which have the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

const TABLE: &[u8] = b"mangle";

/// `struct ipt_getinfo`, which is `struct ip6t_getinfo` too.
#[repr(C)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    entries: u32,
    size: u32,
}

/// Of `struct ipt_get_entries`: the table's name, the size, and padding to what follows.
const HEAD: usize = 40;

/// The comment of the guard's chain of this family; `None` where there is none.
///
/// With `legacy` the table mangle of iptables-legacy is there, and is asked for; asked for where
/// it is not, the kernel would load it.
///
/// # Errors
///
/// `PermissionDenied` without CAP_NET_ADMIN; whatever else the kernel says.
pub(crate) fn comment(v6: bool, legacy: bool) -> io::Result<Option<String>> {
    if legacy {
        if let Some(mark) = find(&entries(v6)?) {
            return Ok(Some(mark));
        }
    }
    let rules = nft::rules(v6, "mangle", CHAIN)?;
    Ok(rules.iter().find_map(|rule| find(rule)))
}

/// The table's rules as they are in the kernel.
fn entries(v6: bool) -> io::Result<Vec<u8>> {
    let (domain, level) = if v6 {
        (AddressFamily::Inet6, libc::IPPROTO_IPV6)
    } else {
        (AddressFamily::Inet, libc::IPPROTO_IP)
    };
    let socket = socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut name = [0; 32];
    name[..TABLE.len()].copy_from_slice(TABLE);
    loop {
        let mut info = [0; size_of::<Info>()];
        info[..name.len()].copy_from_slice(&name);
        get(&socket, level, GET_INFO, &mut info)?;
        let at = std::mem::offset_of!(Info, size);
        let size = info[at..].first_chunk().copied().unwrap_or_default();
        let mut entries = vec![0; HEAD + u32::from_ne_bytes(size) as usize];
        entries[..name.len()].copy_from_slice(&name);
        entries[name.len()..name.len() + 4].copy_from_slice(&size);
        match get(&socket, level, GET_ENTRIES, &mut entries) {
            // The table was changed in between.
            Err(Errno::EAGAIN) => {}
            done => return done.map(|()| entries).map_err(io::Error::from),
        }
    }
}

fn get(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the buffer can be written for `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result).map(drop)
}

/// The first comment of ours among bytes of whatever meaning.
fn find(bytes: &[u8]) -> Option<String> {
    let at = bytes
        .windows(MARK.len())
        .position(|window| window == MARK.as_bytes())?;
    let text = bytes[at..].split(|&byte| byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_found_among_anything() {
        let bytes = [b"\x01\x02toa-cli\0", MARK.as_bytes(), b"x, y\0\xff\xff"].concat();
        assert_eq!(find(&bytes).as_deref(), Some("toa-cli guard: x, y"));
        assert_eq!(find(b"toa-cli guard"), None);
        assert_eq!(find(b""), None);
    }

    #[test]
    fn structures_are_as_the_kernel_has_them() {
        assert_eq!(size_of::<Info>(), 84);
        assert_eq!(std::mem::offset_of!(Info, size), 80);
    }
}
