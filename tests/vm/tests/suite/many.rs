// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many connections at once: what their addresses cost, and that it is given back.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Instant;

use nix::sys::resource::{Resource, setrlimit};
use toa_cli::wire::toa;
use toa_testbed::Family;
use toa_vm_tests::node::{self, slabs, usual_or_long};
use toa_vm_tests::{Conn, World, module, sessions, settle};

/// By how many bytes the slabs differ from run to run, by what the kernel keeps of other objects.
const KEPT: i64 = 512 * 1024;

/// The `n`-th client's own address.
fn client(n: u32) -> SocketAddr {
    (Ipv4Addr::from(0xc612_0000 + n), 1024 + (n % 60_000) as u16).into()
}

/// The load balancer's end towards the `n`-th connection.
fn peer(n: u32) -> SocketAddr {
    const PORTS: u32 = 20_000;
    let host = Ipv4Addr::from(0x0a01_0002 + n / PORTS);
    (host, 20_000 + (n % PORTS) as u16).into()
}

/// What the forwarder writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Options {
    Client,
    /// The VIP and its VPC, too.
    All,
}

impl Options {
    fn bytes(self, n: u32) -> Vec<u8> {
        let client = toa(200, client(n));
        match self {
            Self::Client => client,
            Self::All => {
                let vip = toa(202, ([198, 51, 100, 9], 443).into());
                [&client[..], &vip, &[201, 6, 0, 0, 0, 9]].concat()
            }
        }
    }
}

fn connect(world: &World, listener: &TcpListener, count: u32, options: Options) -> Vec<Conn> {
    (0..count)
        .map(|n| {
            let option = options.bytes(n);
            let (syn, ack): (&[u8], &[u8]) = if n % 2 == 0 {
                (&option, &[])
            } else {
                (&[], &option)
            };
            let mut end = world.client_from(peer(n), listener);
            end.connect(syn, ack)
                .unwrap_or_else(|error| panic!("connection {n}: {error}"));
            Conn::accepted(end, listener)
        })
        .collect()
}

/// Kilobytes of the kernel's slabs, when what was freed has been given back.
fn settled_slabs() -> u64 {
    let mut last = slabs();
    loop {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let now = slabs();
        if now + 64 > last {
            return now.min(last);
        }
        last = now;
    }
}

/// The kernel's memory for one connection, in bytes, with all of them open; `work` looks at them.
fn bytes_each(world: &World, count: u32, options: Options, work: impl FnOnce(&[Conn])) -> i64 {
    let listener = world.listen(Family::V4);
    let before = settled_slabs();
    let conns = connect(world, &listener, count, options);
    let open = slabs();
    work(&conns);
    drop(conns);
    (open as i64 - before as i64) * 1024 / i64::from(count)
}

#[test]
fn live_connections_cost_128_bytes_each_at_most_and_give_them_back() {
    let count = usual_or_long(2_000, 100_000);
    let files = u64::from(count) + 1_000;
    setrlimit(Resource::RLIMIT_NOFILE, files, files).unwrap();
    World::run(|world| {
        for options in [Options::Client, Options::All] {
            cost_of(world, count, options);
        }
    });
}

fn cost_of(world: &World, count: u32, options: Options) {
    let without = {
        let _unloaded = module::Unloaded::now();
        // What the kernel keeps once it has had connections is there then.
        bytes_each(world, 2_000, options, |_| ());
        bytes_each(world, count, options, |_| ())
    };
    let before = settled_slabs();
    let began = Instant::now();
    let with = bytes_each(world, count, options, |conns| {
        println!("{count} connections in {:?}", began.elapsed());
        assert_eq!(sessions(), u64::from(count));
        for (n, conn) in (0..).zip(conns) {
            let told = libtoa::original(&conn.stream).unwrap().expect("a client");
            assert_eq!(told.addr, client(n));
            assert_eq!(told.vip.is_some(), options == Options::All);
        }
    });
    settle();
    let after = settled_slabs();
    let each = with - without;
    println!(
        "{count} connections, {options:?}: {with} bytes of slabs each with an address, {without} \
         without the module: {each} for the address; slabs before {before} kB, after {after} kB"
    );
    if node::counts_its_memory() {
        node::skip(
            "of this kernel's slabs, its own records of each object are a part: no bound on them",
        );
    } else {
        let session = fs::read_to_string("/sys/kernel/slab/toa_session/slab_size").unwrap();
        let session: u64 = session.trim().parse().expect("a size");
        assert!(session <= 128, "a session takes {session} bytes");
        let most = 128 + KEPT / i64::from(count);
        assert!(each <= most, "{each} bytes for each address, {options:?}");
    }
    assert!(after < before + 2_048, "from {before} kB to {after} kB");
}
