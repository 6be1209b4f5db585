// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine's count of its own instructions.
//!
//! Under QEMU's `-icount shift=0` each instruction takes one nanosecond of the machine's time, and
//! its time-stamp counter runs at 1 GHz: it counts instructions, the kernel's and interrupts'
//! included. [`check`] proves that it does, with a loop whose length is known. On other processors
//! nothing is counted, and that check fails.

use anyhow::{Result, ensure};

/// Instructions so far.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: every x86-64 processor has this counter, and Linux lets programs read it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Executes twice `rounds` instructions, and a few.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
pub(crate) fn spin(rounds: u64) {
    if rounds == 0 {
        return;
    }
    // SAFETY: it changes one register, which it says, and the flags.
    unsafe {
        std::arch::asm!(
            "2:",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) rounds => _,
            options(nomem, nostack),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn now() -> u64 {
    0
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn spin(_rounds: u64) {}

/// What `work` takes where nothing comes between: the least of several attempts.
fn undisturbed(work: impl Fn()) -> u64 {
    let once = || {
        let before = now();
        work();
        now() - before
    };
    (0..20).map(|_| once()).min().unwrap_or(u64::MAX)
}

/// What reading the counter twice counts by itself.
pub(crate) fn overhead() -> u64 {
    undisturbed(|| {})
}

/// Fails unless the counter counts instructions: a longer loop must take exactly as many more as
/// it has.
pub(crate) fn check() -> Result<()> {
    const SHORT: u64 = 1_000;
    const LONG: u64 = 11_000;
    let counted = undisturbed(|| spin(LONG)).wrapping_sub(undisturbed(|| spin(SHORT)));
    let executed = 2 * (LONG - SHORT);
    ensure!(
        counted == executed,
        "the time-stamp counter does not count instructions: {counted} for a loop of {executed}; \
         the machine has to run under QEMU's -icount shift=0, as scripts/bench runs it"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No other machine than one under `-icount` passes for one.
    #[test]
    fn this_machine_does_not_count_instructions() {
        let refusal = check().unwrap_err().to_string();
        assert!(refusal.contains("-icount"), "{refusal}");
    }
}
