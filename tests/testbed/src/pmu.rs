//! The cycle counter. Under QEMU's `-icount shift=0,sleep=off` it counts one per instruction.

#![allow(unsafe_code)]

use core::arch::asm;

/// Starts the counter, at every exception level. The kernel leaves the PMU to EL0 (PMUSERENR_EL0.EN).
pub fn start() {
    // SAFETY: the PMU counts; nothing else uses it. PMCCFILTR_EL0.NSH (27) includes EL2, PMCNTENSET_EL0.C is bit 31, PMCR_EL0 has
    // E (0) and LC (6) (Arm ARM D19.5).
    unsafe {
        asm!(
            "msr pmccfiltr_el0, {filter}",
            "msr pmcntenset_el0, {counter}",
            "msr pmcr_el0, {enable}",
            "isb",
            filter = in(reg) 1u64 << 27,
            counter = in(reg) 1u64 << 31,
            enable = in(reg) 0x41u64,
            options(nomem, nostack)
        );
    }
}

/// Reads PMCCNTR_EL0. The kernel leaves it readable at EL0.
#[inline(always)]
#[must_use]
pub fn cycles() -> u64 {
    let count: u64;
    // SAFETY: reads a counter; `isb` keeps it from moving across what is measured.
    unsafe { asm!("isb", "mrs {}, pmccntr_el0", out(reg) count, options(nostack)) };
    count
}

/// Sets PMCCNTR_EL0 back to zero; a kernel with the feature `masked-time` begins to measure anew.
pub fn restart() {
    // SAFETY: writes a counter; nothing else uses it.
    unsafe { asm!("msr pmccntr_el0, xzr", "isb", options(nostack)) };
}

/// Reads TPIDRRO_EL0, after a system call that has the kernel write it: in a kernel with the feature `masked-time` the longest stretch
/// with interrupts masked so far.
#[must_use]
pub fn note() -> u64 {
    // To nobody.
    sel4_sys::syscall::nb_send(0, sel4_sys::MessageInfo(0), [0; 4]);
    let word: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, tpidrro_el0", out(reg) word, options(nostack)) };
    word
}

/// What reading the counter twice costs, to be subtracted.
#[must_use]
pub fn overhead() -> u64 {
    (0..8)
        .map(|_| {
            let start = cycles();
            cycles().wrapping_sub(start)
        })
        .min()
        .unwrap_or(0)
}

/// Reads CNTVCT_EL0.
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    let count: u64;
    // SAFETY: reads a counter.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nostack)) };
    count
}

/// Reads CNTFRQ_EL0.
#[must_use]
pub fn frequency_hz() -> u64 {
    let hz: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nomem, nostack)) };
    hz
}
