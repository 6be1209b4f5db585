// SPDX-License-Identifier: GPL-2.0

//! The mode in which `getpeername` and `accept` themselves tell the client's address.
//!
//! `inet_getname` and `inet6_getname` are what both ask, and io_uring too. ftrace calls us at their
//! entry. Nearly always nothing is known of the socket, and they go on. Else the call goes to a
//! function of ours in their place (shim/getname.c), which calls the one that was meant, and puts
//! the client's address where that has put the peer's. `getsockname` comes the same way, and may be
//! told the VIP.
//!
//! The mode is switched at run time, one change after another: what can fail by [`prepare`], the rest by
//! [`Prepared::put_in_force`]. What tells names works by the [`Scope`] in force, of which there is one at
//! any moment, so a change is there for all sockets at once: the functions are taken over before a scope
//! wants them, and let go after.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_ulong, c_void};
use core::ops::{Deref, DerefMut};
use core::slice;

use super::calls::{describe, settle};
use super::errno::{Error, Result};
use super::guard::{CalledOff, IrqsOff, RcuReader};
use super::in_force::InForce;
use super::seq::Seq;
use super::session::Found;
use super::shim::{self, sock};
use super::slice::Slice;
use super::stats::Counter;
use super::{parameter_refused, state, State};
use crate::backend::{self, Box, BoxedArray};
use crate::pure::answer::{Name, Named, SockaddrIn, SockaddrIn6};
use crate::pure::callers;
use crate::pure::layout::Address;
use crate::pure::netlink::Transparent;
use crate::pure::ports;
use crate::pure::text::Text;
use crate::pure::uapi_netlink::TOA_PORTS_MAX;
use crate::shared::current::Reader;
use crate::shared::seen::Seen;

/// More than there are places in a kernel that ask on behalf of programs: three or four.
const PROGRAMS: usize = 8;
/// Those in which it asks for itself; what comes after them is looked at each time.
const OTHERS: usize = 32;
/// Longer than any name that [`callers`] knows.
const NAME: usize = 64;

/// One bit for each port.
const WORDS: usize = (1 << 16) / u64::BITS as usize;
type Ports = BoxedArray<u64, WORDS>;

/// The longest list of ports.
const LIST: usize = TOA_PORTS_MAX as usize;

/// Which servers are told.
enum Servers {
    None,
    All,
    /// Those on one of these ports.
    On(Ports),
}

/// Who is told what.
pub(super) struct Scope {
    servers: Servers,
    /// Whether `getsockname` tells the VIP.
    pub(super) local: bool,
    /// The ports as a text, also while nobody is told; empty: all.
    pub(super) list: Slice<u8>,
}

impl Scope {
    /// # Errors
    ///
    /// `EINVAL` for a list with something else than ports, `ENOMEM`.
    fn new(on: bool, local: bool, list: &[u8]) -> Result<Self> {
        let mut servers = Servers::All;
        if !list.is_empty() {
            let mut bits: Ports = backend::new_array(|| 0)?;
            ports::parse(list, |port| {
                if let Some(word) = bits.get_mut(usize::from(port / 64)) {
                    *word |= 1 << (port % 64);
                }
            })
            .map_err(refuse_port)?;
            servers = Servers::On(bits);
        }
        Ok(Self {
            servers: if on { servers } else { Servers::None },
            local,
            list: Slice::of(list)?,
        })
    }

    /// Whether the mode is on.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.servers, Servers::None)
    }

    /// Whether the names of sockets on this local port are told.
    #[inline(always)]
    fn covers(&self, port: [u8; 2]) -> bool {
        let ports = match &self.servers {
            Servers::All => return true,
            Servers::None => return false,
            Servers::On(ports) => ports,
        };
        let port = u16::from_be_bytes(port);
        ports
            .get(usize::from(port / 64))
            .is_some_and(|word| word & 1 << (port % 64) != 0)
    }
}

fn refuse_port(entry: &[u8]) -> Error {
    let what = Text::<64>::new()
        .text("parameter transparent_ports, entry \"")
        .bytes(entry.get(..24).unwrap_or(entry))
        .byte(b'"');
    let why = Text::<96>::new()
        .text("not a port: a number from 1 to 65535, with commas between them, like 80,443");
    parameter_refused(&what, &why)
}

