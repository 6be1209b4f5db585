// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parameter `layouts`, as any text.

use toa_kmod::pure::layout::{Layout, MAX_ROWS};
use toa_kmod::pure::profile::{Refused, parse};
use toa_kmod::pure::text::Text;

use crate::oracle::{LAYOUTS, PROFILES, Row};

/// The kinds that TCP itself uses.
const STANDARD: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 19, 29, 30, 34, 69, 172, 174];

fn number(text: &str) -> Option<u8> {
    let number: u8 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// What an entry says, by the standard library's means; `None` where nothing.
fn row(entry: &str) -> Option<Row> {
    let (option, name) = entry.split_once('=')?;
    let (kind, length) = option.split_once('/')?;
    let (name, needed) = *LAYOUTS.iter().find(|(layout, _)| *layout == name)?;
    let (kind, length) = (number(kind)?, number(length)?);
    (!STANDARD.contains(&kind) && length == needed).then_some((kind, length, name))
}

/// What the whole text says.
fn rows(text: &str) -> Option<Vec<Row>> {
    if let Some((_, rows)) = PROFILES.iter().find(|(name, _)| *name == text) {
        return Some(rows.to_vec());
    }
    let rows: Vec<Row> = text.split(',').map(row).collect::<Option<_>>()?;
    let clash = |(at, row): (usize, &Row)| {
        let others = rows[..at].iter();
        others
            .clone()
            .any(|other| (other.0, other.1) == (row.0, row.1))
    };
    let clashes = rows.iter().enumerate().any(clash);
    (!clashes && rows.len() <= MAX_ROWS).then_some(rows)
}

/// `data` is the text.
pub fn check(data: &[u8]) {
    let expected = std::str::from_utf8(data).ok().and_then(rows);
    match (parse(data), expected) {
        (Ok(table), Some(mut expected)) => {
            let words = |row: &Layout| (row.kind, row.length, row.format.name());
            let mut got: Vec<Row> = table.rows().iter().map(words).collect();
            got.sort_unstable();
            expected.sort_unstable();
            assert_eq!(got, expected);
        }
        (Err(refused), None) => check_refusal(data, &refused),
        (got, expected) => panic!(
            "{:?}: {got:?}, not {expected:?}",
            data.escape_ascii().to_string()
        ),
    }
}

/// What is named is a part of the text, and the message is one line that can be read.
fn check_refusal(text: &[u8], refused: &Refused<'_>) {
    let named: &[&[u8]] = match refused {
        Refused::Empty => &[],
        Refused::UnknownProfile(entry)
        | Refused::NoRow(entry)
        | Refused::BadKind(entry)
        | Refused::StandardKind(entry, _)
        | Refused::UnknownLayout(entry)
        | Refused::BadLength(entry, _)
        | Refused::TooMany(entry) => &[entry],
        Refused::Clash(first, second) => {
            assert!(first.as_ptr() < second.as_ptr(), "not the one before");
            &[first, second]
        }
    };
    for entry in named {
        assert!(text.as_ptr_range().start <= entry.as_ptr());
        assert!(entry.as_ptr_range().end <= text.as_ptr_range().end);
    }
    let text = refused.show(Text::<256>::new());
    let line = text.as_bytes();
    assert!(!line.is_empty() && line.len() < 256, "cut off: {line:?}");
    assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)));
}
