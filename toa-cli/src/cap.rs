// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capabilities of this process, so that a refusal can name the missing one.

use crate::host::Host;

/// A capability that this tool can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// `CAP_NET_ADMIN`: make a TUN device and give it addresses, see and change nftables rules.
    NetAdmin = 12,
    /// `CAP_SYS_MODULE`: load and unload kernel modules.
    SysModule = 16,
    /// `CAP_SYS_ADMIN`: make a network namespace.
    SysAdmin = 21,
}

impl Capability {
    /// The name that manuals and container settings use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysModule => "CAP_SYS_MODULE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }
}

/// The effective capabilities of this process, and whether they count in the
/// first user namespace (the one that modules ask for).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    effective: u64,
    initial_user_namespace: bool,
}

impl Capabilities {
    /// Reads them from /proc; `None` where /proc does not tell.
    #[must_use]
    pub fn read(host: &Host) -> Option<Self> {
        let status = host.read("proc/self/status")?;
        let map = host.read("proc/self/uid_map").unwrap_or_default();
        Self::parse(&status, &map)
    }

    fn parse(status: &str, uid_map: &str) -> Option<Self> {
        let hex = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))?;
        let effective = u64::from_str_radix(hex.trim(), 16).ok()?;
        let initial_user_namespace =
            uid_map.is_empty() || uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
        Some(Self {
            effective,
            initial_user_namespace,
        })
    }

    /// Whether the process has `capability` over the node itself.
    #[must_use]
    pub fn over_node(self, capability: Capability) -> bool {
        self.initial_user_namespace && self.here(capability)
    }

    /// Whether the process has `capability` in its own user namespace.
    #[must_use]
    pub fn here(self, capability: Capability) -> bool {
        self.effective & (1 << capability as u8) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_bits_of_cap_eff() {
        let status = "Name:\tx\nCapEff:\t0000000000010000\n";
        let caps = Capabilities::parse(status, "         0          0 4294967295\n").unwrap();
        assert!(caps.over_node(Capability::SysModule));
        assert!(!caps.here(Capability::NetAdmin));
        assert!(!caps.here(Capability::SysAdmin));
    }

    #[test]
    fn root_of_a_container_is_not_root_of_the_node() {
        let caps = Capabilities::parse("CapEff:\t000001ffffffffff\n", "0 100000 65536\n").unwrap();
        assert!(caps.here(Capability::SysModule));
        assert!(!caps.over_node(Capability::SysModule));
    }

    #[test]
    fn unreadable_status_is_no_answer() {
        assert_eq!(Capabilities::parse("Name:\tx\n", ""), None);
    }
}
