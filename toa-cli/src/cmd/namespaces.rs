// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli namespaces`: what the module counted in each network namespace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::Host;
use crate::render::{self, Output, OutputArgs};
use crate::state::Counters;

/// What can be seen: the body of the JSON document.
#[derive(Debug, Serialize)]
struct Listing {
    namespaces: Vec<Namespace>,
    /// Processes whose namespace may not be looked at.
    hidden: usize,
}

/// A network namespace that some process is in.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Namespace {
    /// Its number, as in the name of /proc/PID/ns/net.
    netns: u64,
    /// The process with the lowest number in it.
    pid: u32,
    /// Its program.
    program: String,
    /// The initial one, whose counters are those of the whole node.
    node: bool,
    counters: Counters,
}

/// The columns of the text: a title, and the counter below it.
const COLUMNS: [(&str, &str); 5] = [
    ("with TOA", "syn_recv_sock_toa"),
    ("without", "syn_recv_sock_no_toa"),
    ("sessions", "sessions_live"),
    ("asked", "getname_toa_ok"),
    ("untrusted", "untrusted"),
];

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what was in the way.
pub fn run(host: &Host, args: OutputArgs) -> Result<Exit, Failure> {
    super::require_loaded(host)?;
    let listing = list(host);
    super::print(&match args.output {
        Output::Text => text(&listing),
        Output::Json => render::json("namespaces", Exit::Good, &listing),
    })?;
    Ok(Exit::Good)
}

/// The namespaces that can be seen, and of how many processes they cannot.
fn list(host: &Host) -> Listing {
    let names = host.list("proc").unwrap_or_default();
    let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    let mut found = BTreeMap::new();
    let mut hidden = 0;
    for pid in pids {
        let Ok(link) = fs::read_link(host.path(format!("proc/{pid}/ns/net"))) else {
            // Where it has ended meanwhile there is nothing to see.
            hidden += usize::from(host.has(&format!("proc/{pid}")));
            continue;
        };
        let Some(netns) = number(&link.to_string_lossy()) else {
            continue;
        };
        if found.contains_key(&netns) {
            continue;
        }
        // A process that ends has left its namespace already.
        let Some(stats) = host.read(&format!("proc/{pid}/net/toa_stats")) else {
            continue;
        };
        let counters = Counters::parse(&stats);
        let namespace = Namespace {
            netns,
            pid,
            program: host
                .read_value(&format!("proc/{pid}/comm"))
                .unwrap_or_default(),
            // No other one is told of the hooks.
            node: counters.get("hooks_missed").is_some(),
            counters,
        };
        found.insert(netns, namespace);
    }
    let mut namespaces: Vec<Namespace> = found.into_values().collect();
    namespaces.sort_by_key(|namespace| (!namespace.node, namespace.pid));
    Listing { namespaces, hidden }
}

/// Of `net:[4026531840]`.
fn number(link: &str) -> Option<u64> {
    link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn text(Listing { namespaces, hidden }: &Listing) -> String {
    let mut text = format!("{:<10}  {:<24}", "netns", "process");
    for (title, _) in COLUMNS {
        let _ = write!(text, "  {title:>10}");
    }
    text.push('\n');
    for namespace in namespaces {
        let process = if namespace.node {
            "the whole node".to_owned()
        } else {
            format!("{} {}", namespace.pid, namespace.program.escape_default())
        };
        let _ = write!(text, "{:<10}  {process:<24}", namespace.netns);
        for (_, counter) in COLUMNS {
            let _ = match namespace.counters.get(counter) {
                Some(count) => write!(text, "  {count:>10}"),
                None => write!(text, "  {:>10}", "-"),
            };
        }
        text.push('\n');
    }
    if *hidden > 0 {
        let _ = writeln!(
            text,
            "{hidden} processes are not this user's: their namespaces are shown to root only"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::state::tests::machine;

    const NODE: &str =
        "    CPU0 CPU1\nsyn_recv_sock_toa: 4 3\nsessions_live: 2 0\nhooks_missed: 0 0\n";
    const POD: &str = "    CPU0 CPU1\nsyn_recv_sock_toa: 1 1\nsessions_live: 1 0\n";

    #[test]
    fn each_namespace_is_shown_once_and_the_node_first() {
        let (root, host) = machine(
            &[
                ("proc/9/comm", "nginx\n"),
                ("proc/9/net/toa_stats", POD),
                ("proc/10/comm", "nginx\n"),
                ("proc/10/net/toa_stats", POD),
                ("proc/70/comm", "kubelet\n"),
                ("proc/70/net/toa_stats", NODE),
                ("proc/80/comm", "somebody\n"),
                ("proc/net/toa_stats", NODE),
            ],
            || Ok(1),
        );
        for (pid, netns) in [(9, "net:[5]"), (10, "net:[5]"), (70, "net:[6]")] {
            let folder = root.path().join(format!("proc/{pid}/ns"));
            fs::create_dir_all(&folder).unwrap();
            symlink(netns, folder.join("net")).unwrap();
        }
        let listing = list(&host);
        assert_eq!(listing.hidden, 1);
        let seen: Vec<_> = listing
            .namespaces
            .iter()
            .map(|seen| (seen.netns, seen.pid, seen.program.as_str(), seen.node))
            .collect();
        assert_eq!(seen, [(6, 70, "kubelet", true), (5, 9, "nginx", false)]);
        let text = text(&listing);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[1],
            ["6", "the", "whole", "node", "7", "-", "2", "-", "-"]
        );
        assert_eq!(rows[2], ["5", "9", "nginx", "2", "-", "1", "-", "-"]);
        assert!(text.ends_with("shown to root only\n"), "{text}");
    }
}
