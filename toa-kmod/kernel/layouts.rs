// SPDX-License-Identifier: GPL-2.0

//! The set of layouts: from the parameter, and shown.

use super::errno::{Error, Result};
use super::{parameter_refused, shim, shim_text};
use crate::pure::layout::{Table, MAX_ROWS};
use crate::pure::profile::{self, Refused};
use crate::pure::text::Text;

/// What goes into one line of the kernel log.
const LOG_LINE: usize = 256;

/// The module parameter `layouts`.
#[inline(never)]
pub(super) fn read_parameter() -> Result<Table> {
    profile::parse(shim_text!(toa_shim_param_layouts)).map_err(|refused| refuse(&refused))
}

#[cold]
#[inline(never)]
fn refuse(refused: &Refused<'_>) -> Error {
    let what = Text::<32>::new().text("parameter layouts");
    parameter_refused(&what, &refused.show(Text::<LOG_LINE>::new()))
}

/// What a set takes as text: `255/40=client-vip-vpc-v6,` in each row.
const SHOWN: usize = MAX_ROWS * 25;

/// The set in the form in which the parameter takes it.
#[inline(never)]
pub(super) fn show(layouts: &Table) -> Text<SHOWN> {
    let mut text = Text::new();
    let mut comma = "";
    for row in layouts.rows() {
        text = text.text(comma).number(row.kind.into()).text("/");
        text = text
            .number(row.length.into())
            .text("=")
            .text(row.format.name());
        comma = ",";
    }
    text
}
