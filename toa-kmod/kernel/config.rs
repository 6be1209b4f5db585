// SPDX-License-Identifier: GPL-2.0

//! What the owner of the node has set: by parameters at load, by netlink later.

use super::errno::{Error, Result};
use super::shim;
use super::slice::Slice;
use super::{layouts, parameter_refused, shim_text};
use crate::backend;
use crate::pure::layout::Table;
use crate::pure::text::Text;
use crate::pure::trust::{self, Prefix, Range, Refused, Trusted};

/// All that can be set at run time.
pub(super) struct Config {
    /// The sources that are believed.
    pub(super) trusted: Trusted<Slice<Range>>,
    /// The options that are read.
    pub(super) layouts: Layouts,
    /// Counts the changes, from 1.
    pub(super) generation: u32,
}

/// A set of layouts.
#[derive(Clone, Copy)]
pub(super) struct Layouts {
    pub(super) table: Table,
    /// Counts the sets that have been in force: a row's number means nothing in another.
    pub(super) epoch: u32,
}

impl Config {
    /// What the module's parameters say. Called before any hook is live: a bad one keeps the module
    /// from being loaded.
    pub(super) fn read() -> Result<Self> {
        Ok(Self {
            trusted: read_trusted(shim_text!(toa_shim_param_trusted))?,
            layouts: Layouts {
                table: layouts::read_parameter()?,
                epoch: 0,
            },
            generation: 1,
        })
    }

    /// The one that comes after this: with so many prefixes as the trusted sources and with this set of
    /// layouts, where there are any. May sleep.
    pub(super) fn next(
        &self,
        trusted: Option<(usize, impl Iterator<Item = Prefix>)>,
        layouts: Option<Table>,
    ) -> Result<Self> {
        let trusted = match trusted {
            Some((count, prefixes)) => {
                let mut ranges = Slice::new(Range::BLANK, count)?;
                trust::fill(prefixes, &mut ranges);
                Trusted::new(ranges)
            }
            None => self.trusted.try_map(|ranges| Slice::of(ranges))?,
        };
        let layouts = match layouts {
            Some(table) if table != self.layouts.table => Layouts {
                table,
                epoch: self.layouts.epoch.wrapping_add(1),
            },
            _ => self.layouts,
        };
        Ok(Self {
            trusted,
            layouts,
            // 0 is none: netlink would not look at it.
            generation: self.generation.wrapping_add(1).max(1),
        })
    }
}

/// The parameter `trusted`.
fn read_trusted(list: &[u8]) -> Result<Trusted<Slice<Range>>> {
    let mut ranges =
        Slice::new(Range::BLANK, trust::count(list).map_err(refused)?).inspect_err(|error| {
            backend::log_error("parameter trusted", "no memory", error.to_errno())
        })?;
    trust::parse(list, &mut ranges).map_err(refused)?;
    Ok(Trusted::new(ranges))
}

/// Says in the kernel log which entry is refused, and why.
fn refused(refused: Refused<'_>) -> Error {
    let what = Text::<64>::new()
        .text("parameter trusted, entry ")
        .number(refused.place);
    let why = Text::<160>::new()
        .byte(b'"')
        .bytes(refused.entry.get(..48).unwrap_or(refused.entry))
        .text("\" ");
    let why = refused.why.show(why);
    parameter_refused(&what, &why)
}
