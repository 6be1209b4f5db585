// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which package of the node's distribution brings what is missing.

use crate::host::Host;

/// Distributions that name their packages alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Debian, Ubuntu and what comes from them.
    Debian,
    /// Red Hat's, TencentOS among them.
    RedHat,
    /// Any other: the packages of both are named.
    Other,
}

/// Something that a build wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The headers of a kernel release.
    Headers(&'a str),
    /// make, a C compiler and binutils.
    Make,
    /// A C compiler of this name.
    Compiler(&'a str),
    /// rustc of this version or newer.
    Rustc(&'a str),
    /// The sources of Rust's library, for a rustc of the distribution's own.
    RustSource,
    /// depmod.
    Depmod,
    /// nft.
    Nft,
    /// iptables and ip6tables.
    Iptables,
}

impl Family {
    /// The family of `host`, by its os-release.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        let text = host.read("etc/os-release").unwrap_or_default();
        let words: Vec<&str> = text
            .lines()
            .filter_map(|line| {
                let (key, value) = line.split_once('=')?;
                matches!(key, "ID" | "ID_LIKE").then_some(value.trim_matches(['"', '\'']))
            })
            .flat_map(str::split_whitespace)
            .collect();
        let any = |names: &[&str]| words.iter().any(|word| names.contains(word));
        if any(&["debian", "ubuntu"]) {
            Self::Debian
        } else if any(&["rhel", "fedora", "centos", "tencentos", "opencloudos"]) {
            Self::RedHat
        } else {
            Self::Other
        }
    }

    /// How to install `piece`.
    #[must_use]
    pub fn install(self, piece: Piece<'_>) -> String {
        match self {
            Self::Debian => format!("apt-get install {}", debian(piece)),
            Self::RedHat => format!("dnf install {}", red_hat(piece)),
            Self::Other => format!(
                "install the package that corresponds to Debian's {} or Red Hat's {}",
                debian(piece),
                red_hat(piece)
            ),
        }
    }
}

fn debian(piece: Piece<'_>) -> String {
    match piece {
        Piece::Headers(release) => format!("linux-headers-{release}"),
        Piece::Make => "make gcc".to_owned(),
        // x86_64-linux-gnu-gcc-14 is in the package gcc-14.
        Piece::Compiler(name) => match name.find("-gnu-") {
            Some(triplet) => name[triplet + 5..].to_owned(),
            None => name.to_owned(),
        },
        Piece::Rustc(minimum) => {
            format!("rustc rust-src (rustc-web rust-web-src where those are older than {minimum})")
        }
        Piece::RustSource => "rust-src (rust-web-src where rustc is rustc-web)".to_owned(),
        Piece::Depmod => "kmod".to_owned(),
        Piece::Nft => "nftables".to_owned(),
        Piece::Iptables => "iptables".to_owned(),
    }
}

fn red_hat(piece: Piece<'_>) -> String {
    match piece {
        Piece::Headers(release) => format!("kernel-devel-{release}"),
        Piece::Make => "make gcc".to_owned(),
        Piece::Compiler(name) if name.contains("clang") => "clang".to_owned(),
        Piece::Compiler(_) => "gcc".to_owned(),
        Piece::Rustc(minimum) => format!("rust rust-src ({minimum} or newer)"),
        Piece::RustSource => "rust-src".to_owned(),
        Piece::Depmod => "kmod".to_owned(),
        Piece::Nft => "nftables".to_owned(),
        Piece::Iptables => "iptables".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{machine, silent};

    fn family(os_release: &str) -> Family {
        Family::of(&machine(&[("etc/os-release", os_release)], silent).1)
    }

    #[test]
    fn distributions_are_told_by_id_and_by_what_they_are_like() {
        assert_eq!(
            family("PRETTY_NAME=\"Debian\"\nID=debian\n"),
            Family::Debian
        );
        assert_eq!(family("ID=ubuntu\nID_LIKE=debian\n"), Family::Debian);
        assert_eq!(
            family("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"),
            Family::RedHat
        );
        assert_eq!(
            family("ID=\"tencentos\"\nID_LIKE=\"rhel\"\n"),
            Family::RedHat
        );
        assert_eq!(family("ID=arch\n"), Family::Other);
        assert_eq!(Family::of(&machine(&[], silent).1), Family::Other);
    }

    #[test]
    fn headers_are_named_with_their_release() {
        let piece = Piece::Headers("6.1.0-49-amd64");
        assert_eq!(
            Family::Debian.install(piece),
            "apt-get install linux-headers-6.1.0-49-amd64"
        );
        assert_eq!(
            Family::RedHat.install(piece),
            "dnf install kernel-devel-6.1.0-49-amd64"
        );
        let compiler = Piece::Compiler("x86_64-linux-gnu-gcc-14");
        assert_eq!(Family::Debian.install(compiler), "apt-get install gcc-14");
        assert_eq!(Family::RedHat.install(compiler), "dnf install gcc");
        let other = Family::Other.install(piece);
        assert!(other.contains("linux-headers-") && other.contains("kernel-devel-"));
    }
}
