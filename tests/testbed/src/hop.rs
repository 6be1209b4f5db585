// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wire between the clients and the hop, which inserts TOA.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::segment::{Inserter, Outcome, Plan, Segment};

/// The largest packet that IP can describe.
const MAX_PACKET: usize = 65_535;

/// What the hop did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// SYNs that got an option.
    pub syn: u64,
    /// Segments completing a handshake that got an option.
    pub ack: u64,
    /// Segments with data after the handshake that got an option.
    pub data: u64,
    /// Segments that passed without the option because their header had no room for it.
    pub no_room: u64,
    /// Packets that the receiving device did not take.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Shared {
    plan: Mutex<Plan>,
    syn: AtomicU64,
    ack: AtomicU64,
    data: AtomicU64,
    no_room: AtomicU64,
    dropped: AtomicU64,
}

/// A running wire. Dropping it stops it.
#[derive(Debug)]
pub struct Hop {
    shared: Arc<Shared>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Hop {
    /// Carries packets between two TUN devices; those of `client` get what the plan says.
    pub(crate) fn start(client: File, server: File) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).context("cannot make an eventfd")?;
        let stop = Arc::new(stop);
        let thread = thread::Builder::new().name("hop".into()).spawn({
            let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
            move || {
                if let Err(error) = carry(&client, &server, &stop, &shared) {
                    eprintln!("the hop stopped: {error:#}");
                }
            }
        });
        let thread = Some(thread.context("cannot start the hop's thread")?);
        Ok(Self {
            shared,
            stop,
            thread,
        })
    }

    /// Changes what is inserted, from the next packet on. Nothing is, at first.
    pub fn set_plan(&self, plan: Plan) {
        *self
            .shared
            .plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            syn: get(&self.shared.syn),
            ack: get(&self.shared.ack),
            data: get(&self.shared.data),
            no_room: get(&self.shared.no_room),
            dropped: get(&self.shared.dropped),
        }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        // A write to an eventfd of ours fails for a counter at its limit only.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(client: &File, server: &File, stop: &EventFd, shared: &Shared) -> Result<()> {
    let mut inserter = Inserter::default();
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let mut waits = [client.as_fd(), server.as_fd(), stop.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut waits, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let [from_client, from_server, stopped] =
            waits.map(|wait| wait.revents().is_some_and(|events| !events.is_empty()));
        if stopped {
            return Ok(());
        }
        if from_client {
            if let Some(length) = receive(client, &mut buffer).context("client's TUN device")? {
                to_server(server, &mut inserter, &buffer[..length], shared);
            }
        }
        if from_server {
            if let Some(length) = receive(server, &mut buffer).context("hop's TUN device")? {
                send(client, &buffer[..length], shared);
            }
        }
    }
}

fn to_server(server: &File, inserter: &mut Inserter, packet: &[u8], shared: &Shared) {
    let outcome = {
        let plan = shared.plan.lock().unwrap_or_else(PoisonError::into_inner);
        inserter.packet(&plan, packet)
    };
    // Count first: who has seen the packet arrive finds it counted.
    match outcome {
        Outcome::Untouched => send(server, packet, shared),
        Outcome::Inserted(segment, changed) => {
            let count = match segment {
                Segment::Syn => &shared.syn,
                Segment::Ack => &shared.ack,
                Segment::Data => &shared.data,
            };
            count.fetch_add(1, Ordering::Relaxed);
            send(server, &changed, shared);
        }
        Outcome::NoRoom(_) => {
            shared.no_room.fetch_add(1, Ordering::Relaxed);
            send(server, packet, shared);
        }
    }
}

/// One packet, or nothing where none is waiting.
fn receive(mut device: &File, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match device.read(buffer) {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A packet that cannot be delivered is lost, as on any wire: TCP sends it again.
fn send(mut device: &File, packet: &[u8], shared: &Shared) {
    if device.write(packet).is_err() {
        shared.dropped.fetch_add(1, Ordering::Relaxed);
    }
}
