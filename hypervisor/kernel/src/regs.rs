//! System registers and instructions, one tiny function each.
//!
//! Safe are reads without effect, and writes that concern user level only: they decide what a thread or a guest sees, never
//! what the kernel itself reads, writes or executes. The others are `unsafe fn`.

#![allow(unsafe_code)]

use core::arch::asm;

macro_rules! readable {
    ($($(#[$doc:meta])* $name:ident = $register:literal;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() -> u64 {
            let value: u64;
            // SAFETY: reading this register changes nothing.
            unsafe { asm!(concat!("mrs {0}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    )*};
}

macro_rules! writable {
    ($($(#[$doc:meta])* $name:ident = $register:literal;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(value: u64) {
            // SAFETY: this register takes effect at EL1 and EL0 (or on interrupts, which the kernel never lets in while it
            // runs); it does not change what the kernel can reach.
            unsafe { asm!(concat!("msr ", $register, ", {0}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    )*};
}

readable! {
    /// Syndrome of an exception to EL2.
    esr_el2 = "esr_el2";
    /// Faulting virtual address.
    far_el2 = "far_el2";
    /// Faulting intermediate physical address, shifted.
    hpfar_el2 = "hpfar_el2";
    /// Where an exception came from.
    elr_el2 = "elr_el2";
    /// Its program status.
    spsr_el2 = "spsr_el2";
    /// Result of an address translation.
    par_el1 = "par_el1";
    /// Pending physical interrupts.
    isr_el1 = "isr_el1";
    /// Physical counter.
    cntpct_el0 = "cntpct_el0";
    /// Its frequency.
    cntfrq_el0 = "cntfrq_el0";
    /// This core.
    mpidr_el1 = "mpidr_el1";
    /// This core's type.
    midr_el1 = "midr_el1";
    /// Performance monitors: control.
    pmcr_el0 = "pmcr_el0";
    /// Debug features (PMU version).
    id_aa64dfr0_el1 = "id_aa64dfr0_el1";
    /// Cache types.
    ctr_el0 = "ctr_el0";
    /// Block size of DC ZVA.
    dczid_el0 = "dczid_el0";
    /// GIC: interrupt acknowledged (takes the interrupt: the caller ends it).
    icc_iar1_el1 = "icc_iar1_el1";
    /// GIC: virtual interrupt features.
    ich_vtr_el2 = "ich_vtr_el2";
    /// GIC: which list registers ended with a request.
    ich_eisr_el2 = "ich_eisr_el2";
    /// Performance monitors: cycles.
    pmccntr_el0 = "pmccntr_el0";
    /// EL0's read-only thread register.
    tpidrro_el0 = "tpidrro_el0";
}

writable! {
    /// Hypervisor configuration: what traps.
    write_hcr_el2 = "hcr_el2";
    /// Traps of debug and performance monitor registers.
    write_mdcr_el2 = "mdcr_el2";
    /// Traps of floating point (the kernel is compiled without).
    write_cptr_el2 = "cptr_el2";
    /// Traps of AArch32 system registers.
    write_hstr_el2 = "hstr_el2";
    /// EL1's access to the physical counter and timer.
    write_cnthctl_el2 = "cnthctl_el2";
    /// The kernel's timer: control.
    write_cnthp_ctl_el2 = "cnthp_ctl_el2";
    /// The kernel's timer: compare value.
    write_cnthp_cval_el2 = "cnthp_cval_el2";
    /// Stage 2 translation control.
    write_vtcr_el2 = "vtcr_el2";
    /// Stage 2 translation table and VMID.
    write_vttbr_el2 = "vttbr_el2";
    /// What MIDR_EL1 says at EL1.
    write_vpidr_el2 = "vpidr_el2";
    /// What MPIDR_EL1 says at EL1.
    write_vmpidr_el2 = "vmpidr_el2";
    /// Access to auxiliary controls from EL1.
    write_actlr_el2 = "actlr_el2";
    /// EL0's access to performance monitors.
    write_pmuserenr_el0 = "pmuserenr_el0";
    /// Performance monitors: control.
    write_pmcr_el0 = "pmcr_el0";
    /// Performance monitors: counters enabled.
    write_pmcntenset_el0 = "pmcntenset_el0";
    /// Performance monitors: which levels the cycle counter counts.
    write_pmccfiltr_el0 = "pmccfiltr_el0";
    /// Performance monitors: interrupts off.
    write_pmintenclr_el1 = "pmintenclr_el1";
    /// Debug exceptions at EL1 and EL0.
    write_mdscr_el1 = "mdscr_el1";
    /// EL0's read-only thread register.
    write_tpidrro_el0 = "tpidrro_el0";
    /// GIC: control of the virtual interface.
    write_ich_hcr_el2 = "ich_hcr_el2";
    /// GIC: system-register interface of EL2.
    write_icc_sre_el2 = "icc_sre_el2";
    /// GIC: priority mask.
    write_icc_pmr_el1 = "icc_pmr_el1";
    /// GIC: binary point.
    write_icc_bpr1_el1 = "icc_bpr1_el1";
    /// GIC: control.
    write_icc_ctlr_el1 = "icc_ctlr_el1";
    /// GIC: group 1 on.
    write_icc_igrpen1_el1 = "icc_igrpen1_el1";
    /// GIC: end of interrupt.
    write_icc_eoir1_el1 = "icc_eoir1_el1";
    /// GIC: software-generated interrupt.
    write_icc_sgi1r_el1 = "icc_sgi1r_el1";
}

/// Registers that a vCPU has and that are read and written when it comes and goes.
pub mod guest {
    use core::arch::asm;

    macro_rules! both {
        ($($name:ident = $register:literal;)*) => {$(
            #[doc = concat!("`", $register, "`.")]
            pub mod $name {
                use super::asm;
                /// Reads it.
                #[inline(always)]
                pub fn read() -> u64 {
                    let value: u64;
                    // SAFETY: reading this register changes nothing.
                    unsafe { asm!(concat!("mrs {0}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
                    value
                }
                /// Writes it.
                #[inline(always)]
                pub fn write(value: u64) {
                    // SAFETY: this register takes effect at EL1 and EL0 only.
                    unsafe { asm!(concat!("msr ", $register, ", {0}"), in(reg) value, options(nostack, preserves_flags)) };
                }
            }
        )*};
    }

    both! {
        sctlr_el1 = "sctlr_el1"; cpacr_el1 = "cpacr_el1"; ttbr0_el1 = "ttbr0_el1"; ttbr1_el1 = "ttbr1_el1";
        tcr_el1 = "tcr_el1"; mair_el1 = "mair_el1"; amair_el1 = "amair_el1"; contextidr_el1 = "contextidr_el1";
        actlr_el1 = "actlr_el1"; afsr0_el1 = "afsr0_el1"; afsr1_el1 = "afsr1_el1"; esr_el1 = "esr_el1";
        far_el1 = "far_el1"; par_el1 = "par_el1"; vbar_el1 = "vbar_el1"; tpidr_el1 = "tpidr_el1";
        sp_el1 = "sp_el1"; elr_el1 = "elr_el1"; spsr_el1 = "spsr_el1"; csselr_el1 = "csselr_el1";
        cntv_ctl_el0 = "cntv_ctl_el0"; cntv_cval_el0 = "cntv_cval_el0"; cntvoff_el2 = "cntvoff_el2";
        cntkctl_el1 = "cntkctl_el1"; vmpidr_el2 = "vmpidr_el2";
        ich_vmcr_el2 = "ich_vmcr_el2";
        ich_ap0r0_el2 = "ich_ap0r0_el2"; ich_ap0r1_el2 = "ich_ap0r1_el2"; ich_ap0r2_el2 = "ich_ap0r2_el2"; ich_ap0r3_el2 = "ich_ap0r3_el2";
        ich_ap1r0_el2 = "ich_ap1r0_el2"; ich_ap1r1_el2 = "ich_ap1r1_el2"; ich_ap1r2_el2 = "ich_ap1r2_el2"; ich_ap1r3_el2 = "ich_ap1r3_el2";
        ich_lr0_el2 = "ich_lr0_el2"; ich_lr1_el2 = "ich_lr1_el2"; ich_lr2_el2 = "ich_lr2_el2"; ich_lr3_el2 = "ich_lr3_el2";
        ich_lr4_el2 = "ich_lr4_el2"; ich_lr5_el2 = "ich_lr5_el2"; ich_lr6_el2 = "ich_lr6_el2"; ich_lr7_el2 = "ich_lr7_el2";
        ich_lr8_el2 = "ich_lr8_el2"; ich_lr9_el2 = "ich_lr9_el2"; ich_lr10_el2 = "ich_lr10_el2"; ich_lr11_el2 = "ich_lr11_el2";
        ich_lr12_el2 = "ich_lr12_el2"; ich_lr13_el2 = "ich_lr13_el2"; ich_lr14_el2 = "ich_lr14_el2"; ich_lr15_el2 = "ich_lr15_el2";
    }
}

/// Context synchronisation.
#[inline(always)]
pub fn isb() {
    // SAFETY: a barrier.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// All accesses before are complete.
#[inline(always)]
pub fn dsb_sy() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Translation-table writes before are visible to the walkers of all cores.
#[inline(always)]
pub fn dsb_ishst() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
}

/// Waits for an interrupt, masked or not.
#[inline(always)]
pub fn wfi() {
    // SAFETY: waits; changes nothing.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// The physical address of a kernel address, from the translation tables in force.
pub fn translate(address: u64) -> Option<u64> {
    // SAFETY: a translation for reading at EL2 writes PAR_EL1, which belongs to whichever vCPU is loaded; this is called at
    // boot only, when none is.
    unsafe { asm!("at s1e2r, {0}", "isb", in(reg) address, options(nostack, preserves_flags)) };
    let result = par_el1();
    (result & 1 == 0).then_some((result & 0x0000_ffff_ffff_f000) | (address & 0xfff))
}

/// Translates an address of the guest in force through its stage 1, as EL1 reads; the result is in PAR_EL1.
pub fn translate_stage1(address: u64) {
    // SAFETY: writes PAR_EL1 only, which the caller saves for the guest.
    unsafe { asm!("at s1e1r, {0}", "isb", in(reg) address, options(nostack, preserves_flags)) };
}

/// Invalidates everything of EL1 and EL0, all VMIDs.
pub fn tlbi_alle1() {
    // SAFETY: as above.
    unsafe {
        asm!(
            "dsb ishst",
            "tlbi alle1is",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// Invalidates everything of the VMID in force, both stages.
#[inline(always)]
pub fn tlbi_vmalls12e1() {
    // SAFETY: as above.
    unsafe {
        asm!(
            "dsb ishst",
            "tlbi vmalls12e1is",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// Invalidates an intermediate physical address of the VMID in force, and whatever stage 1 derived from it.
#[inline(always)]
pub fn tlbi_ipas2e1(ipa: u64) {
    // SAFETY: as above. (Arm ARM D8.14.5: a stage 2 invalidation by address, then all of stage 1 of that VMID.)
    unsafe {
        asm!("dsb ishst", "tlbi ipas2e1is, {0}", "dsb ish", "tlbi vmalle1is", "dsb ish", "isb",
            in(reg) ipa >> 12, options(nostack, preserves_flags));
    }
}

/// Invalidates all instruction caches.
#[inline(always)]
pub fn ic_ialluis() {
    // SAFETY: an instruction cache holds nothing that memory does not.
    unsafe {
        asm!(
            "ic ialluis",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// Makes the kernel's translation tables current.
///
/// # Safety
/// `table` is the physical address of a level 0 table that maps the kernel's text, data and stack at the addresses in use, with the
/// attribute indices of [`machine::blocks::MAIR`]; the tables in force use those indices too.
pub unsafe fn switch_tables(table: u64) {
    // SAFETY: the caller's promise: before and after the switch the same addresses mean the same memory.
    unsafe {
        asm!("dsb ish", "msr ttbr0_el2, {0}", "isb", "tlbi alle2", "dsb ish", "ic iallu", "dsb ish", "isb",
            in(reg) table, options(nostack, preserves_flags));
    }
}

/// Sets the exception vectors.
///
/// # Safety
/// `vectors` is the address of a complete vector table, 2 KiB aligned.
pub unsafe fn write_vbar_el2(vectors: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("msr vbar_el2, {0}", "isb", in(reg) vectors, options(nostack, preserves_flags)) };
}

/// Sets EL2's system control.
///
/// # Safety
/// MMU and caches stay on.
pub unsafe fn write_sctlr_el2(value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("msr sctlr_el2, {0}", "isb", in(reg) value, options(nostack, preserves_flags)) };
}

/// A secure monitor call (SMCCC 1.1 and later: x8 and up are preserved).
pub fn smc(x: [u64; 8]) -> [u64; 8] {
    let [
        mut x0,
        mut x1,
        mut x2,
        mut x3,
        mut x4,
        mut x5,
        mut x6,
        mut x7,
    ] = x;
    // SAFETY: which calls are made is for the holder of the SMC capability to answer for (seL4 manual: it is as trusted as
    // the kernel); the convention preserves all other registers. SMCCC 1.0 firmware may change x8 to x17.
    unsafe {
        asm!("smc #0", inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3, inout("x4") x4, inout("x5") x5,
            inout("x6") x6, inout("x7") x7, out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
            out("x14") _, out("x15") _, out("x16") _, out("x17") _, options(nostack));
    }
    [x0, x1, x2, x3, x4, x5, x6, x7]
}

/// Whether an interrupt is pending.
#[inline(always)]
pub fn irq_pending() -> bool {
    isr_el1() & (1 << 7) != 0
}
