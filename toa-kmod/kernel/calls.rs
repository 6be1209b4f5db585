// SPDX-License-Identifier: GPL-2.0

//! Where the kernel comes in: what the C callbacks of `shim/` call.
//!
//! Read from top to bottom, these are the steps of an address: seen in a SYN, given to its
//! connection, told to the server, forgotten.

use core::ffi::{c_int, c_void};
use core::mem::{size_of, MaybeUninit};
use core::slice;

use super::config::{Config, Layouts};
use super::errno::{to_result, Error};
use super::guard::{InHook, IrqsOff, RcuReader};
use super::seq::Seq;
use super::session::{Found, Known, Stage};
use super::shim::{self, request_sock, seq_file, sk_buff, sock, toa_flow, toa_socket};
use super::stats::{Counter, Counters};
use super::syn::Waiting;
use super::{state, status, State};
use crate::pure::answer::{self, Origin, Peer, Refusal};
use crate::pure::layout::{Family, Toa};
use crate::pure::policy::{self, Reading, Rows, Segment};
use crate::pure::uapi;
use crate::shared::places::Room;

/// Reads a segment's options, and counts what they are.
fn read(
    state: &State,
    config: &Config,
    sk: *const sock,
    options: &[u8],
    segment: Segment,
) -> Reading {
    let reading = judge(state, &config.layouts, sk, options, segment);
    count_seen(state, sk, config.layouts.epoch, segment, reading.rows);
    reading
}

fn count_seen(state: &State, sk: *const sock, epoch: u32, segment: Segment, rows: Rows) {
    for row in rows {
        state.stats.count_seen(sk, epoch, segment, row);
    }
}

/// Reads a segment's options, and counts those that are no good.
fn judge(
    state: &State,
    layouts: &Layouts,
    sk: *const sock,
    options: &[u8],
    segment: Segment,
) -> Reading {
    let reading = policy::read(&layouts.table, options, segment);
    let stats = &state.stats;
    stats.count_n(sk, Counter::Malformed, reading.malformed);
    stats.count_n(sk, Counter::Duplicate, reading.duplicates);
    reading
}

/// Whether the peer of `flow` may say who the client is. Called by hooks, with bottom halves or
/// interrupts off, before anything is kept.
fn believed(state: &State, config: &Config, sk: *const sock, flow: &toa_flow) -> bool {
    let trusted = config.trusted.contains(&flow.peer);
    if !trusted {
        refuse(state, sk, flow);
    }
    trusted
}

#[cold]
#[inline(never)]
fn refuse(state: &State, sk: *const sock, flow: &toa_flow) {
    state.stats.count(sk, Counter::Untrusted);
    state.refused.note(flow);
}

/// A SYN has reached a listener.
///
/// # Safety
///
/// Called by the hook on `tcp_conn_request`, with its arguments and the SYN's option area.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_syn(
    listener: *const sock,
    syn: *mut sk_buff,
    options: *const u8,
    len: usize,
) {
    // SAFETY: The caller gives an area of that length.
    let options = unsafe { slice::from_raw_parts(options, len) };
    if policy::is_silent(options) {
        return;
    }
    // SAFETY: By this function's contract.
    unsafe { syn_speaks(listener, syn, options) };
}

/// A SYN has options beyond the usual. Apart, so that the others do not save registers for it.
///
/// # Safety
///
/// As for [`toa_rust_syn`].
#[cold]
#[inline(never)]
unsafe fn syn_speaks(listener: *const sock, syn: *mut sk_buff, options: &[u8]) {
    // SAFETY: The hook is unregistered before the state goes.
    let Some(state) = (unsafe { state() }) else {
        return;
    };
    // SAFETY: The hook runs with bottom halves off.
    let hook = unsafe { InHook::new() };
    let config = state.config.get(&hook);
    let Some(toa) = read(state, config, listener, options, Segment::Syn).toa else {
        return;
    };
    let mut flow = toa_flow::default();
    // SAFETY: Both are the arguments of `tcp_conn_request`.
    unsafe { shim::toa_shim_syn_flow(listener, syn, &mut flow) };
    keep_waiting(state, config, listener, &flow, &Waiting::by_syn(toa));
}

