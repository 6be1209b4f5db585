// SPDX-License-Identifier: GPL-2.0

//! The set of layouts in force: from the parameter, and shown.

use super::errno::{Error, Result};
use super::seq::Seq;
use super::{parameter_refused, shim, shim_text};
use crate::pure::layout::Table;
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

/// Writes the set in the form in which the parameter takes it.
pub(super) fn show(seq: &mut Seq, layouts: &Table) {
    let mut comma = "";
    for row in layouts.rows() {
        seq.text(comma).number(row.kind.into(), 1).text("/");
        seq.number(row.length.into(), 1)
            .text("=")
            .text(row.format.name());
        comma = ",";
    }
}
