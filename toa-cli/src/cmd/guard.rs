// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli guard`: nftables rules that take TOA out of what untrusted sources
//! send, before NAT gives them an address that the module trusts.

use std::io::{self, Write};
use std::process::{Command, Output as Finished, Stdio};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::cap::{Capabilities, Capability};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::guard::{self, Error, Guard};
use crate::host::Host;
use crate::packages::{Family, Piece};
use crate::render::{self, Findings, Mark, Output, OutputArgs};
use crate::xtables::CHAIN;

/// The arguments of `toa-cli guard`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Install the rules in this network namespace, in the place of those that are there
    #[command(after_help = crate::exit::HELP)]
    Install {
        /// What the rules are made of
        #[arg(long, value_enum, default_value_t)]
        by: By,
        #[command(flatten)]
        trusted: Trusted,
    },
    /// Remove them; does nothing where they are not installed
    #[command(after_help = crate::exit::HELP)]
    Remove,
    /// Print them, for `nft -f` or /etc/nftables.conf
    #[command(after_help = crate::exit::HELP)]
    Print(Trusted),
    /// Say whether they are installed, and fit the module
    #[command(after_help = crate::exit::HELP)]
    Status(OutputArgs),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum By {
    /// nftables, which must be able to take TCP options out
    #[default]
    Nft,
    /// iptables and ip6tables, for kernels whose nftables cannot
    Iptables,
}

#[derive(Debug, clap::Args)]
struct Trusted {
    /// The sources that may speak, as addresses and prefixes with commas between, instead of
    /// those that the module trusts
    #[arg(long, value_name = "LIST")]
    trusted: Option<String>,
}

impl Trusted {
    fn guard(&self, host: &Host) -> Result<Guard, Failure> {
        let list = self.trusted.as_deref();
        list.map_or_else(|| Guard::of(host), |list| Guard::trusting(host, list))
            .map_err(|error| refused(&error, list.is_some()))
    }
}

fn refused(error: &Error, chosen: bool) -> Failure {
    if chosen {
        return Failure::new(Exit::Usage, format!("--trusted: {error}"));
    }
    let next = match error {
        Error::Any => "toa-cli guard install --trusted LIST, with those who may speak",
        _ => "update toa-cli to the module's version, or name the sources: --trusted LIST",
    };
    Failure::new(Exit::Unhealthy, error.to_string()).next(next)
}

/// What is its own in the JSON document.
#[derive(Debug, Serialize)]
struct Body {
    guard: Standing,
    checks: Findings,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what could not be done.
pub fn run(host: &Host, args: &Args) -> Result<Exit, Failure> {
    match &args.what {
        What::Install { by, trusted } => {
            let guard = trusted.guard(host)?;
            capable(host)?;
            match by {
                By::Nft => {
                    nft(host, &guard.rules())?;
                    // Only now, so that there is no time without any.
                    remove_iptables(host)?;
                }
                By::Iptables => {
                    install_iptables(host, &guard)?;
                    if host.rules().is_ok_and(|rules| rules.by_nft) {
                        nft(host, &guard::removal())?;
                    }
                }
            }
            super::print("the guard is installed\n")?;
            Ok(Exit::Good)
        }
        What::Remove => {
            capable(host)?;
            remove_iptables(host)?;
            if host.rules().map_or(true, |rules| rules.by_nft) {
                nft(host, &guard::removal())?;
            }
            super::print("the guard is removed\n")?;
            Ok(Exit::Good)
        }
        What::Print(trusted) => {
            super::print(&trusted.guard(host)?.rules())?;
            Ok(Exit::Good)
        }
        What::Status(OutputArgs { output }) => status(host, *output),
    }
}

fn status(host: &Host, output: Output) -> Result<Exit, Failure> {
    let guard = Standing::here(host);
    let mut checks = Findings::default();
    guard.judge(&mut checks, Mark::Warning);
    let exit = match guard.state {
        State::Unknown => Exit::Permission,
        _ => checks.exit(),
    };
    super::print(&match output {
        Output::Text => checks.text() + &render::verdict("guard", exit),
        Output::Json => render::json("guard", exit, &Body { guard, checks }),
    })?;
    Ok(exit)
}

/// How this node stands with its guard.
#[derive(Debug, Serialize)]
pub(super) struct Standing {
    state: State,
    /// Whether anything here replaces the source of what passes; null where unknown.
    source_nat: Option<bool>,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It is there and does what the module needs.
    Installed,
    /// It is there for other sources or kinds than the module's.
    Outdated,
    Absent,
    /// The module trusts every source.
    Pointless,
    Unknown,
}

impl Standing {
    /// Looks at the node's own network namespace.
    pub(super) fn of_node(host: &Host) -> Self {
        if host.elsewhere() {
            return Self::unknown("this is not the node's network namespace".to_owned());
        }
        Self::here(host)
    }

