// SPDX-License-Identifier: GPL-2.0

//! What the module registers with the kernel. Each registration is an object; dropping it undoes
//! it, and returns only when no callback of it is running where the kernel's call promises that.
//! For the others there is [`Quiesce`], one wait for all of them.

use core::sync::atomic::{AtomicU8, Ordering};

use super::errno::{to_result, Error, Result};
use super::{shim, shim_text};
use crate::backend;

/// The module parameter `hook`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HookParam {
    /// ftrace, or a kprobe where ftrace cannot serve.
    Auto,
    /// ftrace or nothing.
    Ftrace,
    /// kprobes or nothing.
    Kprobe,
}

impl HookParam {
    pub(super) fn read() -> Result<Self> {
        match shim_text!(toa_shim_param_hook) {
            b"auto" => Ok(Self::Auto),
            b"ftrace" => Ok(Self::Ftrace),
            b"kprobe" => Ok(Self::Kprobe),
            _ => {
                backend::log_error("parameter hook", "must be auto, ftrace or kprobe", 0);
                Err(Error::EINVAL)
            }
        }
    }
}

/// The hooks on connection set-up run with bottom halves off and allocate there, which PREEMPT_RT
/// does not allow where preemption is off too, as it is in ftrace's and kprobes' callbacks.
pub(super) fn refuse_preempt_rt() -> Result {
    // SAFETY: No preconditions.
    if unsafe { shim::toa_shim_preempt_rt() } == 0 {
        return Ok(());
    }
    backend::log_error("not loaded", "PREEMPT_RT kernels are not supported", 0);
    Err(Error::EOPNOTSUPP)
}

/// How an [`EntryHook`] is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Ftrace = 1,
    Kprobe = 2,
}

/// By hook: 0, or the `How` it is attached by. Only `/proc/net/toa` reads it.
static ATTACHED: [AtomicU8; HOOKS.len()] = [const { AtomicU8::new(0) }; HOOKS.len()];

/// The hooks, in the order in which they are shown.
pub(super) const HOOKS: [u32; 5] = [
    shim::TOA_HOOK_CONN_REQUEST,
    shim::TOA_HOOK_CHILD_PROCESS,
    shim::TOA_HOOK_DISCONNECT,
    shim::TOA_HOOK_CHECK_REQ,
    shim::TOA_HOOK_RCV_ESTABLISHED,
];

/// Whether `hook` serves a mode that may be off.
pub(super) fn is_optional(hook: u32) -> bool {
    hook == shim::TOA_HOOK_RCV_ESTABLISHED
}

/// The function that a hook watches.
pub(super) fn hook_name(hook: u32) -> &'static str {
    match hook {
        shim::TOA_HOOK_CONN_REQUEST => "tcp_conn_request",
        shim::TOA_HOOK_CHILD_PROCESS => "tcp_child_process",
        shim::TOA_HOOK_CHECK_REQ => "tcp_check_req",
        shim::TOA_HOOK_RCV_ESTABLISHED => "tcp_rcv_established",
        _ => "tcp_disconnect",
    }
}

/// How `hook` is attached, if it is.
pub(super) fn attached(hook: u32) -> Option<How> {
    match ATTACHED.get(hook as usize)?.load(Ordering::Relaxed) {
        1 => Some(How::Ftrace),
        2 => Some(How::Kprobe),
        _ => None,
    }
}

/// Calls that no hook saw, since they were attached.
pub(super) fn missed_in_all() -> u64 {
    HOOKS
        .into_iter()
        .fold(0, |sum, hook| sum.saturating_add(missed(hook)))
}

/// Calls that `hook` did not see, since it was attached.
pub(super) fn missed(hook: u32) -> u64 {
    match attached(hook) {
        // SAFETY: The hook is one of the table's; reading its counter has no other precondition.
        Some(How::Kprobe) => unsafe { shim::toa_shim_kprobe_missed(hook) },
        _ => 0,
    }
}

/// The entry of a kernel function, watched.
pub(super) struct EntryHook {
    hook: u32,
    how: How,
}

impl EntryHook {
    pub(super) fn register(hook: u32, wish: HookParam) -> Result<Self> {
        let how = Self::attach(hook, wish)?;
        if let Some(attached) = ATTACHED.get(hook as usize) {
            attached.store(how as u8, Ordering::Relaxed);
        }
        Ok(Self { hook, how })
    }

    /// ftrace is tried whatever was wished for: a kprobe on a function that ftrace can trace is
    /// carried by ftrace, registers happily while ftrace is off, and never fires.
    fn attach(hook: u32, wish: HookParam) -> Result<How> {
        // SAFETY: The hook is one of the table's and not attached.
        let ftrace = unsafe { shim::toa_shim_ftrace_attach(hook) };
        if ftrace == 0 {
            if wish != HookParam::Kprobe {
                return Ok(How::Ftrace);
            }
            // SAFETY: It was attached just now.
            unsafe { shim::toa_shim_ftrace_detach(hook) };
        } else if wish == HookParam::Ftrace || ftrace == Error::ENOMEM.to_errno() {
            // A lack of memory does not say that ftrace cannot serve.
            return Err(refused(hook, wish, ftrace));
        }

        // SAFETY: The hook is one of the table's and not attached.
        let kprobe = unsafe { shim::toa_shim_kprobe_attach(hook) };
        if kprobe != 0 {
            let why = if ftrace == 0 { kprobe } else { ftrace };
            return Err(refused(hook, wish, why));
        }
        // SAFETY: The kprobe was attached just now.
        if ftrace != 0 && unsafe { shim::toa_shim_kprobe_needs_ftrace(hook) } != 0 {
            // SAFETY: As above.
            unsafe { shim::toa_shim_kprobe_detach(hook) };
            return Err(refused(hook, wish, ftrace));
        }
        Ok(How::Kprobe)
    }
}

