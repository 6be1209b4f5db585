// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli status`: what the module is, how it is attached, what it counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::guard::Standing;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::Host;
use crate::render::{self, Findings, Mark, Output, OutputArgs};
use crate::state::{self, Counters, Foreign, Hook, Loaded, Presence, Refused};

/// What is its own in the JSON document.
#[derive(Debug, Serialize)]
struct Body<'a> {
    /// `loaded`, `not_loaded`, `coming`, `going` or `foreign`.
    state: &'a str,
    kernel: Kernel<'a>,
    library: Library,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<Module<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    foreign: Option<ForeignModule<'a>>,
    guard: &'a Standing,
    checks: &'a Findings,
}

#[derive(Debug, Serialize)]
struct Kernel<'a> {
    release: &'a str,
    /// kernel.ftrace_enabled; null where the kernel has no ftrace.
    ftrace_enabled: Option<bool>,
    /// /sys/kernel/debug/kprobes/enabled; null where it cannot be read.
    kprobes_enabled: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Library {
    version: &'static str,
    abi: u32,
}

/// What is not known is null.
#[derive(Debug, Serialize)]
struct Module<'a> {
    version: Option<&'a str>,
    abi: Option<u32>,
    rust: Option<&'a str>,
    refcount: Option<u64>,
    parameters: &'a BTreeMap<String, String>,
    layouts: Option<&'a [String]>,
    hooks: Option<&'a [Hook]>,
    sessions: Option<u64>,
    trusted: Option<&'a str>,
    refused: Option<&'a [Refused]>,
    counters: Option<&'a Counters>,
}

#[derive(Debug, Serialize)]
struct ForeignModule<'a> {
    version: Option<&'a str>,
    built_in: bool,
    named_toa: bool,
}

/// What the running kernel says that bears on the module.
#[derive(Clone, Copy, Debug)]
struct Switches {
    ftrace: Option<bool>,
    kprobes: Option<bool>,
}

