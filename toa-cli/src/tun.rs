// SPDX-License-Identifier: MIT OR Apache-2.0
//! A TUN device: a network device whose other end is this program.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::rtnl;

/// Where the kernel hands out TUN devices.
const DEVICE: &str = "/dev/net/tun";

/// No packet of the kernel is longer: a TUN device's MTU is 1,500 at first.
const LONGEST: usize = 65_535;

mod ioctl {
    nix::ioctl_readwrite_bad!(
        /// TUNSETIFF of linux/if_tun.h: makes the device that the request names, and
        /// writes its final name there.
        ///
        /// # Safety
        ///
        /// The pointer must be to an ifreq that may be written.
        tun_set_iff,
        nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
        libc::ifreq
    );
}

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no TUN driver, or the container no device file.
    #[error("there is no {DEVICE}")]
    NoDriver,
    /// Something refused: a missing capability, or a container's device rules.
    #[error("{0} was refused: {1}")]
    Refused(&'static str, Errno),
    /// Anything else.
    #[error("{0} failed: {1}")]
    Os(&'static str, io::Error),
}

/// A TUN device in the network namespace of the thread that made it. It goes
/// when this value does.
#[derive(Debug)]
pub struct Tun {
    file: File,
    index: u32,
}

impl Tun {
    /// Makes a device and switches it on.
    ///
    /// # Errors
    ///
    /// [`Error`] tells apart what an operator can mend.
    pub fn new() -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEVICE)
            .map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => Error::NoDriver,
                Some(errno @ (Errno::EPERM | Errno::EACCES)) => {
                    Error::Refused("opening /dev/net/tun", errno)
                }
                _ => Error::Os("opening /dev/net/tun", error),
            })?;
        // SAFETY: an ifreq is plain old data, and all zeroes is a valid one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"toa%d") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the descriptor is open, and the kernel writes no more than the ifreq it is given.
        unsafe { ioctl::tun_set_iff(file.as_raw_fd(), &raw mut request) }.map_err(|errno| {
            if errno == Errno::EPERM {
                Error::Refused("making a TUN device", errno)
            } else {
                Error::Os("making a TUN device", errno.into())
            }
        })?;
        // SAFETY: the kernel has put the device's name there, and a NUL at its end.
        let name = unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) };
        let index = if_nametoindex(name)
            .map_err(|errno| Error::Os("finding the TUN device", errno.into()))?;
        rtnl::up(index).map_err(|error| Error::Os("switching the TUN device on", error))?;
        Ok(Self { file, index })
    }

    /// Gives the kernel's end an address; its subnet is then reached through the device.
    ///
    /// # Errors
    ///
    /// What the kernel says; for IPv6 `EACCES` or `EOPNOTSUPP` where it is disabled.
    pub fn add_address(&self, address: IpAddr, prefix: u8) -> io::Result<()> {
        rtnl::add_address(self.index, address, prefix)
    }

    /// Sends what goes to `destination` through the device; a prefix of 0 is the
    /// default route.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn add_route(&self, destination: IpAddr, prefix: u8) -> io::Result<()> {
        rtnl::add_route(self.index, destination, prefix)
    }

    /// Hands the kernel an IP packet, as if it came in by the network.
    ///
    /// # Errors
    ///
    /// What the kernel says; `EINVAL` where it is no IP packet.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        match (&self.file).write(packet) {
            Ok(written) if written == packet.len() => Ok(()),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "the packet was cut short",
            )),
            Err(error) => Err(error),
        }
    }

    /// Takes the next IP packet that the kernel sent, of any protocol; `None`
    /// where none came before `deadline`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn receive(&self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut packet = vec![0; LONGEST];
        loop {
            match (&self.file).read(&mut packet) {
                Ok(length) => {
                    packet.truncate(length);
                    return Ok(Some(packet));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !readable(&self.file, deadline)? {
                return Ok(None);
            }
        }
    }
}

/// For reads and writes of the caller's own; the descriptor does not block.
impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Waits until `file` can be read; false where `deadline` came first.
pub(crate) fn readable(file: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that a wait never ends just before the deadline and spins.
        let left =
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}
