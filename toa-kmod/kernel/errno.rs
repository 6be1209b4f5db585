// SPDX-License-Identifier: GPL-2.0

//! Errors as the kernel's C functions speak of them.
//!
//! The `kernel` crate's own type is met at its border only (`entry/rfl.rs`): which errnos it has names
//! for differs from kernel to kernel.

/// A negative errno.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Error(i32);

/// The result of what can fail with an errno.
pub(crate) type Result<T = (), E = Error> = core::result::Result<T, E>;

impl Error {
    // `include/uapi/asm-generic/errno.h`: these are the same on x86-64 and arm64.
    pub(crate) const EPERM: Self = Self(-1);
    pub(crate) const ESRCH: Self = Self(-3);
    pub(crate) const ENOMEM: Self = Self(-12);
    pub(crate) const EFAULT: Self = Self(-14);
    pub(crate) const EBUSY: Self = Self(-16);
    pub(crate) const ENODEV: Self = Self(-19);
    pub(crate) const EINVAL: Self = Self(-22);
    pub(crate) const ENOSPC: Self = Self(-28);
    pub(crate) const ENOPROTOOPT: Self = Self(-92);
    pub(crate) const EOPNOTSUPP: Self = Self(-95);
    pub(crate) const ENOTCONN: Self = Self(-107);
    pub(crate) const ESTALE: Self = Self(-116);

    /// The negative errno.
    pub(crate) fn to_errno(self) -> i32 {
        self.0
    }
}

/// A C function's result: negative means failure.
pub(crate) fn to_result(err: i32) -> Result {
    if err < 0 {
        Err(Error(err))
    } else {
        Ok(())
    }
}
