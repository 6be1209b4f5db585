// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of the system, run in a namespace, with errors that name them.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::netns::{Namespace, in_ns};

/// A program that is also found in the sbin directories, which PATH may lack.
///
/// It starts in the network namespace of the thread that spawns it, so that [`crate::in_ns`]
/// places it.
#[must_use]
pub fn command(program: &str) -> Command {
    let mut path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    let mut command = Command::new(program);
    command.env("PATH", path);
    command
}

/// Runs `line` (split at white space) in `ns` and returns its output.
pub(crate) fn run(ns: &Namespace, line: &str) -> Result<String> {
    run_with(ns, line.split_whitespace(), "")
}

/// Runs a program in `ns`, gives it `input`, and returns what it wrote to its standard output.
pub(crate) fn run_with<'a>(
    ns: &Namespace,
    words: impl IntoIterator<Item = &'a str>,
    input: &str,
) -> Result<String> {
    let words: Vec<&str> = words.into_iter().collect();
    let (&program, args) = words.split_first().context("an empty command line")?;
    let mut command = command(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A child starts in the network namespace of the thread that makes it.
    let output = in_ns(ns, || -> std::io::Result<_> {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading tells why on its standard error.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    })?
    .with_context(|| format!("cannot run `{}`: is {program} installed?", words.join(" ")))?;
    if !output.status.success() {
        bail!(
            "`{}` in {ns}: {}: {}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("the output of `{}` is not UTF-8", words.join(" ")))
}
