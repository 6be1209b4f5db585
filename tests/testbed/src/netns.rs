// SPDX-License-Identifier: MIT OR Apache-2.0
//! Named network namespaces.

use std::fmt;
use std::fs::File;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::command::run;

/// A network namespace: the one this process runs in, or one of the names that `ip netns` keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// The namespace of the calling thread.
    Current,
    /// A namespace known to `ip netns` by this name.
    Named(String),
}

impl Namespace {
    /// Makes a namespace with its loopback device up.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let ns = Self::Named(name.to_owned());
        if ns.path().is_some_and(|path| path.exists()) {
            bail!(
                "the network namespace {name} exists already: another run uses it, or one was \
                 killed; if none is running, remove it with `ip netns del {name}`"
            );
        }
        run(&Self::Current, &format!("ip netns add {name}"))?;
        run(&ns, "ip link set lo up")?;
        Ok(ns)
    }

    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Current => None,
            Self::Named(name) => Some(PathBuf::from("/run/netns").join(name)),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("this namespace"),
            Self::Named(name) => write!(f, "namespace {name}"),
        }
    }
}

/// Runs `work` in a network namespace and returns what it returned.
///
/// It runs on a thread of its own, which alone enters the namespace: sockets that it makes, and
/// processes that it starts, belong there and stay there; the caller does not move. A panic in
/// `work` goes on in the caller.
///
/// # Errors
///
/// The namespace does not exist, or entering it is not permitted (it takes root).
pub fn in_ns<T: Send>(ns: &Namespace, work: impl FnOnce() -> T + Send) -> Result<T> {
    let Some(path) = ns.path() else {
        return Ok(work());
    };
    let handle = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(handle, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {ns} (this takes root)"))?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Lets this process have `files` open at once: a thousand connections with both of their ends
/// are more than the usual 1024.
///
/// # Errors
///
/// Only root may go beyond the hard limit, and nobody beyond `fs.nr_open`.
pub fn allow_open_files(files: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("RLIMIT_NOFILE")?;
    setrlimit(Resource::RLIMIT_NOFILE, files.max(soft), files.max(hard))
        .with_context(|| format!("cannot have {files} files open (this takes root)"))
}
