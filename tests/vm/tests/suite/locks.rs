// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection with an address locks that one without the module does not, by the kernel's own
//! statistics. The module's buckets are locked by bits of their own, which the kernel does not see;
//! docs/cost.md says what is written there.
//!
//! Wants a kernel with lock statistics, as `tests/debug/debug.config` has and no stock one;
//! `tests/debug/lockstat` runs it on one, two and four CPUs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use toa_cli::wire::toa;
use toa_testbed::Family;
use toa_vm_tests::node::{self, PATIENCE, Sysctl};
use toa_vm_tests::{World, module, original, settle};

const LOCK_STAT: &str = "/proc/lock_stat";

/// Connections on each CPU, in each of [`ROUNDS`].
const EACH: u16 = 200;
const ROUNDS: usize = 2;

/// Classes that are another's business: the scheduler's and the timers', which go by the time that all
/// takes; the allocator's, of which a session is one object more; RCU's; and this kernel's records of
/// its objects. Without debugging the latter are not there, and the allocator's are each CPU's own.
const SET_ASIDE: [&str; 14] = [
    "&rq->__lock",
    "&p->pi_lock",
    "&base->lock",
    "hrtimer_bases.lock",
    "jiffies_lock",
    "&tkd->lock",
    "&tmc->lock",
    "rcu_node_0",
    "&rcu_state.gp_wq",
    "&n->list_lock",
    "&barn->lock",
    "&obj_hash[i].lock",
    "&object->lock",
    "kmemleak_lock",
];

/// What happened to the locks of one class.
#[derive(Clone, Copy, Debug, Default)]
struct Class {
    /// Somebody had to wait.
    contended: f64,
    /// Another CPU had it before: its cache line came from there.
    bounced: f64,
    acquired: f64,
}

/// By the names of the classes; readers and writers are one.
type Locks = BTreeMap<String, Class>;

/// What has been counted since it was cleared.
fn lock_stat() -> Locks {
    let text = fs::read_to_string(LOCK_STAT).unwrap();
    assert!(text.starts_with("lock_stat version 0.4"), "{text}");
    let mut locks = Locks::new();
    for line in text.lines() {
        // A name has colons and spaces of its own.
        let Some((name, numbers)) = line.rsplit_once(": ") else {
            continue;
        };
        let numbers: Vec<f64> = numbers
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        // con-bounces, contentions, their times, acq-bounces, acquisitions, their times
        if let [_, contended, _, _, _, _, bounced, acquired, _, _, _, _] = numbers[..] {
            let name = name.trim();
            let name = name
                .strip_suffix("-W")
                .or(name.strip_suffix("-R"))
                .unwrap_or(name);
            let class = locks.entry(name.to_owned()).or_default();
            class.contended += contended;
            class.bounced += bounced;
            class.acquired += acquired;
        }
    }
    assert!(locks.len() > 20, "{text}");
    locks
}

/// A CPU's own network, in which it makes connections with TOA, asks about each and closes it: the
/// caches of this kernel, and of its debugging, are warmed first.
fn connect_on(cpu: usize, loaded: bool, ready: Sender<()>, go: Receiver<()>) {
    World::beside(move |world| {
        let mut only = CpuSet::new();
        only.set(cpu).unwrap();
        sched_setaffinity(Pid::from_raw(0), &only).unwrap();
        let listener = world.listen(Family::V4);
        for count in [EACH / 4, EACH] {
            for n in 0..count {
                let option = toa(200, original(Family::V4, cpu as u8, n));
                let (syn, ack): (&[u8], &[u8]) = if n % 2 == 0 {
                    (&option, &[])
                } else {
                    (&[], &option)
                };
                let conn = world.connect(Family::V4, &listener, syn, ack);
                assert_eq!(
                    libtoa::original(&conn.stream).is_ok_and(|told| told.is_some()),
                    loaded
                );
            }
            ready.send(()).unwrap();
            go.recv().expect("the test goes on");
        }
    });
}

/// Adds what connections on all CPUs at once do to the locks, for each of them.
fn count(cpus: usize, loaded: bool, into: &mut Locks) {
    let (ready, all) = channel();
    // Nobody waits in vain where somebody panics: the other ends of the channels go with them.
    let counted = thread::scope(|scope| {
        let workers: Vec<Sender<()>> = (0..cpus)
            .map(|cpu| {
                let (start, go) = channel();
                let ready = ready.clone();
                scope.spawn(move || connect_on(cpu, loaded, ready, go));
                start
            })
            .collect();
        let wait_for_all = || {
            for _ in 0..cpus {
                all.recv_timeout(5 * PATIENCE)
                    .expect("connections on every CPU");
            }
        };
        wait_for_all();
        fs::write(LOCK_STAT, "0").unwrap();
        workers.iter().for_each(|worker| worker.send(()).unwrap());
        wait_for_all();
        let counted = lock_stat();
        workers.iter().for_each(|worker| worker.send(()).unwrap());
        counted
    });
    let per = 1.0 / (ROUNDS * cpus * usize::from(EACH)) as f64;
    for (name, class) in counted {
        let sum = into.entry(name).or_default();
        sum.contended += class.contended * per;
        sum.bounced += class.bounced * per;
        sum.acquired += class.acquired * per;
    }
}

#[test]
fn a_connection_with_an_address_takes_no_lock_that_all_share() {
    node::require();
    if !Path::new(LOCK_STAT).exists() {
        node::skip("this kernel has no lock statistics");
        return;
    }
    let _on = Sysctl::set("kernel/lock_stat", "1");
    let cpus = thread::available_parallelism().unwrap().get();
    let (mut without, mut with) = (Locks::new(), Locks::new());
    for _ in 0..ROUNDS {
        {
            let _unloaded = module::Unloaded::now();
            count(cpus, false, &mut without);
        }
        count(cpus, true, &mut with);
        settle();
    }
    println!("{cpus} CPUs; for each connection, without the module and with it:");
    println!(
        "{:40} {:>15} {:>15} {:>15}",
        "", "acquired", "bounced", "contended"
    );
    let names: BTreeSet<&String> = without.keys().chain(with.keys()).collect();
    let of = |locks: &Locks, name: &String| locks.get(name).copied().unwrap_or_default();
    let mut shared = Vec::new();
    for name in names {
        let (before, after) = (of(&without, name), of(&with, name));
        let [acquired, bounced] = [
            after.acquired - before.acquired,
            after.bounced - before.bounced,
        ];
        if acquired.abs() < 0.05 && bounced.abs() < 0.05 {
            continue;
        }
        println!(
            "{name:40} {:7.2} {:7.2} {:7.2} {:7.2} {:7.3} {:7.3}",
            before.acquired,
            after.acquired,
            before.bounced,
            after.bounced,
            before.contended,
            after.contended
        );
        // Half of the connections have their address from the SYN, half from the ACK: what one way alone
        // locks counts a half. On one CPU nothing bounces.
        if acquired > 0.2 && bounced > 0.2 && !SET_ASIDE.contains(&name.as_str()) {
            shared.push(name);
        }
    }
    assert!(
        shared.is_empty(),
        "locks that connections with an address share: {shared:?}"
    );
}