/// The part of [`State`] that names are told by.
pub(super) struct Names {
    /// Where calls come from, by the address that they return to: on behalf of programs, and others.
    /// The former are in the kernel itself, and so is what they are named by; of the latter some are
    /// in modules, which come and go, but no function of a module asks for a program.
    programs: Seen<PROGRAMS>,
    others: Seen<OTHERS>,
    scope: InForce<Scope>,
}

impl Names {
    /// The mode is off.
    pub(super) fn new() -> Result<Self> {
        let scope = Scope::new(false, false, b"")?;
        Ok(Self {
            programs: Seen::new(),
            others: Seen::new(),
            scope: InForce::new(backend::new_box(scope)?),
        })
    }

    /// The one that names are told by.
    pub(super) fn in_force<'a>(&self, reader: &'a impl Reader) -> &'a Scope {
        self.scope.get(reader)
    }

    /// Puts `next` in the place of the scope in force. Names are told with interrupts off, so nobody is
    /// told by the old one when this returns, also who sleeps in a function of ours until then. May
    /// sleep, but not for those.
    fn put_in_force(&self, next: Box<Scope>) {
        // SAFETY: No preconditions.
        unsafe { shim::toa_shim_getname_local(u8::from(next.local)) };
        self.scope.replace(next);
    }
}

/// A kernel function with ours in its place.
struct Redirect(u32);

impl Redirect {
    fn register(which: u32) -> Result<Self> {
        // SAFETY: It is one of the two, and not attached: there is one `Redirects` at a time.
        let err = unsafe { shim::toa_shim_getname_attach(which) };
        if err == 0 {
            return Ok(Self(which));
        }
        let (why, error) = match err {
            _ if err == Error::ENOMEM.to_errno() => ("no memory", Error::ENOMEM),
            _ if err == Error::EBUSY.to_errno() => (
                "parameter transparent cannot be served: another has taken this function over (a livepatch, a \
                 BPF program), or ftrace is switched off",
                Error::EBUSY,
            ),
            _ => (
                "parameter transparent cannot be served: this kernel's ftrace cannot redirect functions",
                Error::EOPNOTSUPP,
            ),
        };
        backend::log_error(name(which), why, err);
        Err(error)
    }
}

impl Drop for Redirect {
    fn drop(&mut self) {
        // SAFETY: An object exists only while it is attached.
        unsafe { shim::toa_shim_getname_detach(self.0) };
    }
}

/// The kernel function of that number.
fn name(which: u32) -> &'static str {
    match which {
        shim::TOA_GETNAME_INET => "inet_getname",
        _ => "inet6_getname",
    }
}

/// There have been [`Redirect`]s. Dropped after the last: waits until no task is between ftrace and the
/// end of a function of ours in the kernel's place, however long it sleeps there.
struct Quiesce;

impl Drop for Quiesce {
    fn drop(&mut self) {
        // SAFETY: Whoever takes the module down may sleep.
        unsafe { shim::toa_shim_getname_quiesce() };
    }
}

/// Both functions, taken over. In the order in which they are let go.
struct Redirects {
    _inet6: Redirect,
    _inet: Redirect,
}

impl Redirects {
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the kernel cannot do it, `EBUSY` where somebody else has the functions,
    /// `ENOMEM`. The kernel log says why.
    fn register() -> Result<Self> {
        // SAFETY: No preconditions.
        if unsafe { shim::toa_shim_symbols_known() } == 0 {
            let why = "cannot be served: this kernel does not know its functions' names (CONFIG_KALLSYMS)";
            backend::log_error("parameter transparent", why, 0);
            return Err(Error::EOPNOTSUPP);
        }
        let inet = Redirect::register(shim::TOA_GETNAME_INET)?;
        let inet6 = Redirect::register(shim::TOA_GETNAME_INET6)?;
        Ok(Self {
            _inet6: inet6,
            _inet: inet,
        })
    }
}

/// Where the module is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Parameters are being read; what they say is looked at when it is about to be served.
    Loading,
    /// Changes are made at once.
    Up,
    /// It is on its way out, while its parameters are still in sysfs.
    Gone,
}

