// SPDX-License-Identifier: GPL-2.0

//! What `entry/rfl.rs` takes from the `kernel` crate: `KBox` and `KVBox` (6.13), and `module!` with
//! `authors` (6.15). Metadata of another rustc than this one are refused here, too.

use kernel::prelude::*;

module! {
    type: Probe,
    name: "toa",
    authors: ["-"],
    description: "-",
    license: "GPL v2",
}

struct Probe;

impl kernel::Module for Probe {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        KBox::new((), GFP_ATOMIC | __GFP_NOWARN)?;
        KVBox::<[u8; 2]>::new_uninit(GFP_KERNEL)?;
        Err(kernel::error::Error::from_errno(-1))
    }
}
