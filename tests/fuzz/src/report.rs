// SPDX-License-Identifier: MIT OR Apache-2.0
//! What toa-cli reads in /proc/net/toa and /proc/net/toa_stats.

use std::collections::BTreeMap;

use toa_cli::state::{Counters, ModuleReport};

/// A line's part before its first colon and the one behind it, without the blanks around them.
fn parts(line: &str) -> Option<(&str, &str)> {
    let colon = line.find(':')?;
    Some((line[..colon].trim(), line[colon + 1..].trim()))
}

/// A number as the kernel writes it; one plus sign is let pass.
fn number(text: &str, most: u128) -> Option<u128> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    let mut number = 0u128;
    for digit in digits.chars() {
        number = (number * 10 + u128::from(digit.to_digit(10)?)).min(1 << 100);
    }
    (number <= most).then_some(number)
}

fn check_counters(text: &str) {
    let mut want = Vec::new();
    for line in text.lines() {
        let Some((name, columns)) = parts(line) else {
            continue;
        };
        let columns: Vec<_> = columns
            .split_whitespace()
            .map(|column| number(column, u64::MAX.into()))
            .collect();
        // One column that is no number makes the row none of a counter.
        if let Some(columns) = columns.into_iter().collect::<Option<Vec<_>>>() {
            want.push((name, columns.iter().sum::<u128>() as u64));
        }
    }
    let counters = Counters::parse(text);
    assert_eq!(counters.iter().collect::<Vec<_>>(), want);
    for (name, _) in &want {
        let first = want.iter().find(|(other, _)| other == name);
        assert_eq!(counters.get(name), first.map(|&(_, total)| total));
    }
}

fn check_report(text: &str) {
    let mut version = None;
    let mut abi = None;
    let mut rust = None;
    let mut sessions = None;
    let mut layouts: Vec<&str> = Vec::new();
    let mut trusted = None;
    let mut refused = Vec::new();
    let mut hooks = Vec::new();
    let mut other = BTreeMap::new();
    for (key, value) in text.lines().filter_map(parts) {
        match key {
            "version" => version = Some(value),
            "abi" => abi = number(value, u32::MAX.into()),
            "rust" => rust = Some(value),
            "sessions" => sessions = number(value, u64::MAX.into()),
            "layouts" => layouts = value.split(',').collect(),
            "trusted" => trusted = Some(value),
            "refused" => {
                if let Some((source, options)) = value.split_once(' ') {
                    refused.extend(
                        number(options.trim(), u64::MAX.into()).map(|options| (source, options)),
                    );
                }
            }
            "" => {}
            _ if key.starts_with("hook ") => {
                let words: Vec<_> = value.split_whitespace().collect();
                let by = words.first().copied().unwrap_or("none");
                hooks.push((key[5..].trim(), by, missed(&words)));
            }
            _ => {
                other.insert(key, value);
            }
        }
    }
    let report = ModuleReport::parse(text);
    assert_eq!(report.is_some(), abi.is_some());
    let Some(report) = report else {
        return;
    };
    assert_eq!(report.version.as_deref(), version);
    assert_eq!(report.abi.map(u128::from), abi);
    assert_eq!(report.rust.as_deref(), rust);
    assert_eq!(report.sessions.map(u128::from), sessions);
    assert_eq!(report.layouts, layouts);
    assert_eq!(report.trusted.as_deref(), trusted);
    let found: Vec<_> = report
        .refused
        .iter()
        .map(|refused| (refused.source.as_str(), u128::from(refused.options)))
        .collect();
    assert_eq!(found, refused);
    let found: Vec<_> = report
        .hooks
        .iter()
        .map(|hook| (hook.function.as_str(), hook.by.as_str(), hook.missed))
        .collect();
    assert_eq!(found, hooks);
    let found: BTreeMap<_, _> = report
        .other
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(found, other);
}

/// The number behind the last `missed` that is not itself a number's place.
fn missed(words: &[&str]) -> u64 {
    let mut missed = 0;
    let mut at = 1;
    while at < words.len() {
        if words[at] == "missed" {
            at += 1;
            let count = words.get(at).and_then(|word| number(word, u64::MAX.into()));
            missed = count.unwrap_or(0) as u64;
        }
        at += 1;
    }
    missed
}

/// `data` is a file's text.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check_counters(&text);
    check_report(&text);
}
