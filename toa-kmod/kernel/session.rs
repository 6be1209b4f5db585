// SPDX-License-Identifier: GPL-2.0

//! The connections that have an original address.
//!
//! A session is found by its socket's address, which is compared and never followed. Sockets are
//! freed and their memory used again, and a socket can be disconnected and connected elsewhere, so
//! a session knows when its socket leaves the connection, and a look-up also compares the network
//! namespace, the peer and the local port.
//!
//! Whoever goes through a bucket holds its lock, a question too: on its way here it has held a mutex
//! of the kernel's that all questions share. So a session is freed as soon as it is taken out. Sessions
//! are inserted with bottom halves or interrupts off; all else is done with interrupts off.
//! Neither can be interrupted by a hook on its CPU, so the lock is free for whoever spins on it soon.

use core::mem::size_of;

use super::cache::Cache;
use super::errno::Result;
use super::guard::{CalledOff, IrqsOff};
use super::shim::{self, sock, toa_flow};
use crate::backend::{self, BoxedArray};
use crate::pure::answer::{self, Name, Named, Origin};
use crate::pure::layout::Toa;
use crate::pure::policy::Segment;
use crate::pure::uapi_netlink::toa_session;
use crate::shared::chain::{self, Chain, Link};
use crate::shared::spares::Spares;

/// Buckets; a power of two. 1 MiB, and short chains up to 100,000 sessions and more.
const BUCKETS: usize = 1 << 16;

/// Sessions for a hook that interrupted the kernel where it cannot allocate (an int3 kprobe runs
/// in an NMI-like context). Refilled as soon as that context is left. Each CPU may take one before
/// the work that refills them runs; what is too many is dropped and counted.
const SPARES: usize = 64;

/// Sessions that [`Sessions::walk`] copies while it holds a bucket's lock.
const COPIED: usize = 8;

/// Buckets through which it goes without a look at who else wants the CPU; a power of two.
const BUCKETS_AT_ONCE: usize = 1 << 9;

/// Where [`Sessions::walk`] is.
pub(super) struct Cursor {
    pub(super) bucket: usize,
    /// The last socket that was shown of it.
    pub(super) after: usize,
}

/// Where a session is in its connection's life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Made before the end of a Fast Open connection's handshake, which may tell more.
    Early,
    /// Made with its connection.
    InTime,
    /// Made when a server may have accepted the connection, and was told of no client.
    Late,
    /// The socket has left the connection. The session stays until the socket is destroyed, since the
    /// hook that sets this may be in no place to free anything.
    Left,
}

impl Stage {
    /// Whether the peer's name may be the client's.
    fn is_named(self) -> bool {
        matches!(self, Self::Early | Self::InTime)
    }
}

/// One connection's original address.
#[derive(Clone, Copy)]
pub(super) struct Session {
    net: usize,
    /// The inode by which user space knows the network namespace.
    netns: u32,
    peer: [u8; 16],
    peer_port: [u8; 2],
    local_port: [u8; 2],
    toa: Toa,
    segment: Segment,
    stage: Stage,
}

const _: () = assert!(size_of::<Link<Session>>() <= 96);

impl Session {
    fn is_of(&self, flow: &toa_flow) -> bool {
        self.stage != Stage::Left
            && self.peer == flow.peer
            && self.peer_port == flow.peer_port
            && self.local_port == flow.local_port
            && self.net == flow.net as usize
    }

    /// As netlink shows it, unless its socket has left the connection; with a network namespace, only one
    /// of that.
    pub(super) fn shown(&self, net: Option<usize>) -> Option<toa_session> {
        if self.stage == Stage::Left || net.is_some_and(|net| net != self.net) {
            return None;
        }
        let connection = toa_session {
            peer: self.peer,
            peer_port: u16::from_ne_bytes(self.peer_port),
            local_port: u16::from_ne_bytes(self.local_port),
            netns: self.netns,
            ..toa_session::default()
        };
        Some(answer::listed(&self.origin(), connection))
    }

    #[inline(always)]
    fn origin(&self) -> Origin {
        #[cfg(toa_seed_oob)]
        self.seed_oob();
        Origin {
            toa: self.toa,
            segment: self.segment,
        }
    }

