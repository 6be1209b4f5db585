// SPDX-License-Identifier: GPL-2.0
//! Lists of trusted sources: what they mean, and what is wrong with them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use toa_kmod::pure::text::Text;
use toa_kmod::pure::trust::{count, parse, Prefix, Range, Refused, Trusted, Wrong, MOST};

fn set(list: &str) -> Result<Trusted<Vec<Range>>, Refused<'_>> {
    let mut ranges = vec![Range::BLANK; count(list.as_bytes())?];
    parse(list.as_bytes(), &mut ranges)?;
    Ok(Trusted::new(ranges))
}

fn bytes(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn has(list: &str, source: &str) -> bool {
    set(list).unwrap().contains(&bytes(source.parse().unwrap()))
}

/// The set as a list, as it would be written.
fn shown(set: &Trusted<Vec<Range>>) -> String {
    let texts = set.prefixes().map(|prefix| text_of(&prefix));
    texts.collect::<Vec<_>>().join(",")
}

fn text_of(prefix: &Prefix) -> String {
    String::from_utf8(prefix.show(Text::<64>::new()).as_bytes().to_vec()).unwrap()
}

/// What is wrong with a list, as the kernel log has it.
fn wrong(list: &str) -> (u32, String, String) {
    let refused = set(list).unwrap_err();
    let why = refused.why.show(Text::<160>::new());
    (
        refused.place,
        String::from_utf8(refused.entry.to_vec()).unwrap(),
        String::from_utf8(why.as_bytes().to_vec()).unwrap(),
    )
}

#[test]
fn the_edges_of_a_prefix() {
    for (list, inside, outside) in [
        (
            "10.0.0.0/8",
            ["10.0.0.0", "10.255.255.255"],
            ["9.255.255.255", "11.0.0.0"],
        ),
        (
            "172.16.0.0/12",
            ["172.16.0.0", "172.31.255.255"],
            ["172.15.255.255", "172.32.0.0"],
        ),
        (
            "100.64.0.0/10",
            ["100.64.0.0", "100.127.255.255"],
            ["100.63.255.255", "100.128.0.0"],
        ),
        (
            "192.0.2.7",
            ["192.0.2.7", "::ffff:192.0.2.7"],
            ["192.0.2.6", "192.0.2.8"],
        ),
        (
            "fc00::/7",
            ["fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
            ["fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::"],
        ),
        ("fe80::/10", ["fe80::", "febf::1"], ["fe7f::ffff", "fec0::"]),
        ("::1", ["::1", "0::1"], ["::", "::2"]),
    ] {
        for source in inside {
            assert!(has(list, source), "{source} is of {list}");
        }
        for source in outside {
            assert!(!has(list, source), "{source} is not of {list}");
        }
    }
}

#[test]
fn each_family_by_its_own_prefixes() {
    assert!(has("::/0", "2001:db8::1"));
    assert!(!has("::/0", "192.0.2.1"));
    assert!(!has("::/1", "::ffff:192.0.2.1"));
    assert!(has("0.0.0.0/0", "192.0.2.1"));
    assert!(!has("0.0.0.0/0", "2001:db8::1"));
    // The same prefix in another form.
    assert!(has("::ffff:10.0.0.0/104", "10.1.2.3"));
    assert!(!has("::ffff:10.0.0.0/104", "11.1.2.3"));
}

#[test]
fn everybody_and_nobody() {
    for source in ["192.0.2.1", "2001:db8::1", "::", "0.0.0.0"] {
        assert!(has("any", source));
        assert!(has(" any\n", source));
        assert!(!has("none", source));
    }
    assert_eq!(shown(&set("any").unwrap()), "0.0.0.0/0,::/0");
    assert_eq!(shown(&set("none").unwrap()), "");
}

#[test]
fn entries_are_sorted_and_joined() {
    for (list, want) in [
        ("10.0.0.0/9,10.128.0.0/9", "10.0.0.0/8"),
        ("10.128.0.0/9,10.0.0.0/8,10.0.0.0/9", "10.0.0.0/8"),
        (
            "::1, 127.0.0.0/8 ,fe80::/10\n",
            "127.0.0.0/8,::1/128,fe80::/10",
        ),
        ("10.0.0.1,10.0.0.2,10.0.0.3", "10.0.0.1/32,10.0.0.2/31"),
        // The last IPv4 address and the IPv6 one behind it do not touch.
        (
            "::1:0:0:0/96,255.255.255.255",
            "255.255.255.255/32,::1:0:0:0/96",
        ),
        ("2001:db8::/33,2001:db8:8000::/33", "2001:db8::/32"),
        ("0.0.0.0/1,128.0.0.0/1,::/1,8000::/1", "0.0.0.0/0,::/0"),
    ] {
        let set = set(list).unwrap();
        assert_eq!(shown(&set), want, "{list}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (list, place, entry, why) in [
        ("", 1, "", "is empty (none trusts nobody)"),
        ("10.0.0.0/8,", 2, "", "is empty (none trusts nobody)"),
        (
            "10.0.0.0/8,10.0.0.256",
            2,
            "10.0.0.256",
            "is no IPv4 or IPv6 address, any or none",
        ),
        (
            "::1,10.1.2.3/8,x",
            2,
            "10.1.2.3/8",
            "has bits set behind its prefix length: must be 10.0.0.0/8",
        ),
        (
            "fd00::1/8",
            1,
            "fd00::1/8",
            "has bits set behind its prefix length: must be fd00::/8",
        ),
        (
            "10.0.0.0/33",
            1,
            "10.0.0.0/33",
            "has a prefix length that is no number from 0 to 32",
        ),
        (
            "fe80::/129",
            1,
            "fe80::/129",
            "has a prefix length that is no number from 0 to 128",
        ),
        (
            "10.0.0.0/08",
            1,
            "10.0.0.0/08",
            "has a prefix length that is no number from 0 to 32",
        ),
        ("any,10.0.0.0/8", 1, "any", "must stand alone"),
        ("10.0.0.0/8,none", 2, "none", "must stand alone"),
    ] {
        let found = wrong(list);
        assert_eq!(found, (place, entry.to_owned(), why.to_owned()), "{list:?}");
    }
}

#[test]
fn so_many_and_no_more() {
    let list = |many: usize| {
        let entries = (0..many as u32).map(|n| Ipv4Addr::from(n * 2).to_string());
        entries.collect::<Vec<_>>().join(",")
    };
    let most = list(MOST);
    let most = set(&most).unwrap();
    assert_eq!(most.prefixes().count(), MOST);
    for n in 0..2 * MOST as u32 {
        let source = bytes(Ipv4Addr::from(n).into());
        assert_eq!(most.contains(&source), n % 2 == 0, "{n}");
    }
    let (place, _, why) = wrong(&list(MOST + 1));
    assert_eq!(
        (place as usize, why.as_str()),
        (MOST + 1, "is one too many: at most 4096")
    );
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
        // Runs of zeroes, which are written in so many ways.
        any::<(u128, u128, u128)>()
            .prop_map(|(a, b, c)| Ipv6Addr::from(a & b & c & (a >> 64)).into()),
    ]
}

/// Text that looks like an address more often than not.
fn addressish() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f:.]{0,20}",
        "[0-9a-f:]{0,30}(:[0-9]{1,3}(\\.[0-9]{1,3}){3})?",
        "[0-9.]{1,16}"
    ]
}

