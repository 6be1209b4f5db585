// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options that make no sense, and some that only look like TOA.

use std::net::TcpListener;
use std::time::Duration;

use libtoa::Segment;
use toa_cli::wire::{MAX_OPTIONS, toa};
use toa_testbed::Family;
use toa_vm_tests::node::PATIENCE;
use toa_vm_tests::{Conn, Stats, World, module, original, wait_readable};

/// What a segment carries, and how many options of it are counted as malformed.
#[derive(Clone)]
struct Case {
    name: &'static str,
    options: Vec<u8>,
    malformed: u64,
}

fn case(name: &'static str, options: impl Into<Vec<u8>>, malformed: u64) -> Case {
    Case {
        name,
        options: options.into(),
        malformed,
    }
}

fn cases() -> Vec<Case> {
    let client = original(Family::V4, 66, 66);
    let good = toa(200, client);
    vec![
        case("length 0", [200, 0, 1, 1], 1),
        case("length 1", [200, 1, 1, 1], 1),
        case("the option goes 4 bytes past the end", [200, 8, 0, 80], 1),
        case("length 0 of another's kind", [77, 0, 1, 1], 1),
        case("a kind without a length", [1, 1, 1, 200], 1),
        case("past the end by a word", [1, 1, 200, 8, 0, 80, 203, 0], 1),
        case("far past the end", [254, 255, 0, 80], 1),
        case("a long one past the end", [253, 20, 0, 80, 1, 2, 3, 4], 1),
        case("200/4", [200, 4, 0, 80], 1),
        case("200/2", [200, 2, 1, 1], 1),
        case("254/7", [254, 7, 0, 80, 203, 0, 113, 1], 1),
        case("200/9", [200, 9, 0, 80, 203, 0, 113, 7, 1, 1, 1, 1], 1),
        case(
            "253/8: the kind has another length",
            [253, 8, 0, 80, 203, 0, 113, 7],
            1,
        ),
        case("253/19", [&[253, 19][..], &[1; 18]].concat(), 1),
        case("nothing but NOPs", [1; MAX_OPTIONS], 0),
        case("nothing but ends", [0; MAX_OPTIONS], 0),
        case("nothing but 255s", [255; MAX_OPTIONS], 1),
        case(
            "TOA behind the end of the list",
            [&[0, 1, 1, 1][..], &good].concat(),
            0,
        ),
        case(
            "TOA behind an option of length 0",
            [&[77, 0, 1, 1][..], &good].concat(),
            1,
        ),
        case(
            "TOA inside another's option",
            [&[77, 12, 1, 1][..], &good].concat(),
            0,
        ),
    ]
}

/// A connection with these options, or nothing where the kernel drops one of the two segments.
fn try_to_connect(
    world: &World,
    family: Family,
    listener: &TcpListener,
    [syn, ack]: [&[u8]; 2],
    patience: Duration,
) -> Option<Conn> {
    let mut end = world.client(family, listener);
    end.patience = patience;
    end.syn(syn).unwrap();
    end.recv_syn_ack().ok()?;
    end.ack(ack).unwrap();
    let pending = wait_readable(listener, patience);
    pending.then(|| {
        end.patience = PATIENCE;
        Conn::accepted(end, listener)
    })
}

/// A kernel with TCP-AO or TCP-MD5 drops segments in whose options it cannot look for a signature.
/// That is not the module's doing: what passes without it must pass with it.
#[test]
fn it_is_counted_and_ignored_and_the_connection_goes_on() {
    World::run(|world| {
        let listeners = Family::ALL.map(|family| (family, world.listen(family)));
        let mut all = Vec::new();
        for case in cases() {
            for (family, listener) in &listeners {
                for in_syn in [true, false] {
                    all.push((case.clone(), *family, listener, in_syn));
                }
            }
        }
        fn segments(options: &[u8], in_syn: bool) -> [&[u8]; 2] {
            if in_syn {
                [options, &[]]
            } else {
                [&[], options]
            }
        }

        let unloaded = module::Unloaded::now();
        let passes: Vec<bool> = all
            .iter()
            .map(|(case, family, listener, in_syn)| {
                let segments = segments(&case.options, *in_syn);
                let short = Duration::from_millis(150);
                try_to_connect(world, *family, listener, segments, short).is_some()
            })
            .collect();
        drop(unloaded);

        let mut passed = 0;
        for ((case, family, listener, in_syn), passes) in all.into_iter().zip(passes) {
            let Case {
                name,
                options,
                malformed,
            } = case;
            let segments = segments(&options, in_syn);
            if !passes {
                let short = Duration::from_millis(10);
                drop(try_to_connect(world, family, listener, segments, short));
                continue;
            }
            passed += 1;
            let before = Stats::read();
            let conn = try_to_connect(world, family, listener, segments, PATIENCE);
            let mut conn = conn.unwrap_or_else(|| {
                panic!(
                    "{name} (in the SYN: {in_syn}): no connection with the module, but one without"
                )
            });
            let counted = Stats::read().since(&before);
            if malformed == 0 {
                assert_eq!(counted, [("syn_recv_sock_no_toa", 1)], "{name}");
            } else {
                assert_eq!(
                    counted,
                    [("syn_recv_sock_no_toa", 1), ("malformed", malformed)],
                    "{name}"
                );
            }
            assert_eq!(libtoa::original(&conn.stream).unwrap(), None, "{name}");
            conn.exchange();
        }
        println!("{passed} connections with malformed options, as many as without the module");
        assert!(passed >= 4 * 14, "too few passed to tell: {passed}");
        assert_eq!(toa_vm_tests::sessions(), 0);
    });
}

