// SPDX-License-Identifier: GPL-2.0

//! The kernel part: what is kept, and how the kernel comes to call it.
//!
//! [`calls`] is where the C callbacks enter: a SYN, a handshake's ACK, a new connection's first
//! segment, a server's question, a socket that leaves its connection, a socket's end. [`hooks`]
//! holds the registrations behind them, [`syn`] the addresses that wait for their connection,
//! [`session`] the connections that have one, in a [`cache`], [`first_data`] those whose data are
//! read, [`config`] what the node's owner has set, [`netlink`] how it is set later and what is listed,
//! [`refused`] who was not believed, [`transparent`] the mode in which nobody needs to ask, [`stats`] the
//! counters, [`status`] what `/proc/net` shows. [`layouts`] are the sets of options, and what can be set is
//! read as it is [`in_force`]. [`shim`] is generated from `shim/shim.h`.
//!
//! The two ways to build the module differ in `crate::backend` alone.

mod cache;
mod calls;
mod config;
pub(crate) mod errno;
mod first_data;
mod guard;
mod hooks;
mod in_force;
mod layouts;
mod netlink;
mod refused;
mod seq;
mod session;
#[allow(missing_docs, unreachable_pub, non_camel_case_types, dead_code)]
#[rustfmt::skip]
pub(crate) mod shim;
mod slice;
mod stats;
mod status;
mod syn;
mod transparent;

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::backend::{self, Box};
use crate::pure::text::Text;
use errno::{Error, Result};
use hooks::{EntryHook, HookParam};
use in_force::InForce;

/// A text of the module's own: its version, or a parameter. These are set before the module's code
/// runs and stay as they are (parameters have mode 0444). A macro, so that the call is direct.
macro_rules! shim_text {
    ($get:ident) => {{
        let mut text = core::ptr::null();
        // SAFETY: shim/module.c writes the pointer and returns the text's length.
        let len = unsafe { shim::$get(&mut text) };
        // SAFETY: The text is that long, and stays while the module does.
        let text: &'static [u8] = unsafe { core::slice::from_raw_parts(text, len) };
        text
    }};
}
use shim_text;

/// Says in the kernel log why a parameter is refused.
fn parameter_refused<const M: usize, const N: usize>(what: &Text<M>, why: &Text<N>) -> Error {
    // SAFETY: A `Text` takes nothing but ASCII.
    let what = unsafe { core::str::from_utf8_unchecked(what.as_bytes()) };
    // SAFETY: As above.
    let why = unsafe { core::str::from_utf8_unchecked(why.as_bytes()) };
    backend::log_error(what, why, 0);
    Error::EINVAL
}

/// What every callback works on.
struct State {
    stats: stats::Stats,
    sessions: session::Sessions,
    syns: syn::Syns,
    config: InForce<config::Config>,
    refused: refused::RefusedSources,
    first_data: first_data::FirstData,
    names: transparent::Names,
}

impl State {
    fn new(config: config::Config, wish: HookParam) -> Result<Self> {
        Ok(Self {
            config: InForce::new(backend::new_box(config)?),
            refused: refused::RefusedSources::new(),
            stats: stats::Stats::new()?,
            sessions: session::Sessions::new()?,
            syns: syn::Syns::new()?,
            first_data: first_data::FirstData::new(wish)?,
            names: transparent::Names::new()?,
        })
    }
}

static STATE: AtomicPtr<State> = AtomicPtr::new(ptr::null_mut());

/// The state, while the module is up.
///
/// # Safety
///
/// The caller is inside a callback whose registration [`Module`] drops before its [`Published`],
/// and uses the reference in that callback only.
unsafe fn state<'a>() -> Option<&'a State> {
    // SAFETY: The pointer is null or comes from the `Box` that `Published` keeps until no callback
    // is running; the state is shared by reference only.
    unsafe { STATE.load(Ordering::Acquire).as_ref() }
}

/// The state, reachable by the callbacks for as long as this lives.
struct Published(*mut State);

const _: fn() = || {
    fn shared_between_cpus<T: Send + Sync>() {}
    shared_between_cpus::<State>();
};

