// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was counted: as JSON, as a table, and against the budgets.

use std::fmt;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::cases::{self, Limit, Unit};

/// The version of [`Report`]'s form. It changes where a reader of the old one would be misled.
const SCHEMA: u32 = 1;

/// The kernels to which the budgets apply.
const BUDGETED: &str = "6.1.";

/// All that was counted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) kernels: Vec<Kernel>,
}

/// What was counted on one kernel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// Its name in tests/kernels.toml.
    pub(crate) kernel: String,
    /// What `uname -r` says.
    pub(crate) release: String,
    pub(crate) cases: Vec<Counted>,
}

/// One case, counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) case: String,
    pub(crate) about: String,
    pub(crate) unit: Unit,
    /// The module's parameters.
    pub(crate) parameters: String,
    /// Connections that lived beside.
    pub(crate) live: usize,
    pub(crate) without: Figure,
    pub(crate) with: Figure,
    /// `with` less `without`.
    pub(crate) difference: f64,
    /// Absent where there is no budget, or it is for other kernels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<Budget>,
}

/// The median of several rounds, and how far apart they were.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    /// `rounds` must not be empty.
    pub(crate) fn of(rounds: &[f64]) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        Self {
            median: (sorted[last / 2] + sorted[last.div_ceil(2)]) / 2.0,
            least: sorted[0],
            most: sorted[last],
        }
    }

    fn spread(self) -> f64 {
        self.most - self.least
    }
}

/// A budget, and what was used of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// What it is about.
    pub(crate) of: String,
    pub(crate) at_most: f64,
    pub(crate) used: f64,
    pub(crate) passed: bool,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            of, at_most, used, ..
        } = self;
        let verdict = if self.passed { "pass" } else { "FAIL" };
        let digits = if at_most.fract() == 0.0 { 0 } else { 2 };
        // A little below zero is not written as -0.
        let used = if digits == 0 {
            used.round() + 0.0
        } else {
            *used
        };
        write!(f, "{verdict}: {of} {used:.digits$} of {at_most:.digits$}")
    }
}

impl Report {
    /// Reads reports of single kernels, and puts them together.
    pub(crate) fn join(texts: &[String]) -> Result<Self> {
        let mut kernels = Vec::new();
        for text in texts {
            let report: Self = serde_json::from_str(text).context("this is no report")?;
            if report.schema != SCHEMA {
                bail!(
                    "the report is of schema {}, and this program reads {SCHEMA}",
                    report.schema
                );
            }
            kernels.extend(report.kernels);
        }
        Ok(Self {
            schema: SCHEMA,
            kernels,
        })
    }

    /// The report of one kernel, its budgets judged.
    pub(crate) fn new(mut kernel: Kernel) -> Result<Self> {
        if kernel.release.starts_with(BUDGETED) {
            let counted = kernel.cases.clone();
            for case in &mut kernel.cases {
                case.budget = judge(case, &counted)?;
            }
        }
        Ok(Self {
            schema: SCHEMA,
            kernels: vec![kernel],
        })
    }

    /// Every budget that there is.
    fn budgets(&self) -> impl Iterator<Item = (&Kernel, &Counted, &Budget)> {
        let cases = self
            .kernels
            .iter()
            .flat_map(|kernel| kernel.cases.iter().map(move |case| (kernel, case)));
        cases.filter_map(|(kernel, case)| Some((kernel, case, case.budget.as_ref()?)))
    }

    /// Whether every budget was kept.
    pub(crate) fn passed(&self) -> bool {
        self.budgets().all(|(_, _, budget)| budget.passed)
    }

