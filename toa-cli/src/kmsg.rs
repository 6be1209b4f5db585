// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel logged since a moment, which is where it says why it refused.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// A place in the kernel's log.
#[derive(Debug)]
pub struct Cursor(File);

impl Cursor {
    /// The log's present end; `None` where it cannot be read (no /dev/kmsg in a
    /// container, or `kernel.dmesg_restrict` without `CAP_SYSLOG`).
    #[must_use]
    pub fn now() -> Option<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/kmsg")
            .ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(Self(file))
    }

    /// The messages since, oldest first, that speak of the module.
    #[must_use]
    pub fn since(mut self) -> Vec<String> {
        let mut messages = Vec::new();
        // One read gives one record; the kernel limits a record to 8 KiB.
        let mut record = vec![0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    messages.extend(message(&String::from_utf8_lossy(&record[..length])));
                }
                // EPIPE: the record was overwritten before it was read; the next read goes on.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        messages.retain(|message| concerns_module(message));
        messages
    }
}

/// The message of a record `priority,sequence,time,flags;message\n KEY=value...`.
fn message(record: &str) -> Option<String> {
    let (_, rest) = record.split_once(';')?;
    rest.lines().next().map(str::to_owned)
}

/// Whether a message is worth quoting: what says why, not that the kernel is tainted.
fn concerns_module(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    ["toa", "module", "decompress"]
        .iter()
        .any(|word| lower.contains(word))
        && !lower.contains("taint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_cut_to_its_message() {
        let record =
            "4,1007,88423,-;toa: Unknown symbol nf_register_sockopt (err -2)\n SUBSYSTEM=x\n";
        assert_eq!(
            message(record).as_deref(),
            Some("toa: Unknown symbol nf_register_sockopt (err -2)")
        );
        assert_eq!(message("no semicolon"), None);
    }

    #[test]
    fn only_what_explains_is_kept() {
        assert!(concerns_module("toa: PREEMPT_RT is not supported"));
        assert!(concerns_module("Loading of unsigned module is rejected"));
        assert!(!concerns_module(
            "toa: loading out-of-tree module taints kernel."
        ));
        assert!(!concerns_module("eth0: link up"));
    }
}
