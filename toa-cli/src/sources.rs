// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of sources, as the module's parameter `trusted` takes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Serialize, Serializer};

/// Why a text is no list of sources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An entry that is no prefix.
    #[error("`{0}` is no address and no prefix; a list is like 10.0.0.0/8,fc00::/7,203.0.113.7")]
    NoPrefix(String),
    /// An entry that may be meant as another.
    #[error("`{entry}` has bits set behind its length; the prefix is {meant}")]
    HostBits {
        /// As it was written.
        entry: String,
        /// With those bits cleared.
        meant: IpNet,
    },
    /// `::ffff:a.b.c.d`, which is no source on the wire.
    #[error("`{0}` is an IPv4 address in IPv6's clothes; write it as an IPv4 one")]
    Mapped(String),
    /// A word that is a list of its own.
    #[error("`{0}` must stand alone")]
    Alone(&'static str),
    /// A list without entries.
    #[error("the list is empty (`none` trusts nobody)")]
    Empty,
}

/// Sources, as few prefixes as it takes, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<IpNet>);

impl Sources {
    /// These, in any order; overlaps and neighbours are merged.
    #[must_use]
    pub fn new(prefixes: &[IpNet]) -> Self {
        let mut merged = IpNet::aggregate(&prefixes.to_vec());
        merged.sort();
        Self(merged)
    }

    /// Every source.
    #[must_use]
    pub fn any() -> Self {
        Self(vec![Ipv4Net::default().into(), Ipv6Net::default().into()])
    }

    /// Its prefixes.
    #[must_use]
    pub fn prefixes(&self) -> &[IpNet] {
        &self.0
    }

    /// These and others.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self::new(&[&self.0[..], &others.0].concat())
    }

    /// Whether `source` is one of them.
    #[must_use]
    pub fn contains(&self, source: IpAddr) -> bool {
        self.0.iter().any(|prefix| prefix.contains(&source))
    }
}

impl FromStr for Sources {
    type Err = Error;

    /// Commas or white space separate the entries.
    fn from_str(list: &str) -> Result<Self, Error> {
        let entries: Vec<&str> = list
            .split([',', ' ', '\t', '\n'])
            .filter(|entry| !entry.is_empty())
            .collect();
        match entries[..] {
            [] => return Err(Error::Empty),
            ["none"] => return Ok(Self::default()),
            ["any"] => return Ok(Self::any()),
            _ => {}
        }
        if let Some(word) = ["any", "none"].iter().find(|word| entries.contains(word)) {
            return Err(Error::Alone(word));
        }
        let prefixes = entries
            .into_iter()
            .map(prefix)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(&prefixes))
    }
}

fn prefix(entry: &str) -> Result<IpNet, Error> {
    let parsed = match entry.parse::<IpNet>() {
        Ok(prefix) => Some(prefix),
        Err(_) => entry.parse::<IpAddr>().ok().map(IpNet::from),
    };
    let prefix = parsed.ok_or_else(|| Error::NoPrefix(entry.to_owned()))?;
    if let IpAddr::V6(addr) = prefix.addr() {
        if addr.to_ipv4_mapped().is_some() {
            return Err(Error::Mapped(entry.to_owned()));
        }
    }
    let meant = prefix.trunc();
    if meant != prefix {
        let entry = entry.to_owned();
        return Err(Error::HostBits { entry, meant });
    }
    Ok(prefix)
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        if *self == Self::any() {
            return f.write_str("any");
        }
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl Serialize for Sources {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A prefix in the module's form: 16 bytes, IPv4 mapped, and a length of 128.
#[must_use]
pub fn to_kernel(prefix: &IpNet) -> ([u8; 16], u8) {
    match prefix {
        IpNet::V4(v4) => (v4.addr().to_ipv6_mapped().octets(), v4.prefix_len() + 96),
        IpNet::V6(v6) => (v6.addr().octets(), v6.prefix_len()),
    }
}

/// From that form; `None` where the length is no length.
#[must_use]
pub fn from_kernel(addr: [u8; 16], length: u8) -> Option<IpNet> {
    let v6 = Ipv6Addr::from(addr);
    match (v6.to_ipv4_mapped(), length.checked_sub(96)) {
        (Some(v4), Some(length)) => IpNet::new(Ipv4Addr::into(v4), length).ok(),
        _ => IpNet::new(v6.into(), length).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(list: &str) -> Sources {
        list.parse().unwrap()
    }

    #[test]
    fn lists_are_read_and_written() {
        for (list, written) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("::1, fe80::/10\n10.0.0.0/8", "10.0.0.0/8,::1/128,fe80::/10"),
            ("10.0.0.0/9,10.128.0.0/9,10.1.0.0/16", "10.0.0.0/8"),
            ("any", "any"),
            ("0.0.0.0/0,::/0", "any"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("none", "none"),
        ] {
            assert_eq!(sources(list).to_string(), written);
            assert_eq!(sources(written), sources(list));
        }
        assert_eq!(sources("none").and(&sources("::1")), sources("::1"));
        assert_eq!(sources("10.0.0.0/8").and(&sources("any")), Sources::any());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (list, says) in [
            ("", "empty"),
            (" , ", "empty"),
            ("x", "`x` is no address"),
            ("10.0.0.0/33", "`10.0.0.0/33` is no"),
            ("10.1.2.3/8", "the prefix is 10.0.0.0/8"),
            ("fe80::1/10", "the prefix is fe80::/10"),
            ("::ffff:10.0.0.1", "write it as an IPv4 one"),
            ("10.0.0.0/8,any", "`any` must stand alone"),
            ("none,10.0.0.0/8", "`none` must stand alone"),
        ] {
            let error = list.parse::<Sources>().unwrap_err().to_string();
            assert!(error.contains(says), "{list}: {error}");
        }
    }

    #[test]
    fn the_modules_form_is_understood() {
        for list in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "192.0.2.1/32",
            "::/0",
            "fe80::/10",
            "::1/128",
        ] {
            let prefix = list.parse().unwrap();
            let (addr, length) = to_kernel(&prefix);
            assert_eq!(from_kernel(addr, length), Some(prefix));
        }
        let (addr, length) = to_kernel(&"10.0.0.0/8".parse().unwrap());
        assert_eq!((&addr[10..], length), (&[0xff, 0xff, 10, 0, 0, 0][..], 104));
        assert_eq!(from_kernel(addr, 129), None);
        assert!(sources("10.0.0.0/8,::1").contains("10.1.2.3".parse().unwrap()));
        assert!(!sources("10.0.0.0/8,::/0").contains("11.0.0.1".parse().unwrap()));
    }
}
