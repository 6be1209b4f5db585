// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a command could not do its work, in words for the person at the terminal.

use std::io::Write;

use crate::exit::Exit;
use crate::render;

/// A command that failed: what was wrong, what to do next, and the exit code.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// The exit code that scripts see.
    pub exit: Exit,
    /// What was wrong, in plain words.
    pub what: String,
    /// What to do about it.
    pub next: Option<String>,
    /// What was logged meanwhile.
    pub log: Vec<String>,
    /// Whose log that is.
    pub logged_by: &'static str,
}

impl Failure {
    /// A failure with no advice yet.
    #[must_use]
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            next: None,
            log: Vec::new(),
            logged_by: "kernel",
        }
    }

    /// Adds the next step.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Adds what the kernel logged meanwhile.
    #[must_use]
    pub fn log(mut self, log: &[String]) -> Self {
        self.log = log.to_vec();
        self
    }

    /// Adds what another program said.
    #[must_use]
    pub fn program_log(mut self, program: &'static str, log: Vec<String>) -> Self {
        self.log = log;
        self.logged_by = program;
        self
    }

    /// Adds what the module's build said.
    #[must_use]
    pub fn build_log(mut self, log: Vec<String>) -> Self {
        self.log = log;
        self.logged_by = "build";
        self
    }

    /// Prints it to stderr.
    pub fn print(&self) {
        let mut err = anstream::stderr();
        let (bad, dim) = (render::BAD, render::DIM);
        // Where stderr is gone nobody reads it, and the exit code still tells.
        let _ = writeln!(err, "toa-cli: {bad}×{bad:#} {}", self.what);
        for line in &self.log {
            let _ = writeln!(err, "    {dim}{} log:{dim:#} {line}", self.logged_by);
        }
        if let Some(next) = &self.next {
            let _ = writeln!(err, "    {dim}next:{dim:#} {next}");
        }
    }
}