/// Keeps what a segment of `flow` carried until its connection comes, if its source may speak.
fn keep_waiting(
    state: &State,
    config: &Config,
    sk: *const sock,
    flow: &toa_flow,
    waiting: &Waiting,
) {
    if !believed(state, config, sk, flow) {
        return;
    }
    match state.syns.insert(flow, waiting) {
        Room::Free => {}
        Room::Oldest => state.stats.count(sk, Counter::SynTableFull),
        Room::Quota => {
            state.stats.count(sk, Counter::SynTableFull);
            state.stats.count(sk, Counter::SynQuota);
        }
    }
}

/// The segment that completes a handshake has made a new connection.
///
/// # Safety
///
/// Called by the hook on `tcp_child_process`, with its child, locked, and the segment's option
/// area.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_child(
    child: *const sock,
    tcp_state: u8,
    options: *const u8,
    len: usize,
) {
    // A child may be dead before it lived, as after an MP_JOIN that MPTCP refuses.
    if u32::from(tcp_state) != shim::TOA_TCP_SYN_RECV {
        return;
    }
    // SAFETY: The hook is unregistered before the state goes.
    let Some(state) = (unsafe { state() }) else {
        return;
    };
    // SAFETY: The caller gives an area of that length.
    let options = unsafe { slice::from_raw_parts(options, len) };
    if policy::is_silent(options) && !state.syns.ever() && !state.first_data.is_on() {
        state.stats.count(child, Counter::ChildNoToa);
        return;
    }
    // SAFETY: By this function's contract.
    unsafe { child_may_know(state, child, options) };
}

/// A new connection's last segment has options beyond the usual, or its SYN may have had. Apart, so
/// that the others do not save registers for it.
///
/// # Safety
///
/// As for [`toa_rust_child`].
#[cold]
#[inline(never)]
unsafe fn child_may_know(state: &State, child: *const sock, options: &[u8]) {
    // SAFETY: The hook runs with bottom halves off.
    let hook = unsafe { InHook::new() };
    // One for all of the segment: its layouts and its sources go together.
    let config = state.config.get(&hook);
    let waiting = state.syns.waiting();
    let ack = read(state, config, child, options, Segment::Ack);
    if ack.toa.is_none() && waiting.is_none() {
        nameless(state, child);
        return;
    }

    let mut flow = toa_flow::default();
    // SAFETY: The child is locked by the caller of `tcp_child_process`.
    unsafe { shim::toa_shim_child_flow(child, &mut flow) };
    // Taken out even where the ACK overrules it: it has found its connection.
    let waited = waiting.and_then(|now| state.syns.take(&flow, now));
    introduce(state, config, child, &flow, waited, &ack, Stage::InTime);
}

/// Gives a connection the session that its segments are worth.
fn introduce(
    state: &State,
    config: &Config,
    sk: *const sock,
    flow: &toa_flow,
    waited: Option<Waiting>,
    ack: &Reading,
    stage: Stage,
) {
    if let Some(waited) = &waited {
        // What ACKs that the kernel dropped told, as often as they came, and the last one does not
        // tell again, is counted here, once.
        let epoch = config.layouts.epoch;
        let rows = waited.rows_of(epoch).without(ack.rows);
        count_seen(state, sk, epoch, Segment::Ack, rows);
    }
    let waited = waited.map(|waited| waited.told());
    let Some((toa, segment)) = policy::choose(waited, ack.toa) else {
        nameless(state, sk);
        return;
    };
    // Also for what has waited: the source may be trusted no more.
    if !believed(state, config, sk, flow) {
        state.stats.count(sk, Counter::ChildNoToa);
        return;
    }
    if keep(state, sk, flow, toa, segment, stage) {
        state.stats.count(sk, Counter::ChildToa);
    }
}

/// A new connection has no address, unless its first data bring one.
fn nameless(state: &State, sk: *const sock) {
    state.stats.count(sk, Counter::ChildNoToa);
    if state.first_data.is_on() && state.first_data.note(sk as usize) {
        state.stats.count(sk, Counter::FirstDataFull);
    }
}

