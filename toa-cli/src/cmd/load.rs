// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli load`: finit_module(2), and why it failed in plain words.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::cap::{Capabilities, Capability};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::Host;
use crate::kmsg::Cursor;
use crate::modinfo::{ModInfo, Packing};
use crate::state::{self, Loaded, Presence};

/// MODULE_INIT_COMPRESSED_FILE of linux/module.h, Linux 5.17.
const COMPRESSED_FILE: u32 = 4;

/// The parameter that tells this project's module from others called `toa`.
const OUR_PARAMETER: &str = "hook";

/// The folders of /lib/modules/RELEASE that modules from outside the kernel are
/// put in: by modules_install, and by DKMS on Debian and on Red Hat systems.
pub(super) const FOLDERS: [&str; 3] = ["extra", "updates/dkms", "updates"];

/// The names that the module's file can have, the plain one first.
pub(super) const NAMES: [&str; 4] = ["toa.ko", "toa.ko.xz", "toa.ko.zst", "toa.ko.gz"];

/// How a module for the running kernel comes about.
const BUILD: &str = "build it for the running kernel: toa-cli build --install, or dkms autoinstall where \
                     toa-dkms is installed";

/// The arguments of `toa-cli load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The module's file [default: ./toa.ko, else /lib/modules/RELEASE/{extra,updates/dkms,updates}/toa.ko, also packed as .xz, .zst or .gz]
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,

    /// The module's parameters, for example hook=kprobe
    #[arg(value_name = "PARAM=VALUE", value_parser = parse_parameter)]
    parameters: Vec<Parameter>,
}

/// A parameter of the module and the value it shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    name: String,
    value: String,
}

fn parse_parameter(text: &str) -> Result<Parameter, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form param=value"))?;
    let well_named = !name.is_empty()
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
    if !well_named {
        return Err(format!("`{name}` cannot be the name of a parameter"));
    }
    if value
        .chars()
        .any(|letter| letter == '"' || letter == '\n' || letter == '\0')
    {
        return Err(format!(
            "the value of `{name}` has a quote, a line end or a NUL in it, which the kernel cannot read"
        ));
    }
    // The kernel takes both signs for the same; /sys shows the second.
    Ok(Parameter {
        name: name.replace('-', "_"),
        value: value.to_owned(),
    })
}

impl Parameter {
    /// As the kernel reads it: quoted where it has a blank.
    fn to_kernel(&self) -> String {
        if self.value.contains(|letter: char| letter.is_whitespace()) {
            format!("{}=\"{}\"", self.name, self.value)
        } else {
            format!("{}={}", self.name, self.value)
        }
    }

