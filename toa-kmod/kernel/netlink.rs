// SPDX-License-Identifier: GPL-2.0

//! What the node's owner sets and lists.

use core::ffi::{c_int, c_ulong, c_void, CStr};
use core::mem::size_of;
use core::ptr::{self, NonNull};
use core::slice;

use super::config::Config;
use super::errno::{Error, Result};
use super::guard::RcuReader;
use super::session::Cursor;
use super::shim::{self, genl_info, netlink_callback, sk_buff};
use super::{layouts, state, transparent, State};
use crate::backend;
use crate::pure::netlink::{self, prefix_value, Change};
use crate::pure::uapi_netlink as uapi;

// These have no padding, through which memory of the kernel would leak: the sums of their fields.
const _: () = assert!(size_of::<uapi::toa_prefix>() == 16 + 1 + 3);
const _: () = assert!(size_of::<uapi::toa_session>() == 3 * 16 + 4 * 2 + 2 * 4 + 6 + 2);

/// Somebody sets something.
///
/// # Safety
///
/// Called by the family's operation, one at a time, with its request and the request's attributes.
/// May sleep.
#[no_mangle]
unsafe extern "C" fn toa_rust_netlink_set(
    info: *mut genl_info,
    attributes: *const u8,
    len: usize,
) -> c_int {
    // SAFETY: The family is unregistered before the state goes.
    let Some(state) = (unsafe { state() }) else {
        return Error::ENODEV.to_errno();
    };
    // SAFETY: The caller gives an area of that length.
    let area = unsafe { slice::from_raw_parts(attributes, len) };
    let (error, part, why) = match netlink::read(area) {
        // SAFETY: Operations come one at a time.
        Ok(change) => match unsafe { set(state, area, &change) } {
            Ok(()) => return 0,
            Err(Failed { error, why }) => (error, ptr::null(), why),
        },
        Err(bad) => (Error::EINVAL, attributes.wrapping_add(bad.at), bad.why),
    };
    // SAFETY: The request is being answered, `part` is null or in it, and the text is static: it outlives
    // the answer, which unregistering the family waits for.
    unsafe { shim::toa_shim_netlink_refuse(info, part, why.as_ptr().cast()) };
    error.to_errno()
}

/// Why nothing was set, though the request was right.
struct Failed {
    error: Error,
    why: &'static CStr,
}

impl Failed {
    /// Memory is what all want.
    fn new(error: Error, why: &'static CStr) -> Self {
        match error {
            Error::ENOMEM => error.into(),
            _ => Self { error, why },
        }
    }

    fn of_first_data(error: Error) -> Self {
        Self::new(error, c"first data cannot be read: the kernel log says why")
    }

    fn of_transparent(error: Error) -> Self {
        let why = match error {
            Error::EBUSY => {
                c"accept and getpeername cannot tell the client: another has their functions (a livepatch, a \
                  BPF program), or ftrace is switched off; the kernel log says which"
            }
            _ => c"accept and getpeername cannot tell the client: the kernel log says why",
        };
        Self::new(error, why)
    }
}

/// What needs nothing but memory has failed.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let why = c"there is no memory for it";
        Self { error, why }
    }
}

/// Does what is asked for, or nothing.
///
/// Two modes may fail to be switched on, each of which wants functions of the kernel's. What the one
/// wants is had first, without effect; then the other is switched; and what is left cannot fail.
///
/// # Safety
///
/// Only one at a time calls this. `area` is what `change` was read from. May sleep.
unsafe fn set(state: &State, area: &[u8], change: &Change<'_>) -> Result<(), Failed> {
    let make = |present: &Config| {
        if change
            .generation
            .is_some_and(|asked| asked != present.generation)
        {
            let why = c"the configuration has changed since it was read";
            return Err(Failed::new(Error::ESTALE, why));
        }
        if change.is_empty() {
            return Ok(None);
        }
        let trusted = change.trusted.map(|count| (count, netlink::prefixes(area)));
        let next = present.next(trusted, change.layouts)?;
        if next.layouts.epoch != present.layouts.epoch {
            state.stats.begin(next.layouts.epoch);
        }
        let next = backend::new_box(next)?;
        let transparent = match change.transparent {
            wish if wish.is_empty() => None,
            wish => Some(transparent::prepare(wish).map_err(Failed::of_transparent)?),
        };
        // The last that can fail.
        if let Some(on) = change.first_data {
            state.first_data.switch(on).map_err(Failed::of_first_data)?;
        }
        if let Some(transparent) = transparent {
            transparent.put_in_force();
        }
        Ok(Some(next))
    };
    // SAFETY: By this function's contract.
    unsafe { state.config.change(make) }
}

/// A dump that is under way.
struct Dump {
    skb: *mut sk_buff,
    callback: *mut netlink_callback,
    command: u8,
}

