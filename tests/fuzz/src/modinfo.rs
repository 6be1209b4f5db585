// SPDX-License-Identifier: MIT OR Apache-2.0
//! What toa-cli reads in a module's file.

use toa_cli::modinfo::{ModInfo, Packing};

use crate::bytes::Bytes;

/// A relocatable ELF file for x86-64 with these sections, and one with their names.
fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = vec![0];
    let mut content = vec![0; 64];
    let mut headers = vec![0; 64];
    let mut header = |content: &mut Vec<u8>, name: usize, kind: u32, bytes: &[u8]| {
        headers.extend((name as u32).to_le_bytes());
        headers.extend(kind.to_le_bytes());
        headers.extend([0; 16]); // flags, address
        headers.extend((content.len() as u64).to_le_bytes());
        headers.extend((bytes.len() as u64).to_le_bytes());
        headers.extend([0; 8]); // link, info
        headers.extend(1u64.to_le_bytes());
        headers.extend([0; 8]); // size of an entry
        content.extend(bytes);
    };
    for (name, bytes) in sections {
        header(&mut content, names.len(), 1, bytes);
        names.extend(name.as_bytes());
        names.push(0);
    }
    let at = names.len();
    names.extend(b".shstrtab\0");
    header(&mut content, at, 3, &names);
    let count = sections.len() as u16 + 2;

    content.resize(content.len().next_multiple_of(8), 0);
    let table = content.len() as u64;
    content.extend(headers);
    let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    head.extend([1, 0, 62, 0]); // relocatable, x86-64
    head.extend(1u32.to_le_bytes());
    head.extend([0; 16]); // entry, program headers
    head.extend(table.to_le_bytes());
    head.extend([0; 4]);
    for half in [64, 0, 0, 64, count, count - 1] {
        head.extend(half.to_le_bytes());
    }
    content[..64].copy_from_slice(&head);
    content
}

/// A module whose fields are known.
fn check_made(bytes: &mut Bytes<'_>) {
    let before = bytes.slice(8);
    let section = bytes.0;
    let want: Vec<(String, String)> = section
        .split(|&byte| byte == 0)
        .filter_map(|field| {
            let at = field.iter().position(|&byte| byte == b'=')?;
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            Some((text(&field[..at]), text(&field[at + 1..])))
        })
        .collect();
    let file = elf(&[
        (".text", before),
        (".modinfo", section),
        (".data", b"license=no"),
    ]);
    let info = ModInfo::parse(&file).expect("a module");
    assert!(info.fits_this_machine() == cfg!(target_arch = "x86_64"));
    let values = |key: &str| -> Vec<&str> {
        want.iter()
            .filter(|(other, _)| other == key)
            .map(|(_, value)| value.as_str())
            .collect()
    };
    for (key, _) in &want {
        assert_eq!(info.all(key).collect::<Vec<_>>(), values(key));
        assert_eq!(info.get(key), values(key).first().copied());
    }
    if !want.iter().any(|(key, _)| key == "license") {
        assert_eq!(info.get("license"), None);
    }

    let vermagic = values("vermagic").first().copied().unwrap_or_default();
    let release = vermagic
        .trim_start()
        .split(char::is_whitespace)
        .next()
        .filter(|word| !word.is_empty());
    assert_eq!(info.release(), release);
    let parameters: std::collections::BTreeSet<&str> = ["parm", "parmtype"]
        .into_iter()
        .flat_map(values)
        .map(|value| &value[..value.find(':').unwrap_or(value.len())])
        .collect();
    assert_eq!(
        info.parameters(),
        parameters.into_iter().collect::<Vec<_>>()
    );

    // Cut off anywhere, it is told to be damaged, or no module: what it says stands at its end.
    let cut = file.len() * usize::from(bytes.byte()) / 256;
    assert!(ModInfo::parse(&file[..cut]).is_err());
}

/// Any file at all.
fn check_any(file: &[u8]) {
    let info = ModInfo::parse(file);
    assert_eq!(ModInfo::parse(file), info);
    let Ok(info) = info else {
        return;
    };
    assert_eq!(file.get(..4), Some(&b"\x7fELF"[..]));
    // What is said stands in the file, in so many bytes.
    for key in ["name", "version", "vermagic", "license", "depends"] {
        for value in info.all(key) {
            let field = format!("{key}={value}");
            assert!(
                field.contains(char::REPLACEMENT_CHARACTER)
                    || file.windows(field.len()).any(|at| at == field.as_bytes())
            );
        }
    }
    assert!(info.release().is_none_or(|release| !release.is_empty()));
}

/// `data` is a file, or a module's fields.
pub fn check(data: &[u8]) {
    let _ = Packing::of(data);
    check_any(data);
    check_made(&mut Bytes(data));
}
