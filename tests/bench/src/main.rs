// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the module costs, in instructions.
//!
//! `scripts/bench` runs this program twice: in a node, where it counts, and on the host, where it
//! shows and judges what was counted.

mod cases;
mod counter;
mod node;
mod packets;
mod report;
mod run;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use report::{Kernel, Report};

#[derive(Debug, Parser)]
#[command(version, about = "What the module toa costs, in instructions")]
enum Command {
    /// Counts, in a node of scripts/vm whose clock counts instructions; prints a report
    Count {
        /// The kernel's name, for the report
        #[arg(long)]
        kernel: String,
        /// A case to count (default: all); may be repeated
        #[arg(long = "case", value_name = "NAME")]
        cases: Vec<String>,
        /// How often each is counted; the median counts
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
    },
    /// Checks the names of cases
    Check {
        /// The names
        cases: Vec<String>,
    },
    /// Shows reports as tables, and fails where a budget is missed
    Show {
        /// Write them here too, joined to one
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Replace the tables of this document
        #[arg(long, value_name = "FILE")]
        markdown: Option<PathBuf>,
        /// What `count` has printed
        #[arg(required = true)]
        reports: Vec<PathBuf>,
    },
}

/// 0; 1 where a budget is missed; 2 where nothing could be counted or shown.
fn main() -> ExitCode {
    match execute(Command::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("toa-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every budget was kept.
fn execute(command: Command) -> Result<bool> {
    match command {
        Command::Count {
            kernel,
            cases,
            rounds,
        } => {
            let counted = run::cases(&cases::choose(&cases)?, rounds.into())?;
            let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
            let report = Report::new(Kernel {
                kernel,
                release: release.trim().to_owned(),
                cases: counted,
            })?;
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        Command::Check { cases } => {
            cases::choose(&cases)?;
        }
        Command::Show {
            json,
            markdown,
            reports,
        } => {
            let read = |path: &PathBuf| {
                fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            };
            let report = Report::join(&reports.iter().map(read).collect::<Result<Vec<_>>>()?)?;
            if let Some(path) = json {
                let text = serde_json::to_string_pretty(&report)? + "\n";
                fs::write(&path, text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            if let Some(path) = markdown {
                let document = report::put_into(&read(&path)?, &report.markdown())
                    .with_context(|| path.display().to_string())?;
                fs::write(&path, document)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            print!("{}", report.text());
            return Ok(report.passed());
        }
    }
    Ok(true)
}