    /// Tables, and a line per budget.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for kernel in &self.kernels {
            text += &format!(
                "{}, {}\n{}\n\n",
                kernel.kernel,
                kernel.release,
                kernel.table(presets::NOTHING)
            );
        }
        for (kernel, case, budget) in self.budgets() {
            text += &format!("{budget}  ({}, {})\n", case.case, kernel.kernel);
        }
        text
    }

    /// The same for a document.
    pub(crate) fn markdown(&self) -> String {
        let table = |kernel: &Kernel| {
            format!(
                "### {}, {}\n\n{}\n",
                kernel.kernel,
                kernel.release,
                kernel.table(presets::ASCII_MARKDOWN)
            )
        };
        self.kernels
            .iter()
            .map(table)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Kernel {
    fn table(&self, preset: &str) -> Table {
        let mut table = Table::new();
        table.load_preset(preset);
        table.set_header([
            "case",
            "",
            "without",
            "with",
            "difference",
            "spread",
            "budget",
        ]);
        for case in &self.cases {
            let unit = match case.unit {
                Unit::Instructions => "",
                Unit::Bytes => " B",
            };
            table.add_row([
                case.case.clone(),
                case.about.clone(),
                format!("{}{unit}", number(case.without.median)),
                format!("{}{unit}", number(case.with.median)),
                format!("{}{unit}", signed(case.difference)),
                format!(
                    "±{}",
                    number(case.without.spread().max(case.with.spread()) / 2.0)
                ),
                case.budget
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ]);
        }
        for column in 2..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

/// Between which lines of a document the tables stand.
const MARKS: [&str; 2] = [
    "<!-- made by scripts/bench: -->",
    "<!-- end of what is made -->",
];

/// The document with `tables` in place of those that it has.
pub(crate) fn put_into(document: &str, tables: &str) -> Result<String> {
    let [first, last] = MARKS;
    let parts = document
        .split_once(first)
        .and_then(|(head, rest)| Some((head, rest.split_once(last)?.1)));
    let (head, tail) =
        parts.with_context(|| format!("the document lacks the lines {first} and {last}"))?;
    Ok(format!("{head}{first}\n\n{tables}\n{last}{tail}"))
}

fn judge(case: &Counted, all: &[Counted]) -> Result<Option<Budget>> {
    let Some(limit) = cases::find(&case.case)?.limit else {
        return Ok(None);
    };
    let (of, at_most, used) = match limit {
        Limit::Added(at_most) => ("added".to_owned(), at_most, case.difference),
        Limit::Times(at_most) => (
            "times".to_owned(),
            at_most,
            case.with.median / case.without.median,
        ),
        Limit::AddedTimes(at_most, name) => {
            let other = all.iter().find(|other| other.case == name);
            let other = other.with_context(|| {
                format!("{} is judged by {name}, which was not counted", case.case)
            })?;
            (
                format!("times {name}"),
                at_most,
                case.difference / other.difference,
            )
        }
    };
    // Nobody sees a part of an instruction.
    let passed = match limit {
        Limit::Added(_) => used.round() <= at_most,
        Limit::Times(_) | Limit::AddedTimes(..) => used <= at_most,
    };
    Ok(Some(Budget {
        of,
        at_most,
        used,
        passed,
    }))
}

/// With commas between the thousands.
pub(crate) fn number(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 {
        format!("-{text}")
    } else {
        text
    }
}

fn signed(value: f64) -> String {
    if value >= 0.5 {
        format!("+{}", number(value))
    } else {
        number(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(case: &str, without: &[f64], with: &[f64]) -> Counted {
        let found = cases::find(case).unwrap();
        Counted::new(found, &[without.to_vec(), with.to_vec()])
    }

    fn report(release: &str, cases: Vec<Counted>) -> Result<Report> {
        Report::new(Kernel {
            kernel: "name".to_owned(),
            release: release.to_owned(),
            cases,
        })
    }

    #[test]
    fn budgets_are_judged_on_their_kernel_alone() {
        let kept = counted("none-v4", &[59_000.0, 59_100.0, 59_400.0], &[59_300.0]);
        let missed = counted("none-v6", &[59_000.0], &[59_261.0]);
        assert!(
            report("6.1.0-1-amd64", vec![kept.clone()])
                .unwrap()
                .passed()
        );
        let red = report("6.1.0-1-amd64", vec![kept.clone(), missed.clone()]).unwrap();
        assert!(!red.passed());
        assert!(
            red.text()
                .contains("FAIL: added 261 of 260  (none-v6, name)"),
            "{}",
            red.text()
        );
        assert!(report("6.12.1-amd64", vec![kept, missed]).unwrap().passed());
    }

    #[test]
    fn a_ratio_is_judged() {
        assert!(
            report("6.1.0", vec![counted("ask", &[1000.0], &[1400.0])])
                .unwrap()
                .passed()
        );
        assert!(
            !report("6.1.0", vec![counted("ask", &[1000.0], &[1401.0])])
                .unwrap()
                .passed()
        );
    }

    #[test]
    fn a_case_is_judged_by_another() {
        let few = counted("lookup", &[1000.0], &[1300.0]);
        let many = |with| counted("lookup-many", &[1000.0], &[with]);
        assert!(
            report("6.1.0", vec![few.clone(), many(1330.0)])
                .unwrap()
                .passed()
        );
        assert!(!report("6.1.0", vec![few, many(1331.0)]).unwrap().passed());
        assert!(report("6.1.0", vec![many(1300.0)]).is_err());
    }

    #[test]
    fn not_one_instruction_is_not_one_instruction() {
        assert!(
            report("6.1.0", vec![counted("data", &[1000.0], &[1000.4])])
                .unwrap()
                .passed()
        );
        assert!(
            !report("6.1.0", vec![counted("data", &[1000.0], &[1001.0])])
                .unwrap()
                .passed()
        );
    }

    #[test]
    fn a_little_below_zero_is_zero() {
        let report = report("6.1.0", vec![counted("data", &[1000.3], &[1000.0])]).unwrap();
        assert!(
            report.text().contains("pass: added 0 of 0  "),
            "{}",
            report.text()
        );
    }

    #[test]
    fn reports_are_read_back_and_joined() {
        let one = report("6.1.0", vec![counted("none-v4", &[1.0], &[2.0])]).unwrap();
        let text = serde_json::to_string(&one).unwrap();
        let joined = Report::join(&[text.clone(), text.clone()]).unwrap();
        assert_eq!(joined.kernels.len(), 2);
        assert_eq!(
            joined.kernels[1].cases[0].budget,
            one.kernels[0].cases[0].budget
        );
        assert!(Report::join(&[text.replace("\"schema\":1", "\"schema\":2")]).is_err());
        assert!(Report::join(&[String::new()]).is_err());
    }

    #[test]
    fn tables_take_the_place_of_older_ones() {
        let [first, last] = MARKS;
        let document = format!("a\n{first}\nold\n{last}\nb\n");
        let once = put_into(&document, "new\n").unwrap();
        assert_eq!(once, format!("a\n{first}\n\nnew\n\n{last}\nb\n"));
        assert_eq!(put_into(&once, "new\n").unwrap(), once);
        assert!(put_into("a\nb\n", "new\n").is_err());
    }

    #[test]
    fn numbers_are_written_for_readers() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(999.6), "1,000");
        assert_eq!(signed(-0.2), "0");
        assert_eq!(signed(12.0), "+12");
        assert_eq!(signed(-1_200.0), "-1,200");
    }
}