    /// Looks at this network namespace.
    fn here(host: &Host) -> Self {
        let rules = match host.rules() {
            Ok(rules) => rules,
            Err(error) => return Self::unknown(why_not(&error)),
        };
        let state = match (Guard::of(host), &rules.guard) {
            (Err(Error::Any), _) => State::Pointless,
            (Ok(guard), Some(comment)) if guard.is(comment) => State::Installed,
            (_, Some(_)) => State::Outdated,
            (_, None) => State::Absent,
        };
        Self {
            state,
            source_nat: Some(rules.source_nat),
            reason: None,
        }
    }

    fn unknown(reason: String) -> Self {
        Self {
            state: State::Unknown,
            source_nat: None,
            reason: Some(reason),
        }
    }

    /// Says so; with `bad` for what lets a forgery through.
    pub(super) fn judge(&self, findings: &mut Findings, bad: Mark) {
        const CATEGORY: &str = "guard";
        match (self.state, self.source_nat) {
            (State::Installed, _) => findings.add(
                CATEGORY,
                Mark::Good,
                "the guard takes TOA out of what untrusted sources send, before NAT",
            ),
            (State::Outdated, _) => findings.advise(
                CATEGORY,
                bad,
                "the guard is there for other sources or kinds than the module's",
                "toa-cli guard install",
            ),
            (State::Absent, Some(true)) => findings.advise(
                CATEGORY,
                bad,
                "this node replaces the sources of connections (NAT) and has no guard: an option that \
                 a client forged can come out with a source that the module trusts",
                "toa-cli guard install",
            ),
            (State::Absent, _) => findings.add(
                CATEGORY,
                Mark::Note,
                "no guard, and no NAT here that could give a forged option a trusted source",
            ),
            (State::Pointless, _) => findings.add(
                CATEGORY,
                Mark::Note,
                "the module trusts every source (`any`): no guard can help",
            ),
            (State::Unknown, _) => findings.add(
                CATEGORY,
                Mark::Skipped,
                format!(
                    "whether there is a guard cannot be seen: {}",
                    self.reason.as_deref().unwrap_or("unknown")
                ),
            ),
        }
    }
}

fn why_not(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "that takes CAP_NET_ADMIN".to_owned()
    } else {
        error.to_string()
    }
}

fn capable(host: &Host) -> Result<(), Failure> {
    if Capabilities::read(host).is_none_or(|caps| caps.here(Capability::NetAdmin)) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Permission,
        "CAP_NET_ADMIN is missing: the guard is made of rules of the packet filter",
    )
    .next("run as root, or give the container this capability"))
}

/// Hands rules to `nft`, which applies all of them or none.
fn nft(host: &Host, rules: &str) -> Result<(), Failure> {
    let output = program(host, "nft", &["-f", "-"], rules)?;
    if output.status.success() {
        return Ok(());
    }
    let log = complaint(&output);
    Err(explain(&log.join("\n")).program_log("nft", log))
}

/// The programs of iptables, by family.
const IPTABLES: [&str; 2] = ["iptables", "ip6tables"];

