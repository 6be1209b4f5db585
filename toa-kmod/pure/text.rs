// SPDX-License-Identifier: GPL-2.0

//! Short texts, put together without formatting machinery.

/// Up to `N` bytes of ASCII; what does not fit is left out.
#[derive(Debug, Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Text<N> {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            bytes: [b' '; N],
            len: 0,
        }
    }

    /// Adds one byte; what is no printable ASCII shows as a question mark.
    pub fn byte(mut self, byte: u8) -> Self {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = if matches!(byte, b' '..=b'~') {
                byte
            } else {
                b'?'
            };
            self.len = self.len.wrapping_add(1);
        }
        self
    }

    /// Adds bytes from anywhere.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        bytes.iter().copied().fold(self, Self::byte)
    }

    /// Adds a text.
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number in decimal.
    pub fn number(self, number: u32) -> Self {
        self.in_base(number, 10)
    }

    /// Adds a number in hexadecimal.
    pub fn hex(self, number: u32) -> Self {
        self.in_base(number, 16)
    }

    fn in_base(mut self, number: u32, base: u32) -> Self {
        // Unlike `/` and `%`, these have no panicking path.
        let over = |number: u32, by: u32| number.checked_div(by).unwrap_or(0);
        let mut unit = 1u32;
        while over(number, unit) >= base {
            unit = unit.wrapping_mul(base);
        }
        while unit > 0 {
            let digit = over(number, unit).checked_rem(base).unwrap_or(0) as u8;
            self = self.byte(match digit {
                0..=9 => b'0'.wrapping_add(digit),
                _ => (b'a' - 10).wrapping_add(digit),
            });
            unit = over(unit, base);
        }
        self
    }

    /// What was added: ASCII, and no more than `N` bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }

    /// The same with blanks behind it, up to `N` bytes.
    pub fn padded(&self) -> &[u8; N] {
        &self.bytes
    }
}