/// A kprobe registers while all of them are switched off, and never fires. Called by one at a time, when
/// every hook is attached; `what` is not to be if they are silent.
pub(super) fn refuse_silent_kprobes(what: &str) -> Result {
    let by_kprobe = |hook: u32| attached(hook) == Some(How::Kprobe);
    // SAFETY: The caller may sleep.
    if !HOOKS.into_iter().any(by_kprobe) || unsafe { shim::toa_shim_kprobes_silent() } == 0 {
        return Ok(());
    }
    let why = "kprobes are switched off (echo 1 > /sys/kernel/debug/kprobes/enabled)";
    backend::log_error(what, why, 0);
    Err(Error::EOPNOTSUPP)
}

fn refused(hook: u32, wish: HookParam, errno: i32) -> Error {
    if errno == Error::ENOMEM.to_errno() {
        backend::log_error(hook_name(hook), "cannot be hooked: no memory", errno);
        return Error::ENOMEM;
    }
    let why = if errno == Error::EBUSY.to_errno() {
        "cannot be hooked: ftrace is switched off (sysctl kernel.ftrace_enabled=1 switches it on)"
    } else {
        match wish {
            HookParam::Auto => "can be hooked neither by ftrace nor by kprobe",
            HookParam::Ftrace => "cannot be hooked by ftrace, and hook= allows no other way",
            HookParam::Kprobe => "cannot be hooked by kprobe, and hook= allows no other way",
        }
    };
    backend::log_error(hook_name(hook), why, errno);
    Error::EOPNOTSUPP
}

impl Drop for EntryHook {
    fn drop(&mut self) {
        if let Some(attached) = ATTACHED.get(self.hook as usize) {
            attached.store(0, Ordering::Relaxed);
        }
        match self.how {
            // SAFETY: `how` says that the hook is attached by ftrace.
            How::Ftrace => unsafe { shim::toa_shim_ftrace_detach(self.hook) },
            // SAFETY: `how` says that the hook is attached by a kprobe.
            How::Kprobe => unsafe { shim::toa_shim_kprobe_detach(self.hook) },
        }
    }
}

/// Dropped after the [`Sockopts`] and the [`EntryHook`]s: waits until no task is inside them.
pub(super) struct Quiesce;

impl Drop for Quiesce {
    fn drop(&mut self) {
        // SAFETY: Module load and unload may sleep.
        unsafe { shim::toa_shim_hook_quiesce() };
    }
}

macro_rules! registration {
    ($(#[$doc:meta])* $name:ident, $what:literal, $attach:ident($($with:expr)?), $detach:ident) => {
        $(#[$doc])*
        pub(super) struct $name(());

        impl $name {
            pub(super) fn register() -> Result<Self> {
                // SAFETY: `Module::load` registers each object once; it may sleep.
                let err = unsafe { shim::$attach($($with)?) };
                if err != 0 {
                    backend::log_error($what, "cannot be registered", err);
                }
                to_result(err)?;
                Ok(Self(()))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: An object exists only while it is registered.
                unsafe { shim::$detach() };
            }
        }
    };
}

registration!(
    /// The tracepoint `tcp_destroy_sock`.
    DestroyHook, "tracepoint tcp_destroy_sock",
    toa_shim_tracepoint_attach(), toa_shim_tracepoint_detach
);
registration!(
    /// The options that `getsockopt` answers, once opened; [`Quiesce`] waits for who is inside.
    Sockopts, "getsockopt (is another toa module loaded?)",
    toa_shim_sockopt_attach(), toa_shim_sockopt_detach
);

impl Sockopts {
    /// Answers from now on. An answer whose copy sleeps holds a reference on the module, which one
    /// whose load fails does not look at: nothing may fail after this.
    pub(super) fn open(&self) {
        // SAFETY: The sockopts are registered, and the state is published.
        unsafe { shim::toa_shim_sockopt_open() };
    }
}

registration!(
    /// The counters of each network namespace; whoever counts comes after them and goes before.
    Namespaces, "counters of the network namespaces",
    toa_shim_net_attach(super::stats::BYTES), toa_shim_net_detach
);
registration!(
    /// `/proc/net/toa_stats`, of each network namespace.
    ProcStats, "/proc/net/toa_stats (is another toa module loaded?)",
    toa_shim_proc_stats_attach(), toa_shim_proc_stats_detach
);
registration!(
    /// `/proc/net/toa`.
    ProcStatus, "/proc/net/toa (is another toa module loaded?)",
    toa_shim_proc_status_attach(), toa_shim_proc_status_detach
);

registration!(
    /// The generic netlink family. Dropping it waits for whoever is being answered; an unfinished dump
    /// holds a reference on the module, which one whose load fails does not look at: nothing that
    /// can fail may follow it.
    Netlink, "netlink family toa (is another toa module loaded?)",
    toa_shim_netlink_attach(), toa_shim_netlink_detach
);

/// The work that refills the spare sessions of NMI-like contexts.
pub(super) struct Refill(());

impl Refill {
    pub(super) fn register() -> Self {
        // SAFETY: Called once, before anything can queue the work.
        unsafe { shim::toa_shim_refill_attach() };
        // SAFETY: The work is ready, and the state is published.
        unsafe { shim::toa_shim_refill_queue() };
        Self(())
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        // SAFETY: The hooks that queue the work are gone.
        unsafe { shim::toa_shim_refill_detach() };
    }
}