    /// Whether the loaded module's `shown` value is this one. /sys shows Y and N
    /// for what may be given as 1 and 0, and decimals for what may be given in hex.
    fn is(&self, shown: &str) -> bool {
        let number = |text: &str| -> Option<i128> {
            match text.strip_prefix("0x") {
                Some(hex) => i128::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            }
        };
        let truth = |text: &str| match text {
            "Y" | "y" | "1" | "on" => Some(true),
            "N" | "n" | "0" | "off" => Some(false),
            _ => None,
        };
        let value = self.value.as_str();
        value == shown
            || number(value).is_some_and(|n| number(shown) == Some(n))
            || (matches!(shown, "Y" | "N") && truth(value) == truth(shown))
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what was in the way.
pub fn run(host: &Host, args: &Args) -> Result<Exit, Failure> {
    match state::presence(host) {
        Presence::Ours(loaded) => {
            return already(&loaded, &args.parameters).map(|()| Exit::Good);
        }
        Presence::Foreign(foreign) => return Err(super::foreign(&foreign)),
        Presence::Changing(word) => return Err(super::changing(&word)),
        Presence::Absent => {}
    }
    let path = find(host, args.module.as_deref())?;
    let file = ModuleFile::open(&path)?;
    file.check(&args.parameters)?;
    if let Some(caps) = Capabilities::read(host) {
        require_sys_module(caps)?;
    }

    let flags = match file.packing {
        Packing::Plain => ModuleInitFlags::empty(),
        packing => {
            can_unpack(host, packing, &path)?;
            ModuleInitFlags::from_bits_retain(COMPRESSED_FILE)
        }
    };
    let parameters: Vec<String> = args.parameters.iter().map(Parameter::to_kernel).collect();
    let parameters = CString::new(parameters.join(" "))
        .map_err(|_| Failure::new(Exit::Usage, "a parameter has a NUL in it"))?;
    let log = Cursor::now();
    match finit_module(&file.file, &parameters, flags) {
        Ok(()) => {}
        // Somebody else was quicker: with the same parameters all is well.
        Err(Errno::EEXIST) => {
            if let Presence::Ours(loaded) = state::presence(host) {
                return already(&loaded, &args.parameters).map(|()| Exit::Good);
            }
            return Err(explain(
                Errno::EEXIST,
                &Context::gather(host, &file, &path, log),
            ));
        }
        Err(errno) => return Err(explain(errno, &Context::gather(host, &file, &path, log))),
    }
    let described = match state::presence(host) {
        Presence::Ours(loaded) => describe(&loaded),
        _ => String::from("toa"),
    };
    super::print(&format!("{described} loaded from {}\n", path.display()))?;
    Ok(Exit::Good)
}

/// What to say where the module is loaded already.
fn already(loaded: &Loaded, wanted: &[Parameter]) -> Result<(), Failure> {
    let differences = differences(&loaded.parameters, wanted);
    if differences.is_empty() {
        return super::print(&format!("{} is loaded already\n", describe(loaded)));
    }
    Err(Failure::new(
        Exit::Unhealthy,
        format!(
            "the module is loaded already, with other parameters: {}",
            differences.join(", ")
        ),
    )
    .next("toa-cli unload, then load again (the parameters cannot be changed while it is loaded)"))
}

/// Where the loaded module's parameters are not as wanted; what is not named is
/// as it should be.
fn differences(loaded: &BTreeMap<String, String>, wanted: &[Parameter]) -> Vec<String> {
    let mut found = Vec::new();
    for parameter in wanted {
        let Parameter { name, value } = parameter;
        match loaded.get(name) {
            Some(shown) if parameter.is(shown) => {}
            Some(shown) => found.push(format!("{name} is {shown}, not {value}")),
            None => found.push(format!("it has no parameter {name}")),
        }
    }
    found
}

fn describe(loaded: &Loaded) -> String {
    let mut text = String::from("toa");
    if let Some(version) = &loaded.version {
        text.push(' ');
        text.push_str(version);
    }
    let parameters: Vec<String> = loaded
        .parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !parameters.is_empty() {
        text.push_str(&format!(" ({})", parameters.join(" ")));
    }
    text
}

/// The module's file: what was named, else the first one in the usual places.
fn find(host: &Host, named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_path_buf());
    }
    let here = PathBuf::from("toa.ko");
    if here.is_file() {
        return Ok(here);
    }
    let release = host.release();
    for folder in FOLDERS {
        for name in NAMES {
            let path = host.path(format!("lib/modules/{release}/{folder}/{name}"));
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    Err(Failure::new(
        Exit::Unsupported,
        format!(
            "no toa.ko for the running kernel {release}: neither ./toa.ko nor \
             /lib/modules/{release}/{{{}}}/toa.ko[.xz|.zst|.gz]",
            FOLDERS.join(",")
        ),
    )
    .next(format!("{BUILD}; or name it: toa-cli load --module PATH")))
}

/// The module's file, open.
#[derive(Debug)]
struct ModuleFile {
    file: File,
    packing: Packing,
    /// `None` where it is packed: the kernel unpacks it.
    info: Option<ModInfo>,
    shown: String,
}

impl ModuleFile {
    fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let failed = |error: std::io::Error| {
            match error.kind() {
            ErrorKind::NotFound => {
                Failure::new(Exit::Usage, format!("there is no file {shown}")).next(
                    "check the path; without --module the usual places are searched (see toa-cli load --help)",
                )
            }
            ErrorKind::PermissionDenied => {
                Failure::new(Exit::Permission, format!("{shown} may not be read: {error}"))
                    .next("run as root")
            }
            ErrorKind::IsADirectory => {
                Failure::new(Exit::Usage, format!("{shown} is a folder, not a module"))
                    .next(format!("toa-cli load --module {shown}/toa.ko"))
            }
            _ => Failure::new(Exit::Usage, format!("{shown} cannot be read: {error}")),
        }
        };
        let mut file = File::open(path).map_err(failed)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(failed)?;
        let packing = Packing::of(&content);
        let info = match packing {
            Packing::Plain => Some(ModInfo::parse(&content).map_err(|why| {
                Failure::new(
                    Exit::Usage,
                    format!("{shown} is not a kernel module: {why}"),
                )
                .next("name the file toa.ko that the build made")
            })?),
            _ => None,
        };
        Ok(Self {
            file,
            packing,
            info,
            shown,
        })
    }

    /// What can be told before the kernel is asked.
    fn check(&self, parameters: &[Parameter]) -> Result<(), Failure> {
        let Some(info) = &self.info else {
            return Ok(());
        };
        let shown = &self.shown;
        let name = info.get("name").unwrap_or("(none)");
        let known = info.parameters();
        if name != "toa" || !known.contains(&OUR_PARAMETER) {
            let whose = if name == "toa" {
                "is another project's toa".to_owned()
            } else {
                format!("is the module {name}, not toa")
            };
            let description = info.get("description").unwrap_or("no description");
            let license = info.get("license").unwrap_or("no licence");
            return Err(Failure::new(
                Exit::Usage,
                format!("{shown} {whose} ({description}; {license})"),
            )
            .next("name this project's toa.ko; other modules are loaded by insmod"));
        }
        if !info.fits_this_machine() {
            return Err(Failure::new(
                Exit::Unsupported,
                format!(
                    "{shown} is built for {:?}, and this machine is {}",
                    info.architecture,
                    std::env::consts::ARCH
                ),
            )
            .next("build it on, or for, this architecture"));
        }
        for Parameter { name, .. } in parameters {
            // The kernel would load it and merely log that the parameter was ignored.
            if !known.contains(&name.as_str()) {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{shown} has no parameter `{name}`"),
                )
                .next(format!("its parameters are: {}", known.join(", "))));
            }
        }
        Ok(())
    }
}