impl Switches {
    fn read(host: &Host) -> Self {
        let switch = |path: &str| match host.read_value(path).as_deref() {
            Some("0") => Some(false),
            Some("1") => Some(true),
            _ => None,
        };
        Self {
            ftrace: switch("proc/sys/kernel/ftrace_enabled"),
            kprobes: switch("sys/kernel/debug/kprobes/enabled"),
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// Only where stdout cannot be written.
pub fn run(host: &Host, args: OutputArgs) -> Result<Exit, Failure> {
    let (text, exit) = render(host, args.output);
    super::print(&text)?;
    Ok(exit)
}

fn render(host: &Host, output: Output) -> (String, Exit) {
    let presence = state::presence(host);
    let switches = Switches::read(host);
    let guard = Standing::of_node(host);
    let (findings, exit) = judge(host, &presence, switches, &guard);
    let text = match output {
        Output::Text => text(&presence, &findings, exit),
        Output::Json => json(host, &presence, switches, &guard, &findings, exit),
    };
    (text, exit)
}

/// Looks at everything.
fn judge(
    host: &Host,
    presence: &Presence,
    switches: Switches,
    guard: &Standing,
) -> (Findings, Exit) {
    let mut findings = Findings::default();
    findings.add(
        "kernel",
        Mark::Good,
        format!("the kernel is {}", host.release()),
    );
    let exit = match presence {
        Presence::Absent => {
            findings.advise("module", Mark::Failed, "toa is not loaded", "toa-cli load");
            Exit::NotLoaded
        }
        Presence::Changing(word) => {
            findings.advise(
                "module",
                Mark::Failed,
                format!("toa is not loaded: it is just {}", super::doing(word)),
                "wait a moment and try again",
            );
            Exit::NotLoaded
        }
        Presence::Foreign(foreign) => {
            findings.advise("module", Mark::Failed, foreign.explain(), foreign.next());
            Exit::Foreign
        }
        Presence::Ours(loaded) => {
            judge_switches(&mut findings, loaded, switches);
            let abi_fits = judge_module(&mut findings, loaded);
            judge_hooks(&mut findings, loaded);
            judge_counters(&mut findings, loaded);
            // A forgery that gets through says nothing of the module's health: `check` warns of it.
            guard.judge(&mut findings, Mark::Note);
            if abi_fits {
                findings.exit()
            } else {
                Exit::Unsupported
            }
        }
    };
    (findings, exit)
}

fn hooks_by(loaded: &Loaded, by: &str) -> bool {
    loaded
        .report
        .as_ref()
        .is_some_and(|report| report.hooks.iter().any(|hook| hook.by == by))
}

fn judge_switches(findings: &mut Findings, loaded: &Loaded, switches: Switches) {
    // On x86 a kprobe at a function's entry is carried by ftrace, so it falls silent with it; on
    // arm64 it is a breakpoint. Where the kernel has permanent hooks it refuses to switch ftrace
    // off under them.
    let by_ftrace = hooks_by(loaded, "ftrace");
    let by_kprobe = hooks_by(loaded, "kprobe");
    if by_ftrace || (by_kprobe && !cfg!(target_arch = "aarch64")) {
        match switches.ftrace {
            Some(false) => findings.advise(
                "kernel",
                Mark::Warning,
                "kernel.ftrace_enabled is 0: the hooks are not called, and new connections get no address",
                "sysctl -w kernel.ftrace_enabled=1, and find who sets it to 0",
            ),
            Some(true) => findings.add("kernel", Mark::Good, "ftrace is on"),
            None => {}
        }
    }
    if by_kprobe && switches.kprobes == Some(false) {
        findings.advise(
            "kernel",
            Mark::Warning,
            "kprobes are switched off: the hooks are not called, and new connections get no address",
            "echo 1 > /sys/kernel/debug/kprobes/enabled",
        );
    }
}

/// Gives whether libtoa and the module understand each other.
fn judge_module(findings: &mut Findings, loaded: &Loaded) -> bool {
    let version = loaded.version.as_deref().unwrap_or("(version unknown)");
    let mut text = format!("toa {version} is loaded");
    let mut details = Vec::new();
    if let Some(rust) = loaded
        .report
        .as_ref()
        .and_then(|report| report.rust.as_deref())
    {
        details.push(format!("Rust: {rust}"));
    }
    if let Some(count) = loaded.refcount {
        details.push(format!("use count {count}"));
    }
    if !details.is_empty() {
        let _ = write!(text, " ({})", details.join(", "));
    }
    findings.add("module", Mark::Good, text);
    let fits = match loaded.abi {
        Some(abi) if abi == libtoa::ABI => {
            findings.add(
                "module",
                Mark::Good,
                format!("its ABI is {abi}, as libtoa's is"),
            );
            true
        }
        Some(abi) => {
            let (than, what) = if abi > libtoa::ABI {
                (
                    "newer",
                    "rebuild the programs with the libtoa of the module's release",
                )
            } else {
                ("older", "load the module of this toa-cli's release")
            };
            findings.advise(
                "module",
                Mark::Failed,
                format!(
                    "its ABI is {abi}, {than} than libtoa's, which is {}",
                    libtoa::ABI
                ),
                what,
            );
            false
        }
        None => {
            findings.advise(
                "module",
                Mark::Failed,
                "its ABI is unknown: the module does not answer",
                "toa-cli unload, then load the module of this toa-cli's release",
            );
            false
        }
    };
    if !loaded.parameters.is_empty() {
        let parameters: Vec<String> = loaded
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        findings.add(
            "module",
            Mark::Good,
            format!("parameters: {}", parameters.join(" ")),
        );
    }
    let layouts = loaded.report.as_ref().map(|report| &report.layouts);
    if let Some(layouts) = layouts.filter(|layouts| !layouts.is_empty()) {
        findings.add(
            "module",
            Mark::Good,
            format!("options that are read: {}", layouts.join(" ")),
        );
    }
    if let Some(report) = &loaded.report {
        if let Some(trusted) = &report.trusted {
            findings.add(
                "module",
                Mark::Good,
                format!("options are believed from: {trusted}"),
            );
        }
        for refused in &report.refused {
            judge_refused(findings, refused);
        }
    }
    fits
}

/// A forwarder that nobody thought of, or somebody who forges: only the operator knows.
fn judge_refused(findings: &mut Findings, refused: &Refused) {
    let Refused { source, options } = refused;
    findings.advise(
        "module",
        Mark::Note,
        format!("{source} is not trusted: {options} of its options were refused"),
        format!("if it is a forwarder of yours: toa-cli set --trust {source}"),
    );
}

fn judge_hooks(findings: &mut Findings, loaded: &Loaded) {
    let Some(report) = &loaded.report else {
        findings.advise(
            "hooks",
            Mark::Skipped,
            "hooks cannot be seen from this network namespace, and what is counted here is its own",
            "run toa-cli on the node itself, or in a pod with hostPID or hostNetwork",
        );
        return;
    };
    if report.hooks.is_empty() {
        findings.advise(
            "hooks",
            Mark::Failed,
            "no hook is attached",
            "toa-cli unload, then toa-cli load",
        );
    }
    for Hook {
        function,
        by,
        missed,
    } in &report.hooks
    {
        match (by.as_str(), missed) {
            ("none", _) => findings.advise(
                "hooks",
                Mark::Failed,
                format!("{function} is not hooked"),
                "toa-cli unload, then toa-cli load",
            ),
            (_, 0) => findings.add("hooks", Mark::Good, format!("{function} by {by}")),
            (_, missed) => findings.advise(
                "hooks",
                Mark::Warning,
                format!(
                    "{function} by {by}, {missed} {} missed: as many connections may lack their address",
                    if *missed == 1 { "call" } else { "calls" }
                ),
                "where the count still grows, another tracer is in the way: stop it, or load with the other hook=",
            ),
        }
    }
}

fn judge_counters(findings: &mut Findings, loaded: &Loaded) {
    let sessions = loaded.report.as_ref().and_then(|report| report.sessions);
    let counters = loaded.counters.as_ref();
    if let Some(sessions) = sessions.or_else(|| counters?.get("sessions_live")) {
        findings.add("sessions", Mark::Good, format!("{sessions} live"));
    }
    let Some(counters) = counters else {
        return;
    };
    let counted = |name| counters.get(name).unwrap_or(0);
    let dropped = counted("dropped_no_memory");
    if dropped > 0 {
        findings.advise(
            "sessions",
            Mark::Warning,
            format!("addresses dropped because the kernel had no memory: {dropped}"),
            "the node ran short of memory; the count starts anew with the module",
        );
    }
    let missed = counted("hooks_missed");
    let told = loaded
        .report
        .as_ref()
        .is_some_and(|report| report.hooks.iter().any(|hook| hook.missed > 0));
    if missed > 0 && !told {
        findings.advise(
            "hooks",
            Mark::Warning,
            format!("calls of a hook that the kernel missed: {missed}"),
            "where the count still grows, another tracer is in the way",
        );
    }
    // Anyone who sends SYNs can make this count grow: it says nothing of the node's health.
    let full = counted("syn_table_full");
    if full > 0 {
        findings.advise(
            "sessions",
            Mark::Note,
            format!("SYNs whose address found the table full: {full}"),
            "a flood of SYNs; addresses that the ACK carries are not concerned",
        );
    }
}

fn text(presence: &Presence, findings: &Findings, exit: Exit) -> String {
    let mut text = findings.text();
    if let Presence::Ours(loaded) = presence {
        if let Some(counters) = &loaded.counters {
            let _ = write!(text, "\n{}", render::heading("counters"));
            let width = counters
                .iter()
                .map(|(name, _)| name.len())
                .max()
                .unwrap_or(0);
            for (name, total) in counters.iter() {
                let _ = writeln!(text, "{name:width$}  {total:>12}");
            }
        }
    }
    text.push_str(&render::verdict("status", exit));
    text
}

fn json(
    host: &Host,
    presence: &Presence,
    switches: Switches,
    guard: &Standing,
    findings: &Findings,
    exit: Exit,
) -> String {
    let (state, module, foreign) = match presence {
        Presence::Absent => ("not_loaded", None, None),
        Presence::Changing(word) => (word.as_str(), None, None),
        Presence::Foreign(foreign) => ("foreign", None, Some(foreign_json(foreign))),
        Presence::Ours(loaded) => ("loaded", Some(module_json(loaded)), None),
    };
    let body = Body {
        state,
        kernel: Kernel {
            release: host.release(),
            ftrace_enabled: switches.ftrace,
            kprobes_enabled: switches.kprobes,
        },
        library: Library {
            version: env!("CARGO_PKG_VERSION"),
            abi: libtoa::ABI,
        },
        module,
        foreign,
        guard,
        checks: findings,
    };
    render::json("status", exit, &body)
}

fn foreign_json(foreign: &Foreign) -> ForeignModule<'_> {
    ForeignModule {
        version: foreign.version.as_deref(),
        built_in: foreign.built_in,
        named_toa: foreign.named_toa,
    }
}

fn module_json(loaded: &Loaded) -> Module<'_> {
    let report = loaded.report.as_ref();
    Module {
        version: loaded.version.as_deref(),
        abi: loaded.abi,
        rust: report.and_then(|report| report.rust.as_deref()),
        refcount: loaded.refcount,
        parameters: &loaded.parameters,
        layouts: report.map(|report| report.layouts.as_slice()),
        hooks: report.map(|report| report.hooks.as_slice()),
        sessions: report.and_then(|report| report.sessions),
        trusted: report.and_then(|report| report.trusted.as_deref()),
        refused: report.map(|report| report.refused.as_slice()),
        counters: loaded.counters.as_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{REPORT, STATS, machine, silent};

    const HEALTHY: &str = "version: 0.1.0\nabi: 1\nrust: kernel\n\
        hook tcp_conn_request: ftrace missed 0\nlayouts: 28/7=client-v4-noport,28/19=client-v6-noport\n\
        sessions: 3\n";
    const COUNTED: &str =
        "    CPU0\nsyn_recv_sock_toa :  4\ndropped_no_memory: 0\nsyn_table_full: 2\n";

    fn shown(
        files: &[(&str, &str)],
        abi: fn() -> Result<u32, libtoa::Error>,
    ) -> (String, serde_json::Value, Exit) {
        let (_root, host) = machine(files, abi);
        let (text, exit) = render(&host, Output::Text);
        let (json, same) = render(&host, Output::Json);
        assert_eq!(exit, same);
        let text = anstream::adapter::strip_str(&text).to_string();
        (text, serde_json::from_str(&json).unwrap(), exit)
    }

    #[test]
    fn absent_says_not_loaded_and_the_next_step() {
        let (text, json, exit) = shown(&[], silent);
        assert_eq!(exit, Exit::NotLoaded);
        assert!(
            text.contains("× toa is not loaded\n    next: toa-cli load\n"),
            "{text}"
        );
        assert_eq!(json["schema"], 1);
        assert_eq!(json["state"], "not_loaded");
        assert_eq!(json["exit"], 3);
        assert!(json.get("module").is_none());
    }

    #[test]
    fn a_healthy_module_is_good() {
        let (text, json, exit) = shown(
            &[
                ("sys/module/toa/initstate", "live\n"),
                ("sys/module/toa/refcnt", "0\n"),
                ("sys/module/toa/version", "0.1.0\n"),
                ("sys/module/toa/parameters/hook", "auto\n"),
                ("proc/1/net/toa", HEALTHY),
                ("proc/1/net/toa_stats", COUNTED),
                ("proc/sys/kernel/ftrace_enabled", "1\n"),
            ],
            || Ok(1),
        );
        assert_eq!(exit, Exit::Good, "{text}");
        for line in [
            "√ the kernel is 7.3.4+deb13-amd64",
            "√ ftrace is on",
            "√ toa 0.1.0 is loaded (Rust: kernel, use count 0)",
            "√ parameters: hook=auto",
            "√ tcp_conn_request by ftrace",
            "√ 3 live",
            "· SYNs whose address found the table full: 2",
            "syn_recv_sock_toa             4",
            "status: good",
        ] {
            assert!(text.contains(line), "no `{line}` in:\n{text}");
        }
        assert_eq!(json["module"]["hooks"][0]["by"], "ftrace");
        assert_eq!(json["module"]["layouts"][1], "28/19=client-v6-noport");
        assert_eq!(json["module"]["counters"]["syn_recv_sock_toa"], 4);
        assert_eq!(json["module"]["parameters"]["hook"], "auto");
        assert_eq!(json["kernel"]["ftrace_enabled"], true);
        assert_eq!(json["verdict"], "good");
    }

    #[test]
    fn missed_calls_and_lost_memory_are_unhealthy() {
        let (text, json, exit) = shown(
            &[
                ("sys/module/toa/initstate", "live\n"),
                ("proc/net/toa", REPORT),
                ("proc/net/toa_stats", STATS),
            ],
            || Ok(1),
        );
        assert_eq!(exit, Exit::Unhealthy);
        assert!(
            text.contains("‼ tcp_child_process by kprobe, 7 calls missed"),
            "{text}"
        );
        assert!(text.contains("‼ addresses dropped because the kernel had no memory: 1"));
        assert_eq!(json["exit"], 1);
        assert_eq!(json["module"]["counters"]["dropped_no_memory"], 1);
    }

    #[test]
    fn ftrace_switched_off_is_unhealthy() {
        let (text, _, exit) = shown(
            &[
                ("sys/module/toa/initstate", "live\n"),
                ("proc/net/toa", HEALTHY),
                ("proc/sys/kernel/ftrace_enabled", "0\n"),
            ],
            || Ok(1),
        );
        assert_eq!(exit, Exit::Unhealthy);
        assert!(text.contains("‼ kernel.ftrace_enabled is 0"), "{text}");
    }

    #[test]
    fn another_abi_is_unsupported() {
        let (text, json, exit) = shown(
            &[
                ("proc/net/toa", HEALTHY),
                ("sys/module/toa/initstate", "live\n"),
            ],
            || Err(libtoa::Error::AbiNewer { module: 2 }),
        );
        assert_eq!(exit, Exit::Unsupported);
        assert!(
            text.contains("× its ABI is 2, newer than libtoa's"),
            "{text}"
        );
        assert_eq!(json["module"]["abi"], 2);
        assert_eq!(json["library"]["abi"], 1);
    }

    #[test]
    fn a_foreign_module_is_named() {
        let (text, json, exit) = shown(&[("sys/module/toa/initstate", "live\n")], silent);
        assert_eq!(exit, Exit::Foreign);
        assert!(text.contains("TencentOS"), "{text}");
        assert_eq!(json["state"], "foreign");
        assert_eq!(json["foreign"]["built_in"], false);
    }

    #[test]
    fn files_out_of_sight_are_no_fault_of_the_node() {
        let (text, json, exit) = shown(&[("sys/module/toa/initstate", "live\n")], || Ok(1));
        assert_eq!(exit, Exit::Good, "{text}");
        assert!(text.contains("cannot be seen from this network namespace"));
        assert!(json["module"]["hooks"].is_null());
    }
}
