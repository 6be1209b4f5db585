// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the loaded module says of itself: /proc/net/toa, /proc/net/toa_stats and
//! /sys/module/toa.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::host::Host;

/// What holds the name `toa` in the running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Absent,
    /// This project's module.
    Ours(Box<Loaded>),
    /// A module that is just being loaded or unloaded: the kernel's word for it.
    Changing(String),
    /// Somebody else's module.
    Foreign(Foreign),
}

/// This project's module, loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Its version.
    pub version: Option<String>,
    /// The ABI that it answers by the system call, else by its file.
    pub abi: Option<u32>,
    /// How many hold it in use, its own count.
    pub refcount: Option<u64>,
    /// Its parameters as they are now.
    pub parameters: BTreeMap<String, String>,
    /// What /proc/net/toa says; `None` where this network namespace is not the
    /// first one and that of process 1 cannot be seen either.
    pub report: Option<ModuleReport>,
    /// What /proc/net/toa_stats says, likewise.
    pub counters: Option<Counters>,
}

/// Somebody else's `toa`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What it says of itself.
    pub version: Option<String>,
    /// Built into the kernel, so it cannot be unloaded.
    pub built_in: bool,
    /// Whether the module itself is called `toa`; otherwise only its file
    /// /proc/net/toa_stats gives it away.
    pub named_toa: bool,
}

impl Foreign {
    /// What it is, in plain words.
    #[must_use]
    pub fn explain(&self) -> String {
        if !self.named_toa {
            return "another TOA module, under another name, owns /proc/net/toa_stats".to_owned();
        }
        let sort = if self.built_in {
            "part of this kernel"
        } else {
            "a module"
        };
        let version = self
            .version
            .as_ref()
            .map(|v| format!(", version {v}"))
            .unwrap_or_default();
        format!(
            "another `toa` is loaded ({sort}{version}): it does not answer as this project's does. \
             TencentOS ships its own in-tree `toa`, and two of them must not be mixed"
        )
    }

    /// How to be rid of it.
    #[must_use]
    pub fn next(&self) -> String {
        if !self.named_toa {
            return "find it with `lsmod` (its name often ends in toa), unload it with `rmmod NAME`, and \
                    keep it from coming back: take it out of /etc/modules-load.d, blacklist it in \
                    /etc/modprobe.d"
                .to_owned();
        }
        if self.built_in {
            return "this kernel cannot do without it: use its own toa, or another kernel"
                .to_owned();
        }
        "stop what relies on it, `rmmod toa`, and keep it from coming back: take it out of \
         /etc/modules-load.d, blacklist it in /etc/modprobe.d"
            .to_owned()
    }
}

/// What /proc/net/toa says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleReport {
    /// The module's version.
    pub version: Option<String>,
    /// The module's ABI.
    pub abi: Option<u32>,
    /// How its Rust was built: `kernel` or `freestanding`.
    pub rust: Option<String>,
    /// How each hook is attached.
    pub hooks: Vec<Hook>,
    /// The set of layouts in force, an entry `kind/length=layout` each; empty where the module does not
    /// say.
    pub layouts: Vec<String>,
    /// The list of trusted sources in force, as the module writes it.
    pub trusted: Option<String>,
    /// Live sessions.
    pub sessions: Option<u64>,
    /// The last sources whose options were not believed.
    pub refused: Vec<Refused>,
    /// Lines with keys that this tool does not know, from a newer module.
    pub other: BTreeMap<String, String>,
}

/// A source that is not trusted, and wrote options all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its address, as a prefix.
    pub source: String,
    /// How many of its options were refused at least.
    pub options: u64,
}

/// One hook of the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// The kernel's function or tracepoint.
    pub function: String,
    /// What it is attached by: `ftrace`, `kprobe`, `tracepoint`.
    pub by: String,
    /// Calls that the kernel did not hand to it.
    pub missed: u64,
}

impl Refused {
    /// `203.0.113.9/32 12`
    fn parse(text: &str) -> Option<Self> {
        let (source, options) = text.split_once(' ')?;
        Some(Self {
            source: source.to_owned(),
            options: options.trim().parse().ok()?,
        })
    }
}