/// Keeps an address with its connection; whether there was memory for it.
fn keep(
    state: &State,
    sk: *const sock,
    flow: &toa_flow,
    toa: Toa,
    segment: Segment,
    stage: Stage,
) -> bool {
    let origin = Origin { toa, segment };
    let kept = state.sessions.insert(sk, flow, &origin, stage);
    let counter = if kept {
        Counter::Made
    } else {
        Counter::NoMemory
    };
    state.stats.count(sk, counter);
    kept
}

/// A segment has come for a request: a handshake that has got no further than its SYN.
///
/// # Safety
///
/// Called by the hook on `tcp_check_req`, with its arguments and the segment's option area.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_request(
    sk: *const sock,
    skb: *const sk_buff,
    req: *const request_sock,
    options: *const u8,
    len: usize,
    fastopen: u8,
) {
    // SAFETY: The caller gives an area of that length.
    let options = unsafe { slice::from_raw_parts(options, len) };
    if fastopen == 0 && policy::is_silent(options) {
        return;
    }
    // SAFETY: By this function's contract.
    unsafe { request_speaks(sk, skb, req, options, fastopen != 0) };
}

/// It has options beyond the usual, or its connection is a Fast Open one. Apart, so that the others
/// do not save registers for it.
///
/// # Safety
///
/// As for [`toa_rust_request`].
#[cold]
#[inline(never)]
unsafe fn request_speaks(
    sk: *const sock,
    skb: *const sk_buff,
    req: *const request_sock,
    options: &[u8],
    fastopen: bool,
) {
    // SAFETY: The hook is unregistered before the state goes.
    let Some(state) = (unsafe { state() }) else {
        return;
    };
    let mut flow = toa_flow::default();
    if fastopen {
        // A segment that had to wait for the socket's owner comes in a task.
        let off = IrqsOff::new();
        // SAFETY: The arguments are those of `tcp_check_req`, which has the child locked.
        if unsafe { shim::toa_shim_fastopen_ack(sk, skb, req, &mut flow) } != 0 {
            complete_fast_open(state, state.config.get(&off), sk, &flow, options);
        }
        return;
    }
    // SAFETY: The arguments are those of `tcp_check_req`.
    if unsafe { shim::toa_shim_dropped_ack(sk, skb, req, &mut flow) } == 0 {
        // `tcp_child_process` sees it.
        return;
    }
    // Counted when its connection comes, if it comes: see `introduce`.
    // SAFETY: For a request that is no Fast Open one, the hook runs with bottom halves off.
    let hook = unsafe { InHook::new() };
    let config = state.config.get(&hook);
    let ack = judge(state, &config.layouts, sk, options, Segment::Ack);
    if ack.toa.is_none() {
        return;
    }
    let waited = state.syns.waiting();
    let waited = waited.and_then(|now| state.syns.peek(&flow, now));
    if let Some(waiting) = Waiting::by_ack(waited, &ack, config.layouts.epoch) {
        keep_waiting(state, config, sk, &flow, &waiting);
    }
}

/// The ACK of a Fast Open connection, which was made of its SYN and does not pass
/// `tcp_child_process`.
fn complete_fast_open(
    state: &State,
    config: &Config,
    child: *const sock,
    flow: &toa_flow,
    options: &[u8],
) {
    match state.sessions.known(child as usize) {
        Known::Nothing => {}
        Known::Early(toa, segment) => {
            // What the server has been told stays, also where its source is trusted no more.
            let more = read(state, config, child, options, Segment::Ack).toa;
            let more = more.filter(|_| believed(state, config, child, flow));
            let (toa, segment) = policy::add((toa, segment), more);
            state.sessions.complete(child as usize, toa, segment);
            return;
        }
        // The kernel has refused the segment that was here before, and takes another.
        Known::All => return,
    }
    let waiting = state.syns.waiting();
    let mut ack = read(state, config, child, options, Segment::Ack);
    let waited = waiting.and_then(|now| state.syns.peek(flow, now));
    let named = waited.is_some_and(|waited| waited.toa.client.is_some());
    if let (true, Some(ack)) = (named, &mut ack.toa) {
        // The server may have been told the SYN's client, and is not told another.
        ack.client = None;
    }
    let stage = if named { Stage::InTime } else { Stage::Late };
    introduce(state, config, child, flow, waited, &ack, stage);
    // Taken out last: a server may be asking already, and finds it in either place.
    if let Some(now) = waiting {
        state.syns.take(flow, now);
    }
}