fn require_sys_module(caps: Capabilities) -> Result<(), Failure> {
    if caps.over_node(Capability::SysModule) {
        return Ok(());
    }
    Err(missing_sys_module(caps.here(Capability::SysModule)))
}

/// Without `CAP_SYS_MODULE`, or with it in a user namespace only.
pub(super) fn missing_sys_module(in_user_namespace: bool) -> Failure {
    let why = if in_user_namespace {
        "CAP_SYS_MODULE is held in this user namespace only, and modules belong to the node"
    } else {
        "CAP_SYS_MODULE is missing: only root may load and unload modules"
    };
    Failure::new(Exit::Permission, why)
        .next("run as root on the node, or give the container the capability SYS_MODULE")
}

/// Whether the kernel unpacks this sort of file.
fn can_unpack(host: &Host, packing: Packing, path: &Path) -> Result<(), Failure> {
    let wanted = packing.kernel_word();
    let found = host.read_value("sys/module/compression");
    let why = match found.as_deref() {
        Some(word) if word == wanted => return Ok(()),
        Some(word) => format!("this kernel unpacks {word} modules only"),
        None => "this kernel does not unpack modules".to_owned(),
    };
    let shown = path.display();
    let plain = path.with_extension("");
    Err(Failure::new(
        Exit::Unsupported,
        format!("{shown} is packed by {wanted}, and {why}"),
    )
    .next(format!(
        "{} {shown}, then toa-cli load --module {}",
        packing.unpacker(),
        plain.display()
    )))
}

