// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program itself on a machine without the module, which is what every
//! machine that builds it must be: exit codes, and which stream says what.

use std::path::Path;

use assert_cmd::Command;

fn toa_cli() -> Command {
    let mut command = Command::cargo_bin("toa-cli").unwrap();
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

/// Runs it and gives exit code, stdout and stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = toa_cli().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// These tests describe a machine without any `toa`; elsewhere (a developer's
/// own node) they say nothing.
fn has_toa() -> bool {
    Path::new("/sys/module/toa").exists() || Path::new("/proc/net/toa_stats").exists()
}

#[test]
fn help_documents_the_exit_codes() {
    for arguments in [
        &["--help"][..],
        &["status", "--help"],
        &["load", "--help"],
        &["check", "--help"],
        &["guard", "install", "--help"],
        &["build", "--help"],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("6  another module named `toa`"), "{out}");
    }
}

#[test]
fn a_wrong_command_line_is_usage() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["status", "-o", "xml"],
        &["load", "hook"],
        &["unload", "x"],
        &["guard"],
        &["guard", "install", "--trusted"],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(!err.is_empty());
    }
    let (_, _, err) = run(&["load", "hook"]);
    assert!(err.contains("param=value"), "{err}");
}

#[test]
fn status_without_the_module_is_3_with_the_next_step() {
    if has_toa() {
        return;
    }
    let (code, out, err) = run(&["status"]);
    assert_eq!((code, err.as_str()), (3, ""));
    assert!(
        out.contains("not loaded") && out.contains("next: toa-cli load"),
        "{out}"
    );
    assert!(!out.contains('\x1b'), "colour in a pipe: {out}");
}

#[test]
fn status_as_json_has_a_schema() {
    if has_toa() {
        return;
    }
    let (code, out, err) = run(&["status", "-o", "json"]);
    assert_eq!((code, err.as_str()), (3, ""));
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["command"], "status");
    assert_eq!(document["state"], "not_loaded");
    assert_eq!(document["verdict"], "not_loaded");
    assert_eq!(document["exit"], 3);
}

#[test]
fn colour_is_forced_and_forbidden_by_the_environment() {
    let coloured = |variable: &str| {
        let output = toa_cli().arg("status").env(variable, "1").output().unwrap();
        String::from_utf8(output.stdout).unwrap().contains('\x1b')
    };
    assert!(coloured("CLICOLOR_FORCE"));
    assert!(!coloured("NO_COLOR"));
}

#[test]
fn unload_without_the_module_is_done_already() {
    if has_toa() {
        return;
    }
    let (code, out, err) = run(&["unload"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("not loaded"), "{out}");
}

#[test]
fn check_without_the_module_is_3() {
    if has_toa() {
        return;
    }
    for arguments in [&["check"][..], &["check", "-o", "json"]] {
        let (code, _, _) = run(arguments);
        assert_eq!(code, 3, "{arguments:?}");
    }
}

#[test]
fn load_names_a_file_that_is_not_there_or_no_module() {
    if has_toa() {
        return;
    }
    let (code, out, err) = run(&["load", "--module", "/nowhere/toa.ko"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.contains("/nowhere/toa.ko") && err.contains("next:"),
        "{err}"
    );

    let (code, _, err) = run(&["load", "--module", "/proc/self/exe"]);
    assert_eq!(code, 2);
    assert!(err.contains("not a kernel module"), "{err}");

    let (code, _, err) = run(&["load", "--module", file!()]);
    assert_eq!(code, 2);
    assert!(!err.is_empty());
}

#[test]
fn build_says_what_it_lacks() {
    let (code, out, err) = run(&["build", "--kernel", "0.1.2-nowhere"]);
    assert_eq!((code, out.as_str()), (5, ""));
    assert!(
        err.contains("headers of the kernel 0.1.2-nowhere") && err.contains("next:"),
        "{err}"
    );
    let (code, _, err) = run(&["build", "--kernel", "../../etc"]);
    assert_eq!(code, 2);
    assert!(err.contains("uname -r"), "{err}");
    let (code, _, err) = run(&["build", "--headers", "/nowhere"]);
    assert_eq!(code, 2);
    assert!(err.contains("no kernel headers"), "{err}");
}