/// What leads to the guard's chain, for all that iptables may do with it.
const JUMP: [&str; 6] = ["PREROUTING", "-p", "tcp", "-j", CHAIN, "-w"];

fn install_iptables(host: &Host, guard: &Guard) -> Result<(), Failure> {
    for (v6, family) in IPTABLES.into_iter().enumerate() {
        let v6 = v6 == 1;
        if v6 && !host.has("proc/net/if_inet6") {
            continue;
        }
        let jump = !on_mangle(host, family, "-C", &JUMP)?.status.success();
        let restore = format!("{family}-restore");
        let rules = guard.xtables(v6, jump);
        let output = program(host, &restore, &["--noflush", "-w"], &rules)?;
        if !output.status.success() {
            return Err(Failure::new(
                Exit::Unsupported,
                format!("{restore} did not take the rules, and nothing was changed for its family"),
            )
            .next("see that the kernel has the modules xt_TCPOPTSTRIP and xt_comment")
            .program_log("iptables", complaint(&output)));
        }
    }
    Ok(())
}

/// Removes the guard of iptables where there is one: listing alone would have the kernel load its
/// tables.
fn remove_iptables(host: &Host) -> Result<(), Failure> {
    for (v6, family) in IPTABLES.into_iter().enumerate() {
        if !host.has_iptables_guard(v6 == 1) {
            continue;
        }
        for (action, rest) in [
            ("-D", &JUMP[..]),
            ("-F", &[CHAIN, "-w"]),
            ("-X", &[CHAIN, "-w"]),
        ] {
            let output = on_mangle(host, family, action, rest)?;
            if !output.status.success() {
                return Err(Failure::new(
                    Exit::Unhealthy,
                    format!("{family} did not remove the guard's chain"),
                )
                .next(format!("{family} -t mangle -S, for what else leads there"))
                .program_log("iptables", complaint(&output)));
            }
        }
    }
    Ok(())
}

fn on_mangle(
    host: &Host,
    family: &'static str,
    action: &str,
    rest: &[&str],
) -> Result<Finished, Failure> {
    let args = [&["-t", "mangle", action], rest].concat();
    program(host, family, &args, "")
}

fn complaint(output: &Finished) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().map(str::to_owned).collect()
}

/// Runs a program and gives it `input`.
fn program(host: &Host, name: &str, args: &[&str], input: &str) -> Result<Finished, Failure> {
    // Service managers and containers may leave the sbin folders out.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let run = || {
        let mut child = Command::new(name)
            .args(args)
            .env("PATH", &path)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // Where it ends without reading, its stderr says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    };
    run().map_err(|error| no_program(host, name, &error))
}

fn no_program(host: &Host, name: &str, error: &io::Error) -> Failure {
    if error.kind() != io::ErrorKind::NotFound {
        return Failure::new(Exit::Unhealthy, format!("{name} cannot be run: {error}"));
    }
    let failure = Failure::new(
        Exit::Unsupported,
        format!("the program {name} is not installed"),
    );
    let distribution = Family::of(host);
    if name == "nft" {
        failure.next(format!(
            "{}; or load what `toa-cli guard print` prints by other means",
            distribution.install(Piece::Nft)
        ))
    } else {
        failure.next(distribution.install(Piece::Iptables))
    }
}

const BY_IPTABLES: &str = "toa-cli guard install --by iptables";