/// All that bears on why the kernel refused.
#[derive(Clone, Debug, Default)]
struct Context {
    shown: String,
    packing: Packing,
    release: String,
    built_for: Option<String>,
    depends: Option<String>,
    lockdown: Option<String>,
    modules_disabled: bool,
    log: Vec<String>,
    log_readable: bool,
}

impl Context {
    fn gather(host: &Host, file: &ModuleFile, path: &Path, log: Option<Cursor>) -> Self {
        let field = |key: &str| {
            let info = file.info.as_ref()?;
            info.get(key)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        Self {
            shown: path.display().to_string(),
            packing: file.packing,
            release: host.release().to_owned(),
            built_for: file
                .info
                .as_ref()
                .and_then(|info| info.release().map(str::to_owned)),
            depends: field("depends"),
            lockdown: host
                .read("sys/kernel/security/lockdown")
                .and_then(|text| active_lockdown(&text)),
            modules_disabled: host
                .read_value("proc/sys/kernel/modules_disabled")
                .as_deref()
                == Some("1"),
            log_readable: log.is_some(),
            log: log.map(Cursor::since).unwrap_or_default(),
        }
    }

    fn logged(&self, part: &str) -> Option<&str> {
        self.log
            .iter()
            .map(String::as_str)
            .find(|line| line.contains(part))
    }
}

/// The level in brackets, where it is not `none`.
fn active_lockdown(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (level, _) = rest.split_once(']')?;
    (level != "none").then(|| level.to_owned())
}

/// The kernel's errno and its log, in plain words with the next step.
fn explain(errno: Errno, context: &Context) -> Failure {
    let Context { shown, release, .. } = context;
    let failure = match errno {
        Errno::ENOEXEC => wrong_kernel(context),
        Errno::ENOENT => missing_symbol(context),
        Errno::EKEYREJECTED | Errno::ENOKEY | Errno::ENODATA | Errno::EBADMSG | Errno::ENOPKG => {
            unsigned(errno, context)
        }
        Errno::EPERM | Errno::EACCES => refused(errno, context),
        Errno::EINVAL
            if context
                .logged("disagrees about version of symbol")
                .is_some() =>
        {
            wrong_kernel(context)
        }
        Errno::EINVAL if context.logged("Unknown symbol").is_some() => missing_symbol(context),
        Errno::EINVAL if context.packing != Packing::Plain && because(context).is_empty() => {
            not_unpacked(context)
        }
        Errno::EINVAL => Failure::new(
            Exit::Usage,
            format!("the module refused a parameter{}", because(context)),
        )
        .next("correct the parameter (modinfo -p shows what each one takes)"),
        Errno::EOPNOTSUPP => Failure::new(
            Exit::Unsupported,
            format!("the module cannot work on this kernel{}", because(context)),
        )
        .next(
            "where ftrace or kprobes are switched off, switch them on and load again; otherwise use \
             a kernel with ftrace or kprobes and without PREEMPT_RT",
        ),
        Errno::EEXIST => Failure::new(
            Exit::Foreign,
            "another module named `toa` was loaded meanwhile, or owns a symbol of this one",
        )
        .next("toa-cli status"),
        Errno::EBUSY if context.logged("is another toa module loaded").is_some() => Failure::new(
            Exit::Foreign,
            format!(
                "another module holds what this one must have{}",
                because(context)
            ),
        )
        .next(
            "find it with `lsmod` (its name often ends in toa), unload it with `rmmod NAME`, and \
             load again",
        ),
        Errno::EBUSY => Failure::new(
            Exit::Unhealthy,
            format!(
                "the kernel is busy with another load or unload of toa{}",
                because(context)
            ),
        )
        .next("wait a moment and try again; toa-cli status says how it stands"),
        Errno::ETXTBSY => Failure::new(
            Exit::Unhealthy,
            format!("{shown} is open for writing by another program"),
        )
        .next("wait until it is written"),
        Errno::ENOMEM => Failure::new(Exit::Unhealthy, "the kernel has no memory for the module")
            .next("free some"),
        Errno::ENOSYS => Failure::new(
            Exit::Unsupported,
            format!("the kernel {release} was built without loadable modules"),
        )
        .next("use a kernel with CONFIG_MODULES"),
        other => Failure::new(
            Exit::Unhealthy,
            format!(
                "the kernel did not take {shown}: {}{}",
                other.desc(),
                because(context)
            ),
        )
        .next("the kernel's log (dmesg) says more"),
    };
    let failure = failure.log(&context.log);
    match (&failure.next, context.log_readable) {
        (Some(next), false) => {
            let next = format!("{next}; the kernel's log, which says more, could not be read here");
            failure.next(next)
        }
        _ => failure,
    }
}

/// The module's own line in the kernel's log, as a reason.
fn because(context: &Context) -> String {
    let line = context
        .log
        .iter()
        .find_map(|line| line.strip_prefix("toa: "));
    line.map(|reason| format!(": {reason}")).unwrap_or_default()
}

fn wrong_kernel(context: &Context) -> Failure {
    let Context { shown, release, .. } = context;
    let what = match &context.built_for {
        Some(built_for) if built_for != release => {
            format!("{shown} is built for the kernel {built_for}, and {release} is running")
        }
        _ if context
            .logged("disagrees about version of symbol")
            .is_some() =>
        {
            format!(
                "{shown} is built for another build of the kernel {release}: a symbol's version differs"
            )
        }
        _ if context.logged("version magic").is_some() => format!(
            "{shown} is built for another configuration of the kernel {release}: the version magic differs"
        ),
        _ => format!("the kernel {release} does not accept the format of {shown}"),
    };
    Failure::new(Exit::Unsupported, what).next(BUILD)
}

fn missing_symbol(context: &Context) -> Failure {
    let Context { shown, release, .. } = context;
    let symbol = context
        .logged("Unknown symbol ")
        .and_then(|line| line.split("Unknown symbol ").nth(1))
        .and_then(|rest| rest.split_whitespace().next());
    let what = match symbol {
        Some(symbol) => format!("the kernel {release} has no symbol {symbol}, which {shown} needs"),
        None => format!("the kernel {release} lacks a symbol that {shown} needs"),
    };
    let failure = Failure::new(Exit::Unsupported, what);
    match &context.depends {
        Some(depends) => {
            let first = depends.replace(',', " ");
            failure.next(format!(
                "load what it depends on first: modprobe -a {first}"
            ))
        }
        None => failure.next(format!(
            "{BUILD}; where that was done, this kernel lacks a feature (README.md: which kernels)"
        )),
    }
}

fn not_unpacked(context: &Context) -> Failure {
    let Context { shown, packing, .. } = context;
    let unpack = format!(
        "unpack it ({} {shown}) and name the plain file",
        packing.unpacker()
    );
    let next = match packing {
        // What the xz program does by default is beyond the kernel's small decoder.
        Packing::Xz => format!("{unpack}, or pack it by xz --check=crc32 --lzma2=dict=1MiB"),
        _ => unpack,
    };
    Failure::new(Exit::Usage, format!("the kernel could not unpack {shown}")).next(next)
}

fn unsigned(errno: Errno, context: &Context) -> Failure {
    let shown = &context.shown;
    let what = match errno {
        Errno::EBADMSG => format!("the signature of {shown} is damaged"),
        Errno::ENOPKG => format!("the signature of {shown} uses a digest that this kernel lacks"),
        Errno::ENOKEY => {
            format!("this kernel takes signed modules only, and does not know the key of {shown}")
        }
        _ => format!(
            "this kernel takes modules signed with a key that it trusts only, and {shown} is not"
        ),
    };
    Failure::new(Exit::Permission, what).next(
        "sign it with a key that the machine's owner enrolled (mokutil --import, then the kernel's \
         scripts/sign-file; docs/packaging.md has it line by line), or boot without module.sig_enforce",
    )
}

fn refused(errno: Errno, context: &Context) -> Failure {
    if context.modules_disabled {
        return Failure::new(
            Exit::Permission,
            "kernel.modules_disabled is 1: no module can be loaded until the next boot",
        )
        .next("load the module earlier in the boot, before that switch is set");
    }
    if let Some(level) = &context.lockdown {
        return Failure::new(
            Exit::Permission,
            format!("the kernel is locked down ({level}) and takes signed modules only"),
        )
        .next(
            "sign the module with an enrolled key (mokutil --import, then the kernel's \
             scripts/sign-file), or switch Secure Boot off",
        );
    }
    Failure::new(
        Exit::Permission,
        format!(
            "the kernel's security policy forbids to load {} ({})",
            context.shown,
            errno.desc()
        ),
    )
    .next("ask the node's audit log: SELinux, AppArmor, LoadPin, or a container's seccomp profile")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modinfo::tests::module;
    use crate::state::tests::{machine, silent};

    fn parameter(text: &str) -> Parameter {
        parse_parameter(text).unwrap()
    }

    fn context() -> Context {
        Context {
            shown: "toa.ko".into(),
            release: "6.1.0-49-amd64".into(),
            built_for: Some("6.1.0-49-amd64".into()),
            log_readable: true,
            ..Context::default()
        }
    }

    #[test]
    fn parameters_are_taken_apart() {
        assert_eq!(
            parameter("hook=kprobe"),
            Parameter {
                name: "hook".into(),
                value: "kprobe".into()
            }
        );
        assert_eq!(parameter("syn-slots=").name, "syn_slots");
        assert_eq!(parameter("a=b=c").value, "b=c");
        assert!(parse_parameter("hook").unwrap_err().contains("param=value"));
        assert!(parse_parameter("=x").is_err());
        assert!(parse_parameter("a b=x").is_err());
        assert!(parse_parameter("a=\"x\"").is_err());
    }

    #[test]
    fn values_with_blanks_are_quoted_for_the_kernel() {
        assert_eq!(parameter("a=1").to_kernel(), "a=1");
        assert_eq!(parameter("a=1 2").to_kernel(), "a=\"1 2\"");
    }

    #[test]
    fn values_are_compared_as_the_kernel_shows_them() {
        assert!(parameter("a=auto").is("auto"));
        assert!(!parameter("a=auto").is("kprobe"));
        assert!(parameter("a=1").is("Y"));
        assert!(parameter("a=off").is("N"));
        assert!(!parameter("a=1").is("N"));
        assert!(!parameter("a=maybe").is("N"));
        assert!(parameter("a=0x10").is("16"));
    }

    #[test]
    fn only_named_parameters_are_compared() {
        let loaded = BTreeMap::from([("hook".to_owned(), "kprobe".to_owned())]);
        assert!(differences(&loaded, &[]).is_empty());
        assert!(differences(&loaded, &[parameter("hook=kprobe")]).is_empty());
        assert_eq!(
            differences(&loaded, &[parameter("hook=auto"), parameter("x=1")]),
            ["hook is kprobe, not auto", "it has no parameter x"]
        );
    }

    #[test]
    fn the_module_is_found_in_the_usual_places() {
        let (root, host) = machine(
            &[
                ("lib/modules/7.3.4+deb13-amd64/updates/dkms/toa.ko.xz", ""),
                ("lib/modules/7.3.4+deb13-amd64/updates/toa.ko", ""),
                ("lib/modules/6.1/extra/toa.ko", ""),
            ],
            silent,
        );
        let found = find(&host, None).unwrap();
        assert_eq!(
            found,
            root.path()
                .join("lib/modules/7.3.4+deb13-amd64/updates/dkms/toa.ko.xz")
        );
        let (_root, empty) = machine(&[], silent);
        let failure = find(&empty, None).unwrap_err();
        assert_eq!(failure.exit, Exit::Unsupported);
        assert!(failure.what.contains("7.3.4+deb13-amd64"));
    }

    fn opened(content: &[u8]) -> Result<ModuleFile, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toa.ko");
        std::fs::write(&path, content).unwrap();
        ModuleFile::open(&path)
    }

