// SPDX-License-Identifier: MIT OR Apache-2.0
//! Option areas of chance on SYN, ACK and data: what the module's pure part reads in them is what
//! the server must be told, and what must be counted, no more and no less.
//!
//! Half of the connections are made with first data read, too. `TOA_LONG=1` makes 10,000 instead of
//! 400, of a seed of chance; `TOA_FUZZ_SEED` repeats a run.

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use fastrand::Rng;
use toa_cli::wire::MAX_OPTIONS;
use toa_kmod::pure::layout::{Address, Family as Carried, Layout, Table, Toa};
use toa_kmod::pure::packet::{Item, Options};
use toa_kmod::pure::policy::{self, Reading, Segment, choose};
use toa_kmod::pure::profile;
use toa_testbed::Family;
use toa_vm_tests::node::{PATIENCE, usual_or_long};
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

/// Data segments of a connection without an address that are read, in the mode that reads them.
const FIRST: usize = 3;

/// How many segments were sent, and how many of them the kernel dropped: SYNs, ACKs, data.
type Sent = [[u32; 2]; 3];

/// What was counted since.
fn grown(before: &Stats) -> BTreeMap<String, u64> {
    Stats::read().since(before).into()
}

/// Sends data segments of chance, one more than are read of a connection that has no address yet;
/// what the module must have read in one of them, if anything.
fn first_data(
    conn: &mut Conn,
    table: &Table,
    rng: &mut Rng,
    awaited: bool,
    sent: &mut [u32; 2],
) -> Option<Toa> {
    let mut found = None;
    for nth in 0..=FIRST {
        let area = area(rng, table.rows());
        let what = format!("data {area:02x?}, segment {nth}, after {found:?}");
        let mut counted = BTreeMap::new();
        let mut reading = Reading::default();
        if awaited && found.is_none() && nth < FIRST {
            reading = policy::read(table, &area, Segment::Data);
            count(&mut counted, "data", &reading, table);
        }
        let before = Stats::read();
        let seq = conn.client.seq;
        conn.client
            .data_with(b"ping", &area)
            .expect("data can be sent");
        sent[0] += 1;
        let came = wait_readable(&conn.stream, patience(&area));
        let grown = grown(&before);
        if came {
            conn.server_reads(b"ping");
            assert_eq!(grown, counted, "{what}");
            found = found.or(reading.toa);
            continue;
        }
        assert!(may_be_dropped(&area), "no data: {what}");
        sent[1] += 1;
        // The kernel drops it before the module sees it, for what it is signed with, or afterwards, for
        // its time; how many are still to be read is not known any more.
        assert!(grown == counted || grown.is_empty(), "{grown:?}: {what}");
        if !grown.is_empty() {
            found = found.or(reading.toa);
        }
        conn.client.seq = seq;
        conn.client.data(b"ping").expect("data can be sent");
        conn.server_reads(b"ping");
        break;
    }
    found
}

/// One connection from its SYN to data, held against what the pure part reads.
fn connection(
    world: &World,
    table: &Table,
    rng: &mut Rng,
    reads_data: bool,
    sent: &mut Sent,
) -> Option<(SocketAddr, libtoa::Segment)> {
    let read = |area: &[u8], segment| policy::read(table, area, segment);
    let family = *rng.choice(&Family::ALL).expect("one of two");
    let listener = world.listen(family);
    let [syn, ack] = [(); 2].map(|()| area(rng, table.rows()));
    let what = format!("SYN {syn:02x?} ACK {ack:02x?} over {family:?}");
    let before = Stats::read();
    let mut counted = BTreeMap::new();

    let mut client = world.client(family, &listener);
    let first = client.seq;
    let mut by_syn = None;
    client.syn(&syn).expect("a SYN can be sent");
    client.patience = patience(&syn);
    sent[0][0] += 1;
    if client.recv_syn_ack().is_ok() {
        let reading = read(&syn, Segment::Syn);
        count(&mut counted, "syn", &reading, table);
        by_syn = reading.toa;
    } else {
        assert!(may_be_dropped(&syn), "no SYN-ACK: {what}");
        sent[0][1] += 1;
        client.seq = first;
        client.patience = PATIENCE;
        client.syn(&[]).expect("a SYN can be sent");
        client.recv_syn_ack().expect("a SYN-ACK to a plain SYN");
    }
    client.patience = PATIENCE;

    let mut by_ack = None;
    client.ack(&ack).expect("an ACK can be sent");
    sent[1][0] += 1;
    if wait_readable(&listener, patience(&ack)) {
        let reading = read(&ack, Segment::Ack);
        count(&mut counted, "ack", &reading, table);
        by_ack = reading.toa;
    } else {
        assert!(may_be_dropped(&ack), "no connection: {what}");
        sent[1][1] += 1;
        client.ack(&[]).expect("an ACK can be sent");
    }
    let mut conn = Conn::accepted(client, &listener);
    let expected = choose(by_syn.map(|toa| (toa, Segment::Syn)), by_ack);
    let name = match expected {
        Some(_) => "syn_recv_sock_toa",
        None => "syn_recv_sock_no_toa",
    };
    counted.insert(name.to_owned(), 1);
    assert_eq!(grown(&before), counted, "{what}");

    let awaited = reads_data && expected.is_none();
    let by_data = first_data(&mut conn, table, rng, awaited, &mut sent[2]);
    let expected = expected.or(by_data.map(|toa| (toa, Segment::Data)));
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
    expected.map(|((client, _, _, segment), ..)| (client, segment))
}

/// The seed of this run, which stands on stderr before anything can go wrong with it.
fn seed(connections: usize) -> u64 {
    let seed = match env::var("TOA_FUZZ_SEED") {
        Ok(seed) => seed.parse().expect("TOA_FUZZ_SEED is a number"),
        // Of the kernel's own random numbers, by way of the standard library's.
        Err(_) => usual_or_long(0x70a, fastrand::u64(..)),
    };
    // Past libtest's capture, in one write.
    let line = format!("TOA_FUZZ_SEED={seed}, {connections} connections\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    seed
}

/// A share of the connections for each profile, the module loaded with it, without and with first data
/// read.
#[test]
fn options_of_chance_are_read_as_the_pure_part_reads_them() {
    let connections = usual_or_long(400, 10_000);
    let mut rng = Rng::with_seed(seed(connections));
    let mut sent = Sent::default();
    let (mut told, mut by_data) = (0, 0);
    for profile in &profile::PROFILES {
        let table = profile::parse(profile.name.as_bytes()).expect("a profile");
        for reads_data in [false, true] {
            let mode = u8::from(reads_data);
            let parameters = format!("layouts={} first_data={mode}", profile.name);
            World::run_with(&parameters, |world| {
                for _ in 0..connections / profile::PROFILES.len() / 2 {
                    let now = connection(world, &table, &mut rng, reads_data, &mut sent);
                    told += usize::from(now.is_some());
                    let of_data = now.is_some_and(|(_, by)| by == libtoa::Segment::Data);
                    by_data += usize::from(of_data);
                }
            });
        }
    }
    println!(
        "{told} had an address, {by_data} by data; SYNs, ACKs, data sent and dropped: {sent:?}"
    );
    // Neither side of what is compared may be all there is.
    assert!(
        told > connections / 5 && told < connections * 9 / 10,
        "{told}"
    );
    assert!(by_data > connections / 40, "{by_data} by data");
    assert!(
        sent.iter().all(|[all, dropped]| dropped < &(all / 2)),
        "{sent:?}"
    );
}
