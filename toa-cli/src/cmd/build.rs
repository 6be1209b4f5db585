// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli build`: the module for a kernel, from the installed source, for nodes
//! without DKMS.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use tempfile::TempDir;

use super::load::{FOLDERS, NAMES};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::Host;
use crate::modinfo::ModInfo;
use crate::packages::{Family, Piece};

/// What of the source makes the module, below its folder.
const SOURCES: [&str; 3] = ["Cargo.toml", "Kbuild", "toa-kmod"];

/// The version whose source belongs to this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What has the module loaded at boot, as the packages bring it.
const LOAD: &str = include_str!("../../../deploy/modules-load.d/toa.conf");

/// The folders that systemd-modules-load reads, the one for whoever owns the machine first.
const LOAD_FOLDERS: [&str; 5] = [
    "etc/modules-load.d",
    "run/modules-load.d",
    "usr/local/lib/modules-load.d",
    "usr/lib/modules-load.d",
    "lib/modules-load.d",
];

/// How many lines of a failed build are quoted.
const QUOTED: usize = 6;

/// How often the build's log is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// The arguments of `toa-cli build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kernel's release, as uname -r prints it [default: the running one]
    #[arg(long, value_name = "VERSION", value_parser = parse_release)]
    kernel: Option<String>,

    /// The kernel's headers [default: /lib/modules/VERSION/build]
    #[arg(long, value_name = "DIR")]
    headers: Option<PathBuf>,

    /// The module's source [default: /usr/src/toa-(this program's version)]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,

    /// Where the module goes [default: ./toa.ko, or nowhere with --install]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Install it too: /lib/modules/VERSION/updates/toa.ko and depmod; and have it loaded at boot
    #[arg(long)]
    install: bool,
}