    #[test]
    fn files_that_are_no_module_of_ours_are_refused() {
        assert!(
            opened(b"hello")
                .unwrap_err()
                .what
                .contains("not an ELF file")
        );
        let other = opened(&module(62, 1, b"name=dummy\0license=GPL\0")).unwrap();
        assert!(
            other
                .check(&[])
                .unwrap_err()
                .what
                .contains("the module dummy, not toa")
        );
        let foreign = opened(&module(62, 1, b"name=toa\0license=GPL\0")).unwrap();
        let failure = foreign.check(&[]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.what.contains("another project's toa"));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn parameters_and_architecture_are_checked_before_the_kernel_is_asked() {
        let text = b"name=toa\0parmtype=hook:charp\0";
        let ours = opened(&module(62, 1, text)).unwrap();
        assert!(ours.check(&[parameter("hook=auto")]).is_ok());
        let failure = ours.check(&[parameter("hok=auto")]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.next.unwrap().contains("hook"));
        let arm = opened(&module(183, 1, text)).unwrap();
        let failure = arm.check(&[]).unwrap_err();
        assert_eq!(failure.exit, Exit::Unsupported);
        assert!(failure.what.contains("Aarch64"));
    }

    #[test]
    fn missing_files_and_folders_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let failure = ModuleFile::open(&folder.path().join("none.ko")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.what.contains("none.ko"));
        let failure = ModuleFile::open(folder.path()).unwrap_err();
        assert!(failure.what.contains("folder"), "{}", failure.what);
    }

