// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of trusted sources.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toa_kmod::pure::text::Text;
use toa_kmod::pure::trust::{MOST, Range, Trusted, Wrong, count, parse};

/// A prefix as the standard library has it: IPv4 or not, first address, mask.
type Plain = (bool, u128, u128);

/// What a list means, worked out by the standard library; the place of the first wrong entry.
fn meaning(list: &str) -> Result<Vec<Plain>, usize> {
    let blanks = [' ', '\t', '\n'];
    match list.trim_matches(blanks) {
        "any" => return Ok(vec![(true, 0, 0), (false, 0, 0)]),
        "none" => return Ok(Vec::new()),
        _ => {}
    }
    let entries = list.split(',').zip(1..);
    let entries = entries.map(|(entry, place)| {
        let entry = entry.trim_matches(blanks);
        let right = || {
            let (addr, length) = match entry.split_once('/') {
                Some((addr, length)) => (addr, Some(length)),
                None => (entry, None),
            };
            let addr: IpAddr = addr.parse().ok()?;
            let (bits, most) = match addr {
                IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
                IpAddr::V6(v6) => (u128::from(v6), 128),
            };
            let length: u32 = match length {
                None => most,
                // `parse` takes a sign and zeroes in front.
                Some(text) => text
                    .parse()
                    .ok()
                    .filter(|length: &u32| *length <= most && length.to_string() == text)?,
            };
            let host = u128::MAX.checked_shr(128 - most + length).unwrap_or(0);
            if bits & host != 0 {
                return None;
            }
            let mapped = most == 128 && length >= 96 && bits >> 32 == 0xffff;
            let v4 = addr.is_ipv4() || mapped;
            let whole = if mapped { bits & 0xffff_ffff } else { bits };
            Some((v4, whole, !host))
        };
        right().filter(|_| place <= MOST).ok_or(place)
    });
    entries.collect()
}

fn hold(ranges: &Trusted<Vec<Range>>, plain: &[Plain], source: IpAddr) {
    let (bytes, v4, bits) = match source {
        IpAddr::V4(v4) => (
            v4.to_ipv6_mapped().octets(),
            true,
            u128::from(u32::from(v4)),
        ),
        IpAddr::V6(v6) => (v6.octets(), false, u128::from(v6)),
    };
    let want = plain.iter().any(|(of_v4, first, mask)| {
        // The bits above an IPv4 address are zero in both.
        *of_v4 == v4 && (bits ^ first) & mask == 0
    });
    assert_eq!(ranges.contains(&bytes), want, "{source}");
}

/// `data` is a list.
pub fn check(data: &[u8]) {
    let list = String::from_utf8_lossy(data);
    let want = meaning(&list);
    let refused = match count(list.as_bytes()) {
        Ok(count) => {
            let mut ranges = vec![Range::BLANK; count];
            parse(list.as_bytes(), &mut ranges).expect("what was counted is right");
            let plain = want.expect("the standard library finds nothing wrong");
            let set = Trusted::new(ranges);
            for (v4, first, mask) in &plain {
                let last = first | !mask;
                for bits in [first.wrapping_sub(1), *first, last, last.wrapping_add(1)] {
                    if *v4 {
                        hold(&set, &plain, Ipv4Addr::from(bits as u32).into());
                    } else if bits >> 32 != 0xffff {
                        hold(&set, &plain, Ipv6Addr::from(bits).into());
                    }
                }
            }
            // Shown, it is a list that means the same.
            let shown: Vec<String> = set
                .prefixes()
                .map(|prefix| {
                    let text = prefix.show(Text::<64>::new());
                    String::from_utf8(text.as_bytes().to_vec()).expect("ASCII")
                })
                .collect();
            if !shown.is_empty() && shown.len() <= MOST {
                let shown = shown.join(",");
                let mut again = vec![Range::BLANK; self::count(shown.as_bytes()).expect("a list")];
                parse(shown.as_bytes(), &mut again).expect("a list");
                let again: Vec<_> = Trusted::new(again).prefixes().collect();
                assert_eq!(again, set.prefixes().collect::<Vec<_>>());
            }
            return;
        }
        Err(refused) => refused,
    };
    assert_eq!(want, Err(refused.place as usize), "{list:?} {refused:?}");
    let text = refused.why.show(Text::<160>::new());
    assert!(text.as_bytes().is_ascii() && !text.as_bytes().is_empty());
    if let Wrong::HostBits(right) = refused.why {
        // What would be right is.
        let text = right.show(Text::<64>::new());
        assert_eq!(count(text.as_bytes()), Ok(1));
    }
}