impl ModuleReport {
    /// What the file says on this machine; `None` where it is not there, or not this module's.
    #[must_use]
    pub fn of(host: &Host) -> Option<Self> {
        read_net(host, "toa").and_then(|text| Self::parse(&text))
    }

    /// Reads the file's text; `None` where it is not this module's file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut report = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            match key {
                "version" => report.version = Some(value.to_owned()),
                "abi" => report.abi = value.parse().ok(),
                "rust" => report.rust = Some(value.to_owned()),
                "layouts" => report.layouts = value.split(',').map(str::to_owned).collect(),
                "trusted" => report.trusted = Some(value.to_owned()),
                "sessions" => report.sessions = value.parse().ok(),
                "refused" => report.refused.extend(Refused::parse(value)),
                _ => {
                    if let Some(function) = key.strip_prefix("hook ") {
                        report.hooks.push(Hook::parse(function, value));
                    } else if !key.is_empty() {
                        report.other.insert(key.to_owned(), value.to_owned());
                    }
                }
            }
        }
        report.abi?;
        Some(report)
    }
}

impl Hook {
    fn parse(function: &str, value: &str) -> Self {
        let mut words = value.split_whitespace();
        let by = words.next().unwrap_or("none").to_owned();
        let mut missed = 0;
        while let Some(word) = words.next() {
            if word == "missed" {
                missed = words
                    .next()
                    .and_then(|count| count.parse().ok())
                    .unwrap_or(0);
            }
        }
        Self {
            function: function.trim().to_owned(),
            by,
            missed,
        }
    }
}

/// The module's counters, in its own order, summed over the CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(Vec<(String, u64)>);

impl Counters {
    /// Reads the text of /proc/net/toa_stats: a header with the CPUs, then a row
    /// per counter with a column per CPU.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let row = |line: &str| {
            let (name, columns) = line.split_once(':')?;
            let mut total = 0u64;
            for column in columns.split_whitespace() {
                // Each CPU counts for itself and may wrap; so may the sum.
                total = total.wrapping_add(column.parse().ok()?);
            }
            Some((name.trim().to_owned(), total))
        };
        Self(text.lines().filter_map(row).collect())
    }

    /// The counter `name`; `None` where this module has no such counter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|&(_, total)| total)
    }

    /// Every counter, in the module's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, total)| (name.as_str(), *total))
    }
}

impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// Finds out what holds the name `toa`.
#[must_use]
pub fn presence(host: &Host) -> Presence {
    let report = ModuleReport::of(host);
    let answered = host.abi();
    let named = host.has("sys/module/toa");
    if report.is_none() && abi_number(&answered).is_none() {
        if !named {
            let strange = Foreign {
                version: None,
                built_in: false,
                named_toa: false,
            };
            let counters = read_net(host, "toa_stats");
            return counters.map_or(Presence::Absent, |_| Presence::Foreign(strange));
        }
        let state = host.read_value("sys/module/toa/initstate");
        match state.as_deref() {
            Some(word @ ("coming" | "going")) => return Presence::Changing(word.to_owned()),
            // Only silence says that it is not ours: another error may have kept it from answering.
            _ if matches!(answered, Err(libtoa::Error::NotLoaded)) => {
                return Presence::Foreign(Foreign {
                    version: host.read_value("sys/module/toa/version"),
                    // What is built in has no state of its own.
                    built_in: state.is_none(),
                    named_toa: true,
                });
            }
            _ => {}
        }
    }
    let in_file = report.as_ref();
    Presence::Ours(Box::new(Loaded {
        version: host
            .read_value("sys/module/toa/version")
            .or_else(|| in_file.and_then(|report| report.version.clone())),
        abi: abi_number(&answered).or_else(|| in_file.and_then(|report| report.abi)),
        refcount: host
            .read_value("sys/module/toa/refcnt")
            .and_then(|count| count.parse().ok()),
        parameters: parameters(host),
        counters: read_net(host, "toa_stats").map(|text| Counters::parse(&text)),
        report,
    }))
}

/// The parameters of the loaded module, as /sys shows them.
#[must_use]
pub fn parameters(host: &Host) -> BTreeMap<String, String> {
    const FOLDER: &str = "sys/module/toa/parameters";
    let names = host.list(FOLDER).unwrap_or_default();
    let values = names.into_iter().filter_map(|name| {
        let value = host.read_value(&format!("{FOLDER}/{name}"))?;
        Some((name, value))
    });
    values.collect()
}