    #[test]
    fn packed_modules_need_a_kernel_that_unpacks_them() {
        let path = Path::new("/x/toa.ko.xz");
        let (_root, xz) = machine(&[("sys/module/compression", "xz\n")], silent);
        assert!(can_unpack(&xz, Packing::Xz, path).is_ok());
        let failure = can_unpack(&xz, Packing::Zstd, path).unwrap_err();
        assert_eq!(failure.exit, Exit::Unsupported);
        let (_root, none) = machine(&[], silent);
        let next = can_unpack(&none, Packing::Xz, path)
            .unwrap_err()
            .next
            .unwrap();
        assert!(next.contains("xz -dk /x/toa.ko.xz") && next.contains("--module /x/toa.ko"));
    }

    #[test]
    fn capabilities_are_named() {
        let failure = missing_sys_module(false);
        assert_eq!(failure.exit, Exit::Permission);
        assert!(failure.what.contains("CAP_SYS_MODULE"));
    }

    #[test]
    fn another_kernels_module_is_told_by_its_vermagic() {
        let context = Context {
            built_for: Some("7.3.4+deb13-amd64".into()),
            ..context()
        };
        let failure = explain(Errno::ENOEXEC, &context);
        assert_eq!(failure.exit, Exit::Unsupported);
        assert!(
            failure
                .what
                .contains("built for the kernel 7.3.4+deb13-amd64")
        );
        assert!(failure.what.contains("6.1.0-49-amd64 is running"));
    }

