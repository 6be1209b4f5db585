// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli`: see the `toa_cli` library for the work.

use std::process::ExitCode;

use clap::Parser;
use toa_cli::cmd::Cli;

fn main() -> ExitCode {
    Cli::parse().run().into()
}
