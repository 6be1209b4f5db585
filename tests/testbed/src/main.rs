// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-testbed demo`: what `scripts/demo` runs inside the node.

mod demo;

use std::process::ExitCode;

const USAGE: &str = "\
usage: toa-testbed demo

Sends six clients through a full-NAT hop to a server that links libtoa, and says whether the
server learned who they are. For a machine of its own: it loads the kernel module. Run as root,
with toa-cli, libtoa's example `server`, ip, nft and curl on the PATH, and TOA_KO naming toa.ko.
";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if args.len() != 1 || args[0] != "demo" {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    }
    match demo::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
