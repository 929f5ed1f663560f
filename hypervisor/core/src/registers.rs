//! A thread's registers by their place in messages: `seL4_UserContext`, and the two orders of fault messages.
//!
//! Registers that a message sets are the only way in which user level chooses a program status word; it passes
//! [`Arch::sanitise_spsr`] here and nowhere else.

use crate::arch::Arch;
use crate::endpoint;
use crate::kernel::Kernel;
use crate::mem::Ref;
use crate::object::{Registers, Tcb, ipc_flag};
use core::cell::Cell;

/// Words of `seL4_UserContext`.
pub const WORDS: u64 = 36;
/// The words that CopyRegisters calls frame registers: pc, sp, spsr, x0-x8, x16-x18, x29, x30. The rest are the integer registers.
pub const FRAME_WORDS: u64 = 17;
/// Words of an UnknownSyscall message that an answer can set: x0-x7, pc, sp, the next pc, spsr.
pub const UNKNOWN_SYSCALL_WORDS: u64 = 12;
/// Words of a UserException message that an answer can set: pc, sp, spsr.
pub const USER_EXCEPTION_WORDS: u64 = 3;
/// Words of the answer to a timeout: `seL4_UserContext` without the TLS registers.
pub const TIMEOUT_WORDS: u64 = 34;

/// Index of the program status word.
const SPSR: u64 = 2;

/// Register `n` of `seL4_UserContext`.
fn cell(c: &Registers, n: u64) -> Option<&Cell<u64>> {
    let x = match n {
        0 => return Some(&c.pc),
        1 => return Some(&c.sp),
        SPSR => return Some(&c.spsr),
        34 => return Some(&c.tpidr_el0),
        35 => return Some(&c.tpidrro_el0),
        // x0-x8
        3..=11 => n.wrapping_sub(3),
        // x16-x18
        12..=14 => n.wrapping_add(4),
        // x29, x30
        15..=16 => n.wrapping_add(14),
        // x9-x15
        17..=23 => n.wrapping_sub(8),
        // x19-x28
        24..=33 => n.wrapping_sub(5),
        _ => return None,
    };
    c.x.get(x as usize)
}

/// Reads register `n` of `seL4_UserContext`; the pc is the one at which the thread would be restarted.
#[must_use]
pub fn get(tcb: Ref<Tcb>, n: u64) -> u64 {
    let value = cell(&tcb.context, n).map_or(0, Cell::get);
    if n == 0 && tcb.thread.ipc_flags.get() & ipc_flag::IN_SYSCALL != 0 {
        value.wrapping_sub(4)
    } else {
        value
    }
}

/// Writes register `n` of `seL4_UserContext`.
pub fn set<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, n: u64, value: u64) {
    let value = match n {
        0 => {
            // Where it continues is no longer behind its system call.
            let t = &tcb.thread;
            t.ipc_flags.set(t.ipc_flags.get() & !ipc_flag::IN_SYSCALL);
            endpoint::forget_call(k, tcb);
            value
        }
        SPSR => k.arch.sanitise_spsr(value, tcb.thread.vcpu.get()),
        _ => value,
    };
    if let Some(cell) = cell(&tcb.context, n) {
        cell.set(value);
    }
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
