// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program on a real kernel, with the module and with what stands in for a
//! wrong one. Only for a node of scripts/vm, started with --no-load or with the
//! module loaded:
//!
//!     scripts/vm -- PROGRAM --ignored --test-threads=1
//!
//! Everywhere else the tests are passed over, and refuse if asked for: they load
//! and unload modules of the kernel that they run on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Unloads the module at both ends of a test, and has the module's file.
struct Node {
    folder: tempfile::TempDir,
    module: Vec<u8>,
}

impl Node {
    fn new() -> Self {
        let is_node = Path::new("/run/node/settings").exists();
        let module = std::env::var_os("TOA_KO").filter(|_| is_node);
        let module = module.expect("this test wants a machine of its own: scripts/vm");
        let module = fs::read(module).expect("the module can be read");
        let node = Self {
            folder: tempfile::tempdir().unwrap(),
            module,
        };
        node.unload();
        node
    }

    /// The module's file, with one text in it changed to another of the same length.
    fn module(&self, name: &str, from: &[u8], to: &[u8]) -> PathBuf {
        assert_eq!(from.len(), to.len());
        let mut module = self.module.clone();
        let mut found = 0;
        for at in 0..=module.len() - from.len() {
            if module[at..].starts_with(from) {
                module[at..at + to.len()].copy_from_slice(to);
                found += 1;
            }
        }
        assert!(
            found > 0 || from.is_empty(),
            "{name}: the module has no such text"
        );
        self.file(name, &module)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn ours(&self) -> PathBuf {
        self.file("toa.ko", &self.module)
    }

    fn unload(&self) {
        assert_eq!(run(&mut toa_cli(&["unload"])).0, 0);
    }

    fn load(&self, parameters: &[&str]) -> Outcome {
        self.load_file(&self.ours(), parameters)
    }

    fn load_file(&self, file: &Path, parameters: &[&str]) -> Outcome {
        run(toa_cli(&["load", "--module"]).arg(file).args(parameters))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = toa_cli(&["unload"]).output();
    }
}

/// Exit code, stdout, stderr.
type Outcome = (i32, String, String);

fn toa_cli(arguments: &[&str]) -> Command {
    command(Path::new(env!("CARGO_BIN_EXE_toa-cli")), arguments)
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        .env_remove("CLICOLOR_FORCE");
    command
}

fn run(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[track_caller]
fn refused(outcome: &Outcome, code: i32, words: &[&str]) {
    let (exit, out, err) = outcome;
    assert_eq!((*exit, out.as_str()), (code, ""), "{err}");
    for word in words {
        assert!(err.contains(word), "no `{word}` in: {err}");
    }
    assert!(err.contains("next:"), "{err}");
}

#[test]
#[ignore = "loads the module"]
fn load_and_unload_are_idempotent() {
    let node = Node::new();
    let (code, out, err) = node.load(&[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("loaded from"), "{out}");
    let (code, out, _) = node.load(&["hook=auto"]);
    assert_eq!(code, 0);
    assert!(out.contains("loaded already"), "{out}");
    refused(
        &node.load(&["hook=kprobe"]),
        1,
        &["hook is auto, not kprobe", "unload"],
    );
    for _ in 0..2 {
        node.unload();
        assert!(!Path::new("/sys/module/toa").exists());
    }
}

#[test]
#[ignore = "loads the module"]
fn wrong_parameters_are_named() {
    let node = Node::new();
    refused(&node.load(&["hook=bogus"]), 2, &["hook"]);
    refused(
        &node.load(&["hok=auto"]),
        2,
        &["no parameter `hok`", "hook"],
    );
    assert!(!Path::new("/sys/module/toa").exists());
}

#[test]
#[ignore = "loads the module"]
fn wrong_modules_are_told_apart() {
    let node = Node::new();
    // With CONFIG_MODVERSIONS the kernel goes by checksums of symbols, and ignores the release.
    let has_checksums = node.module.windows(11).any(|text| text == b"modversions");
    let release = nix::sys::utsname::uname()
        .unwrap()
        .release()
        .to_string_lossy()
        .into_owned();
    let other = "9".repeat(release.len());
    let vermagic = |release: &str| format!("vermagic={release} ").into_bytes();
    let file = node.module("vermagic.ko", &vermagic(&release), &vermagic(&other));
    if has_checksums {
        let flags = node.module("flags.ko", b"modversions", b"modvarsions");
        refused(&node.load_file(&flags, &[]), 5, &["version magic"]);
    } else {
        refused(
            &node.load_file(&file, &[]),
            5,
            &[&other, &release, "version magic"],
        );
    }

    let file = node.module("symbol.ko", b"nf_register_sockopt", b"nf_register_nothing");
    refused(
        &node.load_file(&file, &[]),
        5,
        &["no symbol nf_register_nothing"],
    );

    let mut bytes = node.module.clone();
    // e_machine: one that is neither of those that the module is built for.
    bytes[18..20].copy_from_slice(&[8, 0]);
    refused(
        &node.load_file(&node.file("mips.ko", &bytes), &[]),
        5,
        &["Mips"],
    );

    let half = &node.module[..node.module.len() / 2];
    refused(
        &node.load_file(&node.file("half.ko", half), &[]),
        2,
        &["damaged"],
    );
}

#[test]
#[ignore = "loads the module"]
fn missing_capabilities_are_named() {
    let node = Node::new();
    // The program, the module and the folder that they are in may all be root's own.
    let public = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in("/run")
        .unwrap();
    let program = public.path().join("toa-cli");
    fs::copy(env!("CARGO_BIN_EXE_toa-cli"), &program).unwrap();
    let file = public.path().join("toa.ko");
    fs::write(&file, &node.module).unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = command(&program, arguments);
        command.uid(65_534).gid(65_534);
        command
    };
    let mut load = nobody(&["load", "--module"]);
    refused(&run(load.arg(&file)), 4, &["CAP_SYS_MODULE"]);
    assert_eq!(node.load(&[]).0, 0);
    refused(&run(&mut nobody(&["unload"])), 4, &["CAP_SYS_MODULE"]);
    refused(
        &run(&mut nobody(&["check"])),
        4,
        &["CAP_SYS_ADMIN", "CAP_NET_ADMIN"],
    );
    assert_eq!(run(&mut nobody(&["status"])).0, 0);
}

#[test]
#[ignore = "loads the module"]
fn check_proves_every_way_of_attaching_and_leaves_nothing() {
    let node = Node::new();
    for hook in ["hook=auto", "hook=ftrace", "hook=kprobe"] {
        assert_eq!(node.load(&[hook]).0, 0, "{hook}");
        let (code, out, err) = run(&mut toa_cli(&["check"]));
        assert_eq!(code, 0, "{hook}: {out}{err}");
        assert_eq!(out.matches('√').count(), 6, "{hook}: {out}");

        let (code, out, _) = run(&mut toa_cli(&["check", "-o", "json"]));
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &document["verdict"]), (0, &"good".into()));
        for connection in document["connections"].as_array().unwrap() {
            assert_eq!(connection["sent"], connection["got"]);
        }
        let devices = fs::read_dir("/sys/class/net").unwrap();
        let left = devices.filter(|name| {
            name.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("toa")
        });
        assert_eq!(left.count(), 0);
        node.unload();
    }
}

