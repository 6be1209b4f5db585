// SPDX-License-Identifier: MIT OR Apache-2.0
//! How findings are shown: text for people, JSON for machines.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::exit::Exit;

/// The version of the JSON output. It changes only when a field changes its
/// meaning or goes; new fields may come at any time.
const SCHEMA: u32 = 1;

/// The colour of what is good.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// The colour of what wants attention.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// The colour of what is wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// The look of what is secondary.
pub const DIM: Style = Style::new().dimmed();
/// The look of headings.
pub const HEADING: Style = Style::new().bold();

/// The shape of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON document, with a schema version.
    Json,
}

/// The argument of every command that has its output in either shape.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OutputArgs {
    /// Text for people, or one JSON document
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What a finding says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// Worth knowing; not held against the node.
    Note,
    /// Left out, with the reason.
    Skipped,
    /// Something is wrong, and addresses may be missing.
    Warning,
    /// It does not work.
    Failed,
}

impl Mark {
    fn sign(self) -> &'static str {
        match self {
            Self::Good => "√",
            Self::Note => "·",
            Self::Skipped => "-",
            Self::Warning => "‼",
            Self::Failed => "×",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Good => GOOD,
            Self::Note | Self::Skipped => DIM,
            Self::Warning => WARN,
            Self::Failed => BAD,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What it belongs to; findings of one category follow each other.
    pub category: &'static str,
    /// How it came out.
    pub mark: Mark,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// All that was looked at, in order.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding without advice.
    pub fn add(&mut self, category: &'static str, mark: Mark, text: impl Into<String>) {
        self.0.push(Finding {
            category,
            mark,
            text: text.into(),
            hint: None,
        });
    }

    /// Adds a finding and what to do about it.
    pub fn advise(
        &mut self,
        category: &'static str,
        mark: Mark,
        text: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.0.push(Finding {
            category,
            mark,
            text: text.into(),
            hint: Some(hint.into()),
        });
    }

    /// How many came out as `mark`.
    #[must_use]
    pub fn count(&self, mark: Mark) -> usize {
        self.0.iter().filter(|finding| finding.mark == mark).count()
    }

    /// [`Exit::Good`], or [`Exit::Unhealthy`] where anything is wrong.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.count(Mark::Warning) + self.count(Mark::Failed) == 0 {
            Exit::Good
        } else {
            Exit::Unhealthy
        }
    }

    /// Every finding, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// The findings by category, a line each and its hint below.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut category = "";
        for finding in &self.0 {
            if finding.category != category {
                if !category.is_empty() {
                    text.push('\n');
                }
                category = finding.category;
                text.push_str(&heading(category));
            }
            let style = finding.mark.style();
            let sign = finding.mark.sign();
            let _ = writeln!(text, "{style}{sign}{style:#} {}", finding.text);
            if let Some(hint) = &finding.hint {
                let _ = writeln!(text, "    {DIM}next:{DIM:#} {hint}");
            }
        }
        text
    }
}

/// A heading and the rule below it.
#[must_use]
pub fn heading(title: &str) -> String {
    let rule = "-".repeat(title.chars().count());
    format!("{HEADING}{title}{HEADING:#}\n{DIM}{rule}{DIM:#}\n")
}

/// The last line of a text output.
#[must_use]
pub fn verdict(command: &str, exit: Exit) -> String {
    let style = if exit == Exit::Good { GOOD } else { BAD };
    format!(
        "\n{command}: {style}{}{style:#}\n",
        exit.word().replace('_', " ")
    )
}

/// Writes data to stdout, without its colours where stdout is no terminal or
/// NO_COLOR is set.
///
/// # Errors
///
/// What stdout says; a reader that went away (`| head`) is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// What every JSON document says, ahead of what is its command's own.
#[derive(Debug, Serialize)]
struct Document<'a, B> {
    schema: u32,
    command: &'a str,
    verdict: &'a str,
    exit: Exit,
    #[serde(flatten)]
    body: &'a B,
}

/// A command's document as indented JSON, with the fields of `body`.
#[must_use]
pub fn json(command: &str, exit: Exit, body: &impl Serialize) -> String {
    let document = Document {
        schema: SCHEMA,
        command,
        verdict: exit.word(),
        exit,
        body,
    };
    // Only a body without names, or a map with keys that are no strings, can fail, and no
    // document has one.
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        let mut findings = Findings::default();
        findings.add("kernel", Mark::Good, "kernel 7.3");
        findings.advise("hooks", Mark::Warning, "3 calls missed", "look here");
        findings.add("hooks", Mark::Skipped, "skipped: no IPv6");
        findings
    }

    #[test]
    fn text_has_categories_marks_and_hints() {
        let plain = anstream::adapter::strip_str(&findings().text()).to_string();
        assert_eq!(
            plain,
            "kernel\n------\n√ kernel 7.3\n\nhooks\n-----\n‼ 3 calls missed\n    next: look here\n\
             - skipped: no IPv6\n"
        );
    }

    #[test]
    fn a_warning_is_unhealthy_and_a_skip_is_not() {
        assert_eq!(findings().exit(), Exit::Unhealthy);
        let mut good = Findings::default();
        good.add("x", Mark::Skipped, "skipped");
        good.add("x", Mark::Note, "note");
        assert_eq!(good.exit(), Exit::Good);
    }

    #[test]
    fn json_leaves_absent_hints_out() {
        let value = serde_json::to_value(findings()).unwrap();
        assert_eq!(value[1]["mark"], "warning");
        assert_eq!(value[1]["hint"], "look here");
        assert!(value[0].get("hint").is_none());
    }

    #[test]
    fn every_document_begins_alike() {
        #[derive(Serialize)]
        struct Body {
            zeal: Option<u8>,
            checks: [u8; 0],
        }
        let body = Body {
            zeal: None,
            checks: [],
        };
        assert_eq!(
            json("check", Exit::NotLoaded, &body),
            "{\n  \"schema\": 1,\n  \"command\": \"check\",\n  \"verdict\": \"not_loaded\",\n  \
             \"exit\": 3,\n  \"zeal\": null,\n  \"checks\": []\n}\n"
        );
    }
}
