//! Hundreds of threads, of a TCB and a scheduling context each: they make one system call and are done.

#![allow(unsafe_code)] // A function of two instructions.

use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{Invocation, ObjectType, USER_CONTEXT_WORDS, UserContext, init_slot, tcb_flags};
use testbed::Env;

/// How many there are.
pub const CROWD: u64 = 400;
/// The most that one Retype makes.
const FAN_OUT: u64 = 256;

/// The slots of the first crowd, and before them that of the untyped.
static PLACE: AtomicU64 = AtomicU64::new(0);

/// Threads in the slots from `tcbs` on, with the scheduling contexts from `contexts` on. All crowds have the same, one after the
/// other: whoever made one revokes `untyped` when it is done.
pub struct Crowd {
    pub tcbs: u64,
    pub contexts: u64,
    /// What both are made of.
    pub untyped: u64,
}

/// A system call without a stack, with whatever is in the registers.
#[unsafe(naked)]
extern "C" fn one_call() {
    core::arch::naked_asm!("svc #0", "b .")
}

/// The priority of thread `n`: all that are between the lowest and the highest, by turns.
pub const fn priority(n: u64) -> u64 {
    2 + n * 7 % 250
}

/// Makes a crowd; every thread gets `registers` but pc, x0 = `first(n)`.
pub fn make(env: &mut Env, call: sel4_sys::Syscall, first: impl Fn(u64) -> u64) -> Crowd {
    if PLACE.load(Ordering::Relaxed) == 0 {
        env.object(ObjectType::Untyped, 20);
        PLACE.store(env.slots(2 * CROWD), Ordering::Relaxed);
    }
    let tcbs = PLACE.load(Ordering::Relaxed);
    let (untyped, contexts) = (tcbs - 1, tcbs + CROWD);
    for (kind, bits, slots) in [
        (ObjectType::Tcb, 0, tcbs),
        (ObjectType::SchedContext, 8, contexts),
    ] {
        let mut made = 0;
        while made < CROWD {
            let count = FAN_OUT.min(CROWD - made);
            done(env.retype(untyped, kind, bits, slots + made, count).label);
            made += count;
        }
    }
    for n in 0..CROWD {
        let (tcb, context) = (tcbs + n, contexts + n);
        let spaces = [init_slot::CNODE, init_slot::VSPACE, 0];
        done(
            env.invoke(tcb, Invocation::TcbConfigure, &[0, 0, 0], &spaces)
                .label,
        );
        configure(env, context, 10_000, 10_000);
        let parameters = [priority(n), priority(n)];
        let caps = [init_slot::TCB, context, 0];
        done(
            env.invoke(tcb, Invocation::TcbSetSchedParams, &parameters, &caps)
                .label,
        );
        let flags = [0, tcb_flags::FPU_DISABLED];
        done(env.invoke(tcb, Invocation::TcbSetFlags, &flags, &[]).label);
        let registers = UserContext {
            pc: one_call as *const () as u64,
            x0: first(n),
            x7: call.word(),
            ..UserContext::default()
        };
        let mut words = [0; USER_CONTEXT_WORDS + 2];
        words[1] = USER_CONTEXT_WORDS as u64;
        words[2..].copy_from_slice(&registers.to_words());
        done(
            env.invoke(tcb, Invocation::TcbWriteRegisters, &words, &[])
                .label,
        );
    }
    Crowd {
        tcbs,
        contexts,
        untyped,
    }
}

/// Sets a scheduling context's budget and period.
pub fn configure(env: &Env, context: u64, budget_us: u64, period_us: u64) {
    let words = [budget_us, period_us, 0, 0, 0];
    let control = env.boot_info().schedcontrol.start;
    let label = Invocation::SchedControlConfigureFlags;
    done(env.invoke(control, label, &words, &[context]).label);
}

impl Crowd {
    /// All make their system call, and wait.
    pub fn start(&self, env: &Env) {
        for tcb in self.tcbs..self.tcbs + CROWD {
            env.resume(tcb);
        }
        set_priority(env, init_slot::TCB, 1);
        set_priority(env, init_slot::TCB, 255);
    }
}

/// TCB_SetPriority.
pub fn set_priority(env: &Env, tcb: u64, priority: u64) {
    let label = Invocation::TcbSetPriority;
    done(env.invoke(tcb, label, &[priority], &[init_slot::TCB]).label);
}

/// What prepares a case must not fail.
pub fn done(label: u64) {
    assert!(label == 0, "preparing a case: error {label}");
}