/// Makes a session of what waits for `sk`, a connection of this description, if that is a Fast Open one
/// whose handshake is not complete. Where there is no memory for it, or its source is trusted no more,
/// what waits is dropped: the server is about to be told the peer.
///
/// # Safety
///
/// The caller has locked `sk`.
pub(super) unsafe fn settle(state: &State, off: &IrqsOff, sk: *const sock, mut socket: toa_socket) {
    // SAFETY: Who locks a socket holds a reference.
    if !unsafe { awaits_ack(sk, &mut socket) } {
        return;
    }
    let flow = &socket.flow;
    let Some(now) = state.syns.waiting() else {
        return;
    };
    // What has waited is taken out with the session that is made of it, so there is none yet.
    let Some(waited) = state.syns.peek(flow, now) else {
        return;
    };
    let (toa, segment) = waited.told();
    if believed(state, state.config.get(off), sk, flow)
        && keep(state, sk, flow, toa, segment, Stage::Early)
    {
        state.stats.count(sk, Counter::ChildToa);
    }
    // Taken out last, as in `complete_fast_open`.
    state.syns.take(flow, now);
}

/// A segment has come for a connection that stands. Called while first data are read only.
///
/// # Safety
///
/// Called by the hook on `tcp_rcv_established`, with its arguments and the segment's option area.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_data(
    sk: *const sock,
    skb: *mut sk_buff,
    options: *const u8,
    len: usize,
) {
    // SAFETY: The hook is unregistered before the state goes.
    let Some(state) = (unsafe { state() }) else {
        return;
    };
    if state.first_data.awaits(sk as usize) {
        // SAFETY: The caller gives an area of that length.
        let options = unsafe { slice::from_raw_parts(options, len) };
        // SAFETY: By this function's contract.
        unsafe { data_may_speak(state, sk, skb, options) };
    }
}

/// It is one of the first. Apart, so that the others do not save registers for it.
///
/// # Safety
///
/// As for [`toa_rust_data`].
#[cold]
#[inline(never)]
unsafe fn data_may_speak(state: &State, sk: *const sock, skb: *mut sk_buff, options: &[u8]) {
    // SAFETY: The arguments are those of `tcp_rcv_established`, which has the socket locked.
    if unsafe { shim::toa_shim_next_data(sk, skb) } == 0 {
        return;
    }
    if state.sessions.has(sk as usize) {
        // Of a Fast Open connection the kernel may have refused one ACK, and taken another that told.
        state.first_data.forget(sk as usize);
        return;
    }
    // SAFETY: As above.
    if !policy::is_silent(options) && unsafe { shim::toa_shim_is_sound(skb) } != 0 {
        // A segment that had to wait for the socket's owner comes in a task.
        let off = IrqsOff::new();
        let config = state.config.get(&off);
        if let Some(toa) = read(state, config, sk, options, Segment::Data).toa {
            state.first_data.forget(sk as usize);
            let mut flow = toa_flow::default();
            // SAFETY: The socket is locked.
            unsafe { shim::toa_shim_child_flow(sk, &mut flow) };
            if believed(state, config, sk, &flow) {
                keep(state, sk, &flow, toa, Segment::Data, Stage::Late);
            }
            return;
        }
    }
    state.first_data.pass(sk as usize);
}