// SAFETY: The pointer is the sole owner of a `State`, which is `Send` and `Sync`, as checked above.
unsafe impl Send for Published {}
// SAFETY: As above; nothing is reached through a `&Published`.
unsafe impl Sync for Published {}

impl Published {
    fn new(state: State) -> Result<Self> {
        let state = Box::into_raw(backend::new_box(state)?);
        STATE.store(state, Ordering::Release);
        Ok(Self(state))
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        STATE.store(ptr::null_mut(), Ordering::Release);
        // SAFETY: The pointer came from `Box::into_raw` and is freed once, here. The registrations
        // that stood before this field in `Module` are gone, and with them every reader.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// The loaded module: everything that it registered, in the order in which it is taken down.
///
/// The sockopts go first, and the state last; what was in flight has been waited for by then.
pub(crate) struct Module {
    _sockopts: hooks::Sockopts,
    _netlink: hooks::Netlink,
    _status: hooks::ProcStatus,
    _stats: hooks::ProcStats,
    _transparent: transparent::Served,
    _first_data: first_data::OffAtLast,
    _conn_request: EntryHook,
    _check_req: EntryHook,
    _child_process: EntryHook,
    _disconnect: EntryHook,
    _quiet: hooks::Quiesce,
    _destroy_sock: hooks::DestroyHook,
    _namespaces: hooks::Namespaces,
    _refill: hooks::Refill,
    _state: Published,
}

impl Module {
    /// Registers everything, or nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a bad parameter, `EOPNOTSUPP` where the kernel cannot be served, `EBUSY` where
    /// another module has the sockopt numbers or the files, `ENOMEM`. The kernel log says which, in
    /// one line.
    pub(crate) fn load() -> Result<Self> {
        let wish = HookParam::read()?;
        let config = config::Config::read()?;
        hooks::refuse_preempt_rt()?;

        // On an error, locals go in the reverse of this order. That is the order of the fields above
        // but for the sockopts, which answer nothing before the end: they come early because another
        // module of this kind is found by them, before anything is watched and without the warning
        // that the kernel has for a file that is there already.
        let state = State::new(config, wish)
            .and_then(Published::new)
            .inspect_err(|error| backend::log_error("not loaded", "no memory", error.to_errno()))?;
        let refill = hooks::Refill::register();
        let namespaces = hooks::Namespaces::register()?;
        let destroy_sock = hooks::DestroyHook::register()?;
        let quiet = hooks::Quiesce;
        let sockopts = hooks::Sockopts::register()?;
        let disconnect = EntryHook::register(shim::TOA_HOOK_DISCONNECT, wish)?;
        let child_process = EntryHook::register(shim::TOA_HOOK_CHILD_PROCESS, wish)?;
        let check_req = EntryHook::register(shim::TOA_HOOK_CHECK_REQ, wish)?;
        let conn_request = EntryHook::register(shim::TOA_HOOK_CONN_REQUEST, wish)?;
        let first_data = Self::first_data()?;
        hooks::refuse_silent_kprobes("not loaded")?;
        let stats = hooks::ProcStats::register()?;
        let status = hooks::ProcStatus::register()?;
        let transparent = transparent::Served::register()?;
        let netlink = hooks::Netlink::register()?;
        sockopts.open();
        Ok(Self {
            _sockopts: sockopts,
            _netlink: netlink,
            _status: status,
            _stats: stats,
            _transparent: transparent,
            _first_data: first_data,
            _conn_request: conn_request,
            _check_req: check_req,
            _child_process: child_process,
            _disconnect: disconnect,
            _quiet: quiet,
            _destroy_sock: destroy_sock,
            _namespaces: namespaces,
            _refill: refill,
            _state: state,
        })
    }

    /// Reads first data, if parameter `first_data` says so.
    fn first_data() -> Result<first_data::OffAtLast> {
        let off_at_last = first_data::OffAtLast::new();
        // SAFETY: The caller has published the state, and goes on keeping it.
        if let Some(state) = unsafe { state() } {
            // SAFETY: No preconditions.
            state
                .first_data
                .switch(unsafe { shim::toa_shim_param_first_data() } != 0)?;
        }
        Ok(off_at_last)
    }
}