impl Dump {
    /// Puts in a message, which `fill` makes; where there is no room for all of it, nothing, and false.
    fn message(&self, fill: impl FnOnce(&Message<'_>) -> bool) -> bool {
        // SAFETY: Both are the arguments of a running `dumpit`.
        let begin = unsafe { shim::toa_shim_netlink_begin(self.skb, self.callback, self.command) };
        let Some(begin) = NonNull::new(begin) else {
            return false;
        };
        let message = Message { dump: self, begin };
        let whole = fill(&message);
        message.finish(whole);
        whole
    }
}

/// One message of it.
struct Message<'a> {
    dump: &'a Dump,
    begin: NonNull<c_void>,
}

impl Message<'_> {
    /// Adds an attribute; false where there is no room for it.
    fn bytes(&self, attribute: u32, value: &[u8]) -> bool {
        // SAFETY: The message is being made, and the value is readable for its length.
        let put = unsafe {
            shim::toa_shim_netlink_put(
                self.dump.skb,
                attribute as u16,
                value.as_ptr().cast(),
                value.len(),
            )
        };
        put != 0
    }

    /// The same with a structure.
    ///
    /// # Safety
    ///
    /// `T` has no padding.
    unsafe fn structure<T: Copy>(&self, attribute: u32, value: &T) -> bool {
        let bytes = ptr::from_ref(value).cast::<u8>();
        // SAFETY: Each byte of it has a value, by this function's contract.
        self.bytes(attribute, unsafe {
            slice::from_raw_parts(bytes, size_of::<T>())
        })
    }

    fn finish(self, whole: bool) {
        let (skb, begin) = (self.dump.skb, self.begin.as_ptr());
        if whole {
            // SAFETY: The message was begun in `skb`, and ends once.
            unsafe { shim::toa_shim_netlink_end(skb, begin) };
        } else {
            // SAFETY: As above.
            unsafe { shim::toa_shim_netlink_cancel(skb, begin) };
        }
    }
}

/// Somebody lists something.
///
/// # Safety
///
/// Called by the family's `dumpit`, with its arguments. `net` is the asking socket's network namespace,
/// and `all` tells whether it is the first one. The cursor has two numbers. May sleep.
#[no_mangle]
unsafe extern "C" fn toa_rust_netlink_dump(
    skb: *mut sk_buff,
    callback: *mut netlink_callback,
    command: u8,
    net: c_ulong,
    all: u8,
    cursor: *mut c_ulong,
) {
    // SAFETY: A dump holds a reference on the module, and the family is unregistered before the state
    // goes.
    let Some(state) = (unsafe { state() }) else {
        return;
    };
    // SAFETY: By this function's contract, and nobody else has it.
    let cursor = unsafe { &mut *cursor.cast::<[c_ulong; 2]>() };
    let dump = Dump {
        skb,
        callback,
        command,
    };
    match command.into() {
        uapi::TOA_CMD_GET_CONFIG => config(state, &dump, cursor),
        uapi::TOA_CMD_GET_SESSIONS => {
            sessions(state, &dump, (all == 0).then_some(net as usize), cursor);
        }
        _ => {}
    }
}

/// The cursor counts the messages.
fn config(state: &State, dump: &Dump, [done, _]: &mut [c_ulong; 2]) {
    let rcu = RcuReader::new();
    let config = state.config.get(&rcu);
    // SAFETY: The callback is that of a running `dumpit`.
    unsafe { shim::toa_shim_netlink_generation(dump.callback, config.generation) };
    if *done == 0 {
        let layouts = layouts::show(&config.layouts.table);
        let first_data = u8::from(state.first_data.is_on());
        let names = state.names.in_force(&rcu);
        let put = dump.message(|message| {
            message.bytes(uapi::TOA_A_GENERATION, &config.generation.to_ne_bytes())
                && message.bytes(uapi::TOA_A_LAYOUTS, layouts.as_bytes())
                && message.bytes(uapi::TOA_A_FIRST_DATA, &[first_data])
                && message.bytes(uapi::TOA_A_TRANSPARENT, &[names.is_on().into()])
                && message.bytes(uapi::TOA_A_TRANSPARENT_LOCAL, &[names.local.into()])
                && message.bytes(uapi::TOA_A_TRANSPARENT_PORTS, &names.list)
        });
        if !put {
            return;
        }
        *done = 1;
    }
    let prefixes = config.trusted.prefixes();
    for prefix in prefixes.skip(done.wrapping_sub(1) as usize) {
        let value = prefix_value(&prefix);
        // SAFETY: `toa_prefix` has no padding.
        if !dump.message(|message| unsafe { message.structure(uapi::TOA_A_PREFIX, &value) }) {
            return;
        }
        *done = done.wrapping_add(1);
    }
}

/// The cursor is a bucket, and the last socket of it.
fn sessions(state: &State, dump: &Dump, net: Option<usize>, [bucket, after]: &mut [c_ulong; 2]) {
    let mut cursor = Cursor {
        bucket: *bucket as usize,
        after: *after as usize,
    };
    state.sessions.walk(&mut cursor, |session| {
        let Some(session) = session.shown(net) else {
            return true;
        };
        // SAFETY: `toa_session` has no padding.
        dump.message(|message| unsafe { message.structure(uapi::TOA_A_SESSION, &session) })
    });
    (*bucket, *after) = (cursor.bucket as c_ulong, cursor.after as c_ulong);
}
