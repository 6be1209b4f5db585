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
    /// timestamps (8): told of nearly every segment in a few comparisons, without a walk.
    #[inline(always)]
    pub fn is_usual(area: &[u8]) -> bool {
        #[rustfmt::skip]
        let usual = matches!(
            area,
            []
            // Any segment but the SYN, between ends that use timestamps.
            | [NOP, NOP, 8, 10, _, _, _, _, _, _, _, _]
            // The SYN of Linux,
            | [2, 4, _, _, 4, 2, 8, 10, _, _, _, _, _, _, _, _, NOP, 3, 3, _]
            // of Windows,
            | [2, 4, _, _, NOP, 3, 3, _, NOP, NOP, 4, 2]
            // and of Apple's systems.
            | [2, 4, _, _, NOP, 3, 3, _, NOP, NOP, 8, 10, _, _, _, _, _, _, _, _, 4, 2, EOL, EOL]
        );
        usual
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