/// What is wished for, and what came of it.
struct Switch {
    phase: Phase,
    on: bool,
    local: bool,
    list: [u8; LIST],
    len: usize,
    redirects: Option<Redirects>,
    /// Switching off does not wait for who sleeps in a function of ours. Whoever switches may hold what
    /// others want, such as the mutex of all generic netlink, and any user's task may sleep there.
    quiet: Option<Quiesce>,
}

/// All that serving a change can fail for the want of.
struct Ready<'a> {
    state: &'a State,
    scope: Box<Scope>,
    /// Where the mode is to be on, and was off.
    fresh: Option<Redirects>,
}

impl Switch {
    /// Gets what is wanted for it to be so, on the ports of `list`, or of the list that there is. Nothing
    /// has changed by that.
    fn prepare<'a>(&mut self, on: bool, local: bool, list: Option<&[u8]>) -> Result<Ready<'a>> {
        // SAFETY: `Served` has been made, or is being made, and both come after the state; `Gone` is set
        // before the state goes.
        let Some(state) = (unsafe { state() }) else {
            return Err(Error::ENODEV);
        };
        let list = list.unwrap_or(self.list.get(..self.len).unwrap_or(&[]));
        let scope = backend::new_box(Scope::new(on, local, list)?)?;
        let fresh = match self.redirects {
            None if on => {
                self.quiet.get_or_insert_with(|| Quiesce);
                Some(Redirects::register()?)
            }
            _ => None,
        };
        Ok(Ready {
            state,
            scope,
            fresh,
        })
    }

    /// Makes it so.
    fn serve(&mut self, ready: Ready<'_>) {
        let on = ready.scope.is_on();
        ready.state.names.put_in_force(ready.scope);
        if ready.fresh.is_some() || !on {
            self.redirects = ready.fresh;
        }
    }
}

/// [`SWITCH`]'s content, which the task that has the mutex of C's may reach.
struct Guarded(UnsafeCell<Switch>);

// SAFETY: `Held` alone reaches what is inside, and there is one at a time.
unsafe impl Sync for Guarded {}

static SWITCH: Guarded = Guarded(UnsafeCell::new(Switch {
    phase: Phase::Loading,
    on: false,
    local: false,
    list: [0; LIST],
    len: 0,
    redirects: None,
    quiet: None,
}));

/// The mutex, held.
struct Held(());

impl Held {
    /// May sleep.
    fn new() -> Self {
        // SAFETY: `drop` unlocks, and the guard never leaves its function.
        unsafe { shim::toa_shim_switch_lock() };
        Self(())
    }
}

impl Deref for Held {
    type Target = Switch;