fn parse_release(text: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._+~-".contains(letter);
    if text.starts_with(|first: char| first.is_ascii_digit()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("a kernel's release looks like 6.1.0-49-amd64 (uname -r prints the running one)".into())
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what was in the way.
pub fn run(host: &Host, args: &Args) -> Result<Exit, Failure> {
    let plan = Plan::new(host, args, &Tools::of_environment())?;
    let built = plan.build()?;
    let mut placed = Vec::new();
    if let Some(output) = &plan.output {
        place(&built.module, output)?;
        placed.push(output.display().to_string());
    }
    if args.install {
        placed.push(plan.install(host, &built.module)?);
        if let Some(path) = load_at_boot(host)? {
            note(&format!("{} has it loaded at boot", path.display()));
        }
    }
    super::print(&format!(
        "toa {} for {} (Rust: {}): {}\n",
        built.version,
        plan.release,
        built.rust,
        placed.join(", ")
    ))?;
    Ok(Exit::Good)
}

/// The programs that the build starts.
#[derive(Clone, Debug)]
struct Tools {
    make: OsString,
    /// `Some` where the environment's RUSTC names one.
    rustc: Option<OsString>,
}

impl Tools {
    fn of_environment() -> Self {
        Self {
            make: "make".into(),
            rustc: std::env::var_os("RUSTC").filter(|name| !name.is_empty()),
        }
    }
}

/// Everything that the build wants, found to be there.
#[derive(Debug)]
struct Plan {
    release: String,
    headers: PathBuf,
    source: PathBuf,
    output: Option<PathBuf>,
    tools: Tools,
    family: Family,
}

impl Plan {
    fn new(host: &Host, args: &Args, tools: &Tools) -> Result<Self, Failure> {
        let family = Family::of(host);
        let (headers, release) = headers(host, args, family)?;
        let source = source(host, args)?;
        let output = match &args.output {
            Some(output) => Some(output.clone()),
            None if args.install => None,
            None => Some(PathBuf::from("toa.ko")),
        };
        if let Some(output) = output.as_deref() {
            if output.is_dir() {
                return Err(
                    Failure::new(Exit::Usage, format!("{} is a folder", output.display()))
                        .next(format!("--output {}/toa.ko", output.display())),
                );
            }
        }
        let plan = Self {
            release,
            headers,
            source,
            output,
            tools: tools.clone(),
            family,
        };
        plan.check_tools()?;
        Ok(plan)
    }

    /// make and Rust, before minutes are spent.
    fn check_tools(&self) -> Result<(), Failure> {
        let missing = |what: String, piece| {
            Failure::new(Exit::Unsupported, what).next(self.family.install(piece))
        };
        if say(&self.tools.make, &["--version"]).is_none() {
            return Err(missing("make is not installed".into(), Piece::Make));
        }
        let minimum = self.rust_minimum()?;
        let rustc = self.tools.rustc.clone().unwrap_or_else(|| "rustc".into());
        let Some(version) = say(&rustc, &["--version"]) else {
            let failure = match &self.tools.rustc {
                Some(named) => Failure::new(
                    Exit::Unsupported,
                    format!("RUSTC={} cannot be run", named.to_string_lossy()),
                )
                .next("name one that can, or leave RUSTC out"),
                None => missing("rustc is not installed".into(), Piece::Rustc(&minimum)),
            };
            return Err(failure);
        };
        if !at_least(&version, &minimum) {
            return Err(missing(
                format!("{version} is too old: the module wants {minimum} or newer"),
                Piece::Rustc(&minimum),
            )
            .next(format!(
                "{}, or name a newer one: RUSTC=FILE toa-cli build",
                self.family.install(Piece::Rustc(&minimum))
            )));
        }
        if self.kernel_has_rust() {
            return Ok(());
        }
        let sysroot = say(&rustc, &["--print", "sysroot"]).unwrap_or_default();
        let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs");
        if !core.exists() {
            let failure = missing(
                format!("the sources of Rust's library, for {version}, are not installed"),
                Piece::RustSource,
            );
            return Err(if sysroot.contains("/toolchains/") {
                failure.next("rustup component add rust-src")
            } else {
                failure
            });
        }
        Ok(())
    }

    /// The oldest rustc that the source can do with.
    fn rust_minimum(&self) -> Result<String, Failure> {
        let path = self.source.join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        toml_value(&text, "rust-version").ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("{} states no rust-version", path.display()),
            )
            .next("name the folder of toa's source: toa-cli build --source DIR")
        })
    }

    /// Whether Kbuild will build on the kernel's own Rust, which brings its core.
    fn kernel_has_rust(&self) -> bool {
        self.headers.join("rust/libkernel.rmeta").exists()
            && std::env::var_os("TOA_RUST").is_none_or(|way| way != "freestanding")
    }

    fn build(&self) -> Result<Built, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("toa-build.")
            .tempdir()
            .map_err(|error| {
                Failure::new(
                    Exit::Unhealthy,
                    format!(
                        "no folder to build in can be made in {}: {error}",
                        std::env::temp_dir().display()
                    ),
                )
                .next("name another place: TMPDIR=DIR toa-cli build")
            })?;
        let path = folder.path().to_string_lossy().into_owned();
        if path.contains(|letter: char| letter.is_whitespace() || letter == ':') {
            return Err(Failure::new(
                Exit::Usage,
                format!("the kernel's make cannot work in {path}: a space or colon in the name"),
            )
            .next("name another place: TMPDIR=DIR toa-cli build"));
        }
        for name in SOURCES {
            copy(&self.source.join(name), &folder.path().join(name))?;
        }
        let log = folder.path().join("build.log");
        let status = self.make(folder.path(), &log)?;
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if !status.success() {
            return Err(failed(folder, &text, &self.release, self.family));
        }
        self.result(folder.path(), &text).map_err(|what| {
            let log = folder.keep().join("build.log");
            Failure::new(Exit::Unhealthy, what)
                .next(format!("the whole log is in {}", log.display()))
        })
    }

    /// Runs make, shows how far it is, and waits for its end.
    fn make(&self, folder: &Path, log: &Path) -> Result<ExitStatus, Failure> {
        let failed = |error: io::Error| {
            Failure::new(Exit::Unhealthy, format!("make cannot be started: {error}"))
                .next(self.family.install(Piece::Make))
        };
        let output = File::create(log).map_err(failed)?;
        let mut command = Command::new(&self.tools.make);
        command
            .arg("-C")
            .arg(&self.headers)
            .arg(format!("M={}", folder.display()))
            .arg(format!(
                "-j{}",
                thread::available_parallelism().map_or(1, std::num::NonZero::get)
            ))
            .arg("modules")
            .env("LC_ALL", "C")
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL")
            .env_remove("V")
            .stdin(Stdio::null())
            .stderr(output.try_clone().map_err(failed)?)
            .stdout(output);
        if let Some(rustc) = &self.tools.rustc {
            let mut argument = OsString::from("RUSTC=");
            argument.push(rustc);
            command.arg(argument);
        }
        let progress = Progress::new(&format!("building toa.ko for {}", self.release));
        let child = command.spawn().map_err(failed)?;
        let status = follow(child, log, folder, &progress).map_err(failed);
        progress.end();
        status
    }

    /// What the build made, looked at as `toa-cli load` would.
    fn result(&self, folder: &Path, log: &str) -> Result<Built, String> {
        let path = folder.join("toa.ko");
        // Nobody wants the debugging information in the kernel's memory or on the disk; without a
        // strip it stays.
        let _ = Command::new("strip")
            .arg("--strip-debug")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let module =
            fs::read(&path).map_err(|error| format!("the build made no toa.ko: {error}"))?;
        let info = ModInfo::parse(&module)
            .map_err(|why| format!("the build made a toa.ko that is no module: {why}"))?;
        match info.release() {
            Some(release) if release == self.release => {}
            other => {
                return Err(format!(
                    "the headers in {} are those of {}, and not of {}",
                    self.headers.display(),
                    other.unwrap_or("no kernel at all"),
                    self.release
                ));
            }
        }
        Ok(Built {
            version: info.get("version").unwrap_or(VERSION).to_owned(),
            rust: rust_way(log).to_owned(),
            module,
        })
    }

    /// Puts the module where modprobe and `toa-cli load` find it; the path.
    fn install(&self, host: &Host, module: &[u8]) -> Result<String, Failure> {
        let base = host.path(format!("lib/modules/{}", self.release));
        let path = base.join("updates/toa.ko");
        fs::create_dir_all(base.join("updates")).map_err(|error| unwritable(&path, &error))?;
        place(module, &path)?;
        for folder in FOLDERS {
            for name in NAMES {
                let other = base.join(folder).join(name);
                if other != path && other.is_file() {
                    note(&format!(
                        "{} is there too, and toa-cli load or modprobe may take it instead: remove what is not wanted",
                        other.display()
                    ));
                }
            }
        }
        let depmod = ["/sbin/depmod", "/usr/sbin/depmod"]
            .into_iter()
            .find(|program| Path::new(program).exists())
            .unwrap_or("depmod");
        match Command::new(depmod).arg(&self.release).status() {
            Ok(status) if status.success() => Ok(path.display().to_string()),
            Ok(status) => Err(Failure::new(
                Exit::Unhealthy,
                format!(
                    "{} is installed, but depmod failed ({status})",
                    path.display()
                ),
            )
            .next(format!("depmod {}", self.release))),
            Err(_) => Err(Failure::new(
                Exit::Unhealthy,
                format!(
                    "{} is installed, but there is no depmod: modprobe does not know it",
                    path.display()
                ),
            )
            .next(format!(
                "{}, then depmod {}",
                self.family.install(Piece::Depmod),
                self.release
            ))),
        }
    }
}