#[test]
#[ignore = "loads the module"]
fn status_agrees_with_the_kernel() {
    let node = Node::new();
    let status = |code: i32| -> serde_json::Value {
        let (exit, out, err) = run(&mut toa_cli(&["status", "-o", "json"]));
        assert_eq!((exit, err.as_str()), (code, ""), "{out}");
        serde_json::from_str(&out).unwrap()
    };
    assert_eq!(status(3)["state"], "not_loaded");
    assert_eq!(node.load(&["hook=kprobe"]).0, 0);
    assert_eq!(run(&mut toa_cli(&["check"])).0, 0);
    let document = status(0);
    let module = &document["module"];
    assert_eq!(module["abi"], document["library"]["abi"]);
    assert_eq!(module["parameters"]["hook"], "kprobe");
    assert_eq!(module["sessions"], 0);
    let hooks = fs::read_to_string("/proc/net/toa").unwrap();
    let hooks = hooks.lines().filter(|line| line.starts_with("hook "));
    assert_eq!(module["hooks"].as_array().unwrap().len(), hooks.count());
    for counter in ["syn_200_8", "ack_200_8", "syn_253_20", "ack_253_20"] {
        assert!(
            module["counters"][counter].as_u64() >= Some(1),
            "{counter}: {module}"
        );
    }
}
