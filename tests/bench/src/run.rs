// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cases, one after another, with the module and without in turns.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use toa_vm_tests::module;

use crate::cases::Case;
use crate::counter;
use crate::node::{Family, Node};
use crate::report::{Counted, Figure, number};

/// What a machine does after its boot, 7.x for minutes, is over by then. It idles, which costs no
/// time but its own.
const AFTER_BOOT: Duration = Duration::from_secs(600);

impl Counted {
    /// What the rounds without and with came to.
    pub(crate) fn new(case: &Case, rounds: &[Vec<f64>; 2]) -> Self {
        let [without, with] = rounds.each_ref().map(|rounds| Figure::of(rounds));
        Self {
            case: case.name.to_owned(),
            about: case.about.to_owned(),
            unit: case.unit,
            parameters: case.parameters.to_owned(),
            live: case.live,
            without,
            with,
            difference: with.median - without.median,
            budget: None,
        }
    }
}

/// Counts all the cases.
pub(crate) fn cases(cases: &[&Case], rounds: usize) -> Result<Vec<Counted>> {
    counter::check()?;
    thread::sleep(AFTER_BOOT);
    let mut node = Node::new()?;
    let together = |one: &&Case, next: &&Case| {
        one.is_slow()
            && (one.live, one.carrier, one.parameters) == (next.live, next.carrier, next.parameters)
    };
    let mut counted = Vec::new();
    for group in cases.chunk_by(together) {
        // Many connections are made once, and each case beside them counted as often.
        let (rounds, repeats) = if group[0].is_slow() {
            (1, rounds)
        } else {
            (rounds, 1)
        };
        let mut counts = vec![[Vec::new(), Vec::new()]; group.len()];
        for _ in 0..rounds {
            for with in [false, true] {
                phase(&mut node, group, with, repeats, &mut counts)?;
            }
        }
        for (case, counts) in group.iter().zip(&counts) {
            let figures = Counted::new(case, counts);
            eprintln!(
                "{}: {} -> {}",
                case.name,
                number(figures.without.median),
                number(figures.with.median)
            );
            counted.push(figures);
        }
    }
    Ok(counted)
}

/// Has the kernel give back what its slabs do not need: how full they were left would be counted
/// with the next connections, which free into full slabs by a longer way.
fn shrink_slabs() -> Result<()> {
    for slab in fs::read_dir("/sys/kernel/slab").context("cannot read /sys/kernel/slab")? {
        fs::write(slab?.path().join("shrink"), "1").context("cannot shrink a slab")?;
    }
    Ok(())
}

/// All that is counted with the module, or all that is counted without.
fn phase(
    node: &mut Node,
    group: &[&Case],
    with: bool,
    repeats: usize,
    counts: &mut [[Vec<f64>; 2]],
) -> Result<()> {
    if with {
        module::load(group[0].parameters).context("the module cannot be loaded")?;
    }
    // Loading leaves work behind too.
    thread::sleep(Duration::from_secs(10));
    shrink_slabs()?;
    node.live(Family::V4, group[0].carrier, group[0].live)?;
    for (case, counts) in group.iter().zip(counts) {
        let mut count = |work: fn(&mut Node) -> Result<f64>| {
            work(node).with_context(|| format!("case {}", case.name))
        };
        for _ in 0..repeats {
            if case.loaded == with {
                counts[0].push(count(case.without)?);
            }
            if with {
                counts[1].push(count(case.with)?);
            }
        }
    }
    node.close()?;
    if with {
        module::unload_patiently();
    }
    Ok(())
}