/// Has the module loaded at boot; the file for it, where there was none. Any file of that name is
/// somebody's decision, a link to /dev/null above all.
fn load_at_boot(host: &Host) -> Result<Option<PathBuf>, Failure> {
    let file = |folder: &str| host.path(folder).join("toa.conf");
    if LOAD_FOLDERS
        .iter()
        .any(|folder| file(folder).symlink_metadata().is_ok())
    {
        return Ok(None);
    }
    let path = file(LOAD_FOLDERS[0]);
    fs::create_dir_all(host.path(LOAD_FOLDERS[0])).map_err(|error| unwritable(&path, &error))?;
    place(LOAD.as_bytes(), &path)?;
    Ok(Some(path))
}

/// A module, built.
#[derive(Debug)]
struct Built {
    version: String,
    rust: String,
    module: Vec<u8>,
}

/// The headers' folder and the release that they are of.
fn headers(host: &Host, args: &Args, family: Family) -> Result<(PathBuf, String), Failure> {
    if let Some(folder) = &args.headers {
        // make -C would take a relative path as it is, but the kernel's scripts change folders.
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
        let stated = fs::read_to_string(folder.join("include/generated/utsrelease.h"))
            .ok()
            .and_then(|text| text.split('"').nth(1).map(str::to_owned));
        return match (stated, &args.kernel) {
            (None, _) => Err(Failure::new(
                Exit::Usage,
                format!("{} holds no kernel headers", folder.display()),
            )
            .next("name the folder that /lib/modules/VERSION/build points at")),
            (Some(stated), Some(wanted)) if stated != *wanted => Err(Failure::new(
                Exit::Usage,
                format!(
                    "the headers in {} are those of {stated}, and not of {wanted}",
                    folder.display()
                ),
            )
            .next("leave --kernel out, or name other headers")),
            (Some(stated), _) => Ok((folder, stated)),
        };
    }
    let release = args.kernel.as_deref().unwrap_or(host.release());
    let folder = host.path(format!("lib/modules/{release}/build"));
    if folder.join("Makefile").exists() {
        return Ok((folder, release.to_owned()));
    }
    Err(Failure::new(
        Exit::Unsupported,
        format!(
            "the headers of the kernel {release} are not installed: {} is {}",
            folder.display(),
            if folder.is_symlink() {
                "a link to nothing"
            } else {
                "missing"
            }
        ),
    )
    .next(family.install(Piece::Headers(release))))
}