proptest! {
    #[test]
    fn addresses_are_read_as_the_standard_library_reads_them(text in addressish()) {
        let want = text.parse::<IpAddr>().ok().map(bytes);
        let got = set(&text).ok().map(|set| {
            let all: Vec<_> = set.prefixes().collect();
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].length(), 128);
            all[0].addr()
        });
        prop_assert_eq!(got, want, "{}", text);
    }

    #[test]
    fn what_is_shown_is_read_again(addr in address(), length in 0u8..=128) {
        let length = if addr.is_ipv4() { 96 + length % 33 } else { length };
        let (Ok(prefix) | Err(Wrong::HostBits(prefix))) = Prefix::new(bytes(addr), length) else {
            panic!("no prefix");
        };
        prop_assert!(prefix.is_v4() || addr.is_ipv6());
        let text = text_of(&prefix);
        let all: Vec<_> = set(&text).unwrap().prefixes().collect();
        prop_assert_eq!(all, [prefix], "{}", text);
        if addr.is_ipv6() {
            let (shown, _) = text.split_once('/').unwrap();
            prop_assert_eq!(shown, Ipv6Addr::from(prefix.addr()).to_string());
        }
    }

    #[test]
    fn a_source_is_of_the_set_if_it_is_of_an_entry(
        entries in prop::collection::vec((address(), 0u8..=128), 0..40),
        others in prop::collection::vec(address(), 40),
    ) {
        let mut prefixes = Vec::new();
        let mut texts = Vec::new();
        for (addr, length) in entries {
            let length = if addr.is_ipv4() { 96 + length % 33 } else { length };
            let (Ok(prefix) | Err(Wrong::HostBits(prefix))) = Prefix::new(bytes(addr), length) else {
                panic!("no prefix");
            };
            texts.push(text_of(&prefix));
            prefixes.push((prefix.addr(), length, prefix.is_v4()));
        }
        let list = if texts.is_empty() { "none".to_owned() } else { texts.join(",") };
        let set = set(&list).unwrap();
        let near = prefixes.iter().flat_map(|(addr, length, _)| {
            let first = u128::from_be_bytes(*addr);
            let last = first | u128::MAX.checked_shr((*length).into()).unwrap_or(0);
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
        });
        let sources: Vec<[u8; 16]> = near.map(u128::to_be_bytes).chain(others.into_iter().map(bytes)).collect();
        for source in sources {
            let bits = u128::from_be_bytes(source);
            let v4 = bits >> 32 == 0xffff;
            let want = prefixes.iter().any(|(addr, length, of_v4)| {
                let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
                *of_v4 == v4 && bits & mask == u128::from_be_bytes(*addr)
            });
            prop_assert_eq!(set.contains(&source), want, "{} {:?}", list, Ipv6Addr::from(source));
        }
    }
}
