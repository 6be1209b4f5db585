// SPDX-License-Identifier: MIT OR Apache-2.0
//! What fuzzing found worth keeping, each time that tests run: no fuzzer needed.

use std::fs;
use std::path::Path;

use toa_fuzz::{Check, TARGETS};

fn replay(name: &str, check: Check) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let bytes = fs::read(&file).expect("a file");
        // Named on its way, so that a panic below says where.
        println!("{}", file.display());
        check(&bytes);
        // And with its end missing: what a reader of lengths trips over. A part of the long ones.
        for length in (0..bytes.len()).rev().take(256) {
            check(&bytes[..length]);
        }
    }
}

#[test]
fn every_corpus_still_holds() {
    for (name, check) in TARGETS {
        replay(name, check);
    }
}

#[test]
fn no_corpus_without_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(folder).expect("the corpora") {
        let name = entry.expect("an entry").file_name();
        assert!(
            TARGETS.iter().any(|(target, _)| name == *target),
            "{name:?} is no target"
        );
    }
}