fn source(host: &Host, args: &Args) -> Result<PathBuf, Failure> {
    let complete = |folder: &Path| SOURCES.iter().all(|name| folder.join(name).exists());
    if let Some(folder) = &args.source {
        if complete(folder) {
            return Ok(folder.clone());
        }
        return Err(Failure::new(
            Exit::Usage,
            format!("{} is not toa's source", folder.display()),
        )
        .next(format!(
            "name the folder that has {} in it",
            SOURCES.join(", ")
        )));
    }
    let folder = host.path(format!("usr/src/toa-{VERSION}"));
    if complete(&folder) {
        return Ok(folder);
    }
    let others: Vec<String> = host
        .list("usr/src")
        .unwrap_or_default()
        .into_iter()
        .filter(|name| name.starts_with("toa-"))
        .map(|name| format!("/usr/src/{name}"))
        .collect();
    let what = format!("the source of toa {VERSION} is not in {}", folder.display());
    let next = if others.is_empty() {
        "install it (package toa-dkms or toa-source, or make install-source), or name it: toa-cli build --source DIR".to_owned()
    } else {
        format!(
            "install that version, or take another: toa-cli build --source {}",
            others[0]
        )
    };
    Err(Failure::new(Exit::Unsupported, what).next(next))
}

/// The first line that a program prints, if it runs at all.
fn say(program: &OsString, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next().unwrap_or_default().to_owned())
}

/// Whether `rustc 1.85.1 (…)` is `1.85` or newer.
fn at_least(version: &str, minimum: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split('.')
            .map_while(|part| {
                let end = part
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(part.len());
                part[..end].parse().ok()
            })
            .collect()
    };
    let stated = version.split_whitespace().nth(1).unwrap_or_default();
    numbers(stated) >= numbers(minimum)
}

/// The value of `key = "value"`, alone on its line.
fn toml_value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// Copies a file, or a folder with all that a build did not leave in it.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| unreadable(from, &error);
    if !from.is_dir() {
        return fs::copy(from, to).map(drop).map_err(failed);
    }
    fs::create_dir(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !left_by_build(&name.to_string_lossy()) {
            copy(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

/// Whether an earlier build, of another kernel maybe, made a file of this name.
fn left_by_build(name: &str) -> bool {
    let made = [
        ".o", ".ko", ".mod", ".mod.c", ".cmd", ".a", ".d", ".rmeta", ".checked",
    ];
    name.starts_with('.') || name == "probed.h" || made.iter().any(|end| name.ends_with(end))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::Unhealthy,
    };
    Failure::new(
        exit,
        format!("{} cannot be copied: {error}", path.display()),
    )
    .next("check the source: toa-cli build --source DIR names another")
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::PermissionDenied => Failure::new(
            Exit::Permission,
            format!("{} may not be written: {error}", path.display()),
        )
        .next("run as root, or name another place: toa-cli build --output FILE"),
        _ => Failure::new(
            Exit::Unhealthy,
            format!("{} cannot be written: {error}", path.display()),
        )
        .next("name another place: toa-cli build --output FILE"),
    }
}

/// Writes the file aside and renames it: whoever reads it meanwhile has a whole one.
fn place(content: &[u8], path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;

    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".toa.ko.")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|error| unwritable(path, &error))?;
    file.write_all(content)
        .and_then(|()| file.as_file().sync_all())
        .map_err(|error| unwritable(path, &error))?;
    file.persist(path)
        .map(drop)
        .map_err(|error| unwritable(path, &error.error))
}

