// SPDX-License-Identifier: GPL-2.0
//! The parameter `layouts`: profiles and lists, and what is wrong with the others.

mod oracle;

use oracle::PROFILES;
use toa_kmod::pure::layout::{Format, Layout, Table, Unfit, MAX_ROWS};
use toa_kmod::pure::profile::{self, parse, Refused};
use toa_kmod::pure::text::Text;

/// A table's rows in an order of their own, and in plain words.
fn rows(table: &Table) -> Vec<(u8, u8, &'static str)> {
    let words = |row: &Layout| (row.kind, row.length, row.format.name());
    let mut rows: Vec<_> = table.rows().iter().map(words).collect();
    rows.sort_unstable();
    rows
}

fn why(text: &str) -> String {
    let refused = parse(text.as_bytes()).expect_err(text);
    let text = refused.show(Text::<256>::new());
    String::from_utf8(text.as_bytes().to_vec()).unwrap()
}

#[test]
fn every_profile_is_as_documented_and_free_of_clashes() {
    assert_eq!(profile::PROFILES.len(), PROFILES.len());
    assert_eq!(profile::PROFILES[0].name, profile::DEFAULT);
    for (name, documented) in PROFILES {
        let table = parse(name.as_bytes()).expect(name);
        let mut documented = documented.to_vec();
        documented.sort_unstable();
        assert_eq!(rows(&table), documented, "{name}");
    }
}

/// The text that `/proc/net/toa` shows is one that the parameter takes.
#[test]
fn every_profile_can_be_written_as_a_list() {
    for (name, _) in PROFILES {
        let table = parse(name.as_bytes()).unwrap();
        let entries = table.rows().iter().map(|row| {
            let Layout {
                kind,
                length,
                format,
            } = row;
            format!("{kind}/{length}={}", format.name())
        });
        let text = entries.collect::<Vec<_>>().join(",");
        assert_eq!(parse(text.as_bytes()), Ok(table), "{text}");
    }
}

#[test]
fn every_layout_can_be_listed_under_any_kind() {
    for format in Format::ALL {
        for kind in [9, 28, 99, 100, 200, 255] {
            let text = format!("{kind}/{}={}", format.length(), format.name());
            let table = parse(text.as_bytes()).expect(&text);
            assert_eq!(table.rows(), [Layout::new(kind, format)]);
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let names = "tencent lvs dpvs alibaba alibaba-cdn huawei bytedance ucloud";
    let layouts = "client-v4 client-v6 client-v4-noport client-v6-noport vip-v4 vip-v6 vpc-id \
                   client-vip-v4 client-vip-vpc-v4 client-vip-vpc-v6";
    for (text, expected) in [
        (
            "",
            format!("is empty: must be a list kind/length=layout,... or one of {names}"),
        ),
        (
            "Tencent",
            format!("Tencent: must be a list kind/length=layout,... or one of {names}"),
        ),
        ("200/8", "200/8: must be kind/length=layout".into()),
        ("200=client-v4", "200=client-v4: must be kind/length=layout".into()),
        ("tencent,lvs", "tencent: must be kind/length=layout".into()),
        (
            "200/8=client-v4,",
            "an empty entry: must be kind/length=layout".into(),
        ),
        (
            "200/8=client-v4, 254/8=client-v4",
            " 254/8=client-v4: the kind must be a number from 9 to 255".into(),
        ),
        (
            "256/8=client-v4",
            "256/8=client-v4: the kind must be a number from 9 to 255".into(),
        ),
        (
            "0200/8=client-v4",
            "0200/8=client-v4: the kind must be a number from 9 to 255".into(),
        ),
        (
            "/8=client-v4",
            "/8=client-v4: the kind must be a number from 9 to 255".into(),
        ),
        (
            "+9/8=client-v4",
            "+9/8=client-v4: the kind must be a number from 9 to 255".into(),
        ),
        (
            "200/8=client",
            format!("200/8=client: the layout must be one of {layouts}"),
        ),
        (
            "200/8=",
            format!("200/8=: the layout must be one of {layouts}"),
        ),
        (
            "253/8=client-v6",
            "253/8=client-v6: an option client-v6 is 20 bytes long".into(),
        ),
        (
            "253/=vpc-id",
            "253/=vpc-id: an option vpc-id is 6 bytes long".into(),
        ),
        (
            "253/276=client-v6",
            "253/276=client-v6: an option client-v6 is 20 bytes long".into(),
        ),
        (
            "200/8=client-v4,253/20=client-v6,253/20=vip-v6",
            "253/20=client-v6 and 253/20=vip-v6 clash: options of one kind and length can be read \
             in one way only"
                .into(),
        ),
        (
            "200/8=client-v4,200/8=client-v4",
            "200/8=client-v4 and 200/8=client-v4 clash: options of one kind and length can be read \
             in one way only"
                .into(),
        ),
    ] {
        assert_eq!(why(text), expected, "{text:?}");
    }
}

#[test]
fn the_kinds_of_tcp_itself_are_refused() {
    let standard = [0, 1, 2, 3, 4, 5, 6, 7, 8, 19, 29, 30, 34, 69, 172, 174];
    for kind in 0..=255u8 {
        let text = format!("{kind}/8=client-v4");
        match parse(text.as_bytes()) {
            Ok(_) => assert!(!standard.contains(&kind), "{kind}"),
            Err(refused) => {
                assert!(standard.contains(&kind), "{kind}");
                assert_eq!(refused, Refused::StandardKind(text.as_bytes(), kind));
                assert_eq!(why(&text), format!("{text}: kind {kind} is TCP's own"));
            }
        }
    }
}

#[test]
fn a_table_has_room_for_so_many_rows() {
    let text = |count: usize| {
        let entries = (0..count).map(|at| format!("{}/8=client-v4", 200 + at));
        entries.collect::<Vec<_>>().join(",")
    };
    assert_eq!(MAX_ROWS, 16);
    let full = parse(text(16).as_bytes()).expect("a full table");
    assert_eq!(full.rows().len(), 16);
    assert_eq!(why(&text(17)), "216/8=client-v4: more than 16 entries");
    let mut table = full;
    let more = Layout::new(9, Format::VpcId);
    assert_eq!(table.add(more), Err(Unfit::Full));
    assert_eq!(table, full);
    let again = Layout::new(200, Format::VipV4);
    assert_eq!(table.add(again), Err(Unfit::Clash));
}

/// Whatever is in a bad entry, the log gets one line of printable letters that is not endless.
#[test]
fn a_message_is_one_line() {
    let long = "x".repeat(1000);
    let message = why(&long);
    assert!(
        message.starts_with(&format!("{}...: must be", "x".repeat(48))),
        "{message}"
    );
    for text in ["a\nb", "a\0b", "\u{1b}[31m", "2\r0/8=client-v4", "\u{fc}"] {
        let message = why(text);
        assert!(
            message.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{message:?}"
        );
        assert!(message.contains('?'), "{message:?}");
    }
    let text = Text::<4>::new().text("hello").number(7);
    assert_eq!(text.as_bytes(), b"hell");
    let text = Text::<8>::new().number(0).byte(b' ').number(10).number(255);
    assert_eq!(text.as_bytes(), b"0 10255");
    assert_eq!(text.padded(), b"0 10255 ");
}
