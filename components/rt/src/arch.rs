//! Single instructions: counters, the thread's own data, the instruction that faults.
//!
//! The only module beside `entry` that contains assembly; each function is one instruction, or the few that
//! make one access.

#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod target {
    use core::arch::asm;

    /// CNTVCT_EL0 (Arm ARM D24.10.21), after an ISB so that it is not read early.
    pub fn counter() -> u64 {
        let count;
        // SAFETY: reads a counter that EL0 may read in this configuration; no side effect.
        unsafe {
            asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nostack, preserves_flags))
        };
        count
    }

    /// CNTFRQ_EL0, in Hz.
    pub fn counter_frequency_hz() -> u64 {
        let hz;
        // SAFETY: reads a register that EL0 may read in this configuration; no side effect.
        unsafe {
            asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nomem, nostack, preserves_flags))
        };
        hz
    }

    /// Starts event counters 0, 1 and 2 for the instructions of EL0, EL1 and EL2 (Arm ARM D24.5: PMEVTYPER<n>_EL0, event 0x08,
    /// with P (31), U (30) and NSH (27); PMCNTENSET_EL0; PMCR_EL0.E).
    pub fn start_instruction_counters() {
        const INST_RETIRED: u64 = 8;
        const NOT_EL1: u64 = 1 << 31;
        const NOT_EL0: u64 = 1 << 30;
        const EL2: u64 = 1 << 27;
        // SAFETY: the PMU counts and does nothing else; nobody else in this system programs it.
        unsafe {
            asm!(
                "msr pmevtyper0_el0, {el0}",
                "msr pmevtyper1_el0, {el1}",
                "msr pmevtyper2_el0, {el2}",
                "msr pmcntenset_el0, {counters}",
                "mrs {control}, pmcr_el0",
                "orr {control}, {control}, #1",
                "msr pmcr_el0, {control}",
                "isb",
                el0 = in(reg) INST_RETIRED | NOT_EL1,
                el1 = in(reg) INST_RETIRED | NOT_EL0,
                el2 = in(reg) INST_RETIRED | NOT_EL1 | NOT_EL0 | EL2,
                counters = in(reg) 0b111_u64,
                control = out(reg) _,
                options(nomem, nostack, preserves_flags)
            )
        };
    }

    /// The event counters 0, 1 and 2.
    pub fn instruction_counters() -> [u64; 3] {
        let (el0, el1, el2);
        // SAFETY: reads counters; no side effect. A kernel that does not export them answers with a fault.
        unsafe {
            asm!(
                "isb",
                "mrs {el0}, pmevcntr0_el0",
                "mrs {el1}, pmevcntr1_el0",
                "mrs {el2}, pmevcntr2_el0",
                el0 = out(reg) el0,
                el1 = out(reg) el1,
                el2 = out(reg) el2,
                options(nostack, preserves_flags)
            )
        };
        [el0, el1, el2]
    }

    /// The running thread's index, from its IPC buffer's user word.
    pub fn thread_index() -> u64 {
        let buffer: *const sel4_sys::IpcBuffer;
        // SAFETY: reads a register that EL0 may read; no side effect.
        unsafe {
            asm!("mrs {}, tpidr_el0", out(reg) buffer, options(nomem, nostack, preserves_flags))
        };
        // SAFETY: TPIDR_EL0 holds the address of this thread's mapped IPC buffer (crate invariant 1), whose user word
        // the entry wrote and nobody writes again.
        unsafe { (&raw const (*buffer).user_data).read_volatile() }
    }

    /// Ends the thread with a fault that its supervisor hears of.
    pub fn fault() -> ! {
        loop {
            // SAFETY: an undefined instruction (Arm ARM C6.2.387, UDF) raises an exception at EL0, which the kernel
            // turns into a fault message; it changes nothing.
            unsafe { asm!("udf #0", options(nomem, nostack)) };
        }
    }

    /// One character to a debug kernel's console.
    pub fn debug_put_char(character: u8) {
        sel4_sys::syscall::debug_put_char(character);
    }
}

#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
mod target {
    pub fn counter() -> u64 {
        0
    }
    pub fn counter_frequency_hz() -> u64 {
        62_500_000
    }
    pub fn start_instruction_counters() {}
    pub fn instruction_counters() -> [u64; 3] {
        [0; 3]
    }
    pub fn thread_index() -> u64 {
        0
    }
    pub fn fault() -> ! {
        panic!("no supervisor here")
    }
    pub fn debug_put_char(_: u8) {}
}

pub use target::*;