/// A server asks.
///
/// # Safety
///
/// Called by `getsockopt` with a live socket, whether the level is IPv6's, the user's buffer, and its
/// length, which is in kernel memory. May sleep.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_getsockopt(
    sk: *const sock,
    v6: u8,
    name: c_int,
    user: *mut c_void,
    len: *mut c_int,
) -> c_int {
    // SAFETY: The sockopts are unregistered before the state goes.
    let Some(state) = (unsafe { state() }) else {
        return Error::ENOPROTOOPT.to_errno();
    };
    // SAFETY: By this function's contract.
    let mut buffer = unsafe { Buffer::new(user, len) };
    let level = if v6 == 0 { Family::V4 } else { Family::V6 };
    let done = match name as u32 {
        uapi::TOA_SO_ABI => buffer.put(&uapi::TOA_ABI_VERSION, size_of::<u32>()),
        uapi::TOA_SO_ORIGINAL => original(state, sk, &mut buffer),
        uapi::TOA_SO_GET_LOOKUP => nat64(state, sk, &mut buffer),
        name @ uapi::TOA_SO_GET_VS..=uapi::TOA_SO_GET_VS_HYBRID => {
            virtual_server(state, sk, level, name, &mut buffer)
        }
        _ => Err(Error::ENOPROTOOPT),
    };
    match done {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// The buffer of a `getsockopt` call.
struct Buffer<'a> {
    user: *mut c_void,
    len: &'a mut c_int,
}

impl Buffer<'_> {
    /// # Safety
    ///
    /// `len` may be read and written for as long as the `Buffer` lives.
    unsafe fn new(user: *mut c_void, len: *mut c_int) -> Self {
        Self {
            user,
            // SAFETY: By this function's contract.
            len: unsafe { &mut *len },
        }
    }

    fn holds(&self, bytes: usize) -> bool {
        answer::room(*self.len, bytes, bytes).is_some()
    }

    /// Copies `answer`, a structure without padding, as far as the buffer goes but at least
    /// `least` bytes of it, and says how far.
    fn put<T: Copy>(&mut self, answer: &T, least: usize) -> Result<(), Error> {
        let Some(bytes) = answer::room(*self.len, least, size_of::<T>()) else {
            return Err(Error::EINVAL);
        };
        // SAFETY: `answer` is readable for `bytes`; the user's pointer is checked by the call.
        to_result(unsafe {
            shim::toa_shim_copy_to_user(self.user, (answer as *const T).cast(), bytes as _)
        })?;
        *self.len = bytes as c_int;
        Ok(())
    }

    /// Copies `answer`, a structure without padding, to `at` bytes behind the buffer's begin. The
    /// length stays what the caller said.
    fn put_at<T: Copy>(&mut self, at: usize, answer: &T) -> Result<(), Error> {
        let to = self.user.wrapping_byte_add(at);
        // SAFETY: `answer` is readable for its size; the user's pointer is checked by the call.
        to_result(unsafe {
            shim::toa_shim_copy_to_user(to, (answer as *const T).cast(), size_of::<T>() as _)
        })
    }
}

/// What a question is about.
#[inline(always)]
pub(super) fn describe(sk: *const sock) -> toa_socket {
    let mut socket = MaybeUninit::uninit();
    // SAFETY: `getsockopt` holds a reference on the socket.
    unsafe { shim::toa_shim_socket(sk, socket.as_mut_ptr()) };
    // SAFETY: Each field was written.
    unsafe { socket.assume_init() }
}

fn peer_of(socket: &toa_socket) -> Peer {
    Peer {
        socket: if socket.v6 != 0 {
            Family::V6
        } else {
            Family::V4
        },
        port: socket.flow.peer_port,
        addr: socket.flow.peer,
    }
}

/// As `inet_getname` decides it for `getpeername`.
fn is_connected(socket: &toa_socket) -> bool {
    const UNCONNECTED: [u32; 3] = [
        shim::TOA_TCP_CLOSE,
        shim::TOA_TCP_SYN_SENT,
        shim::TOA_TCP_LISTEN,
    ];
    socket.flow.peer_port != [0, 0] && !UNCONNECTED.contains(&socket.state.into())
}

/// What is known of the socket's connection. Where that `lacks` what is asked for, it is counted as
/// empty.
#[inline(always)]
fn look_up(
    state: &State,
    sk: *const sock,
    socket: &toa_socket,
    lacks: impl Fn(&Toa) -> bool,
) -> Option<Origin> {
    let origin = match state.sessions.find(sk as usize, &socket.flow) {
        Found::Origin(origin) => Some(origin),
        Found::Stale => {
            state.stats.count(sk, Counter::AskedMismatch);
            return None;
        }
        Found::Nothing if u32::from(socket.state) == shim::TOA_TCP_SYN_RECV => {
            look_up_early(state, sk, socket)
        }
        Found::Nothing => None,
    };
    if origin.as_ref().is_none_or(|origin| lacks(&origin.toa)) {
        state.stats.count(sk, Counter::AskedEmpty);
    }
    origin
}

