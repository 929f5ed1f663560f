//! A thread's registers by their place in messages: `seL4_UserContext`, and the two orders of fault messages.
//!
//! Registers that a message sets are the only way in which user level chooses a program status word; it passes
//! [`Arch::sanitise_spsr`] here and nowhere else.

use crate::arch::Arch;
use crate::object::mem::Ref;
use crate::object::{Registers, Tcb, ipc_flag};
use crate::run::endpoint;
use crate::run::ipc;
use crate::run::ipc::AnswerWords;
use crate::state::kernel::Kernel;
use core::cell::Cell;

/// Words of `seL4_UserContext`.
pub const WORDS: u64 = 36;
/// Words of an UnknownSyscall message that an answer can set: x0-x7, pc, sp, the next pc, spsr.
pub const UNKNOWN_SYSCALL_WORDS: u64 = 12;
/// Words of a UserException message that an answer can set: pc, sp, spsr.
pub const USER_EXCEPTION_WORDS: u64 = 3;
/// Words of the answer to a timeout: `seL4_UserContext` without the TLS registers.
pub const TIMEOUT_WORDS: u64 = 34;

/// The general registers that follow pc, sp and spsr, in the order of `seL4_UserContext`, as runs of x0 to x30: first those that
/// CopyRegisters calls frame registers, then those that it calls integer registers. TPIDR_EL0 and TPIDRRO_EL0 follow them.
static RUNS: [(usize, usize); 5] = [(0, 9), (16, 19), (29, 31), (9, 16), (19, 29)];
/// How many of the runs are frame registers.
const FRAME_RUNS: usize = 3;

/// A run of general registers.
#[inline]
fn run<'c>(c: &'c Registers, &(from, to): &(usize, usize)) -> &'c [Cell<u64>] {
    c.x.get(from..to).unwrap_or_default()
}

/// Where the thread would be restarted.
#[inline]
fn restart_pc(tcb: Ref<Tcb>) -> u64 {
    let pc = tcb.context.pc.get();
    if tcb.thread.ipc_flags.get() & ipc_flag::IN_SYSCALL != 0 {
        pc.wrapping_sub(4)
    } else {
        pc
    }
}

/// Answers with the registers in the order of `seL4_UserContext`, as many as there is room for; the pc is the one at which the
/// thread would be restarted.
pub fn read<A: Arch>(tcb: Ref<Tcb>, out: &mut AnswerWords<'_, A>) -> Option<()> {
    let c = &tcb.context;
    out.put(restart_pc(tcb))?;
    out.put(c.sp.get())?;
    out.put(c.spsr.get())?;
    for bounds in &RUNS {
        for x in run(c, bounds) {
            out.put(x.get())?;
        }
    }
    out.put(c.tpidr_el0.get())?;
    out.put(c.tpidrro_el0.get())
}

fn set_pc<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, value: u64) {
    // Where it continues is no longer behind its system call.
    let t = &tcb.thread;
    t.ipc_flags.set(t.ipc_flags.get() & !ipc_flag::IN_SYSCALL);
    endpoint::forget_call(k, tcb);
    tcb.context.pc.set(value);
}

fn set_spsr<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, value: u64) {
    let value = k.arch.sanitise_spsr(value, tcb.thread.vcpu.get());
    tcb.context.spsr.set(value);
}

/// Sets the registers in the order of `seL4_UserContext` for as long as there are words.
pub fn write<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, mut words: ipc::Words<'_, A>) -> Option<()> {
    let c = &tcb.context;
    set_pc(k, tcb, words.next()?);
    c.sp.set(words.next()?);
    set_spsr(k, tcb, words.next()?);
    for bounds in &RUNS {
        for x in run(c, bounds) {
            x.set(words.next()?);
        }
    }
    c.tpidr_el0.set(words.next()?);
    c.tpidrro_el0.set(words.next()?);
    None
}

fn copy_run(from: &Registers, to: &Registers, bounds: &(usize, usize)) {
    for (to, from) in run(to, bounds).iter().zip(run(from, bounds)) {
        to.set(from.get());
    }
}

/// Copies the frame registers: pc, sp, spsr, x0-x8, x16-x18, x29, x30.
pub fn copy_frame<A: Arch>(k: &Kernel<A>, from: Ref<Tcb>, to: Ref<Tcb>) {
    set_pc(k, to, restart_pc(from));
    to.context.sp.set(from.context.sp.get());
    set_spsr(k, to, from.context.spsr.get());
    for bounds in RUNS.iter().take(FRAME_RUNS) {
        copy_run(&from.context, &to.context, bounds);
    }
}

/// Copies the integer registers: x9-x15, x19-x28 and the two TLS registers.
pub fn copy_integer(from: Ref<Tcb>, to: Ref<Tcb>) {
    let (from, to) = (&from.context, &to.context);
    for bounds in RUNS.iter().skip(FRAME_RUNS) {
        copy_run(from, to, bounds);
    }
    to.tpidr_el0.set(from.tpidr_el0.get());
    to.tpidrro_el0.set(from.tpidrro_el0.get());
}

/// Sets what word `n` of the answer to an UnknownSyscall message says. Word 10 is without effect: the thread continues at
/// word 8.
#[inline]
pub fn set_unknown_syscall_word<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, n: u64, value: u64) {
    let c = &tcb.context;
    match n {
        0..=7 => {
            if let Some(x) = c.x.get(n as usize) {
                x.set(value);
            }
        }
        8 => c.pc.set(value),
        9 => c.sp.set(value),
        11 => c
            .spsr
            .set(k.arch.sanitise_spsr(value, tcb.thread.vcpu.get())),
        _ => {}
    }
}