/// What nft's complaint means.
fn explain(complaint: &str) -> Failure {
    let any = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
    if any(&["not permitted", "Permission denied"]) {
        return Failure::new(
            Exit::Permission,
            "the kernel does not let nft change its rules",
        )
        .next("run as root of this network namespace");
    }
    if any(&["syntax error"]) {
        return Failure::new(
            Exit::Unsupported,
            "this nft does not know `reset tcp option`, which takes an option out",
        )
        .next(format!("install nftables 1.0.2 or newer, or {BY_IPTABLES}"));
    }
    if any(&["not supported", "Could not process rule: No such file"]) {
        return Failure::new(
            Exit::Unsupported,
            "this kernel's nftables cannot take a TCP option out of a segment (Linux 5.18 can, and late 5.10)",
        )
        .next(BY_IPTABLES);
    }
    Failure::new(
        Exit::Unhealthy,
        "nft did not take the rules; nothing was changed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Rules;
    use crate::state::tests::{machine, silent};

    fn judged(lines: &str, rules: Result<Rules, i32>, bad: Mark) -> (String, Exit) {
        let (_root, host) = machine(&[("proc/net/toa", &format!("abi: 1\n{lines}"))], silent);
        let host = host.with_rules(rules);
        let mut findings = Findings::default();
        Standing::here(&host).judge(&mut findings, bad);
        (
            anstream::adapter::strip_str(&findings.text()).to_string(),
            findings.exit(),
        )
    }

    fn rules(guard: Option<&str>, source_nat: bool) -> Result<Rules, i32> {
        let guard = guard.map(str::to_owned);
        let by_nft = guard.is_some();
        Ok(Rules {
            guard,
            by_nft,
            source_nat,
        })
    }

    #[test]
    fn a_node_with_nat_wants_a_guard() {
        let (text, exit) = judged("", rules(None, true), Mark::Warning);
        assert!(
            text.contains("‼ this node replaces") && text.contains("next: toa-cli guard install")
        );
        assert_eq!(exit, Exit::Unhealthy);
        let (text, exit) = judged("", rules(None, true), Mark::Note);
        assert!(text.contains("· this node replaces"), "{text}");
        assert_eq!(exit, Exit::Good);
        let (text, exit) = judged("", rules(None, false), Mark::Warning);
        assert!(text.contains("· no guard, and no NAT"), "{text}");
        assert_eq!(exit, Exit::Good);
    }

    #[test]
    fn a_guard_is_good_only_where_it_fits_the_module() {
        let (_root, host) = machine(&[], silent);
        let of_default = Guard::of(&host).unwrap().rules();
        let mark = of_default.split('"').nth(1).unwrap();
        let (text, _) = judged("", rules(Some(mark), true), Mark::Warning);
        assert!(text.contains("√ the guard takes TOA out"), "{text}");
        for lines in [
            "trusted: 10.0.0.0/9\n",
            "layouts: 252/20=x\n",
            "layouts: ?\n",
        ] {
            let (text, exit) = judged(lines, rules(Some(mark), true), Mark::Warning);
            assert!(
                text.contains("‼ the guard is there for other"),
                "{lines}{text}"
            );
            assert_eq!(exit, Exit::Unhealthy);
        }
        let (text, exit) = judged("trusted: any\n", rules(None, true), Mark::Warning);
        assert!(text.contains("· the module trusts every source"), "{text}");
        assert_eq!(exit, Exit::Good);
    }

    #[test]
    fn what_cannot_be_seen_is_not_held_against_the_node() {
        let (text, exit) = judged("", Err(libc::EPERM), Mark::Warning);
        assert!(
            text.contains("- whether there is a guard cannot be seen: that takes CAP_NET_ADMIN")
        );
        assert_eq!(exit, Exit::Good);
    }

    #[test]
    fn complaints_of_nft_are_told_apart() {
        for (complaint, exit, word) in [
            (
                "Error: syntax error, unexpected tcp",
                Exit::Unsupported,
                "1.0.2",
            ),
            (
                "Error: Could not process rule: Operation not supported",
                Exit::Unsupported,
                "5.18",
            ),
            (
                "Operation not permitted (you must be root)",
                Exit::Permission,
                "root",
            ),
            (
                "Error: Could not process rule: Device or resource busy",
                Exit::Unhealthy,
                "nothing was changed",
            ),
        ] {
            let failure = explain(complaint);
            assert_eq!(failure.exit, exit, "{complaint}");
            let text = format!("{} {}", failure.what, failure.next.unwrap_or_default());
            assert!(text.contains(word), "{text}");
        }
    }
}