/// What is known of a Fast Open connection whose handshake is not complete. A question may not sleep, and
/// so leaves what waits where it is.
#[cold]
#[inline(never)]
fn look_up_early(state: &State, sk: *const sock, socket: &toa_socket) -> Option<Origin> {
    let mut early = *socket;
    // SAFETY: `getsockopt` holds a reference on the socket.
    if unsafe { awaits_ack(sk, &mut early) } {
        let _off = IrqsOff::new();
        let waiting = state.syns.waiting();
        if let Some(waited) = waiting.and_then(|now| state.syns.peek(&early.flow, now)) {
            let (toa, segment) = waited.told();
            return Some(Origin { toa, segment });
        }
    }
    // It may have found its connection meanwhile.
    match state.sessions.find(sk as usize, &socket.flow) {
        Found::Origin(origin) => Some(origin),
        Found::Stale | Found::Nothing => None,
    }
}

/// Whether `sk`, described by `socket`, is a Fast Open connection whose handshake is not complete; the
/// flow is then its SYN's.
///
/// # Safety
///
/// The caller holds a reference on `sk`.
unsafe fn awaits_ack(sk: *const sock, socket: &mut toa_socket) -> bool {
    // SAFETY: By this function's contract, and it is a TCP socket.
    socket.tcp != 0
        && u32::from(socket.state) == shim::TOA_TCP_SYN_RECV
        && unsafe { shim::toa_shim_fastopen_seq(sk, &mut socket.flow.seq) } != 0
}

fn original(state: &State, sk: *const sock, buffer: &mut Buffer<'_>) -> Result<(), Error> {
    let refuse = |error| {
        state.stats.count(sk, Counter::AskedBypass);
        Err(error)
    };
    let socket = describe(sk);
    if socket.tcp == 0 {
        return refuse(Error::EOPNOTSUPP);
    }
    if !buffer.holds(uapi::TOA_ORIGINAL_SIZE_V1 as usize) {
        return refuse(Error::EINVAL);
    }
    if !is_connected(&socket) {
        return refuse(Error::ENOTCONN);
    }
    let origin = look_up(state, sk, &socket, |toa| toa.client.is_none());
    if matches!(&origin, Some(origin) if origin.toa.client.is_some()) {
        state.stats.count(sk, Counter::AskedOk);
    }
    let answer = answer::original(&peer_of(&socket), origin.as_ref());
    buffer.put(&answer, uapi::TOA_ORIGINAL_SIZE_V1 as usize)
}

/// The order of the checks is part of the published behaviour.
#[inline(never)]
fn nat64(state: &State, sk: *const sock, buffer: &mut Buffer<'_>) -> Result<(), Error> {
    let refuse = |error| {
        state.stats.count(sk, Counter::AskedBypass);
        Err(error)
    };
    let size = size_of::<uapi::toa_nat64_peer>();
    let socket = describe(sk);
    if !buffer.holds(size) || buffer.user.is_null() {
        return refuse(Error::EINVAL);
    }
    if socket.tcp == 0 {
        return refuse(Error::EINVAL);
    }
    if !is_connected(&socket) {
        return refuse(Error::ENOTCONN);
    }
    let origin = look_up(state, sk, &socket, |toa| toa.client.is_none());
    match answer::nat64(&peer_of(&socket), origin.as_ref()) {
        Ok(answer) => {
            state.stats.count(sk, Counter::AskedOk);
            buffer.put(&answer, size)
        }
        Err(Refusal::Fault) => refuse(Error::EFAULT),
        // `look_up` has counted it.
        Err(Refusal::Invalid | Refusal::Unknown) => Err(Error::EINVAL),
    }
}

/// Where the caller's own part of `TOA_SO_GET_VS4RDS` ends.
const VS4RDS_HEAD: usize = 20;