    fn deref(&self) -> &Switch {
        // SAFETY: This task has the mutex.
        unsafe { &*SWITCH.0.get() }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Switch {
        // SAFETY: This task has the mutex.
        unsafe { &mut *SWITCH.0.get() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: `new` locked.
        unsafe { shim::toa_shim_switch_unlock() };
    }
}

/// A change that cannot fail any more, and has not been made. Nobody else makes one while this lives;
/// where it is dropped, all is as it was.
pub(super) struct Prepared<'a> {
    /// Nothing while the module is not up: then a change is noted alone.
    ready: Option<Ready<'a>>,
    wish: Transparent<'a>,
    /// The last: what has been taken over for the change is let go under the mutex.
    held: Held,
}

/// Gets all that a change of the mode wants. May sleep.
///
/// # Errors
///
/// `EINVAL` for a bad list, `ENOSPC` for one too long, `EBUSY` where another owns the functions,
/// `EOPNOTSUPP` where the kernel cannot do it, `ENOMEM`, and `ENODEV` where the module is on its way
/// out. The kernel log says why.
pub(super) fn prepare(wish: Transparent<'_>) -> Result<Prepared<'_>> {
    let mut held = Held::new();
    if wish.ports.is_some_and(|ports| ports.len() > LIST) {
        return Err(Error::ENOSPC);
    }
    let ready = match held.phase {
        Phase::Loading => None,
        Phase::Up => {
            let on = wish.on.unwrap_or(held.on);
            let local = wish.local.unwrap_or(held.local);
            Some(held.prepare(on, local, wish.ports)?)
        }
        Phase::Gone => return Err(Error::ENODEV),
    };
    Ok(Prepared { ready, wish, held })
}

impl Prepared<'_> {
    /// Makes the change. When this returns, nobody is told by the old one any more. May sleep.
    pub(super) fn put_in_force(self) {
        let Self {
            ready,
            wish,
            mut held,
        } = self;
        if let Some(ready) = ready {
            held.serve(ready);
        }
        held.on = wish.on.unwrap_or(held.on);
        held.local = wish.local.unwrap_or(held.local);
        if let Some(ports) = wish.ports {
            for (to, from) in held.list.iter_mut().zip(ports) {
                *to = *from;
            }
            held.len = ports.len();
        }
    }
}

/// The mode, served as the parameters have it, and to be switched, for as long as this lives.
pub(super) struct Served(());

impl Served {
    /// # Errors
    ///
    /// As [`prepare`].
    pub(super) fn register() -> Result<Self> {
        // Also where this fails, somebody may be in a function of ours, and is waited for.
        let served = Self(());
        let mut switch = Held::new();
        let (on, local) = (switch.on, switch.local);
        let ready = switch.prepare(on, local, None)?;
        switch.serve(ready);
        switch.phase = Phase::Up;
        drop(switch);
        Ok(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut switch = Held::new();
        switch.phase = Phase::Gone;
        // Where there is no memory to say so first, the mode ends with its redirects.
        if let Ok(off) = switch.prepare(false, false, Some(&[])) {
            switch.serve(off);
        }
        switch.redirects = None;
        let quiet = switch.quiet.take();
        // Whoever reads a parameter is not to wait for those who sleep inside.
        drop(switch);
        drop(quiet);
    }
}

/// Before the module is up, its parameters are set by who may load modules; then, the node's network is
/// the matter of who has CAP_NET_ADMIN. In neither case is it enough that somebody may write to the file.
fn set(wish: Transparent<'_>) -> c_int {
    let up = Held::new().phase == Phase::Up;
    // SAFETY: No preconditions.
    if unsafe { shim::toa_shim_may_set(u8::from(up)) } == 0 {
        return Error::EPERM.to_errno();
    }
    match prepare(wish) {
        Ok(change) => {
            change.put_in_force();
            0
        }
        Err(error) => error.to_errno(),
    }
}

/// One of the parameters that are switches is set.
///
/// # Safety
///
/// Called by a parameter's `set`, which may sleep.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_switch_set(which: u32, value: u8) -> c_int {
    let value = Some(value != 0);
    set(match which {
        shim::TOA_SWITCH_LOCAL => Transparent {
            local: value,
            ..Transparent::default()
        },
        _ => Transparent {
            on: value,
            ..Transparent::default()
        },
    })
}

/// The parameter `transparent_ports` is set.
///
/// # Safety
///
/// As for [`toa_rust_switch_set`], with a list of `len` bytes.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_switch_set_ports(list: *const u8, len: usize) -> c_int {
    // SAFETY: By this function's contract.
    let list = unsafe { slice::from_raw_parts(list, len) };
    set(Transparent {
        ports: Some(list),
        ..Transparent::default()
    })
}

/// One of the parameters is read: its value is written to `place`. Returns its length.
///
/// # Safety
///
/// Called by a parameter's `get`, which may sleep, with a place of `size` bytes.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_switch_get(
    which: u32,
    place: *mut u8,
    size: usize,
) -> usize {
    // SAFETY: By this function's contract.
    let place = unsafe { slice::from_raw_parts_mut(place, size) };
    let held = Held::new();
    let yes_or_no = |on| if on { &b"Y"[..] } else { b"N" };
    let value = match which {
        shim::TOA_SWITCH_PORTS => held.list.get(..held.len).unwrap_or(&[]),
        shim::TOA_SWITCH_LOCAL => yes_or_no(held.local),
        _ => yes_or_no(held.on),
    };
    let mut len = 0usize;
    for (to, from) in place.iter_mut().zip(value.iter().chain(b"\n")) {
        *to = *from;
        len = len.wrapping_add(1);
    }
    len
}

