//! The longest stretch with interrupts masked, over the other tests and in the worst cases that could be thought of.
//!
//! The kernel of this flavour tells it (`hypervisor/kernel/src/masked_time.rs`). Each figure is printed as
//! `masked_time NAME N instructions (at most BOUND; WHAT, SYSTEM CALL, LABEL)`.

mod cases;
mod crowd;
mod time;
mod vcpus;

use crate::suite::{Failure, Test, play};
use core::cell::Cell;
use testbed::{Env, pmu, println};

/// What seL4 allows between two looks at interrupts: 100 work units; and what one of ours may cost.
const UNITS: u64 = 100;
const UNIT_INSTRUCTIONS: u64 = 500;
/// The most that any stretch may be, but one.
const BOUND: u64 = UNITS * UNIT_INSTRUCTIONS;
/// Retype makes up to 256 objects at once, so that it does all or nothing; each is a work unit. The last units of zeroing, before
/// it, have no look at interrupts behind them.
const RETYPE_BOUND: u64 = (256 + UNITS) * UNIT_INSTRUCTIONS;

/// The test among the others whose longest stretch is a Retype of 256 objects.
const MAKES_256: &str = "untyped_fan_out_256_frames_and_back";
/// The label of Retype.
const RETYPE: u64 = sel4_sys::Invocation::UntypedRetype as u64;

/// Why the kernel ran: an interrupt.
const INTERRUPT: u64 = 1;

/// The longest stretch since the last [`restart`].
#[derive(Clone, Copy)]
struct Longest {
    instructions: u64,
    entry: u64,
    call: u64,
    label: u64,
}

/// Forgets what was measured.
fn restart() {
    pmu::restart();
}

/// What was measured.
fn longest() -> Longest {
    let word = pmu::note();
    Longest {
        instructions: word & 0xffff_ffff,
        label: word >> 32 & 0xffff,
        call: word >> 48 & 0xff,
        entry: word >> 56,
    }
}

fn print(name: &str, longest: Longest, bound: u64) {
    let what = match longest.entry {
        INTERRUPT => "interrupt",
        2 => "system call",
        3 => "exception",
        _ => "nothing",
    };
    println!(
        "masked_time {name} {} instructions (at most {bound}; {what}, -{}, label {})",
        longest.instructions, longest.call, longest.label
    );
}

/// Runs the other tests, which together are one more, and then those of this module; how many passed and failed.
pub fn run(env: &mut Env, others: &[&[Test]]) -> (u64, u64) {
    let suite: Cell<Option<(&'static str, Longest)>> = Cell::new(None);
    let makes_256 = Cell::new(false);
    restart();
    let (mut passed, mut failed) = play(env, others, |name| {
        let now = longest();
        restart();
        if name == MAKES_256 {
            print(name, now, RETYPE_BOUND);
            makes_256.set(now.label == RETYPE && within(now, RETYPE_BOUND));
            return;
        }
        let before = suite.get().map_or(0, |(_, longest)| longest.instructions);
        if now.instructions > before {
            suite.set(Some((name, now)));
        }
    });
    let bounded = suite.get().is_some_and(|(name, longest)| {
        print("conformance_suite", longest, BOUND);
        println!("    (in test {name})");
        within(longest, BOUND)
    }) && makes_256.get();
    if bounded {
        passed += 1;
        println!("test masked_time_conformance_suite ... ok");
    } else {
        failed += 1;
        println!("test masked_time_conformance_suite ... FAILED: not within its bound");
    }
    let (more, less) = play(env, &[cases::TESTS, time::TESTS, vcpus::TESTS], |_| {});
    (passed + more, failed + less)
}

/// A counter that does not count would pass everything: no stretch is shorter than its own overhead.
const fn within(longest: Longest, bound: u64) -> bool {
    longest.instructions > 100 && longest.instructions <= bound
}

/// Measures `work` and asserts `bound`.
fn measured(
    env: &mut Env,
    name: &'static str,
    bound: u64,
    work: impl FnOnce(&mut Env) -> Result<(), Failure>,
) -> Result<(), Failure> {
    restart();
    let done = work(env);
    let longest = longest();
    done?;
    print(name, longest, bound);
    if within(longest, bound) {
        return Ok(());
    }
    Err(Failure {
        file: file!(),
        line: line!(),
        what: "the longest stretch should be within its bound",
        seen: longest.instructions,
    })
}
