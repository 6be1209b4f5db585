// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine that the tool looks at: its /proc and /sys, and its module.

use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::sys::utsname;

use crate::{guard, nft, xtables};

/// The machine under a root folder; tests lay out a root of their own.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    release: String,
    abi: fn() -> Result<u32, libtoa::Error>,
    /// What [`Host::rules`] answers on a machine that is not the running one.
    rules: Option<Result<Rules, i32>>,
}

/// The packet filter's rules, as far as they bear on options that are forged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The comment of the guard's table or chain, where there is one.
    pub guard: Option<String>,
    /// Whether it is a table of nftables, and not a chain of iptables.
    pub by_nft: bool,
    /// Whether anything replaces the source of what passes.
    pub source_nat: bool,
}

impl Host {
    /// The running machine.
    #[must_use]
    pub fn running() -> Self {
        let release = utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        Self {
            root: PathBuf::from("/"),
            release,
            abi: libtoa::abi,
            rules: None,
        }
    }

    /// A machine made of the files under `root`, which runs the kernel `release`
    /// and whose module answers `abi`.
    #[must_use]
    pub fn pretended(
        root: impl Into<PathBuf>,
        release: impl Into<String>,
        abi: fn() -> Result<u32, libtoa::Error>,
    ) -> Self {
        Self {
            root: root.into(),
            release: release.into(),
            abi,
            rules: Some(Err(libc::EPERM)),
        }
    }

    /// The same machine with these rules in its packet filter, or this `errno` in their place.
    #[must_use]
    pub fn with_rules(mut self, rules: Result<Rules, i32>) -> Self {
        self.rules = Some(rules);
        self
    }

    /// The running kernel's release, as `uname -r` prints it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The loaded module's ABI, as its system call answers.
    ///
    /// # Errors
    ///
    /// [`libtoa::Error::NotLoaded`] where no module of ours answers.
    pub fn abi(&self) -> Result<u32, libtoa::Error> {
        (self.abi)()
    }

    /// Whether this process is in another network namespace than process 1, which on a node is in
    /// the node's own. Where that cannot be told they pass for the same.
    #[must_use]
    pub fn elsewhere(&self) -> bool {
        let namespace = |process: &str| fs::read_link(self.path(format!("proc/{process}/ns/net")));
        matches!((namespace("1"), namespace("self")), (Ok(first), Ok(own)) if first != own)
    }

    /// The packet filter's rules in this network namespace.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without CAP_NET_ADMIN; otherwise what the kernel says.
    pub fn rules(&self) -> io::Result<Rules> {
        if let Some(rules) = &self.rules {
            return rules.clone().map_err(io::Error::from_raw_os_error);
        }
        let nat = [false, true].map(|v6| self.has_legacy_table(v6, "nat"));
        let of_nft = nft::table_comment(guard::TABLE)?;
        let by_nft = of_nft.is_some();
        let guard = match of_nft {
            Some(comment) => Some(comment),
            None => self.iptables_guard()?,
        };
        Ok(Rules {
            guard,
            by_nft,
            source_nat: nat.contains(&true) || nft::has_source_nat()?,
        })
    }

    /// The comment of the guard's chains of iptables.
    fn iptables_guard(&self) -> io::Result<Option<String>> {
        let [v4, v6] = [false, true].map(|v6| {
            let legacy = self.has_legacy_table(v6, "mangle");
            xtables::comment(v6, legacy)
        });
        Ok(match (v4?, v6?) {
            (v4, v6) if v4 == v6 || !self.has("proc/net/if_inet6") => v4,
            // For one family only, or for different sources: the comment of no guard.
            _ => Some(String::new()),
        })
    }

    /// Whether iptables has the guard's chain for this family, in this network namespace.
    #[must_use]
    pub fn has_iptables_guard(&self, v6: bool) -> bool {
        let legacy = self.has_legacy_table(v6, "mangle");
        self.rules.is_none() && matches!(xtables::comment(v6, legacy), Ok(Some(_)))
    }

    /// Whether iptables-legacy has such a table here; iptables-nft's are those of nf_tables.
    fn has_legacy_table(&self, v6: bool, table: &str) -> bool {
        let file = if v6 {
            "ip6_tables_names"
        } else {
            "ip_tables_names"
        };
        let names = self.read(&format!("proc/net/{file}"));
        names.is_some_and(|names| names.lines().any(|name| name == table))
    }

    /// `path` (relative) on this machine.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Whether `path` is there.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The text of `path`, `None` where it is absent or unreadable.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// The trimmed text of `path`, `None` where it is absent or unreadable.
    #[must_use]
    pub fn read_value(&self, path: &str) -> Option<String> {
        self.read(path).map(|text| text.trim().to_owned())
    }

    /// The names of the files in the folder `path`, sorted; none where it is absent.
    ///
    /// # Errors
    ///
    /// Whatever the file system says, absence aside.
    pub fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}
