// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line, a file per command.

use clap::{Parser, Subcommand};

use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::host::Host;
use crate::render::OutputArgs;
use crate::state::{self, Foreign, Loaded, Presence};

pub mod build;
pub mod check;
pub mod guard;
pub mod load;
pub mod namespaces;
pub mod sessions;
pub mod set;
pub mod status;
pub mod unload;

/// Loads, inspects and proves the toa kernel module on a worker node, so that its
/// servers learn the real address of clients behind a full-NAT load balancer.
///
/// Data goes to stdout, everything else to stderr. NO_COLOR is honoured.
#[derive(Debug, Parser)]
#[command(name = "toa-cli", version, after_help = exit::HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load the module; does nothing where it is loaded already with these parameters
    #[command(after_help = exit::HELP)]
    Load(load::Args),
    /// Unload the module; does nothing where it is not loaded
    #[command(after_help = exit::HELP)]
    Unload(unload::Args),
    /// Show what the module is, how it is attached and what it counted
    #[command(after_help = exit::HELP)]
    Status(OutputArgs),
    /// Change what the loaded module does, at once and whole
    #[command(after_help = exit::HELP)]
    Set(set::Args),
    /// List the connections that have an address
    #[command(after_help = exit::HELP)]
    Sessions(OutputArgs),
    /// Show what the module counted in each network namespace
    #[command(after_help = exit::HELP)]
    Namespaces(OutputArgs),
    /// Prove that the node works, by real connections with TOA in a namespace of their own
    #[command(after_help = exit::HELP)]
    Check(OutputArgs),
    /// Keep forged options from being laundered by this node's NAT, by nftables rules
    #[command(after_help = exit::HELP)]
    Guard(guard::Args),
    /// Build the module for the running kernel, or another, from its installed source
    #[command(after_help = exit::HELP)]
    Build(build::Args),
}

impl Cli {
    /// Runs the command on the running machine and prints what came out.
    #[must_use]
    pub fn run(self) -> Exit {
        let host = Host::running();
        let outcome = match self.command {
            Command::Load(args) => load::run(&host, &args),
            Command::Unload(args) => unload::run(&host, &args),
            Command::Status(args) => status::run(&host, args),
            Command::Set(args) => set::run(&host, &args),
            Command::Sessions(args) => sessions::run(&host, args),
            Command::Namespaces(args) => namespaces::run(&host, args),
            Command::Check(args) => check::run(&host, args),
            Command::Guard(args) => guard::run(&host, &args),
            Command::Build(args) => build::run(&host, &args),
        };
        outcome.unwrap_or_else(|failure| {
            failure.print();
            failure.exit
        })
    }
}

/// What follows from somebody else's module under the name.
fn foreign(foreign: &Foreign) -> Failure {
    Failure::new(Exit::Foreign, foreign.explain()).next(foreign.next())
}

/// Goes on only where the module is loaded.
fn require_loaded(host: &Host) -> Result<Box<Loaded>, Failure> {
    match state::presence(host) {
        Presence::Absent => {
            Err(Failure::new(Exit::NotLoaded, "the module toa is not loaded").next("toa-cli load"))
        }
        Presence::Changing(word) => Err(changing(&word)),
        Presence::Foreign(stranger) => Err(foreign(&stranger)),
        Presence::Ours(loaded) => Ok(loaded),
    }
}

/// What follows from a module in between.
fn changing(word: &str) -> Failure {
    let what = format!("the module toa is just {}", doing(word));
    Failure::new(Exit::NotLoaded, what).next("wait a moment and try again")
}

/// The kernel's word for a module in between, in plain words.
fn doing(word: &str) -> &'static str {
    if word == "coming" {
        "being loaded"
    } else {
        "being unloaded"
    }
}

/// Prints to stdout, or says why not.
fn print(text: &str) -> Result<(), Failure> {
    crate::render::print(text)
        .map_err(|error| Failure::new(Exit::Unhealthy, format!("cannot write to stdout: {error}")))
}
