// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exit codes, which scripts and probes rely on.

use std::process::ExitCode;

use serde::{Serialize, Serializer};

/// What the tool's exit code says. The numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command did what it was asked, or the node is healthy.
    Good = 0,
    /// The module is there and something is wrong, or a command failed.
    Unhealthy = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The module is not loaded.
    NotLoaded = 3,
    /// A capability or the kernel's security policy is in the way.
    Permission = 4,
    /// This kernel, or the module's ABI, cannot be served.
    Unsupported = 5,
    /// Another module holds the name `toa`.
    Foreign = 6,
}

impl Exit {
    /// One word for machines: the `verdict` of the JSON output.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unhealthy => "unhealthy",
            Self::Usage => "usage",
            Self::NotLoaded => "not_loaded",
            Self::Permission => "permission",
            Self::Unsupported => "unsupported",
            Self::Foreign => "foreign",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

/// The end of `--help`.
pub const HELP: &str = "\
Exit codes:
  0  good
  1  unhealthy, or the command failed
  2  usage: the command line is wrong
  3  the module is not loaded
  4  permission: a missing capability, or the kernel's security policy
  5  the kernel or the module's ABI is unsupported
  6  another module named `toa` is loaded";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_code() {
        for code in 0..=6 {
            assert!(HELP.contains(&format!("\n  {code}  ")), "{code}");
        }
        assert_eq!(Exit::Foreign as u8, 6);
    }
}