/// A build that failed: the lines that say why. The folder stays, for its log.
fn failed(folder: TempDir, log: &str, release: &str, family: Family) -> Failure {
    let folder = folder.keep();
    let whole = folder.join("build.log");
    let failure = match missing_compiler(log) {
        Some(compiler) => Failure::new(
            Exit::Unsupported,
            format!(
                "{compiler}, the compiler that the headers of {release} name, is not installed"
            ),
        )
        .next(format!(
            "{} (the whole log: {})",
            family.install(Piece::Compiler(compiler)),
            whole.display()
        )),
        None => Failure::new(
            Exit::Unhealthy,
            format!("the module does not build for {release}"),
        )
        .next(format!("read the whole log: {}", whole.display())),
    };
    failure.build_log(errors(log, &folder))
}

/// The C compiler that make or its shell looked for in vain.
fn missing_compiler(log: &str) -> Option<&str> {
    log.lines().find_map(|line| {
        let before = line
            .strip_suffix(": not found")
            .or_else(|| line.strip_suffix(": No such file or directory"))
            .or_else(|| line.strip_suffix(": command not found"))?;
        let name = before.rsplit([' ', '/']).next()?;
        let compiler = name
            .rsplit('-')
            .find(|part| !part.chars().all(|c| c.is_ascii_digit()));
        matches!(compiler, Some("gcc" | "clang" | "cc")).then_some(name)
    })
}

/// The lines that say why a build failed: its errors, or else its end.
fn errors(log: &str, folder: &Path) -> Vec<String> {
    let folder = format!("{}/", folder.display());
    let short = |line: &str| line.replace(&folder, "").trim_end().to_owned();
    let telling = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        // make's own "*** [target] Error 2" only passes on that something failed.
        (line.contains(" *** ") || line.starts_with("***")) && !line.contains("*** [")
            || ["error:", "error[", "not found", "no such file"]
                .iter()
                .any(|word| lower.contains(word))
    };
    let found: Vec<String> = log
        .lines()
        .filter(telling)
        .take(QUOTED)
        .map(short)
        .collect();
    if !found.is_empty() {
        return found;
    }
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(QUOTED)..]
        .iter()
        .map(|line| short(line))
        .collect()
}

/// The way that Kbuild says it took.
fn rust_way(log: &str) -> &str {
    log.lines()
        .find_map(|line| line.trim_start().strip_prefix("TOA     Rust half: "))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("unknown")
}

/// One of Kbuild's short lines, `  CC [M]  /folder/toa-kmod/shim/hook.o`, without the folder.
fn step(line: &str, folder: &Path) -> Option<String> {
    let rest = line.strip_prefix("  ")?;
    let verb = rest.split_whitespace().next()?;
    if rest.starts_with(' ') || !verb.chars().all(|letter| letter.is_ascii_uppercase()) {
        return None;
    }
    let folder = format!("{}/", folder.display());
    let words: Vec<&str> = rest.split_whitespace().collect();
    let mut text = words.join(" ").replace(&folder, "");
    if text.ends_with("/libcore.rmeta") {
        text.push_str(" (Rust's core library; the longest step)");
    }
    Some(text)
}

/// Shows each step that appears in the log, until make has ended.
fn follow(
    mut child: Child,
    log: &Path,
    folder: &Path,
    progress: &Progress,
) -> io::Result<ExitStatus> {
    let mut reader = File::open(log)?;
    let mut pending = String::new();
    let mut chunk = Vec::new();
    loop {
        let ended = child.try_wait()?;
        chunk.clear();
        reader.read_to_end(&mut chunk)?;
        pending.push_str(&String::from_utf8_lossy(&chunk));
        while let Some(end) = pending.find('\n') {
            if let Some(text) = step(&pending[..end], folder) {
                progress.step(text);
            }
            pending.drain(..=end);
        }
        if let Some(status) = ended {
            return Ok(status);
        }
        thread::sleep(PAUSE);
    }
}

/// How far the build is: one moving line on a terminal, else a line for each step.
struct Progress {
    bar: Option<ProgressBar>,
    title: String,
}

