// SPDX-License-Identifier: MIT OR Apache-2.0

use std::{fmt, io};

use nix::errno::Errno;

/// Why there is no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The module `toa` is not loaded on this node (`ENOPROTOOPT`). `toa-cli load` loads it.
    NotLoaded,
    /// The socket has no peer: it listens, is still connecting, or is closed (`ENOTCONN`).
    NotConnected,
    /// Not a TCP socket over IPv4 or IPv6, or one of a true MPTCP connection, whose questions the
    /// kernel does not pass on (`EOPNOTSUPP`, `ENOTSOCK`).
    NotTcp,
    /// The module speaks a newer ABI than this library: update the library.
    AbiNewer {
        /// The module's ABI version.
        module: u32,
    },
    /// The module speaks an older ABI than this library: update the module.
    AbiOlder {
        /// The module's ABI version.
        module: u32,
    },
    /// Any other error of the system call.
    Os(io::Error),
}

impl Error {
    /// From the number, since the kernel has some that user space has no names for.
    pub(crate) fn from_raw(errno: i32) -> Self {
        match Errno::from_raw(errno) {
            Errno::ENOPROTOOPT => Self::NotLoaded,
            Errno::ENOTCONN => Self::NotConnected,
            Errno::EOPNOTSUPP | Errno::ENOTSOCK => Self::NotTcp,
            _ => Self::Os(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Checks the ABI version that the module reports.
    pub(crate) fn check_abi(module: u32) -> Result<(), Self> {
        match module.cmp(&crate::ABI) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Self::AbiNewer { module }),
            std::cmp::Ordering::Less => Err(Self::AbiOlder { module }),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => f.write_str("module not loaded"),
            Self::NotConnected => f.write_str("socket not connected"),
            Self::NotTcp => f.write_str("not a TCP socket"),
            Self::AbiNewer { module } => write!(
                f,
                "the module speaks ABI {module}, newer than libtoa's {}: update libtoa",
                crate::ABI
            ),
            Self::AbiOlder { module } => write!(
                f,
                "the module speaks ABI {module}, older than libtoa's {}: update the module",
                crate::ABI
            ),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abi_versions_are_told_apart() {
        assert!(Error::check_abi(crate::ABI).is_ok());
        assert!(matches!(
            Error::check_abi(crate::ABI + 1),
            Err(Error::AbiNewer { module: 2 })
        ));
        assert!(matches!(
            Error::check_abi(crate::ABI - 1),
            Err(Error::AbiOlder { module: 0 })
        ));
    }

    #[test]
    fn a_number_without_a_name_is_kept() {
        // ENOTSUPP, which the kernel ought to keep to itself and does not always.
        let Error::Os(error) = Error::from_raw(524) else {
            panic!("not an error of the system");
        };
        assert_eq!(error.raw_os_error(), Some(524));
    }

    #[test]
    fn errors_say_what_to_do() {
        let newer = Error::AbiNewer { module: 7 }.to_string();
        assert!(newer.contains("ABI 7") && newer.contains("update libtoa"));
        assert_eq!(Error::NotLoaded.to_string(), "module not loaded");
    }
}
