// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests that the documentation names.

use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The file of a test module: of the suite, or of the module's pure part.
fn file_of(module: &str) -> Option<PathBuf> {
    let folders = ["tests/vm/tests/suite", "toa-kmod/tests"];
    folders
        .map(|folder| repository().join(folder).join(format!("{module}.rs")))
        .into_iter()
        .find(|file| file.is_file())
}

/// Whether the text is a path of two names: `module::name`.
fn split(code: &str) -> Option<(&str, &str)> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
    };
    code.split_once("::")
        .filter(|(module, name)| is_name(module) && is_name(name))
}

/// What stands between backticks in `text` and is such a path.
fn named(text: &str) -> Vec<(&str, &str)> {
    let spans = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter_map(split).collect()
}

/// Whether `source` has a test of this name.
fn has_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}()");
    source
        .match_indices(&head)
        .any(|(at, _)| source[..at].trim_end().ends_with("#[test]"))
}

#[test]
fn every_test_that_the_documentation_names_exists() {
    let mut found = 0;
    for file in ["docs/testing.md", "README.md"] {
        let text = read(&repository().join(file));
        for (module, name) in named(&text) {
            let Some(source) = file_of(module) else {
                // The README names functions of the library, too.
                assert_ne!(
                    file, "docs/testing.md",
                    "there is no {module} for {module}::{name}"
                );
                continue;
            };
            assert!(
                has_test(&read(&source), name),
                "{file} names {module}::{name}, which is no test of {}",
                source.display()
            );
            found += 1;
        }
    }
    assert!(found > 30, "{found} found only");
}

#[test]
fn names_are_found_and_tests_told_from_other_functions() {
    let text = "`a::b_2`, a::c\n| `no` | `d::e` and `f::g::h`, `i::j()` |";
    assert_eq!(named(text), [("a", "b_2"), ("d", "e")]);
    let source = "#[test]\nfn is() {}\nfn helper() {}";
    assert!(has_test(source, "is") && !has_test(source, "helper") && !has_test(source, "i"));
}