/// The lines of `/proc/net/toa`.
pub(super) fn show(seq: &mut Seq, state: &State) {
    let rcu = RcuReader::new();
    let scope = state.names.scope.get(&rcu);
    if scope.is_on() {
        for which in [shim::TOA_GETNAME_INET, shim::TOA_GETNAME_INET6] {
            // An ftrace callback is called every time.
            seq.text("hook ").text(name(which));
            seq.text(": ftrace missed 0\n");
        }
    }
    seq.text("transparent: ");
    match scope.servers {
        Servers::None => seq.text("off"),
        Servers::All => seq.text("all ports"),
        Servers::On(_) => seq.bytes(&scope.list),
    };
    seq.text(if scope.is_on() && scope.local {
        "\ntransparent_local: on\n"
    } else {
        "\ntransparent_local: off\n"
    });
}

/// `inet_getname` or `inet6_getname` is called. Nearly always nothing is known of the socket, which is
/// told at once. Whether something is, and of that connection, shows when the name is there.
///
/// # Safety
///
/// Called by an ftrace callback, with the socket that the call is about, and the callback's own
/// `redirect` and `registers`.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_getname_called(
    sk: *const sock,
    caller: c_ulong,
    redirect: *mut c_void,
    registers: *mut c_void,
) {
    // SAFETY: The hooks are unregistered before the state goes, and registered after it has come.
    let state = unsafe { state().unwrap_unchecked() };
    if state.sessions.may_have(sk as usize) {
        wanted::<false>(state, caller, redirect, registers);
    }
}

/// The same, of a socket whose handshake is not complete: something may be known that waits yet. The
/// arguments have the same places, so that the callback moves none of them.
///
/// # Safety
///
/// As for [`toa_rust_getname_called`].
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_getname_early(
    _sk: *const sock,
    caller: c_ulong,
    redirect: *mut c_void,
    registers: *mut c_void,
) {
    // SAFETY: As above.
    let state = unsafe { state().unwrap_unchecked() };
    wanted::<true>(state, caller, redirect, registers);
}

/// Programs are told, and the kernel itself is not.
#[inline(always)]
fn wanted<const EARLY: bool>(
    state: &State,
    caller: c_ulong,
    redirect: *mut c_void,
    registers: *mut c_void,
) {
    if state.names.programs.has(caller as usize) {
        // SAFETY: Both are the running callback's own.
        unsafe { go_on_in_ours::<EARLY>(redirect, registers) };
    } else {
        wanted_by_other::<EARLY>(state, caller, redirect, registers);
    }
}

/// # Safety
///
/// Both are the running callback's own.
#[inline(always)]
unsafe fn go_on_in_ours<const EARLY: bool>(redirect: *mut c_void, registers: *mut c_void) {
    // SAFETY: By this function's contract.
    unsafe {
        if EARLY {
            shim::toa_shim_getname_redirect_early(redirect, registers);
        } else {
            shim::toa_shim_getname_redirect(redirect, registers);
        }
    }
}

/// It was not seen before that this is a program.
#[cold]
#[inline(never)]
fn wanted_by_other<const EARLY: bool>(
    state: &State,
    caller: c_ulong,
    redirect: *mut c_void,
    registers: *mut c_void,
) {
    let names = &state.names;
    if names.others.has(caller as usize) {
        return;
    }
    let mut name = [0; NAME];
    // The call itself is before the address that it returns to.
    // SAFETY: `name` is that long. The kernel finds the name without a lock.
    let len = unsafe { shim::toa_shim_symbol(caller.wrapping_sub(1), name.as_mut_ptr(), NAME) };
    if name.get(..len).is_some_and(callers::asks_for_a_program) {
        names.programs.add(caller as usize);
        // SAFETY: Both are the running callback's own.
        unsafe { go_on_in_ours::<EARLY>(redirect, registers) };
        return;
    }
    names.others.add(caller as usize);
    // SAFETY: As above.
    unsafe { shim::toa_shim_getname_met(redirect, registers, caller) };
}

/// A program is about to be told a name of a connection whose handshake is not complete: a Fast Open
/// one. What its SYN told stays with it from now on. So whoever asks later is told the same, even if
/// what waits would have had to make room meanwhile, or its source is trusted no more.
///
/// # Safety
///
/// Called by our function in the place of `inet_getname` or `inet6_getname`, with its socket, locked.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_getname_settle(sk: *const sock) {
    // SAFETY: Who is here has come after the state, and is waited for before it goes.
    let state = unsafe { state().unwrap_unchecked() };
    let socket = describe(sk);
    let off = IrqsOff::new();
    if state.names.scope.get(&off).covers(socket.flow.local_port) {
        // SAFETY: By this function's contract.
        unsafe { settle(state, &off, sk, socket) };
    }
}

