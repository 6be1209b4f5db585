// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli set`: changes what the loaded module does.

use clap::ValueEnum;
use nix::errno::Errno;

use crate::control::{Change, Config, Control, Error};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::Host;
use crate::sources::Sources;

/// The arguments of `toa-cli set`.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Args {
    /// Believe options from these sources and no others: prefixes with commas between, any, or none
    #[arg(long, value_name = "LIST", conflicts_with = "trust")]
    trusted: Option<Sources>,
    /// Believe options from these sources, too
    #[arg(long, value_name = "LIST")]
    trust: Option<Sources>,
    /// Read these options: a vendor's profile, or a list kind/length=layout,... (docs/wire-formats.md)
    #[arg(long, value_name = "SET")]
    layouts: Option<String>,
    /// Read the first data of a connection without an address, too
    #[arg(long, value_name = "ON|OFF")]
    first_data: Option<Switch>,
    /// Have accept and getpeername themselves tell the client's address
    #[arg(long, value_name = "ON|OFF")]
    transparent: Option<Switch>,
    /// With that, have getsockname tell the VIP where the options carry it
    #[arg(long, value_name = "ON|OFF")]
    transparent_local: Option<Switch>,
    /// Both for servers on these ports only, with commas between, or for all
    #[arg(long, value_name = "LIST", value_parser = ports)]
    transparent_ports: Option<Ports>,
}

/// A list of ports, which the module judges; empty: all.
#[derive(Clone, Debug)]
struct Ports(String);

fn ports(list: &str) -> Result<Ports, &'static str> {
    match list {
        "" => Err("no port is named; `all` is all of them"),
        "all" => Ok(Ports(String::new())),
        list => Ok(Ports(list.to_owned())),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl From<Switch> for bool {
    fn from(switch: Switch) -> Self {
        switch == Switch::On
    }
}

/// How often somebody else may be quicker.
const ATTEMPTS: usize = 10;

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says why nothing was changed.
pub fn run(host: &Host, args: &Args) -> Result<Exit, Failure> {
    super::require_loaded(host)?;
    let Config {
        trusted,
        layouts,
        first_data,
        transparent,
        transparent_local,
        transparent_ports,
        ..
    } = change(args).map_err(|error| failure(&error))?;
    let switch = |on| if on { "on" } else { "off" }.to_owned();
    let ports = if transparent_ports.is_empty() {
        "all".to_owned()
    } else {
        transparent_ports
    };
    for (what, value) in [
        ("trusted", trusted.to_string()),
        ("layouts", layouts),
        ("first data", switch(first_data)),
        ("transparent", switch(transparent)),
        ("transparent local", switch(transparent_local)),
        ("transparent ports", ports),
    ] {
        eprintln!("toa-cli: {what}: {value}");
    }
    Ok(Exit::Good)
}

fn change(args: &Args) -> Result<Config, Error> {
    let control = Control::open()?;
    let mut change = Change {
        generation: None,
        trusted: args
            .trusted
            .as_ref()
            .map(|trusted| trusted.prefixes().to_vec()),
        layouts: args.layouts.clone(),
        first_data: args.first_data.map(bool::from),
        transparent: args.transparent.map(bool::from),
        transparent_local: args.transparent_local.map(bool::from),
        transparent_ports: args.transparent_ports.clone().map(|Ports(list)| list),
    };
    let mut attempts = ATTEMPTS;
    loop {
        // Added to what is set, and not to what somebody else has changed since.
        if let Some(more) = &args.trust {
            let config = control.config()?;
            change.generation = Some(config.generation);
            change.trusted = Some(config.trusted.and(more).prefixes().to_vec());
        }
        attempts -= 1;
        match control.set(&change) {
            Err(Error::Refused {
                errno: Errno::ESTALE,
                ..
            }) if attempts > 0 => {}
            result => break result?,
        }
    }
    control.config()
}

/// What follows from the module's refusal, for every command that asks it.
pub(super) fn failure(error: &Error) -> Failure {
    let what = error.to_string();
    match error {
        Error::NotLoaded => Failure::new(Exit::Unsupported, what)
            .next("load the module of this toa-cli's release"),
        Error::Refused {
            errno: Errno::EPERM,
            ..
        } => Failure::new(Exit::Permission, format!("CAP_NET_ADMIN is missing: {what}")).next(
            "run as root on the node itself: in a container with a user namespace of its own nothing can be \
             set, and only what belongs to its network namespace be listed",
        ),
        _ => Failure::new(Exit::Unhealthy, what),
    }
}
