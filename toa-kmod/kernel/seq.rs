// SPDX-License-Identifier: GPL-2.0

//! Writing to a `/proc` file.

use super::shim::{self, seq_file};

/// A `/proc` file that is being read.
pub(super) struct Seq(*mut seq_file);

impl Seq {
    /// # Safety
    ///
    /// `seq` is the argument of a running `show` callback, and the `Seq` stays in it.
    pub(super) unsafe fn new(seq: *mut seq_file) -> Self {
        Self(seq)
    }

    /// Writes `text` as it is.
    pub(super) fn bytes(&mut self, text: &[u8]) -> &mut Self {
        // SAFETY: By `new` the file is open; `text` is readable for its length.
        unsafe { shim::toa_shim_seq_write(self.0, text.as_ptr(), text.len()) };
        self
    }

    /// Writes `text` as it is.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Writes `value` in decimal, with blanks before it up to `width`.
    pub(super) fn number(&mut self, value: u64, width: u32) -> &mut Self {
        // SAFETY: By `new` the file is open.
        unsafe { shim::toa_shim_seq_number(self.0, value, width) };
        self
    }
}