/// A file of the first network namespace: process 1 is in it on a node, and a
/// program in another namespace still sees it there.
fn read_net(host: &Host, name: &str) -> Option<String> {
    host.read(&format!("proc/1/net/{name}"))
        .or_else(|| host.read(&format!("proc/net/{name}")))
}

fn abi_number(answer: &Result<u32, libtoa::Error>) -> Option<u32> {
    match answer {
        Ok(abi) => Some(*abi),
        Err(libtoa::Error::AbiNewer { module } | libtoa::Error::AbiOlder { module }) => {
            Some(*module)
        }
        Err(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// /proc/net/toa of a module on three hooks.
    pub(crate) const REPORT: &str = "\
version: 0.1.0
abi: 1
rust: kernel
hook tcp_conn_request: ftrace missed 0
hook tcp_child_process: kprobe missed 7
hook tcp_destroy_sock: tracepoint missed 0
layouts: 200/8=client-v4,253/20=client-v6
trusted: 10.0.0.0/8,::1
sessions: 3
refused: 203.0.113.9/32 12
refused: 2001:db8::1/128 1
colour: green
";

    /// /proc/net/toa_stats on three CPUs.
    pub(crate) const STATS: &str = "                                  CPU0       CPU1       CPU2
syn_recv_sock_toa        :          1          2          3
syn_recv_sock_no_toa     :          0          0          0
dropped_no_memory        :          0          1          0
";

    /// A machine with these files in its root.
    pub(crate) fn machine(
        files: &[(&str, &str)],
        abi: fn() -> Result<u32, libtoa::Error>,
    ) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::pretended(root.path(), "7.3.4+deb13-amd64", abi);
        (root, host)
    }

    pub(crate) fn silent() -> Result<u32, libtoa::Error> {
        Err(libtoa::Error::NotLoaded)
    }

    #[test]
    fn report_is_read_and_unknown_keys_are_kept() {
        let report = ModuleReport::parse(REPORT).unwrap();
        assert_eq!(report.version.as_deref(), Some("0.1.0"));
        assert_eq!(report.abi, Some(1));
        assert_eq!(report.rust.as_deref(), Some("kernel"));
        assert_eq!(report.sessions, Some(3));
        assert_eq!(report.layouts, ["200/8=client-v4", "253/20=client-v6"]);
        assert_eq!(report.trusted.as_deref(), Some("10.0.0.0/8,::1"));
        let refused = |source: &str, options| Refused {
            source: source.into(),
            options,
        };
        assert_eq!(
            report.refused,
            [refused("203.0.113.9/32", 12), refused("2001:db8::1/128", 1)]
        );
        assert_eq!(report.hooks.len(), 3);
        assert_eq!(
            report.hooks[1],
            Hook {
                function: "tcp_child_process".into(),
                by: "kprobe".into(),
                missed: 7
            }
        );
        assert_eq!(report.other["colour"], "green");
    }

    #[test]
    fn hook_lines_may_grow() {
        let hook = Hook::parse("tcp_conn_request", "ftrace permanent missed 2 since boot");
        assert_eq!((hook.by.as_str(), hook.missed), ("ftrace", 2));
        assert_eq!(Hook::parse("x", "").by, "none");
    }

    #[test]
    fn a_file_without_the_abi_is_not_ours() {
        assert_eq!(ModuleReport::parse("toa 2.0.0.0\n"), None);
        assert_eq!(ModuleReport::parse("version: 9\n"), None);
        assert_eq!(ModuleReport::parse(""), None);
    }

    #[test]
    fn counters_are_summed_over_cpus() {
        let counters = Counters::parse(STATS);
        assert_eq!(counters.get("syn_recv_sock_toa"), Some(6));
        assert_eq!(counters.get("syn_recv_sock_no_toa"), Some(0));
        assert_eq!(counters.get("dropped_no_memory"), Some(1));
        assert_eq!(counters.get("CPU0"), None);
        assert_eq!(counters.iter().count(), 3);
        assert_eq!(
            serde_json::to_string(&counters).unwrap(),
            r#"{"syn_recv_sock_toa":6,"syn_recv_sock_no_toa":0,"dropped_no_memory":1}"#
        );
    }

    #[test]
    fn counters_of_one_cpu_and_wrapped_ones() {
        let text = format!("   CPU0 CPU1\na: {} 2\nb : 5\nbroken: x\n", u64::MAX);
        let counters = Counters::parse(&text);
        assert_eq!(counters.get("a"), Some(1));
        assert_eq!(counters.get("b"), Some(5));
        assert_eq!(counters.get("broken"), None);
    }

    #[test]
    fn nothing_there_is_absent() {
        let (_root, host) = machine(&[], silent);
        assert_eq!(presence(&host), Presence::Absent);
    }

    #[test]
    fn ours_is_found_in_the_first_namespace() {
        let (_root, host) = machine(
            &[
                ("sys/module/toa/refcnt", "0\n"),
                ("sys/module/toa/version", "0.1.0\n"),
                ("sys/module/toa/initstate", "live\n"),
                ("sys/module/toa/parameters/hook", "auto\n"),
                ("proc/1/net/toa", REPORT),
                ("proc/1/net/toa_stats", STATS),
            ],
            || Ok(1),
        );
        let Presence::Ours(loaded) = presence(&host) else {
            panic!("not ours")
        };
        assert_eq!(loaded.abi, Some(1));
        assert_eq!(loaded.refcount, Some(0));
        assert_eq!(loaded.parameters["hook"], "auto");
        assert_eq!(loaded.report.unwrap().sessions, Some(3));
        assert_eq!(loaded.counters.unwrap().get("syn_recv_sock_toa"), Some(6));
    }

    #[test]
    fn ours_is_known_by_its_answer_where_its_files_are_out_of_sight() {
        let (_root, host) = machine(&[("sys/module/toa/initstate", "live\n")], || Ok(1));
        let Presence::Ours(loaded) = presence(&host) else {
            panic!("not ours")
        };
        assert_eq!(loaded.report, None);
        assert_eq!(loaded.abi, Some(1));
    }

    #[test]
    fn another_toa_is_foreign() {
        let (_root, host) = machine(
            &[
                ("sys/module/toa/initstate", "live\n"),
                ("sys/module/toa/version", "2.0.0.0\n"),
                ("proc/net/toa_stats", STATS),
            ],
            silent,
        );
        let Presence::Foreign(foreign) = presence(&host) else {
            panic!("not foreign")
        };
        assert!(!foreign.built_in && foreign.named_toa);
        assert!(foreign.explain().contains("2.0.0.0"));
        assert!(foreign.next().contains("rmmod toa"));
    }

    #[test]
    fn a_built_in_toa_cannot_be_unloaded() {
        let (_root, host) = machine(&[("sys/module/toa/version", "1\n")], silent);
        let Presence::Foreign(foreign) = presence(&host) else {
            panic!("not foreign")
        };
        assert!(foreign.built_in);
        assert!(!foreign.next().contains("rmmod"));
    }

    #[test]
    fn a_toa_by_another_name_is_given_away_by_its_counters() {
        let (_root, host) = machine(&[("proc/net/toa_stats", STATS)], silent);
        let Presence::Foreign(foreign) = presence(&host) else {
            panic!("not foreign")
        };
        assert!(!foreign.named_toa);
    }

    #[test]
    fn an_error_of_the_system_is_no_answer() {
        fn refused() -> Result<u32, libtoa::Error> {
            Err(libtoa::Error::Os(
                std::io::ErrorKind::PermissionDenied.into(),
            ))
        }
        let (_root, host) = machine(&[], refused);
        assert_eq!(presence(&host), Presence::Absent);
        let (_root, host) = machine(&[("sys/module/toa/initstate", "live\n")], refused);
        let Presence::Ours(loaded) = presence(&host) else {
            panic!("not ours")
        };
        assert_eq!(loaded.abi, None);
    }

    #[test]
    fn a_module_in_between_is_changing() {
        let (_root, host) = machine(&[("sys/module/toa/initstate", "coming\n")], silent);
        assert_eq!(presence(&host), Presence::Changing("coming".into()));
    }
}
