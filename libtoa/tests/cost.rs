// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an answer takes in user space: one system call, no allocation. Both are counted: each
//! allocation of this program by its allocator, each system call of a process by its tracer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{TcpListener, TcpStream};

use libtoa::Error;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use toa_cli::wire;
use toa_testbed::Family;
use toa_vm_tests::{World, original};

/// Counts what the thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count_allocation() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: all is passed on to the system's allocator, and counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_allocation();
        // SAFETY: the caller keeps this function's contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_allocation();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATIONS.get();
    let result = work();
    let count = ALLOCATIONS.get() - before;
    drop(result);
    count
}

/// The system calls of `work`, which must not allocate: it runs in a process of its own, forked off
/// one that may have other threads.
fn system_calls<T>(work: impl FnOnce() -> T) -> u64 {
    // SAFETY: the child makes system calls and runs `work`, neither of which takes a lock that another
    // thread of the parent may have held.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Child => {
            let traced = ptrace::traceme().is_ok() && raise(Signal::SIGSTOP).is_ok();
            getppid();
            // A failure is the caller's to find; no destructor runs here.
            std::mem::forget(work());
            getppid();
            // SAFETY: ends the process without the parent's clean-up.
            unsafe { libc::_exit(i32::from(!traced)) }
        }
        ForkResult::Parent { child } => between_marks(child),
    }
}

/// The system calls that `child` begins between two calls of getppid.
fn between_marks(child: Pid) -> u64 {
    assert_eq!(
        waitpid(child, None),
        Ok(WaitStatus::Stopped(child, Signal::SIGSTOP))
    );
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_TRACESYSGOOD).expect("tracing");
    let (mut marks, mut count, mut entry) = (0, 0, false);
    loop {
        ptrace::syscall(child, None).expect("the child goes on");
        match waitpid(child, None).expect("the child") {
            WaitStatus::PtraceSyscall(_) => {
                entry = !entry;
                if !entry {
                    continue;
                }
                let info = ptrace::syscall_info(child).expect("what it calls");
                // SAFETY: it is the entry of a call, for which the kernel has filled this part in.
                let number = unsafe { info.u.entry }.nr;
                if number == libc::SYS_getppid as u64 {
                    marks += 1;
                } else if marks == 1 {
                    count += 1;
                }
            }
            WaitStatus::Exited(_, status) => {
                assert_eq!((status, marks), (0, 2), "the child could not be traced");
                return count;
            }
            other => panic!("the child did not go on: {other:?}"),
        }
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn what_is_allocated_and_called_is_seen() {
    assert_eq!(allocations(|| ()), 0);
    assert_eq!(allocations(|| vec![0u8; 100]), 1);
    assert_eq!(system_calls(|| ()), 0);
    let (_client, server) = pair();
    assert_eq!(system_calls(|| (getpid(), getpid())), 2);
    assert_eq!(allocations(|| server.peer_addr()), 0);
}

/// On the machine that builds, whose kernel has no module.
#[test]
fn asking_in_vain_is_one_call_and_no_allocation() {
    let (_client, server) = pair();
    assert!(matches!(libtoa::original(&server), Err(Error::NotLoaded)));
    assert_eq!(system_calls(|| libtoa::original(&server)), 1);
    assert_eq!(allocations(|| libtoa::original(&server)), 0);
    // The peer stands in.
    assert_eq!(system_calls(|| libtoa::client_addr(&server)), 2);
    assert_eq!(allocations(|| libtoa::client_addr(&server)), 0);
}

#[test]
#[ignore = "wants a node with the module"]
fn an_answer_is_one_call_and_no_allocation() {
    World::run(|world| {
        for (family, kind) in [(Family::V4, 200), (Family::V6, 253)] {
            let listener = world.listen(family);
            let client = original(family, 7, 7);
            let with = world.connect(family, &listener, &wire::toa(kind, client), &[]);
            let without = world.connect(family, &listener, &[], &[]);
            assert_eq!(
                libtoa::original(&with.stream).unwrap().unwrap().addr,
                client
            );
            assert_eq!(libtoa::original(&without.stream).unwrap(), None);
            for connection in [&with, &without] {
                let server = &connection.stream;
                assert_eq!(system_calls(|| libtoa::original(server)), 1);
                assert_eq!(allocations(|| libtoa::original(server)), 0);
                assert_eq!(system_calls(|| libtoa::client_addr(server)), 1);
                assert_eq!(allocations(|| libtoa::client_addr(server)), 0);
            }
        }
    });
}
