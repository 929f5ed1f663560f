//! How many instructions each exception level has executed: three event counters of the PMU (Arm ARM D13.11, event 0x08,
//! INST_RETIRED), for measuring. They wrap at 2^32.
//!
//! Only where the kernel exports the PMU to EL0: elsewhere their use is a fault.

use crate::arch;
use protocol::watch::Instructions;

/// Starts the counters; counting goes on from where it was when they count already.
pub fn start() {
    arch::start_instruction_counters();
}

/// Reads them.
#[must_use]
pub fn read() -> Instructions {
    let [el0, el1, el2] = arch::instruction_counters();
    // The upper halves read as zero (32-bit counters) or count on (PMUv3p5): the lower ones are kept.
    Instructions {
        el0: el0 as u32,
        el1: el1 as u32,
        el2: el2 as u32,
    }
}