    /// Reads the byte behind the session, the last of its `Link`, which KASAN is to report. In no
    /// build but that of TOA_SEED=oob (tests/debug/seeds).
    #[cfg(toa_seed_oob)]
    #[inline(never)]
    fn seed_oob(&self) {
        let behind = core::ptr::from_ref(self).wrapping_add(1).cast::<u8>();
        // SAFETY: None; this is the fault.
        unsafe { behind.read_volatile() };
    }
}

/// How much is known of a socket.
pub(super) enum Known {
    /// What the SYN told, and the ACK may add to.
    Early(Toa, Segment),
    /// All that its handshake told.
    All,
    /// It has no session.
    Nothing,
}

/// What a look-up finds.
pub(super) enum Found {
    /// The connection's original address.
    Origin(Origin),
    /// The socket has a session, of a connection that it has left since.
    Stale,
    /// The socket has none.
    Nothing,
}

/// The table.
pub(super) struct Sessions {
    buckets: BoxedArray<Chain<Session>, BUCKETS>,
    spares: Spares<Link<Session>, SPARES>,
    /// The last field: what came of it must be gone before it.
    cache: Cache<Link<Session>>,
}

impl Sessions {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            buckets: backend::new_array(Chain::new)?,
            spares: Spares::new(),
            cache: Cache::new(c"toa_session")?,
        })
    }

    /// The bucket of a socket. Sockets are cache-line aligned and come from a few slabs, so it takes
    /// a hash to spread them.
    fn bucket(&self, sk: usize) -> Option<&Chain<Session>> {
        const SHIFT: u32 = u64::BITS - BUCKETS.trailing_zeros();
        self.buckets.get((chain::hash(sk) >> SHIFT) as usize)
    }

    /// Makes `origin` known for the connection `flow` of the socket `sk`, which has no session and is
    /// locked; false if there is no memory for it. Bottom halves, or interrupts, are off.
    pub(super) fn insert(
        &self,
        sk: *const sock,
        flow: &toa_flow,
        origin: &Origin,
        stage: Stage,
    ) -> bool {
        let Some(bucket) = self.bucket(sk as usize) else {
            return false;
        };
        let session = Session {
            net: flow.net as usize,
            // SAFETY: The caller's socket is live.
            netns: unsafe { shim::toa_shim_netns(sk) },
            peer: flow.peer,
            peer_port: flow.peer_port,
            local_port: flow.local_port,
            toa: origin.toa,
            segment: origin.segment,
            stage,
        };
        let session = Link::new(sk as usize, session);
        // SAFETY: No preconditions.
        let place = if unsafe { shim::toa_shim_in_nmi() } == 0 {
            self.cache.alloc()
        } else {
            let spare = self.spares.take();
            // SAFETY: The work is registered for as long as hooks run.
            unsafe { shim::toa_shim_refill_queue() };
            spare
        };
        let Some(place) = place else {
            return false;
        };
        // SAFETY: The place is ours alone.
        unsafe { place.write(session) };
        // SAFETY: As above; `remove` and `drop` free it once it is taken out.
        unsafe { bucket.insert(place) };
        true
    }

    /// What `work` makes of the session of `sk`, if it has one.
    fn with<R>(&self, sk: usize, work: impl FnOnce(&mut Session) -> R) -> Option<R> {
        let bucket = self.bucket(sk)?;
        if !bucket.may_hold(sk) {
            return None;
        }
        let _irqs = IrqsOff::new();
        bucket.with(sk, work)
    }

    /// What is known of `sk`, whose connection is `flow`. Inlined, so that what is found goes from the
    /// session into the answer and nowhere in between.
    #[inline(always)]
    pub(super) fn find(&self, sk: usize, flow: &toa_flow) -> Found {
        self.with(sk, |session| {
            if session.is_of(flow) {
                Found::Origin(session.origin())
            } else {
                Found::Stale
            }
        })
        .unwrap_or(Found::Nothing)
    }

    /// Whether `sk` has a session, of whatever connection.
    pub(super) fn has(&self, sk: usize) -> bool {
        self.with(sk, |_| ()).is_some()
    }

    /// What is known of `sk`, of whatever connection.
    pub(super) fn known(&self, sk: usize) -> Known {
        let known = |session: &mut Session| match session {
            Session {
                stage: Stage::Early,
                toa,
                segment,
                ..
            } => Known::Early(*toa, *segment),
            _ => Known::All,
        };
        self.with(sk, known).unwrap_or(Known::Nothing)
    }

    /// Makes this all that is known of `sk`, whose session is in the stage [`Stage::Early`].
    pub(super) fn complete(&self, sk: usize, toa: Toa, segment: Segment) {
        self.with(sk, |session| {
            session.stage = match session.toa.client {
                Some(_) => Stage::InTime,
                None => Stage::Late,
            };
            session.toa = toa;
            session.segment = segment;
        });
    }

    /// Whether `sk` can have a session; false for nearly every socket that has none.
    #[inline(always)]
    pub(super) fn may_have(&self, sk: usize) -> bool {
        self.bucket(sk).is_some_and(|bucket| bucket.may_hold(sk))
    }

    /// Puts the client of `sk`, whose local port this is, where the kernel has put the peer in `name`. One
    /// that came late is not put there: `accept` may have told the peer.
    #[inline(always)]
    pub(super) fn rename(
        &self,
        _off: &CalledOff,
        sk: usize,
        local_port: [u8; 2],
        name: &mut impl Name,
    ) -> Named {
        let Some(bucket) = self.bucket(sk) else {
            return Named::Other;
        };
        let rename = |session: &mut Session| match &session.toa.client {
            Some(client) if session.stage.is_named() && session.local_port == local_port => {
                name.rename(session.peer_port, &session.peer, &client.addr)
            }
            _ => Named::Other,
        };
        bucket.with(sk, rename).unwrap_or(Named::Other)
    }

    /// Says that `sk` is leaving its connection.
    pub(super) fn leave(&self, sk: usize) {
        self.with(sk, |session| {
            session.stage = Stage::Left;
        });
    }

    /// Forgets `sk`, which is being destroyed; whether it had a session.
    #[inline(always)]
    pub(super) fn remove(&self, sk: usize) -> bool {
        match self.bucket(sk) {
            // Nearly every socket has none: look before locking.
            Some(bucket) if bucket.may_hold(sk) => self.take_out(bucket, sk),
            _ => false,
        }
    }

    #[cold]
    #[inline(never)]
    fn take_out(&self, bucket: &Chain<Session>, sk: usize) -> bool {
        let irqs = IrqsOff::new();
        let found = bucket.remove(sk);
        drop(irqs);
        let Some(found) = found else {
            return false;
        };
        // SAFETY: `insert` had it of the cache, and it is in no chain any more.
        unsafe { self.cache.free(found) };
        true
    }

    /// Shows sessions to `show`, from the cursor on, until it has no room for one; the cursor then stands
    /// in front of that. From a task that may sleep: what is shown are copies, made of a few at a time.
    pub(super) fn walk(&self, cursor: &mut Cursor, mut show: impl FnMut(&Session) -> bool) {
        while let Some(bucket) = self.buckets.get(cursor.bucket) {
            let mut more = !bucket.is_empty();
            while more {
                let irqs = IrqsOff::new();
                let some: [_; COPIED] = bucket.above(cursor.after);
                drop(irqs);
                for (sk, session) in some.iter().flatten() {
                    if !show(session) {
                        return;
                    }
                    cursor.after = *sk;
                }
                more = matches!(some, [.., Some(_)]);
            }
            cursor.bucket = cursor.bucket.wrapping_add(1);
            cursor.after = 0;
            if cursor.bucket & (BUCKETS_AT_ONCE - 1) == 0 {
                // SAFETY: The caller may sleep.
                unsafe { shim::toa_shim_may_reschedule() };
            }
        }
    }

    /// Fills the spares, where it is allowed to allocate atomically.
    pub(super) fn refill(&self) {
        // SAFETY: What comes back came from the cache, and nobody else has seen it.
        let unmake = |fresh| unsafe { self.cache.free(fresh) };
        self.spares.refill(|| self.cache.alloc(), unmake);
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for bucket in self.buckets.iter_mut() {
            while let Some(session) = bucket.pop() {
                // SAFETY: No hook is left, so what was linked is ours alone.
                unsafe { self.cache.free(session) };
            }
        }
        while let Some(spare) = self.spares.take() {
            // SAFETY: `take` made the spare ours alone.
            unsafe { self.cache.free(spare) };
        }
    }
}