impl Progress {
    fn new(title: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(PAUSE);
            bar.set_message(title.to_owned());
            bar
        });
        if bar.is_none() {
            note(title);
        }
        Self {
            bar,
            title: title.to_owned(),
        }
    }

    fn step(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {text}", self.title)),
            None => note(&format!("    {text}")),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn note(text: &str) {
    // Where stderr is gone nobody reads it.
    let _ = writeln!(anstream::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::modinfo::tests::module;
    use crate::state::tests::{machine, silent};

    const RELEASE: &str = "7.3.4+deb13-amd64";
    const HEADERS: &str = "lib/modules/7.3.4+deb13-amd64/build/Makefile";
    const DEBIAN: (&str, &str) = ("etc/os-release", "ID=debian\n");

    fn args() -> Args {
        Args {
            kernel: None,
            headers: None,
            source: None,
            output: None,
            install: false,
        }
    }

    /// A node with headers and source, and programs that are shell scripts.
    struct Node {
        root: TempDir,
        host: Host,
        tools: Tools,
    }

    impl Node {
        fn new() -> Self {
            let source = format!("usr/src/toa-{VERSION}");
            let files = [
                DEBIAN,
                (HEADERS, ""),
                (&format!("{source}/Cargo.toml"), "rust-version = \"1.85\"\n"),
                (&format!("{source}/Kbuild"), ""),
                (&format!("{source}/toa-kmod/lib.rs"), "// source\n"),
                (&format!("{source}/toa-kmod/lib.o"), "left over"),
                ("sysroot/lib/rustlib/src/rust/library/core/src/lib.rs", ""),
            ];
            let (root, host) = machine(&files, silent);
            let mut node = Self {
                root,
                host,
                tools: Tools {
                    make: "true".into(),
                    rustc: None,
                },
            };
            let sysroot = node.root.path().join("sysroot");
            node.rustc("1.85.1", &sysroot.display().to_string());
            node
        }

        /// Written by another process: where this one had it open for writing while a test
        /// beside it forks, it would be busy.
        fn script(&self, name: &str, text: &str) -> OsString {
            let path = self.root.path().join(name);
            let status = Command::new("sh")
                .args([
                    "-c",
                    "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod 755 \"$0\"",
                ])
                .arg(&path)
                .arg(text)
                .status();
            assert!(status.unwrap().success());
            path.into()
        }

        fn rustc(&mut self, version: &str, sysroot: &str) {
            let text = format!(
                "case $1 in --version) echo 'rustc {version} (abc 2025)' ;; *) echo {sysroot} ;; esac"
            );
            self.tools.rustc = Some(self.script("rustc", &text));
        }

        /// A make that does `text` in the build folder.
        fn make(&mut self, text: &str) {
            let text =
                format!("[ \"$1\" = --version ] && exit 0\ncd \"${{3#M=}}\" || exit 9\n{text}");
            self.tools.make = self.script("make", &text);
        }

        fn plan(&self) -> Result<Plan, Failure> {
            Plan::new(&self.host, &args(), &self.tools)
        }

        fn refusal(&self) -> (Exit, String, String) {
            let failure = self.plan().unwrap_err();
            (failure.exit, failure.what, failure.next.unwrap())
        }
    }

    /// Takes away the folder that a failed build keeps; its log.
    fn remove_kept(failure: &Failure) -> String {
        let next = failure.next.as_deref().unwrap();
        let log = Path::new(next.rsplit(' ').next().unwrap());
        let text = fs::read_to_string(log).unwrap();
        fs::remove_dir_all(log.parent().unwrap()).unwrap();
        text
    }

    #[test]
    fn a_release_is_no_path() {
        assert!(parse_release("6.1.0-49-amd64").is_ok());
        assert!(parse_release("5.4.119-19.0009.28_plus~rc1+x").is_ok());
        for wrong in ["", "../../etc", "6.1/../x", "-6.1", "6.1 x"] {
            assert!(parse_release(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_complete_node_is_planned_for() {
        let plan = Node::new().plan().unwrap();
        assert_eq!(plan.release, RELEASE);
        assert!(plan.source.ends_with(format!("usr/src/toa-{VERSION}")));
        assert_eq!(plan.output.as_deref(), Some(Path::new("toa.ko")));
    }

    #[test]
    fn missing_headers_name_their_package() {
        let (_root, host) = machine(&[DEBIAN], silent);
        let args = Args {
            kernel: Some("6.1.0-49-amd64".into()),
            ..args()
        };
        let failure = headers(&host, &args, Family::of(&host)).unwrap_err();
        assert_eq!(failure.exit, Exit::Unsupported);
        assert!(failure.what.contains("kernel 6.1.0-49-amd64"));
        assert_eq!(
            failure.next.as_deref(),
            Some("apt-get install linux-headers-6.1.0-49-amd64")
        );
    }

    #[test]
    fn named_headers_say_their_release_and_must_be_the_wanted_one() {
        let stated = (
            "headers/include/generated/utsrelease.h",
            "#define UTS_RELEASE \"6.1.0-49-amd64\"\n",
        );
        let (root, host) = machine(&[stated], silent);
        let named = |folder: &str, kernel: Option<&str>| {
            let args = Args {
                headers: Some(root.path().join(folder)),
                kernel: kernel.map(str::to_owned),
                ..args()
            };
            headers(&host, &args, Family::Debian)
        };
        assert_eq!(named("headers", None).unwrap().1, "6.1.0-49-amd64");
        let failure = named("headers", Some("6.1.0-50-amd64")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            named("none", None)
                .unwrap_err()
                .what
                .contains("no kernel headers")
        );
    }

    #[test]
    fn missing_source_says_where_it_comes_from() {
        let (_root, host) = machine(&[("usr/src/toa-0.0.9/Kbuild", "")], silent);
        let failure = source(&host, &args()).unwrap_err();
        assert_eq!(failure.exit, Exit::Unsupported);
        assert!(
            failure
                .next
                .unwrap()
                .contains("--source /usr/src/toa-0.0.9")
        );
        let named = Args {
            source: Some(host.path("usr/src/toa-0.0.9")),
            ..args()
        };
        let failure = source(&host, &named).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.what.contains("is not toa's source"));
    }

    #[test]
    fn missing_tools_name_their_packages() {
        let mut node = Node::new();
        node.tools.make = "/nowhere/make".into();
        let (exit, what, next) = node.refusal();
        assert_eq!(
            (exit, what.as_str()),
            (Exit::Unsupported, "make is not installed")
        );
        assert!(next.contains("apt-get install make"));

        let mut node = Node::new();
        node.rustc("1.63.0", "/");
        let (_, what, next) = node.refusal();
        assert!(what.contains("1.63.0") && what.contains("1.85"), "{what}");
        assert!(next.contains("rustc-web"), "{next}");

        let mut node = Node::new();
        node.rustc("1.90.0-nightly", "/nowhere");
        let (_, what, next) = node.refusal();
        assert!(what.contains("sources of Rust's library"), "{what}");
        assert!(next.contains("rust-src"), "{next}");
        node.rustc("1.90.0", "/root/.rustup/toolchains/stable");
        assert_eq!(node.refusal().2, "rustup component add rust-src");

        let mut node = Node::new();
        node.tools.rustc = Some("/nowhere/rustc".into());
        assert!(node.refusal().1.contains("/nowhere/rustc"));
    }

    #[test]
    fn a_kernel_with_rust_brings_its_core() {
        let mut node = Node::new();
        node.rustc("1.85.1", "/nowhere");
        let rust = node.host.path(format!("lib/modules/{RELEASE}/build/rust"));
        fs::create_dir_all(&rust).unwrap();
        fs::write(rust.join("libkernel.rmeta"), "").unwrap();
        assert!(node.plan().is_ok());
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(at_least("rustc 1.85.0 (4d91de4e4 2025-02-17)", "1.85"));
        assert!(at_least("rustc 1.100.0-nightly (x)", "1.85"));
        assert!(at_least("rustc 2.0.0", "1.85"));
        assert!(!at_least("rustc 1.84.1 (x)", "1.85"));
        assert!(!at_least("nonsense", "1.85"));
    }

    #[test]
    fn the_source_is_copied_without_what_a_build_left() {
        let mut node = Node::new();
        let modinfo = format!("name=toa\0version=9.9\0vermagic={RELEASE} SMP \0");
        let ready = node.root.path().join("ready.ko");
        fs::write(&ready, module(62, 1, modinfo.as_bytes())).unwrap();
        node.make(&format!(
            "[ -e toa-kmod/lib.rs ] && [ ! -e toa-kmod/lib.o ] || exit 8\n\
             echo '  TOA     Rust half: freestanding (no CONFIG_RUST)'\ncp {} toa.ko",
            ready.display()
        ));
        let built = node.plan().unwrap().build().unwrap();
        assert_eq!(
            (built.version.as_str(), built.rust.as_str()),
            ("9.9", "freestanding")
        );
    }

    #[test]
    fn another_kernels_module_is_not_handed_out() {
        let mut node = Node::new();
        let ready = node.root.path().join("ready.ko");
        fs::write(&ready, module(62, 1, b"name=toa\0vermagic=6.1 SMP \0")).unwrap();
        node.make(&format!("cp {} toa.ko", ready.display()));
        let failure = node.plan().unwrap().build().unwrap_err();
        assert!(
            failure.what.contains("are those of 6.1,"),
            "{}",
            failure.what
        );
        remove_kept(&failure);
    }

    #[test]
    fn a_failed_build_quotes_its_errors_and_keeps_its_log() {
        let mut node = Node::new();
        node.make("echo \"$PWD/toa-kmod/shim/hook.c:3:1: error: unknown type\"; exit 2");
        let failure = node.plan().unwrap().build().unwrap_err();
        assert_eq!(failure.exit, Exit::Unhealthy);
        assert_eq!(
            failure.log,
            ["toa-kmod/shim/hook.c:3:1: error: unknown type"]
        );
        assert!(remove_kept(&failure).contains("unknown type"));
    }

    #[test]
    fn what_make_merely_passes_on_is_not_quoted() {
        let log = "make: Entering directory '/h'\n\
                   /b/toa-kmod/freestanding.mk:21: *** rustc is not installed: install it.  Stop.\n\
                   make[1]: *** [/h/Makefile:2008: /b] Error 2\n\
                   make: *** [/h/Makefile:236: __sub-make] Error 2\n";
        assert_eq!(
            errors(log, Path::new("/b")),
            ["toa-kmod/freestanding.mk:21: *** rustc is not installed: install it.  Stop."]
        );
        assert_eq!(errors("a\n\nb\n", Path::new("/b")), ["a", "b"]);
    }

    #[test]
    fn a_compiler_that_is_not_there_is_named() {
        let found = |line| missing_compiler(line);
        assert_eq!(
            found("make[1]: gcc-10: No such file or directory"),
            Some("gcc-10")
        );
        assert_eq!(found("/bin/sh: 1: clang-19: not found"), Some("clang-19"));
        let cross = "/bin/sh: line 1: aarch64-linux-gnu-gcc: command not found";
        assert_eq!(found(cross), Some("aarch64-linux-gnu-gcc"));
        assert_eq!(found("cp: /x/gcc.h: No such file or directory"), None);
        assert_eq!(found("/bin/sh: 1: pahole: not found"), None);
    }

    #[test]
    fn steps_are_kbuilds_short_lines() {
        let folder = Path::new("/b");
        let text = |line| step(line, folder);
        assert_eq!(
            text("  CC [M]  /b/toa-kmod/shim/hook.o").as_deref(),
            Some("CC [M] toa-kmod/shim/hook.o")
        );
        assert!(
            text("  RUSTC   /b/toa-kmod/entry/libcore.rmeta")
                .unwrap()
                .contains("longest")
        );
        assert_eq!(text("warning: something"), None);
        assert_eq!(text("    note: indented"), None);
        assert_eq!(text("  --> src/lib.rs"), None);
    }

    #[test]
    fn loading_at_boot_is_set_up_once() {
        let (root, host) = machine(&[], silent);
        let path = root.path().join("etc/modules-load.d/toa.conf");
        assert_eq!(load_at_boot(&host).unwrap(), Some(path.clone()));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().any(|line| line == "toa"), "{text}");
        assert_eq!(load_at_boot(&host).unwrap(), None);
    }

    #[test]
    fn whoever_keeps_the_module_from_loading_at_boot_is_obeyed() {
        let (root, host) = machine(&[], silent);
        let folder = root.path().join("etc/modules-load.d");
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.join("toa.conf")).unwrap();
        assert_eq!(load_at_boot(&host).unwrap(), None);
        let (_root, packaged) = machine(&[("usr/lib/modules-load.d/toa.conf", "toa\n")], silent);
        assert_eq!(load_at_boot(&packaged).unwrap(), None);
    }

    #[test]
    fn a_file_is_placed_whole_and_readable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toa.ko");
        fs::write(&path, "old").unwrap();
        place(b"new", &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let failure = place(b"new", &folder.path().join("none/toa.ko")).unwrap_err();
        assert!(failure.what.contains("none/toa.ko"));
    }
}