    #[test]
    fn another_build_is_told_by_its_symbols() {
        let log = vec!["toa: disagrees about version of symbol module_layout".to_owned()];
        for errno in [Errno::ENOEXEC, Errno::EINVAL] {
            let failure = explain(
                errno,
                &Context {
                    log: log.clone(),
                    ..context()
                },
            );
            assert_eq!(failure.exit, Exit::Unsupported);
            assert!(failure.what.contains("another build"));
            assert!(failure.next.unwrap().contains("toa-cli build"));
            assert_eq!(failure.log, log);
        }
    }

    #[test]
    fn a_missing_symbol_is_named() {
        let log = vec!["toa: Unknown symbol register_ftrace_function (err -2)".to_owned()];
        let failure = explain(Errno::ENOENT, &Context { log, ..context() });
        assert_eq!(failure.exit, Exit::Unsupported);
        assert!(failure.what.contains("no symbol register_ftrace_function,"));
        let log = vec!["toa: Unknown symbol x (err -2)".to_owned()];
        let context = Context {
            log,
            depends: Some("ipv6,nf".into()),
            ..context()
        };
        assert!(
            explain(Errno::ENOENT, &context)
                .next
                .unwrap()
                .contains("modprobe -a ipv6 nf")
        );
    }

    #[test]
    fn signatures_lockdown_and_switches_are_permission() {
        for errno in [
            Errno::EKEYREJECTED,
            Errno::ENOKEY,
            Errno::EPERM,
            Errno::EACCES,
        ] {
            assert_eq!(explain(errno, &context()).exit, Exit::Permission, "{errno}");
        }
        assert!(
            explain(Errno::EKEYREJECTED, &context())
                .what
                .contains("signed")
        );
        let locked = Context {
            lockdown: Some("integrity".into()),
            ..context()
        };
        assert!(
            explain(Errno::EPERM, &locked)
                .what
                .contains("locked down (integrity)")
        );
        let disabled = Context {
            modules_disabled: true,
            ..context()
        };
        assert!(
            explain(Errno::EPERM, &disabled)
                .what
                .contains("kernel.modules_disabled")
        );
    }