#[test]
fn what_came_before_it_counts() {
    World::run(|world| {
        let client = original(Family::V4, 1, 1);
        let listener = world.listen(Family::V4);
        let options = [&toa(200, client)[..], &[254, 0, 1, 1]].concat();
        for (segment, syn, ack) in [
            (Segment::Syn, &options[..], &[][..]),
            (Segment::Ack, &[], &options),
        ] {
            let before = Stats::read();
            let conn = world.connect(Family::V4, &listener, syn, ack);
            assert_eq!(Stats::read().since(&before).get("malformed"), 1);
            let told = libtoa::original(&conn.stream).unwrap().unwrap();
            assert_eq!((told.addr, told.segment), (client, segment));
        }
    });
}

#[test]
fn a_malformed_ack_leaves_what_the_syn_carried() {
    World::run(|world| {
        let client = original(Family::V4, 2, 2);
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &toa(200, client), &[200, 0, 1, 1]);
        let told = libtoa::original(&conn.stream).unwrap().unwrap();
        assert_eq!((told.addr, told.segment), (client, Segment::Syn));
    });
}

/// The last option may end where the header does.
#[test]
fn toa_at_the_very_end_of_a_full_header() {
    World::run(|world| {
        for (kind, family) in [(200, Family::V4), (253, Family::V6)] {
            let client = original(family, 3, 3);
            let option = toa(kind, client);
            let mut options = vec![1; MAX_OPTIONS - option.len()];
            options.extend(option);
            let listener = world.listen(family);
            for (segment, syn, ack) in [
                (Segment::Syn, &options[..], &[][..]),
                (Segment::Ack, &[], &options),
            ] {
                let conn = world.connect(family, &listener, syn, ack);
                let told = libtoa::original(&conn.stream).unwrap().unwrap();
                assert_eq!((told.addr, told.segment), (client, segment));
            }
        }
    });
}

/// 254/8 with the magic of RFC 7413's experiment: a cookie of 4 bytes in a SYN; in any later
/// segment Fast Open sends none, so there it is a client with port 0xf989.
#[test]
fn a_fast_open_cookie_in_a_syn_is_no_address() {
    World::run(|world| {
        let looks = original(Family::V4, 4, 0xf989);
        let cookie = toa(254, looks);
        let listener = world.listen(Family::V4);

        let before = Stats::read();
        let mut conn = world.connect(Family::V4, &listener, &cookie, &[]);
        assert_eq!(Stats::read().since(&before), [("syn_recv_sock_no_toa", 1)]);
        assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
        conn.exchange();

        let conn = world.connect(Family::V4, &listener, &[], &cookie);
        let told = libtoa::original(&conn.stream).unwrap().unwrap();
        assert_eq!((told.addr, told.segment), (looks, Segment::Ack));

        // The address behind it in the same SYN is one.
        let client = original(Family::V4, 5, 5);
        let both = [cookie.clone(), toa(254, client)].concat();
        let conn = world.connect(Family::V4, &listener, &both, &[]);
        let told = libtoa::original(&conn.stream).unwrap().unwrap();
        assert_eq!((told.addr, told.segment), (client, Segment::Syn));

        // Kind 200 is no experiment's.
        let conn = world.connect(Family::V4, &listener, &toa(200, looks), &[]);
        let told = libtoa::original(&conn.stream).unwrap().unwrap();
        assert_eq!((told.addr, told.segment), (looks, Segment::Syn));
    });
}
