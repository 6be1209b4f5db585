// SPDX-License-Identifier: GPL-2.0

//! Walks the option area of a TCP header (RFC 9293, section 3.1).

/// End of option list.
const EOL: u8 = 0;
/// No operation: one byte of padding.
const NOP: u8 = 1;

/// One option of the area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A well-formed option other than end-of-list and no-operation.
    Option {
        /// The option's kind.
        kind: u8,
        /// The whole length on the wire: kind and length bytes included, so at least 2.
        length: u8,
        /// What follows kind and length, `length - 2` bytes in network byte order.
        body: &'a [u8],
    },
    /// A length of 0 or 1, or one that points past the end of the area. Where the next option
    /// begins cannot be known, so the walk ends here.
    Malformed,
}

/// Iterator over the options of `area`: the bytes between the fixed TCP header and the data.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    /// Starts at the first option of `area`.
    pub fn new(area: &'a [u8]) -> Self {
        Self { rest: area }
    }

    /// Whether `area` is arranged as the common systems arrange it, and so holds nothing but maximum
    /// segment size (kind 2), window scale (3), selective acknowledgement permitted (4) and
    /// timestamps (8): told of nearly every segment in a few comparisons of whole words, without a
    /// walk.
    #[inline(always)]
    pub fn is_usual(area: &[u8]) -> bool {
        /// A word of an arrangement; `ANY` bytes of it may have any value.
        const ANY: u16 = 256;
        const MSS: [u16; 4] = [2, 4, ANY, ANY];
        const SCALE: [u16; 4] = [NOP as u16, 3, 3, ANY];
        const STAMPS: [u16; 4] = [NOP as u16, NOP as u16, 8, 10];
        const SACK: [u16; 4] = [NOP as u16, NOP as u16, 4, 2];
        const SACK_AND_STAMPS: [u16; 4] = [4, 2, 8, 10];
        const SACK_AND_END: [u16; 4] = [4, 2, EOL as u16, EOL as u16];

        /// Whether the bytes from `AT` on are such a word. The area's length is a constant, so that
        /// the compiler need not check it again.
        #[inline(always)]
        fn has<const AT: usize, const N: usize>(area: &[u8; N], word: [u16; 4]) -> bool {
            let Some(bytes) = area.get(AT..).and_then(|rest| rest.first_chunk()) else {
                return false;
            };
            let mask = word.map(|byte| if byte == ANY { 0 } else { u8::MAX });
            let value = word.map(|byte| if byte == ANY { 0 } else { byte as u8 });
            u32::from_ne_bytes(*bytes) & u32::from_ne_bytes(mask) == u32::from_ne_bytes(value)
        }

        if let Ok(area) = <&[u8; 12]>::try_from(area) {
            // Any segment but the SYN, between ends that use timestamps; the SYN of Windows.
            has::<0, 12>(area, STAMPS)
                || (has::<0, 12>(area, MSS)
                    && has::<4, 12>(area, SCALE)
                    && has::<8, 12>(area, SACK))
        } else if let Ok(area) = <&[u8; 20]>::try_from(area) {
            // That of Linux.
            has::<0, 20>(area, MSS)
                && has::<4, 20>(area, SACK_AND_STAMPS)
                && has::<16, 20>(area, SCALE)
        } else if let Ok(area) = <&[u8; 24]>::try_from(area) {
            // That of Apple's systems.
            has::<0, 24>(area, MSS)
                && has::<4, 24>(area, SCALE)
                && has::<8, 24>(area, STAMPS)
                && has::<20, 24>(area, SACK_AND_END)
        } else {
            area.is_empty()
        }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        loop {
            match self.rest {
                [] | [EOL, ..] => {
                    self.rest = &[];
                    return None;
                }
                [NOP, tail @ ..] => self.rest = tail,
                [kind, after_kind @ ..] => {
                    let kind = *kind;
                    let whole = self.rest;
                    self.rest = &[];
                    let [length, ..] = after_kind else {
                        return Some(Item::Malformed);
                    };
                    let end = usize::from(*length);
                    let (Some(body), Some(tail)) = (whole.get(2..end), whole.get(end..)) else {
                        return Some(Item::Malformed);
                    };
                    self.rest = tail;
                    return Some(Item::Option {
                        kind,
                        length: *length,
                        body,
                    });
                }
            }
        }
    }
}