    #[test]
    fn the_modules_own_words_are_quoted() {
        let log = vec!["toa: hook=\"x\" is none of auto, ftrace, kprobe".to_owned()];
        let failure = explain(Errno::EINVAL, &Context { log, ..context() });
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure
                .what
                .ends_with(": hook=\"x\" is none of auto, ftrace, kprobe")
        );
        let log = vec!["toa: PREEMPT_RT is not supported".to_owned()];
        let failure = explain(Errno::EOPNOTSUPP, &Context { log, ..context() });
        assert_eq!(failure.exit, Exit::Unsupported);
        assert!(failure.what.contains("PREEMPT_RT is not supported"));
    }

    #[test]
    fn what_another_module_holds_is_told_from_a_busy_kernel() {
        let failure = explain(Errno::EBUSY, &context());
        assert_eq!(failure.exit, Exit::Unhealthy);
        let line =
            "toa: getsockopt (is another toa module loaded?): cannot be registered (error -16)";
        let log = vec![line.to_owned()];
        let failure = explain(Errno::EBUSY, &Context { log, ..context() });
        assert_eq!(failure.exit, Exit::Foreign);
        assert!(failure.what.contains("getsockopt"), "{}", failure.what);
    }

    #[test]
    fn a_packed_file_beyond_the_kernels_decoder_is_told() {
        let log = vec!["decompress: decompression failed with status 6".to_owned()];
        let context = Context {
            packing: Packing::Xz,
            log,
            ..context()
        };
        let failure = explain(Errno::EINVAL, &context);
        assert!(
            failure.what.contains("could not unpack"),
            "{}",
            failure.what
        );
        assert!(failure.next.unwrap().contains("--check=crc32"));
    }

    #[test]
    fn an_unreadable_log_is_admitted() {
        let failure = explain(
            Errno::EIO,
            &Context {
                log_readable: false,
                ..context()
            },
        );
        assert_eq!(failure.exit, Exit::Unhealthy);
        assert!(failure.next.unwrap().contains("could not be read"));
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        assert_eq!(active_lockdown("[none] integrity confidentiality\n"), None);
        assert_eq!(
            active_lockdown("none [integrity] confidentiality\n").as_deref(),
            Some("integrity")
        );
        assert_eq!(active_lockdown(""), None);
    }
}
