// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guard against laundered options: nftables rules that take TOA out of
//! segments whose source is not trusted, before any NAT.
//!
//! A forged option gets past the module's own check where a node's NAT replaces
//! the forger's address by a private one: NAT keeps TCP options. So the guard
//! looks at a segment before NAT does, by the same list of trusted sources.

use std::collections::BTreeSet;
use std::fmt::Display;

use ipnet::IpNet;

use crate::host::Host;
use crate::sources::{self, Sources};
use crate::state::ModuleReport;
use crate::xtables::{CHAIN, MARK};

/// The guard's table; nobody else's has this name, and the guard touches no other.
pub const TABLE: &str = "toa_guard";

/// The sources that the module trusts where it is not told otherwise: the private,
/// shared, local and link-local ranges.
const TRUSTED: &str = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,\
                       fc00::/7,fe80::/10,::1/128";

/// The end of the comment of a guard whose sources somebody chose.
const CHOSEN: &str = "chosen";

/// The kinds that are taken out whatever layouts the module reads: those in widest use.
const KINDS: [u8; 3] = [200, 253, 254];

/// TCP's own options: a guard that took these out would break connections, or
/// slow them down.
const OF_TCP: std::ops::RangeInclusive<u8> = 0..=8;

/// Why there is no such guard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The list of sources is none.
    #[error(transparent)]
    Sources(#[from] sources::Error),
    /// `any`.
    #[error("every source is trusted (`any`), so there is nothing to guard against")]
    Any,
    /// An entry of the module's `layouts:` line.
    #[error("the module's line `layouts:` has the entry `{0}`, which is not kind/length=name")]
    Layout(String),
}

/// Whom to trust and what to take out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    trusted: Sources,
    /// Whether the caller chose them, and not the module.
    chosen: bool,
    kinds: BTreeSet<u8>,
}

impl Guard {
    /// The guard that fits the loaded module: its trusted sources and its kinds,
    /// or the usual ones where it does not tell, or is not loaded.
    ///
    /// # Errors
    ///
    /// [`Error::Any`] where the module trusts everybody, and what cannot be read.
    pub fn of(host: &Host) -> Result<Self, Error> {
        Self::new(host, None)
    }

    /// The same, with the trusted sources of the caller's choice.
    ///
    /// # Errors
    ///
    /// The entry of either list that cannot be read.
    pub fn trusting(host: &Host, list: &str) -> Result<Self, Error> {
        Self::new(host, Some(list))
    }

    fn new(host: &Host, chosen: Option<&str>) -> Result<Self, Error> {
        let report = ModuleReport::of(host).unwrap_or_default();
        let list = chosen.or(report.trusted.as_deref()).unwrap_or(TRUSTED);
        Ok(Self {
            trusted: guarded(list)?,
            chosen: chosen.is_some(),
            kinds: kinds(&report)?,
        })
    }

    /// What the table says of itself, by which it is known again.
    fn mark(&self) -> String {
        // The kernel keeps 128 bytes of comment, and a list may be a thousand prefixes long.
        let kinds = checksum(self.kinds.iter());
        let trusted = checksum(self.trusted.prefixes().iter());
        let by = if self.chosen { CHOSEN } else { "of the module" };
        format!("{MARK}kinds {kinds:08x}, trusted {trusted:08x} {by}")
    }

    /// Whether the table with this comment does what this guard does; which sources
    /// it trusts does not matter where somebody chose them.
    #[must_use]
    pub fn is(&self, comment: &str) -> bool {
        let mark = self.mark();
        let kinds = |mark: &str| mark.split_once(',').map(|(kinds, _)| kinds.to_owned());
        comment == mark || (comment.ends_with(CHOSEN) && kinds(comment) == kinds(&mark))
    }

