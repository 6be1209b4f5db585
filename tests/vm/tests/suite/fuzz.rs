// SPDX-License-Identifier: MIT OR Apache-2.0
//! Option areas of chance on SYN, ACK and data: what the module's pure part reads in them is what
//! the server must be told, and what must be counted, no more and no less.
//!
//! `TOA_LONG=1` makes 10,000 connections instead of 400; `TOA_FUZZ_SEED` repeats a run.

use std::collections::BTreeMap;
use std::env;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use fastrand::Rng;
use toa_cli::wire::MAX_OPTIONS;
use toa_kmod::pure::layout::{Address, Family as Carried, Layout, Table};
use toa_kmod::pure::packet::{Item, Options};
use toa_kmod::pure::policy::{self, Reading, Segment, choose};
use toa_kmod::pure::profile;
use toa_testbed::Family;
use toa_vm_tests::node::PATIENCE;
use toa_vm_tests::{Conn, Stats, World, wait_readable};

/// What Linux puts into a SYN, without room for much else, and into any other segment.
const USUAL: [&[u8]; 2] = [
    &[
        2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
    ],
    &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
];

/// How long to wait for what the kernel may have dropped.
const SHORT: Duration = Duration::from_millis(60);

fn bytes(rng: &mut Rng, length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

fn option(rng: &mut Rng, rows: &[Layout]) -> Vec<u8> {
    let row = rng.choice(rows).expect("a row");
    match rng.u8(..8) {
        // A row of the table with any content, and one with a length of another's.
        0..4 => {
            let body = bytes(rng, usize::from(row.length) - 2);
            [vec![row.kind, row.length], body].concat()
        }
        4 => {
            let length = rng.u8(..24);
            [
                vec![row.kind, length],
                bytes(rng, usize::from(length).saturating_sub(2)),
            ]
            .concat()
        }
        // Somebody else's.
        5 => {
            let length = rng.u8(2..14);
            [
                vec![rng.u8(2..), length],
                bytes(rng, usize::from(length) - 2),
            ]
            .concat()
        }
        6 => vec![1; rng.usize(1..5)],
        _ => {
            let length = rng.usize(1..6);
            bytes(rng, length)
        }
    }
}

/// An option area as the kernel gets it: filled up with zeroes to whole words.
fn area(rng: &mut Rng, rows: &[Layout]) -> Vec<u8> {
    let mut area = match rng.u8(..8) {
        0 => return Vec::new(),
        1 => {
            let length = rng.usize(..=MAX_OPTIONS);
            bytes(rng, length)
        }
        2..5 => rng.choice(USUAL).expect("one of two").to_vec(),
        _ => Vec::new(),
    };
    for _ in 0..rng.u8(..4) {
        area.extend(option(rng, rows));
    }
    // Broken in a place or two.
    for _ in 0..rng.u8(..6).saturating_sub(3) {
        if let Some(at) = (!area.is_empty()).then(|| rng.usize(..area.len())) {
            area[at] = rng.u8(..);
        }
    }
    area.truncate(MAX_OPTIONS);
    area.resize(area.len().next_multiple_of(4), 0);
    area
}

/// Whether a kernel may drop a segment with these options, module or not: it cannot be searched for
/// a signature (TCP-AO, MD5), it carries one that nobody asked for, or its timestamp is out of
/// place.
fn may_be_dropped(area: &[u8]) -> bool {
    Options::new(area).any(|item| match item {
        Item::Option { kind, .. } => [8, 19, 29].contains(&kind),
        Item::Malformed => true,
    })
}

fn patience(area: &[u8]) -> Duration {
    if may_be_dropped(area) {
        SHORT
    } else {
        PATIENCE
    }
}

/// An address as a socket of that family shows it.
fn shown(address: &Address, socket: Family) -> SocketAddr {
    let addr = Ipv6Addr::from(address.addr);
    let port = u16::from_be_bytes(address.port);
    match (socket, address.family) {
        (Family::V4, Carried::V4) => {
            (addr.to_ipv4_mapped().expect("a mapped address"), port).into()
        }
        _ => (addr, port).into(),
    }
}

/// Adds what the counters must say of a segment that was read.
fn count(counted: &mut BTreeMap<String, u64>, name: &str, reading: &Reading, table: &Table) {
    let mut add = |name: &str, count: u64| {
        if count > 0 {
            *counted.entry(name.to_owned()).or_default() += count;
        }
    };
    for row in reading.rows {
        let row = table.rows()[usize::from(row)];
        add(&format!("{name}_{}_{}", row.kind, row.length), 1);
    }
    add("malformed", reading.malformed.into());
    add("duplicate", reading.duplicates.into());
}

/// How often the kernel dropped a segment: of the SYNs, of the ACKs, of the data.
type Dropped = [u32; 3];

/// One connection from its SYN to data, held against what the pure part reads.
fn connection(
    world: &World,
    table: &Table,
    rng: &mut Rng,
    dropped: &mut Dropped,
) -> Option<SocketAddr> {
    let read = |area: &[u8], segment| policy::read(table, area, segment);
    let family = *rng.choice(&Family::ALL).expect("one of two");
    let listener = world.listen(family);
    let [syn, ack, data] = [(); 3].map(|()| area(rng, table.rows()));
    let what = format!("SYN {syn:02x?} ACK {ack:02x?} data {data:02x?} over {family:?}");
    let before = Stats::read();
    let mut counted = BTreeMap::new();

    let mut client = world.client(family, &listener);
    let first = client.seq;
    let mut by_syn = None;
    client.syn(&syn).expect("a SYN can be sent");
    client.patience = patience(&syn);
    if client.recv_syn_ack().is_ok() {
        let reading = read(&syn, Segment::Syn);
        count(&mut counted, "syn", &reading, table);
        by_syn = reading.toa;
    } else {
        assert!(may_be_dropped(&syn), "no SYN-ACK: {what}");
        dropped[0] += 1;
        client.seq = first;
        client.patience = PATIENCE;
        client.syn(&[]).expect("a SYN can be sent");
        client.recv_syn_ack().expect("a SYN-ACK to a plain SYN");
    }
    client.patience = PATIENCE;

    let mut by_ack = None;
    client.ack(&ack).expect("an ACK can be sent");
    if wait_readable(&listener, patience(&ack)) {
        let reading = read(&ack, Segment::Ack);
        count(&mut counted, "ack", &reading, table);
        by_ack = reading.toa;
    } else {
        assert!(may_be_dropped(&ack), "no connection: {what}");
        dropped[1] += 1;
        client.ack(&[]).expect("an ACK can be sent");
    }
    let mut conn = Conn::accepted(client, &listener);
    let expected = choose(by_syn.map(|toa| (toa, Segment::Syn)), by_ack);
    let name = match expected {
        Some(_) => "syn_recv_sock_toa",
        None => "syn_recv_sock_no_toa",
    };
    counted.insert(name.to_owned(), 1);

    let seq = conn.client.seq;
    conn.client
        .data_with(b"ping", &data)
        .expect("data can be sent");
    if !wait_readable(&conn.stream, patience(&data)) {
        assert!(may_be_dropped(&data), "no data: {what}");
        dropped[2] += 1;
        conn.client.seq = seq;
        conn.client.data(b"ping").expect("data can be sent");
    }
    conn.server_reads(b"ping");

    let grown: BTreeMap<String, u64> = Stats::read().since(&before).into();
    assert_eq!(grown, counted, "{what}");
    let told = libtoa::original(&conn.stream).expect("the module answers");
    let told = told.map(|told| {
        let option = (told.addr, told.kind, told.length, told.segment);
        (option, told.vip, told.vpc_id)
    });
    let expected = expected.and_then(|(toa, segment)| {
        let segment = match segment {
            Segment::Syn => libtoa::Segment::Syn,
            Segment::Ack => libtoa::Segment::Ack,
            Segment::Data => libtoa::Segment::Data,
        };
        let client = toa.client?;
        let addr = shown(&client.addr, family);
        Some((
            (addr, client.kind, client.length, segment),
            toa.vip.map(|vip| shown(&vip, family)),
            toa.vpc_id.map(u32::from_be_bytes),
        ))
    });
    assert_eq!(told, expected, "{what}");
    assert_eq!(
        conn.stream.peer_addr().expect("a peer"),
        conn.client.local()
    );
    expected.map(|((client, ..), ..)| client)
}

/// A share of the connections for each profile, the module loaded with it.
#[test]
fn options_of_chance_are_read_as_the_pure_part_reads_them() {
    let long = env::var("TOA_LONG").is_ok_and(|long| long == "1");
    let connections = if long { 10_000 } else { 400 };
    let seed = env::var("TOA_FUZZ_SEED").ok().map_or(0x70a, |seed| {
        seed.parse().expect("TOA_FUZZ_SEED is a number")
    });
    println!("TOA_FUZZ_SEED={seed}, {connections} connections");
    let mut rng = Rng::with_seed(seed);
    let mut dropped = Dropped::default();
    let mut told = 0;
    for profile in &profile::PROFILES {
        let table = profile::parse(profile.name.as_bytes()).expect("a profile");
        World::run_with(&format!("layouts={}", profile.name), |world| {
            for _ in 0..connections / profile::PROFILES.len() {
                let told_now = connection(world, &table, &mut rng, &mut dropped);
                told += usize::from(told_now.is_some());
            }
        });
    }
    println!("{told} had an address; SYNs, ACKs and data that the kernel dropped: {dropped:?}");
    // Neither side of what is compared may be all there is.
    assert!(
        told > connections / 5 && told < connections * 9 / 10,
        "{told}"
    );
    assert!(
        dropped
            .iter()
            .all(|&dropped| (dropped as usize) < connections / 2)
    );
}
