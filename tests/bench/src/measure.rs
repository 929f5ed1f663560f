//! How a row is measured, and stubs that cost no more than libsel4's.

use sel4_sys::syscall::Registers;
use sel4_sys::{CapRights, Invocation, init_slot, vm_attributes};
use testbed::pmu::cycles;
use testbed::{Answer, invoke_fixed, println};

/// Repetitions of a short operation; the mean is printed.
pub const ROUNDS: u64 = 64;

/// Prints a row.
pub fn row(name: &str, value: u64) {
    println!("bench {name} {value} instructions");
}

/// What an operation that was measured leaves behind: a refusal is no figure.
pub trait Outcome {
    /// Stops the run if the operation was refused.
    fn expect_done(self);
}

impl Outcome for () {
    fn expect_done(self) {}
}

impl Outcome for Registers {
    fn expect_done(self) {}
}

impl Outcome for Answer {
    fn expect_done(self) {
        assert!(
            self.label == 0,
            "measured: error {} {:x?}",
            self.label,
            self.words
        );
    }
}

/// What reading the counter costs, to be subtracted.
#[derive(Clone, Copy)]
pub struct Clock {
    overhead: u64,
}

impl Clock {
    /// Starts the counter.
    pub fn new() -> Self {
        testbed::pmu::start();
        Self {
            overhead: testbed::pmu::overhead(),
        }
    }

    /// One run, which must not be refused.
    #[inline(always)]
    pub fn once<T: Outcome>(self, operation: impl FnOnce() -> T) -> u64 {
        let start = cycles();
        let outcome = operation();
        let count = cycles().wrapping_sub(start).saturating_sub(self.overhead);
        outcome.expect_done();
        count
    }

    /// One run of which only the time is wanted: keeping the answer would cost instructions that libsel4's stubs do not have.
    #[inline(always)]
    fn timed<T>(self, operation: impl FnOnce() -> T) -> u64 {
        let start = cycles();
        operation();
        cycles().wrapping_sub(start).saturating_sub(self.overhead)
    }

    /// The mean of `ROUNDS` runs, after two that warm up and must not be refused.
    #[inline(always)]
    pub fn mean<T: Outcome>(self, operation: impl FnMut() -> T) -> u64 {
        self.mean_with(|| {}, operation)
    }

    /// [`Self::mean`], with something before each run that is not counted.
    #[inline(always)]
    pub fn mean_with<B, T: Outcome>(
        self,
        mut before: impl FnMut() -> B,
        mut operation: impl FnMut() -> T,
    ) -> u64 {
        for _ in 0..2 {
            before();
            operation().expect_done();
        }
        let mut sum = 0u64;
        for _ in 0..ROUNDS {
            before();
            sum += self.timed(&mut operation);
        }
        sum / ROUNDS
    }

    /// Two operations of which each undoes the other, by turns: the mean of each.
    #[inline(always)]
    pub fn by_turns<T: Outcome, U: Outcome>(
        self,
        mut first: impl FnMut() -> T,
        mut second: impl FnMut() -> U,
    ) -> [u64; 2] {
        first().expect_done();
        second().expect_done();
        let [mut firsts, mut seconds] = [0, 0];
        for _ in 0..ROUNDS {
            firsts += self.timed(&mut first);
            seconds += self.timed(&mut second);
        }
        [firsts / ROUNDS, seconds / ROUNDS]
    }
}

/// Prints two rows.
pub fn rows(names: [&str; 2], values: [u64; 2]) {
    for (name, value) in names.into_iter().zip(values) {
        row(name, value);
    }
}

/// Any invocation.
#[inline(always)]
pub fn invoke<const W: usize, const C: usize>(
    cap: u64,
    label: Invocation,
    words: [u64; W],
    caps: [u64; C],
) -> Answer {
    invoke_fixed(cap, label.word(), &words, &caps)
}

/// CNode_Copy in the root CNode.
#[inline(always)]
pub fn copy(to: u64, from: u64) -> Answer {
    let words = [to, 64, from, 64, CapRights::ALL.0];
    invoke(
        init_slot::CNODE,
        Invocation::CNodeCopy,
        words,
        [init_slot::CNODE],
    )
}

/// CNode_Delete in the root CNode.
#[inline(always)]
pub fn delete(slot: u64) -> Answer {
    invoke(init_slot::CNODE, Invocation::CNodeDelete, [slot, 64], [])
}

/// CNode_Revoke in the root CNode.
#[inline(always)]
pub fn revoke(slot: u64) -> Answer {
    invoke(init_slot::CNODE, Invocation::CNodeRevoke, [slot, 64], [])
}

/// Page_Map, to be read and written.
#[inline(always)]
pub fn map(frame: u64, vspace: u64, vaddr: u64) -> Answer {
    let words = [vaddr, CapRights::READ_WRITE.0, vm_attributes::DEFAULT];
    invoke(frame, Invocation::ArmPageMap, words, [vspace])
}

/// Page_Unmap.
#[inline(always)]
pub fn unmap(frame: u64) -> Answer {
    invoke(frame, Invocation::ArmPageUnmap, [], [])
}