    /// The rules as `nft -f` takes them, in one transaction, whether there is a
    /// guard already or not.
    #[must_use]
    pub fn rules(&self) -> String {
        let mark = self.mark();
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        line(
            "# toa-cli guard: takes TOA out of segments from sources that are not trusted, before",
        );
        line("# any NAT. It replaces the guard that is there; nothing else is touched.");
        // A table that is not there cannot be deleted: make sure that it is.
        line(&format!("table inet {TABLE}"));
        line(&format!("delete table inet {TABLE}"));
        line(&format!("table inet {TABLE} {{"));
        line(&format!("\tcomment \"{mark}\""));
        line("");
        for (name, kind, v4) in [
            ("trusted4", "ipv4_addr", true),
            ("trusted6", "ipv6_addr", false),
        ] {
            line(&format!("\tset {name} {{"));
            line(&format!("\t\ttype {kind}"));
            line("\t\tflags interval");
            let mut of_family: Vec<&IpNet> = (self.trusted.prefixes().iter())
                .filter(|prefix| prefix.addr().is_ipv4() == v4)
                .collect();
            if let Some(last) = of_family.pop() {
                line("\t\telements = {");
                for prefix in of_family {
                    line(&format!("\t\t\t{prefix},"));
                }
                line(&format!("\t\t\t{last}"));
                line("\t\t}");
            }
            line("\t}");
            line("");
        }
        line(
            "\t# Takes the first option of each kind out: NOPs in its place, the checksum put right.",
        );
        line("\tchain once {");
        for kind in &self.kinds {
            line(&format!("\t\treset tcp option {kind}"));
        }
        line("\t}");
        line("");
        line(
            "\t# A header has room for five options of 8 bytes. Whoever has more of a kind has made them",
        );
        line("\t# up to hide one.");
        line("\tchain again {");
        for _ in 0..4 {
            line("\t\tjump once");
        }
        for kind in &self.kinds {
            line(&format!("\t\ttcp option {kind} exists counter drop"));
        }
        line("\t}");
        line("");
        line("\tchain strip {");
        line("\t\tjump once");
        for kind in &self.kinds {
            line(&format!("\t\ttcp option {kind} exists goto again"));
        }
        line("\t}");
        line("");
        line(
            "\t# Behind defragmentation (-400), ahead of connection tracking (-200) and NAT (-100).",
        );
        line("\tchain prerouting {");
        line("\t\ttype filter hook prerouting priority -300; policy accept;");
        line("\t\tmeta l4proto != tcp accept");
        line("\t\tip saddr @trusted4 accept");
        line("\t\tip6 saddr @trusted6 accept");
        for kind in &self.kinds {
            line(&format!("\t\ttcp option {kind} exists counter goto strip"));
        }
        line("\t}");
        line("}");
        text
    }
}

impl Guard {
    /// The same as `iptables-restore --noflush` takes it, or `ip6tables-restore`: a chain of the
    /// table mangle, and where `jump` says so, what leads there. One transaction for each family.
    #[must_use]
    pub fn xtables(&self, v6: bool, jump: bool) -> String {
        let mut lines = vec![
            "*mangle".to_owned(),
            // This empties the chain that is there.
            format!(":{CHAIN} - [0:0]"),
            format!("-A {CHAIN} -m comment --comment \"{}\"", self.mark()),
        ];
        let of_family = self
            .trusted
            .prefixes()
            .iter()
            .filter(|prefix| prefix.addr().is_ipv6() == v6);
        lines.extend(of_family.map(|prefix| format!("-A {CHAIN} -s {prefix} -j RETURN")));
        let kinds: Vec<String> = self.kinds.iter().map(u8::to_string).collect();
        let kinds = kinds.join(",");
        // This takes out every option of these kinds.
        lines.push(format!(
            "-A {CHAIN} -p tcp -j TCPOPTSTRIP --strip-options {kinds}"
        ));
        if jump {
            lines.push(format!("-I PREROUTING -p tcp -j {CHAIN}"));
        }
        lines.push("COMMIT\n".to_owned());
        lines.join("\n")
    }
}

/// The rules that remove the guard, whether it is there or not.
#[must_use]
pub fn removal() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// The sources of a list, unless they are all that there are.
fn guarded(list: &str) -> Result<Sources, Error> {
    let sources: Sources = list.parse()?;
    if sources == Sources::any() {
        return Err(Error::Any);
    }
    Ok(sources)
}

/// The kinds to take out: the usual ones, and what the module reads by its line `layouts:`.
fn kinds(report: &ModuleReport) -> Result<BTreeSet<u8>, Error> {
    let kind = |entry: &str| {
        let (kind, _) = entry.split_once('/')?;
        kind.parse().ok().filter(|kind| !OF_TCP.contains(kind))
    };
    let mut kinds = BTreeSet::from(KINDS);
    for entry in report.layouts.iter().filter(|entry| !entry.is_empty()) {
        kinds.insert(kind(entry).ok_or_else(|| Error::Layout(entry.to_owned()))?);
    }
    Ok(kinds)
}