/// As published: only the buffer's length is looked at before what is known, never the socket's state.
#[inline(never)]
fn virtual_server(
    state: &State,
    sk: *const sock,
    level: Family,
    name: u32,
    buffer: &mut Buffer<'_>,
) -> Result<(), Error> {
    let refuse = |error| {
        state.stats.count(sk, Counter::AskedBypass);
        Err(error)
    };
    const VS: usize = size_of::<uapi::toa_vs>();
    const HYBRID: usize = size_of::<uapi::toa_vs_hybrid>();
    let (long_enough, here) = match name {
        uapi::TOA_SO_GET_VS => (buffer.holds(VS), level == Family::V4),
        uapi::TOA_SO_GET_VS4RDS => {
            let exactly = usize::try_from(*buffer.len) == Ok(VS4RDS_HEAD + VS);
            (exactly, level == Family::V4)
        }
        _ => (buffer.holds(HYBRID), true),
    };
    if !long_enough || !here {
        return refuse(Error::EINVAL);
    }
    let socket = describe(sk);
    let origin = look_up(state, sk, &socket, |toa| toa.vip.is_none());
    let origin = origin.as_ref();
    let put = match name {
        uapi::TOA_SO_GET_VS => answer::vs(origin).map(|vs| buffer.put_at(0, &vs)),
        uapi::TOA_SO_GET_VS4RDS => answer::vs(origin).map(|vs| buffer.put_at(VS4RDS_HEAD, &vs)),
        _ => answer::vs_hybrid(level, origin).map(|vs| buffer.put_at(0, &vs)),
    };
    match put {
        Ok(done) => {
            state.stats.count(sk, Counter::AskedOk);
            done
        }
        Err(_) if origin.is_some_and(|origin| origin.toa.vip.is_some()) => refuse(Error::ESRCH),
        // `look_up` has counted it.
        Err(_) => Err(Error::ESRCH),
    }
}

/// A socket leaves its connection: it may be connected again, even between the same two ends.
///
/// # Safety
///
/// Called by the hook on `tcp_disconnect`, with its socket.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_disconnect(sk: *const sock) {
    // SAFETY: The hook is unregistered before the state goes.
    if let Some(state) = unsafe { state() } {
        state.sessions.leave(sk as usize);
        if state.first_data.is_on() {
            state.first_data.forget(sk as usize);
        }
    }
}

/// A TCP socket is being destroyed; its tuple may be gone already.
///
/// # Safety
///
/// Called by the probe on `tcp_destroy_sock`.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_destroy(sk: *const sock) {
    // SAFETY: The tracepoint is unregistered before the state goes.
    let Some(state) = (unsafe { state() }) else {
        return;
    };
    if state.first_data.is_on() {
        state.first_data.forget(sk as usize);
    }
    if state.sessions.remove(sk as usize) {
        state.stats.count(sk, Counter::Freed);
    }
}

/// A hook in an NMI-like context has taken a spare session.
///
/// # Safety
///
/// Called by the irq_work that `toa_shim_refill_queue` queues.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_refill() {
    // SAFETY: The work is waited for before the state goes.
    if let Some(state) = unsafe { state() } {
        state.sessions.refill();
    }
}

/// `/proc/net/toa_stats` is read, in a namespace with these counters of its own, or in the node's.
///
/// # Safety
///
/// Called by the file's `show`, with its argument; `own` is from `toa_shim_net_attach`, and stays for
/// as long as the call.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_stats(seq: *mut seq_file, own: *const c_void, node: u8) {
    // SAFETY: The file is removed before the state goes.
    let Some(state) = (unsafe { state() }) else {
        return;
    };
    // SAFETY: By this function's contract.
    let seq = &mut unsafe { Seq::new(seq) };
    let layouts = state.config.get(&RcuReader::new()).layouts;
    if node != 0 {
        state.stats.show(seq, &layouts);
    } else {
        // SAFETY: By this function's contract.
        let own = unsafe { Counters::new(own) };
        own.show(seq, &layouts);
    }
}

/// `/proc/net/toa` is read.
///
/// # Safety
///
/// Called by the file's `show`, with its argument.
#[no_mangle]
pub(super) unsafe extern "C" fn toa_rust_status(seq: *mut seq_file) {
    // SAFETY: The file is removed before the state goes.
    if let Some(state) = unsafe { state() } {
        // SAFETY: By this function's contract.
        status::show(&mut unsafe { Seq::new(seq) }, state);
    }
}
