//! How a row is measured, and stubs that cost no more than libsel4's.

use sel4_sys::{CapRights, Invocation, init_slot, vm_attributes};
use testbed::pmu::cycles;
use testbed::{Answer, invoke_fixed, println};

/// Repetitions of a short operation; the mean is printed.
pub const ROUNDS: u64 = 64;

/// Prints a row.
pub fn row(name: &str, value: u64) {
    println!("bench {name} {value} instructions");
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

    /// One run.
    #[inline(always)]
    pub fn once(self, operation: impl FnOnce()) -> u64 {
        let start = cycles();
        operation();
        cycles().wrapping_sub(start).saturating_sub(self.overhead)
    }

    /// The mean of `ROUNDS` runs, after two that warm up.
    #[inline(always)]
    pub fn mean(self, mut operation: impl FnMut()) -> u64 {
        self.mean_with(|| {}, &mut operation)
    }

    /// [`Self::mean`], with something before each run that is not counted.
    #[inline(always)]
    pub fn mean_with(self, mut before: impl FnMut(), mut operation: impl FnMut()) -> u64 {
        for _ in 0..2 {
            before();
            operation();
        }
        let mut sum = 0u64;
        for _ in 0..ROUNDS {
            before();
            sum += self.once(&mut operation);
        }
        sum / ROUNDS
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
pub fn copy(to: u64, from: u64) {
    let words = [to, 64, from, 64, CapRights::ALL.0];
    invoke(
        init_slot::CNODE,
        Invocation::CNodeCopy,
        words,
        [init_slot::CNODE],
    );
}

/// CNode_Delete in the root CNode.
#[inline(always)]
pub fn delete(slot: u64) {
    invoke(init_slot::CNODE, Invocation::CNodeDelete, [slot, 64], []);
}

/// CNode_Revoke in the root CNode.
#[inline(always)]
pub fn revoke(slot: u64) {
    invoke(init_slot::CNODE, Invocation::CNodeRevoke, [slot, 64], []);
}

/// Page_Map, to be read and written.
#[inline(always)]
pub fn map(frame: u64, vspace: u64, vaddr: u64) {
    let words = [vaddr, CapRights::READ_WRITE.0, vm_attributes::DEFAULT];
    invoke(frame, Invocation::ArmPageMap, words, [vspace]);
}

/// Page_Unmap.
#[inline(always)]
pub fn unmap(frame: u64) {
    invoke(frame, Invocation::ArmPageUnmap, [], []);
}
