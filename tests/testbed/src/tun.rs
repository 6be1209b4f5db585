// SPDX-License-Identifier: MIT OR Apache-2.0
//! TUN devices: network devices whose wire is a file descriptor.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, bail};

use crate::netns::{Namespace, in_ns};

mod ioctl {
    // The kernel's header says `int`, but it reads and writes a whole `struct ifreq`.
    nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, libc::ifreq);
}

/// Makes the device `name` in `ns`; it lives for as long as the file returned.
///
/// Each read takes one whole IP packet (version 4 or 6, without any header before it) that the
/// namespace sends through the device; each write is one that it receives. Reads do not block.
pub(crate) fn create(ns: &Namespace, name: &str) -> Result<File> {
    // The device belongs to the namespace in which the file was opened.
    in_ns(ns, || {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .context("cannot open /dev/net/tun: load the kernel module tun")?;
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                // Without IFF_VNET_HDR the kernel hands over packets that are fit for a wire:
                // segmented, and with their checksums filled in.
                ifru_flags: (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short,
            },
        };
        if name.len() >= libc::IFNAMSIZ {
            bail!("{name:?} is too long for a network device: at most 15 bytes");
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: `file` is open, and `request` is a whole `struct ifreq` that outlives the call.
        unsafe { ioctl::tun_set_iff(file.as_raw_fd(), &request) }
            .with_context(|| format!("cannot make the TUN device {name} in {ns}"))?;
        Ok(file)
    })?
}
