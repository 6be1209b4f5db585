// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network namespace that lives as long as a thread.

use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// Runs `work` on a thread in a new network namespace.
///
/// Nothing of the namespace is left when this returns, unless `work` gave out a
/// socket of it: the kernel takes it down with its last user.
///
/// # Errors
///
/// What unshare(2) says: `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` where the
/// kernel has no network namespaces.
///
/// # Panics
///
/// Where `work` does.
pub fn in_new<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
