// SPDX-License-Identifier: GPL-2.0

//! What the owner of the node has set: by parameters, at load.
//!
//! A [`Config`] never changes once it is published. A change is a new one in its place, so a hook works by
//! the old one or by the new one, and the old one is freed when no hook can be reading it.

use core::ptr::NonNull;

use super::errno::{Error, Result};
use super::guard::InHook;
use super::shim;
use super::slice::Slice;
use super::{parameter_refused, shim_text};
use crate::backend::{self, Box};
use crate::pure::text::Text;
use crate::pure::trust::{self, Range, Refused, Trusted};
use crate::shared::current::Current;

/// All that can be set at run time.
pub(super) struct Config {
    /// The sources that are believed.
    pub(super) trusted: Trusted<Slice<Range>>,
}

impl Config {
    /// What the module's parameters say. Called before any hook is live: a bad one keeps the module
    /// from being loaded.
    pub(super) fn read() -> Result<Self> {
        Ok(Self {
            trusted: read_trusted(shim_text!(toa_shim_param_trusted))?,
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

/// The [`Config`] in force.
pub(super) struct Configs(Current<Config>);

impl Configs {
    pub(super) fn new(first: Config) -> Result<Self> {
        let first = publishable(first)?;
        // SAFETY: `Drop` frees it, when no reader is left.
        Ok(Self(unsafe { Current::new(first) }))
    }

    /// The one in force.
    pub(super) fn get<'a>(&self, hook: &'a InHook) -> &'a Config {
        self.0.get(hook)
    }
}

fn publishable(config: Config) -> Result<NonNull<Config>> {
    let config = Box::into_raw(backend::new_box(config)?);
    // SAFETY: A `Box` is never null.
    Ok(unsafe { NonNull::new_unchecked(config) })
}

impl Drop for Configs {
    fn drop(&mut self) {
        let last = self.0.last();
        // SAFETY: It came from a `Box`; no hook and no other reader is left.
        drop(unsafe { Box::from_raw(last.as_ptr()) });
    }
}
