// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli unload`: delete_module(2), with patience for a call that is running.

use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, delete_module};

use crate::cap::{Capabilities, Capability};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::Host;
use crate::state::{self, Loaded, Presence};

/// How long to pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The arguments of `toa-cli unload`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to wait while a program is inside a call of the module
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    wait: u32,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what was in the way.
pub fn run(host: &Host, args: &Args) -> Result<Exit, Failure> {
    let loaded = match state::presence(host) {
        Presence::Absent => {
            super::print("toa is not loaded: nothing to unload\n")?;
            return Ok(Exit::Good);
        }
        Presence::Foreign(foreign) => return Err(super::foreign(&foreign)),
        Presence::Changing(word) => return Err(super::changing(&word)),
        Presence::Ours(loaded) => loaded,
    };
    if let Some(caps) = Capabilities::read(host) {
        if !caps.over_node(Capability::SysModule) {
            return Err(super::load::missing_sys_module(
                caps.here(Capability::SysModule),
            ));
        }
    }
    let deadline = Instant::now() + Duration::from_secs(args.wait.into());
    loop {
        match delete_module(c"toa", DeleteModuleFlags::O_NONBLOCK) {
            Ok(()) => break,
            Err(Errno::EWOULDBLOCK) if Instant::now() < deadline => thread::sleep(PAUSE),
            // Somebody else was quicker, which is as well.
            Err(Errno::ENOENT) => break,
            Err(errno) => return Err(explain(host, errno, args.wait)),
        }
    }
    super::print(&farewell(&loaded))?;
    Ok(Exit::Good)
}

fn farewell(loaded: &Loaded) -> String {
    let version = loaded
        .version
        .as_deref()
        .map(|v| format!(" {v}"))
        .unwrap_or_default();
    match loaded.report.as_ref().and_then(|report| report.sessions) {
        Some(1) => format!("toa{version} unloaded; 1 live connection lost its original address\n"),
        Some(live) if live > 0 => {
            format!("toa{version} unloaded; {live} live connections lost their original address\n")
        }
        _ => format!("toa{version} unloaded\n"),
    }
}

fn explain(host: &Host, errno: Errno, waited: u32) -> Failure {
    match errno {
        Errno::EWOULDBLOCK => {
            let count = host
                .read_value("sys/module/toa/refcnt")
                .map(|count| format!(" (use count {count})"))
                .unwrap_or_default();
            Failure::new(
                Exit::Unhealthy,
                format!("the module is in use{count}, still after {waited} s"),
            )
            .next("/sys/module/toa/holders names modules that need it; otherwise a program is inside one of its calls: try again, with a longer --wait")
        }
        Errno::EBUSY => Failure::new(
            Exit::Unhealthy,
            "the kernel cannot unload the module: its start or its end never finished",
        )
        .next("the kernel's log (dmesg) says why; only a reboot helps"),
        Errno::EPERM => {
            if host
                .read_value("proc/sys/kernel/modules_disabled")
                .as_deref()
                == Some("1")
            {
                Failure::new(
                    Exit::Permission,
                    "kernel.modules_disabled is 1: no module can be unloaded until the next boot",
                )
            } else {
                super::load::missing_sys_module(false)
            }
        }
        other => Failure::new(
            Exit::Unhealthy,
            format!("the kernel did not unload the module: {}", other.desc()),
        )
        .next("the kernel's log (dmesg) says more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ModuleReport;
    use crate::state::tests::{machine, silent};

    #[test]
    fn connections_that_lose_their_address_are_counted() {
        let with = |sessions| Loaded {
            version: Some("0.1.0".into()),
            report: Some(ModuleReport {
                sessions: Some(sessions),
                ..ModuleReport::default()
            }),
            ..Loaded::default()
        };
        assert_eq!(farewell(&with(0)), "toa 0.1.0 unloaded\n");
        assert!(farewell(&with(1)).contains("1 live connection lost its"));
        assert!(farewell(&with(2)).contains("2 live connections lost their"));
        assert_eq!(farewell(&Loaded::default()), "toa unloaded\n");
    }

    #[test]
    fn a_held_module_is_unhealthy_and_a_switch_is_permission() {
        let (_root, host) = machine(&[("sys/module/toa/refcnt", "2\n")], silent);
        let failure = explain(&host, Errno::EWOULDBLOCK, 5);
        assert_eq!(failure.exit, Exit::Unhealthy);
        assert!(failure.what.contains("use count 2"));
        let (_root, host) = machine(&[("proc/sys/kernel/modules_disabled", "1\n")], silent);
        let failure = explain(&host, Errno::EPERM, 5);
        assert_eq!(failure.exit, Exit::Permission);
        assert!(failure.what.contains("modules_disabled"));
    }
}
