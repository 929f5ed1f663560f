//! Floating-point registers: they stay where they are until another thread uses its own.
//!
//! The kernel is compiled without floating point. A thread that does not own the registers, or has `fpuDisabled`, traps on
//! its first use (CPTR_EL2.TFP).

#![allow(unsafe_code)]

use crate::regs;
use core::arch::global_asm;
use core::cell::Cell;
use core::mem::offset_of;
use kernel_core::object::mem::Ref;
use kernel_core::object::thread_flag::FPU_DISABLED as DISABLED;
use kernel_core::object::{FpuState, Tcb};

/// CPTR_EL2, RES1 bits; TFP traps floating point.
const CPTR: u64 = 0x33ff & !(1 << 10);
const CPTR_TFP: u64 = 1 << 10;

const _: () = assert!(offset_of!(FpuState, fpsr) == 512 && offset_of!(FpuState, fpcr) == 520);

global_asm!(
    r#"
    .arch_extension fp
    .macro each_pair op
    \op     q0, q1, [x0, #0]
    \op     q2, q3, [x0, #32]
    \op     q4, q5, [x0, #64]
    \op     q6, q7, [x0, #96]
    \op     q8, q9, [x0, #128]
    \op     q10, q11, [x0, #160]
    \op     q12, q13, [x0, #192]
    \op     q14, q15, [x0, #224]
    \op     q16, q17, [x0, #256]
    \op     q18, q19, [x0, #288]
    \op     q20, q21, [x0, #320]
    \op     q22, q23, [x0, #352]
    \op     q24, q25, [x0, #384]
    \op     q26, q27, [x0, #416]
    \op     q28, q29, [x0, #448]
    \op     q30, q31, [x0, #480]
    .endm
    .text
    .global save_fpu
save_fpu:
    each_pair stp
    mrs     x1, fpsr
    mrs     x2, fpcr
    add     x0, x0, #512
    stp     x1, x2, [x0]
    ret
    .global load_fpu
load_fpu:
    each_pair ldp
    add     x0, x0, #512
    ldp     x1, x2, [x0]
    msr     fpsr, x1
    msr     fpcr, x2
    ret
    .arch_extension nofp
    "#
);

unsafe extern "C" {
    fn save_fpu(state: *const FpuState);
    fn load_fpu(state: *const FpuState);
}

/// Whose state is in the registers.
pub struct Fpu {
    owner: Cell<Option<Ref<Tcb>>>,
    cptr: Cell<u64>,
}

impl Fpu {
    /// Nobody's.
    pub const fn new() -> Self {
        Self {
            owner: Cell::new(None),
            cptr: Cell::new(CPTR | CPTR_TFP),
        }
    }

    /// Everybody traps.
    pub fn set_up(&self) {
        regs::write_cptr_el2(CPTR | CPTR_TFP);
    }

    /// This thread runs next.
    #[inline]
    pub fn switch_to(&self, tcb: Ref<Tcb>) {
        let usable = self.owner.get() == Some(tcb) && tcb.thread.flags.get() & DISABLED == 0;
        let cptr = if usable { CPTR } else { CPTR | CPTR_TFP };
        if cptr != self.cptr.get() {
            self.cptr.set(cptr);
            regs::write_cptr_el2(cptr);
        }
    }

    /// The running thread used floating point and trapped. `false`: it may not.
    #[must_use]
    pub fn take(&self, tcb: Ref<Tcb>) -> bool {
        if tcb.thread.flags.get() & DISABLED != 0 {
            return false;
        }
        self.cptr.set(CPTR);
        regs::write_cptr_el2(CPTR);
        regs::isb();
        if let Some(old) = self.owner.get() {
            // SAFETY: the owner is a live thread (deletion calls `forget`); its state is 528 bytes of cells, 16-byte aligned.
            unsafe { save_fpu(&raw const old.fpu) };
        }
        // SAFETY: as above; any bits are valid floating-point state.
        unsafe { load_fpu(&raw const tcb.fpu) };
        self.owner.set(Some(tcb));
        true
    }

    /// This thread is about to be deleted.
    pub fn forget(&self, tcb: Ref<Tcb>) {
        if self.owner.get() == Some(tcb) {
            self.owner.set(None);
            self.cptr.set(CPTR | CPTR_TFP);
            regs::write_cptr_el2(CPTR | CPTR_TFP);
        }
    }
}
