// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a module's file says of itself, before the kernel is asked to take it.

use object::{Architecture, Object, ObjectKind, ObjectSection};

/// The section that holds `key=value` strings, each ended by a NUL.
const SECTION: &str = ".modinfo";

/// A module's file, read but not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModInfo {
    /// The machine it is built for.
    pub architecture: Architecture,
    fields: Vec<(String, String)>,
}

/// Why a file is not a kernel module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotModule {
    /// Not an ELF file at all.
    #[error("not an ELF file")]
    NotElf,
    /// An ELF file of another sort: a program, a library.
    #[error("an ELF file, but a {0} and not a relocatable object")]
    NotRelocatable(&'static str),
    /// An object that was never linked into a module.
    #[error("an object file without the section .modinfo")]
    NoModinfo,
    /// The file breaks off or contradicts itself.
    #[error("a damaged ELF file ({0})")]
    Damaged(String),
}

/// How a module's file is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// An ELF file as it is.
    #[default]
    Plain,
    /// Packed by gzip.
    Gzip,
    /// Packed by xz.
    Xz,
    /// Packed by zstd.
    Zstd,
}

impl Packing {
    /// Tells from a file's first bytes, which are surer than its name.
    #[must_use]
    pub fn of(file: &[u8]) -> Self {
        match file {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// The word that /sys/module/compression uses; empty for a plain file.
    #[must_use]
    pub fn kernel_word(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// The program that unpacks it; empty for a plain file.
    #[must_use]
    pub fn unpacker(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => "gzip -dk",
            Self::Xz => "xz -dk",
            Self::Zstd => "zstd -dk",
        }
    }
}

impl ModInfo {
    /// Reads a plain (not packed) module.
    ///
    /// # Errors
    ///
    /// [`NotModule`] says what the file is instead.
    pub fn parse(file: &[u8]) -> Result<Self, NotModule> {
        if !file.starts_with(b"\x7fELF") {
            return Err(NotModule::NotElf);
        }
        let damaged = |error: object::Error| NotModule::Damaged(error.to_string());
        let object = object::File::parse(file).map_err(damaged)?;
        match object.kind() {
            ObjectKind::Relocatable => {}
            ObjectKind::Executable => return Err(NotModule::NotRelocatable("program")),
            ObjectKind::Dynamic => return Err(NotModule::NotRelocatable("program or library")),
            ObjectKind::Core => return Err(NotModule::NotRelocatable("core dump")),
            _ => return Err(NotModule::NotRelocatable("file of an unknown sort")),
        }
        let section = object
            .section_by_name(SECTION)
            .ok_or(NotModule::NoModinfo)?;
        let fields = parse_fields(section.data().map_err(damaged)?);
        Ok(Self {
            architecture: object.architecture(),
            fields,
        })
    }

    /// The first value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of `key`, in the file's order.
    pub fn all<'a, 'key>(
        &'a self,
        key: &'key str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'key> {
        self.fields
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// The kernel release that it was built for: the first word of its vermagic.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.get("vermagic")?.split_whitespace().next()
    }

    /// The names of its parameters.
    #[must_use]
    pub fn parameters(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .all("parmtype")
            .chain(self.all("parm"))
            .filter_map(|value| value.split(':').next())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether the file is for the architecture that this program runs on.
    #[must_use]
    pub fn fits_this_machine(&self) -> bool {
        match std::env::consts::ARCH {
            "x86_64" => self.architecture == Architecture::X86_64,
            "aarch64" => self.architecture == Architecture::Aarch64,
            // Elsewhere the kernel is left to judge.
            _ => true,
        }
    }
}

fn parse_fields(section: &[u8]) -> Vec<(String, String)> {
    section
        .split(|&byte| byte == 0)
        .filter_map(|field| {
            let text = String::from_utf8_lossy(field);
            let (key, value) = text.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A module of nothing but a .modinfo section: enough for a reader.
    pub(crate) fn module(machine: u16, elf_type: u16, modinfo: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let header = 64;
        let sections = header + modinfo.len() + names.len();
        let sections = sections.next_multiple_of(8);
        let mut file = Vec::new();
        file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend(elf_type.to_le_bytes());
        file.extend(machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend([0; 16]); // e_entry, e_phoff
        file.extend((sections as u64).to_le_bytes());
        file.extend([0; 4]);
        for half in [64u16, 0, 0, 64, 3, 2] {
            file.extend(half.to_le_bytes());
        }
        assert_eq!(file.len(), header);
        file.extend(modinfo);
        file.extend(names);
        file.resize(sections, 0);
        file.extend([0; 64]);
        let mut section = |name: u32, kind: u32, offset: usize, size: usize| {
            file.extend(name.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend([0; 16]); // flags, address
            file.extend((offset as u64).to_le_bytes());
            file.extend((size as u64).to_le_bytes());
            file.extend([0; 8]); // link, info
            file.extend(1u64.to_le_bytes());
            file.extend([0; 8]);
        };
        section(1, 1, header, modinfo.len());
        section(10, 3, header + modinfo.len(), names.len());
        file
    }

    const X86_64: u16 = 62;
    const AARCH64: u16 = 183;
    const RELOCATABLE: u16 = 1;

    #[test]
    fn modinfo_is_read() {
        let file = module(
            X86_64,
            RELOCATABLE,
            b"license=GPL\0name=toa\0vermagic=7.3.4+deb13-amd64 SMP preempt mod_unload \0\
              parmtype=hook:charp\0parm=hook:how to attach\0\0depends=\0",
        );
        let info = ModInfo::parse(&file).unwrap();
        assert_eq!(info.get("name"), Some("toa"));
        assert_eq!(info.get("depends"), Some(""));
        assert_eq!(info.get("author"), None);
        assert_eq!(info.release(), Some("7.3.4+deb13-amd64"));
        assert_eq!(info.parameters(), ["hook"]);
        assert_eq!(info.architecture, Architecture::X86_64);
    }

    #[test]
    fn another_architecture_is_told() {
        let info = ModInfo::parse(&module(AARCH64, RELOCATABLE, b"name=toa\0")).unwrap();
        assert_eq!(info.architecture, Architecture::Aarch64);
        assert_eq!(info.fits_this_machine(), cfg!(target_arch = "aarch64"));
    }

    #[test]
    fn other_files_are_named() {
        assert_eq!(ModInfo::parse(b"#!/bin/sh\n"), Err(NotModule::NotElf));
        assert_eq!(ModInfo::parse(b""), Err(NotModule::NotElf));
        assert!(matches!(
            ModInfo::parse(b"\x7fELF\x02\x01"),
            Err(NotModule::Damaged(_))
        ));
        assert!(matches!(
            ModInfo::parse(&module(X86_64, 3, b"name=toa\0")),
            Err(NotModule::NotRelocatable(_))
        ));
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(matches!(
            ModInfo::parse(&program),
            Err(NotModule::NotRelocatable(_))
        ));
    }

    #[test]
    fn every_truncation_is_survived() {
        let file = module(
            X86_64,
            RELOCATABLE,
            b"license=GPL\0name=toa\0vermagic=6.1 SMP\0",
        );
        for length in 0..file.len() {
            let _ = ModInfo::parse(&file[..length]);
        }
    }

    #[test]
    fn packing_is_told_by_content() {
        assert_eq!(Packing::of(b"\x7fELF"), Packing::Plain);
        assert_eq!(Packing::of(b"\x1f\x8b\x08"), Packing::Gzip);
        assert_eq!(Packing::of(b"\xfd7zXZ\0\0"), Packing::Xz);
        assert_eq!(Packing::of(b"\x28\xb5\x2f\xfd\x04"), Packing::Zstd);
        assert_eq!(Packing::of(b""), Packing::Plain);
    }
}
