// SPDX-License-Identifier: MIT OR Apache-2.0
//! The module's counters.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::node;

/// What /proc/net/toa_stats said at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The columns' titles: `CPU0`, ...
    pub cpus: Vec<String>,
    /// The rows in their order: a counter's name, and a number per column.
    pub rows: Vec<(String, Vec<u64>)>,
}

impl Stats {
    /// Reads the file.
    ///
    /// # Panics
    ///
    /// Where it is not there, or not of the form that it must have.
    #[must_use]
    #[track_caller]
    pub fn read() -> Self {
        Self::read_from("/proc/net/toa_stats")
    }

    /// Those of the calling thread's network namespace alone.
    ///
    /// # Panics
    ///
    /// As [`Self::read`].
    #[must_use]
    #[track_caller]
    pub fn own() -> Self {
        Self::read_from("/proc/thread-self/net/toa_stats")
    }

    #[track_caller]
    fn read_from(path: &str) -> Self {
        node::require();
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self::parse(&text)
    }

    #[track_caller]
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let cpus: Vec<String> = lines
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let rows: Vec<(String, Vec<u64>)> = lines
            .map(|line| {
                let (name, columns) = line
                    .split_once(':')
                    .unwrap_or_else(|| panic!("no colon in {line:?}"));
                let columns: Vec<u64> = columns
                    .split_whitespace()
                    .map(|column| column.parse().unwrap_or_else(|_| panic!("{line:?}")))
                    .collect();
                assert_eq!(columns.len(), cpus.len(), "columns of {line:?}");
                (name.trim().to_owned(), columns)
            })
            .collect();
        Self { cpus, rows }
    }

    /// The sum of a counter over the CPUs.
    ///
    /// # Panics
    ///
    /// Where there is no such counter.
    #[must_use]
    #[track_caller]
    pub fn get(&self, name: &str) -> u64 {
        let row = self.rows.iter().find(|(row, _)| row == name);
        let (_, columns) = row.unwrap_or_else(|| panic!("no counter {name} in {self:?}"));
        columns.iter().sum()
    }

    /// What was counted between `before` and this.
    ///
    /// # Panics
    ///
    /// Where a counter went backwards.
    #[must_use]
    #[track_caller]
    pub fn since(&self, before: &Self) -> Difference {
        let grown = self.rows.iter().filter(|(name, _)| name != SESSIONS);
        let grown = grown.filter_map(|(name, columns)| {
            let (now, then) = (columns.iter().sum::<u64>(), before.get(name));
            assert!(now >= then, "{name} went from {then} to {now}");
            (now > then).then(|| (name.clone(), now - then))
        });
        Difference(grown.collect())
    }
}

const SESSIONS: &str = "sessions_live";

/// The counters that grew, and by how much.
#[derive(Clone, PartialEq, Eq)]
pub struct Difference(BTreeMap<String, u64>);

impl Difference {
    /// How much a counter grew.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

impl From<Difference> for BTreeMap<String, u64> {
    fn from(difference: Difference) -> Self {
        difference.0
    }
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}

/// Compares with all the counters that must have grown, and no others.
impl<const N: usize> PartialEq<[(&str, u64); N]> for Difference {
    fn eq(&self, other: &[(&str, u64); N]) -> bool {
        self.0.len() == N && other.iter().all(|(name, grown)| self.get(name) == *grown)
    }
}

/// The sessions that live now.
///
/// # Panics
///
/// Where the counters cannot be read.
#[must_use]
#[track_caller]
pub fn sessions() -> u64 {
    Stats::read().get(SESSIONS)
}

/// Waits until so many sessions live, as long as there is progress: a thousand connections that close
/// at once take an emulated machine more than any one wait.
///
/// # Panics
///
/// Where they do not, and their number has been the same for [`node::PATIENCE`].
#[track_caller]
pub fn sessions_become(count: u64) {
    let mut last = sessions();
    let mut since = Instant::now();
    while last != count {
        assert!(
            since.elapsed() < node::PATIENCE,
            "{last} sessions live, and not {count}"
        );
        thread::sleep(Duration::from_millis(10));
        let now = sessions();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// Waits until no session lives: every connection of a test is gone.
///
/// # Panics
///
/// As [`sessions_become`].
#[track_caller]
pub fn settle() {
    sessions_become(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_summed_and_compared() {
        let before = Stats::parse("   CPU0  CPU1\nfirst : 1 2\nsessions_live : 9 0\n");
        let after = Stats::parse("   CPU0  CPU1\nfirst : 1 4\nsessions_live : 3 0\n");
        assert_eq!(after.cpus, ["CPU0", "CPU1"]);
        assert_eq!(after.get("first"), 5);
        let difference = after.since(&before);
        assert_eq!(difference, [("first", 2)]);
        assert_ne!(difference, [("first", 3)]);
        assert_ne!(difference, [("first", 2), ("other", 1)]);
        assert_eq!(after.since(&after), []);
    }
}