/// FNV-1a: enough to tell one administrator's lists apart.
fn checksum(list: impl Iterator<Item = impl Display>) -> u32 {
    let text: String = list.map(|entry| format!("{entry},")).collect();
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{machine, silent};

    fn sources(list: &str) -> Sources {
        list.parse().unwrap()
    }

    fn guard(list: &str) -> Result<Guard, Error> {
        Guard::trusting(&machine(&[], silent).1, list)
    }

    fn report(lines: &str) -> (tempfile::TempDir, Host) {
        machine(&[("proc/net/toa", &format!("abi: 1\n{lines}"))], silent)
    }

    #[test]
    fn without_the_module_the_usual_ranges_and_kinds_serve() {
        let (_root, host) = machine(&[], silent);
        let rules = Guard::of(&host).unwrap().rules();
        for prefix in TRUSTED.split(',') {
            assert!(rules.contains(&format!("\t{prefix}")), "{prefix}: {rules}");
        }
        for kind in KINDS {
            assert!(rules.contains(&format!("reset tcp option {kind}\n")));
        }
        assert_eq!(rules.matches("\t\treset").count(), 3);
    }

    #[test]
    fn the_module_tells_whom_it_trusts_and_what_it_reads() {
        let (_root, host) =
            report("trusted: 10.0.0.0/8, 203.0.113.0/24\nlayouts: 200/8=client,252/20=all\n");
        let guard = Guard::of(&host).unwrap();
        assert_eq!(guard.trusted, sources("10.0.0.0/8,203.0.113.0/24"));
        assert_eq!(guard.kinds, BTreeSet::from([200, 252, 253, 254]));
        // The caller's list goes before the module's; the kinds stay the module's.
        let mine = Guard::trusting(&host, "192.0.2.1").unwrap();
        assert_eq!(mine.trusted, sources("192.0.2.1"));
        assert_eq!(mine.kinds, guard.kinds);
    }

    #[test]
    fn what_the_module_says_is_read_in_full_or_not_at_all() {
        for (lines, error) in [
            ("trusted: any\n", Error::Any),
            (
                "trusted: 10.0.0.0/8,x\n",
                sources::Error::NoPrefix("x".into()).into(),
            ),
            ("layouts: 200\n", Error::Layout("200".into())),
            (
                "layouts: 8/10=client\n",
                Error::Layout("8/10=client".into()),
            ),
        ] {
            let (_root, host) = report(lines);
            assert_eq!(Guard::of(&host), Err(error), "{lines}");
        }
    }

    #[test]
    fn a_bad_entry_is_named() {
        for (list, entry) in [
            ("10.0.0.0/8,10.0.0.0/33", "`10.0.0.0/33`"),
            ("nonsense", "`nonsense`"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("fe80::1/10", "fe80::/10"),
            ("::ffff:10.0.0.1", "IPv4 one"),
            ("10.0.0.0/8,any", "`any`"),
            ("0.0.0.0/0,::/0", "`any`"),
            (" , ", "empty"),
            ("none,10.0.0.0/8", "`none`"),
        ] {
            let error = guard(list).unwrap_err().to_string();
            assert!(error.contains(entry), "{list}: {error}");
        }
    }

    #[test]
    fn overlaps_are_merged_and_a_family_may_be_trusted_by_nobody() {
        let merged = guard("10.0.0.0/9,10.1.0.0/16,10.128.0.0/9,10.0.0.0/8").unwrap();
        assert_eq!(merged.trusted, sources("10.0.0.0/8"));
        let nobody = guard("none").unwrap().rules();
        assert_eq!(nobody.matches("elements").count(), 0);
        let rules = merged.rules();
        assert_eq!(rules.matches("elements").count(), 1);
        assert!(rules.contains("set trusted6 {"));
    }

    #[test]
    fn iptables_gets_a_chain_for_each_family() {
        let both = guard("10.0.0.0/8,fc00::/7").unwrap();
        let (v4, v6) = (both.xtables(false, true), both.xtables(true, false));
        assert!(
            v4.contains("-s 10.0.0.0/8 -j RETURN") && !v4.contains("fc00"),
            "{v4}"
        );
        assert!(
            v6.contains("-s fc00::/7 -j RETURN") && !v6.contains("-s 10."),
            "{v6}"
        );
        assert!(v4.contains("-I PREROUTING") && !v6.contains("PREROUTING"));
        for text in [v4, v6] {
            assert!(text.contains("--strip-options 200,253,254\n"), "{text}");
            assert!(text.starts_with("*mangle\n") && text.ends_with("COMMIT\n"));
        }
    }

    #[test]
    fn a_guard_knows_its_table_again() {
        let (_root, host) = report("trusted: 10.0.0.0/8\n");
        let (_root, others) = report("trusted: 10.0.0.0/9\n");
        let (_root, more) = report("trusted: 10.0.0.0/8\nlayouts: 252/20=all\n");
        let [own, others, more] = [&host, &others, &more].map(|host| Guard::of(host).unwrap());
        let chosen = Guard::trusting(&host, "192.0.2.1").unwrap();
        assert!(own.is(&own.mark()));
        assert!(!own.is(&others.mark()) && !own.is(&more.mark()) && !own.is(""));
        // Who has chosen the sources is not to be told that they are not the module's; that the
        // module has come to read another kind is another matter.
        assert!(own.is(&chosen.mark()));
        assert!(!more.is(&chosen.mark()));
    }

    #[test]
    fn the_mark_fits_a_comment_however_long_the_list() {
        let list: Vec<String> = (0..1000)
            .map(|n| format!("10.{}.{}.1", n / 250, n % 250))
            .collect();
        let long = guard(&list.join(",")).unwrap();
        assert_eq!(long.trusted.prefixes().len(), 1000);
        assert!(long.mark().len() < 128);
    }
}
