//! How long interrupts stay masked, in instructions: only with the feature `masked-time`, which no shipped flavour has.
//!
//! A stretch begins when user level is left and ends when it is resumed, or at a preemption point that finds no interrupt
//! waiting: one that came in between would have been found there. After a preemption point that finds one, the way back to user
//! level, where it is taken, belongs to the same stretch. Waiting for an interrupt is no stretch.
//!
//! The longest one so far is in TPIDRRO_EL0 whenever a native thread runs, in place of the thread's own value: the instructions in
//! bits 0 to 31, the label of the message in 32 to 47, the system call's number (negated) in 48 to 55, the [`Entry`] in 56 to
//! 63. When user level sets PMCCNTR_EL0 back, it begins anew.

use crate::cell::Global;
use crate::regs;
use core::cell::Cell;
use kernel_core::object::Tcb;

/// Whether this kernel measures; everything here is nothing otherwise.
const ON: bool = cfg!(feature = "masked-time");
/// Instructions before the first reading of the counter and after the last: the vectors' `save` and what calls the handler (30),
/// `resume_user` (24), and the handler's own prologue and epilogue, at most six pairs of registers and the stack each (13).
const OUTSIDE: u64 = 30 + 24 + 2 * 13;

/// Why the kernel runs.
#[derive(Clone, Copy)]
pub enum Entry {
    /// An interrupt at user level, or one that ended the wait for it.
    Interrupt = 1,
    /// A system call.
    Call = 2,
    /// Another exception of user level.
    Exception = 3,
}

struct MaskedTime {
    /// PMCCNTR_EL0 where the stretch at hand began.
    began: Cell<u64>,
    /// PMCCNTR_EL0 when user level was last resumed.
    resumed: Cell<u64>,
    /// What the stretch at hand is for, in place.
    cause: Cell<u64>,
    /// As in TPIDRRO_EL0.
    longest: Cell<u64>,
}

static MASKED_TIME: Global<MaskedTime> = Global::new(MaskedTime {
    began: Cell::new(0),
    resumed: Cell::new(0),
    cause: Cell::new(0),
    longest: Cell::new(0),
});

/// The kernel begins to run, for `current`, which made system call `number` (zero where it did not).
#[inline(always)]
pub fn begin(entry: Entry, number: u64, current: Option<&Tcb>) {
    if ON {
        let now = regs::pmccntr_el0();
        let s = MASKED_TIME.get();
        if now < s.resumed.get() {
            s.longest.set(0);
        }
        let info = match (entry, current) {
            (Entry::Call, Some(tcb)) => {
                let [_, info, ..] = &tcb.context.x;
                info.get()
            }
            _ => 0,
        };
        let call = number.wrapping_neg() & 0xff;
        s.cause
            .set((entry as u64) << 56 | call << 48 | (info >> 12 & 0xffff) << 32);
        s.began.set(now);
    }
}

/// A preemption point looked and found an interrupt waiting, or not.
#[inline(always)]
pub fn looked(waiting: bool) {
    if ON && !waiting {
        let now = regs::pmccntr_el0();
        note(now);
        MASKED_TIME.get().began.set(now);
    }
}

/// The kernel is about to wait for an interrupt.
#[inline(always)]
pub fn pause() {
    if ON {
        note(regs::pmccntr_el0());
    }
}

/// User level is about to be resumed; a native thread can read the longest stretch.
#[inline(always)]
pub fn end(native: bool) {
    if ON {
        let now = regs::pmccntr_el0();
        note(now);
        let s = MASKED_TIME.get();
        s.resumed.set(now);
        if native {
            regs::write_tpidrro_el0(s.longest.get());
        }
    }
}

#[inline(always)]
fn note(now: u64) {
    let s = MASKED_TIME.get();
    let instructions = now.wrapping_sub(s.began.get()).wrapping_add(OUTSIDE);
    if instructions > s.longest.get() & 0xffff_ffff {
        s.longest.set(s.cause.get() | instructions.min(0xffff_ffff));
    }
}