/// The kernel has told the name of an AF_INET socket's peer: the client's is put there instead, if
/// this is the connection that has one.
///
/// # Safety
///
/// Called by our function in the place of `inet_getname`, with interrupts off, with its socket, that
/// one's local port, and the `sockaddr_in` that the kernel's has filled.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_getname_tell(
    sk: *const sock,
    local_port: u16,
    name: *mut c_void,
) {
    // SAFETY: By this function's contract; a name is bytes.
    unsafe { tell(sk, local_port, &mut *name.cast::<SockaddrIn>()) };
}

/// The same for an AF_INET6 socket.
///
/// # Safety
///
/// As for [`toa_rust_getname_tell`], of `inet6_getname` and a `sockaddr_in6`.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_getname_tell6(
    sk: *const sock,
    local_port: u16,
    name: *mut c_void,
) {
    // SAFETY: By this function's contract; a name is bytes.
    unsafe { tell(sk, local_port, &mut *name.cast::<SockaddrIn6>()) };
}

/// # Safety
///
/// As for [`toa_rust_getname_tell`], with a name of this kind.
#[inline(always)]
unsafe fn tell(sk: *const sock, local_port: u16, name: &mut impl Name) {
    // SAFETY: Who is here has come after the state, and is waited for before it goes.
    let state = unsafe { state().unwrap_unchecked() };
    // SAFETY: By this function's contract.
    let off = unsafe { CalledOff::new() };
    let port = local_port.to_ne_bytes();
    if !state.names.scope.get(&off).covers(port) {
        return;
    }
    let named = state.sessions.rename(&off, sk as usize, port, name);
    count(state, &off, sk, named, Counter::PeerTold);
}

/// Counts what became of a name, as `told` where it was told.
#[inline(always)]
fn count(state: &State, off: &CalledOff, sk: *const sock, named: Named, told: Counter) {
    match named {
        Named::Renamed => state.stats.count_off(off, sk, told),
        Named::Kept => state.stats.count_off(off, sk, Counter::KeptV6),
        Named::Other => {}
    }
}

/// The kernel has told the name of an AF_INET socket itself: the VIP is put there instead, if its
/// connection has one.
///
/// # Safety
///
/// As for [`toa_rust_getname_tell`].
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_getname_tell_local(
    sk: *const sock,
    local_port: u16,
    name: *mut c_void,
) {
    // SAFETY: By this function's contract; a name is bytes.
    unsafe { tell_local(sk, local_port, &mut *name.cast::<SockaddrIn>()) };
}

/// The same for an AF_INET6 socket.
///
/// # Safety
///
/// As for [`toa_rust_getname_tell6`].
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_getname_tell6_local(
    sk: *const sock,
    local_port: u16,
    name: *mut c_void,
) {
    // SAFETY: By this function's contract; a name is bytes.
    unsafe { tell_local(sk, local_port, &mut *name.cast::<SockaddrIn6>()) };
}

/// A VIP without a port leaves the socket's.
///
/// # Safety
///
/// As for [`toa_rust_getname_tell`], with a name of this kind.
unsafe fn tell_local(sk: *const sock, local_port: u16, name: &mut impl Name) {
    // SAFETY: Who is here has come after the state, and is waited for before it goes.
    let state = unsafe { state().unwrap_unchecked() };
    // SAFETY: By this function's contract.
    let off = unsafe { CalledOff::new() };
    let scope = state.names.scope.get(&off);
    if !scope.local || !scope.covers(local_port.to_ne_bytes()) {
        return;
    }
    let socket = describe(sk);
    if socket.tcp == 0 {
        return;
    }
    let flow = &socket.flow;
    let Found::Origin(origin) = state.sessions.find(sk as usize, flow) else {
        return;
    };
    let Some(vip) = origin.toa.vip else {
        return;
    };
    let port = match vip.port {
        [0, 0] => flow.local_port,
        port => port,
    };
    let named = name.rename(flow.local_port, &flow.local, &Address { port, ..vip });
    count(state, &off, sk, named, Counter::LocalTold);
}
