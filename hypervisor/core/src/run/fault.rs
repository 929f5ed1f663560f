//! Faults: the messages that tell a thread's handler what happened, and what the handler's answer does.
//!
//! A fault is delivered as if the thread had called its handler (seL4 manual, section 6.2). The thread's saved pc is the
//! address at which it would continue if it were simply resumed: the instruction that faulted.

pub use crate::object::fault_kind::{Access, Fault, Phase};

use crate::arch::Arch;
use crate::cap::{Cap, CapView, Rights};
use crate::object::error::LookupFailure;
use crate::object::mem::Ref;
use crate::object::{Endpoint, Registers, Tcb, ThreadState, ipc_flag, tcb_slot, thread_flag};
use crate::run::endpoint::{self, Donation, Sending, Waiting};
use crate::run::ipc;
use crate::run::registers;
use crate::run::sched_context;
use crate::run::thread;
use crate::state::kernel::Kernel;
use core::cell::Cell;
use sel4_sys::{Fault as Label, emulated};

/// Raises a fault of `tcb` (the current thread) at its fault handler, or stops the thread when it has none.
pub fn raise<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, fault: Fault) {
    tcb.thread.fault.set(fault);
    raise_prepared(k, tcb);
}

/// [`raise`] for the fault that is in the thread already.
pub(crate) fn raise_prepared<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    let t = &tcb.thread;
    t.ipc_flags.set(t.ipc_flags.get() | ipc_flag::FAULT);
    if !send(k, tcb, tcb_slot::FAULT_HANDLER, Donation::Allowed) {
        tcb.thread.state.set(ThreadState::Inactive);
    }
}

/// Raises a timeout fault. `false`: the thread has no valid timeout handler, and nothing was done.
#[must_use]
pub fn raise_timeout<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) -> bool {
    let Some(sc) = tcb.thread.sched_context.get() else {
        return false;
    };
    if handler(tcb, tcb_slot::TIMEOUT_HANDLER).is_none() {
        return false;
    }
    set(
        tcb,
        Fault::Timeout {
            badge: sc.badge.get(),
        },
    );
    crate::run::scheduler::remove(k, tcb);
    send(k, tcb, tcb_slot::TIMEOUT_HANDLER, Donation::Refused)
}

#[inline]
fn set(tcb: Ref<Tcb>, fault: Fault) {
    let t = &tcb.thread;
    t.fault.set(fault);
    t.ipc_flags.set(t.ipc_flags.get() | ipc_flag::FAULT);
}

/// Forgets the pending fault.
#[inline]
pub fn clear(tcb: Ref<Tcb>) {
    let t = &tcb.thread;
    t.ipc_flags.set(t.ipc_flags.get() & !ipc_flag::FAULT);
    t.fault.set(Fault::None);
}

/// Whether a fault waits for its answer.
#[inline]
#[must_use]
pub fn pending(tcb: Ref<Tcb>) -> bool {
    tcb.thread.ipc_flags.get() & ipc_flag::FAULT != 0
}

/// Whether a capability can be a fault handler: none, or an endpoint with Write and Grant or GrantReply (manual, 6.2.1).
#[must_use]
pub fn valid_handler(cap: Cap) -> bool {
    match cap.view() {
        CapView::Null => true,
        CapView::Endpoint { rights, .. } => can_handle(rights),
        _ => false,
    }
}

#[inline]
const fn can_handle(rights: Rights) -> bool {
    rights.has(Rights::WRITE) && (rights.has(Rights::GRANT) || rights.has(Rights::GRANT_REPLY))
}

/// The endpoint to which a handler slot leads, with badge and rights.
#[inline]
pub(crate) fn handler(tcb: Ref<Tcb>, slot: usize) -> Option<(Ref<Endpoint>, u64, Rights)> {
    let cap = tcb.slots.get(slot)?.cap.get();
    let (object, rights) = cap.as_endpoint()?;
    if can_handle(rights) {
        Some((object, cap.word(), rights))
    } else {
        None
    }
}

fn send<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, slot: usize, donation: Donation) -> bool {
    let Some((object, badge, rights)) = handler(tcb, slot) else {
        return false;
    };
    let donation = if tcb.thread.sched_context.get().is_none() {
        Donation::Refused
    } else {
        donation
    };
    let grant = if rights.has(Rights::GRANT) {
        ipc_flag::GRANT
    } else {
        0
    };
    endpoint::send(
        k,
        object,
        tcb,
        Sending {
            badge,
            flags: ipc_flag::CALL | ipc_flag::GRANT_REPLY | grant,
            waiting: Waiting::Blocks,
            donation,
        },
    );
    true
}

/// Words of a lookup failure, starting at word `at` of `receiver`'s message; the index behind the last one.
pub fn write_lookup_failure(mut put: impl FnMut(u64, u64), at: u64, failure: LookupFailure) -> u64 {
    let next = at.wrapping_add(1);
    match failure {
        LookupFailure::InvalidRoot => {
            put(at, 1);
            next
        }
        LookupFailure::MissingCapability { bits_left } => {
            put(at, 2);
            put(next, bits_left);
            at.wrapping_add(2)
        }
        LookupFailure::DepthMismatch {
            bits_left,
            bits_found,
        } => {
            put(at, 3);
            put(next, bits_left);
            put(at.wrapping_add(2), bits_found);
            at.wrapping_add(3)
        }
        LookupFailure::GuardMismatch {
            bits_left,
            guard_found,
            bits_found,
        } => {
            put(at, 4);
            put(next, bits_left);
            put(at.wrapping_add(2), guard_found);
            put(at.wrapping_add(3), bits_found);
            at.wrapping_add(4)
        }
    }
}

/// Writes the message about `sender`'s fault into `receiver`'s message registers; label and length.
pub fn write_message<A: Arch>(k: &Kernel<A>, sender: Ref<Tcb>, receiver: Ref<Tcb>) -> (Label, u64) {
    let c = &sender.context;
    let put = |n, value| ipc::set_word(k, receiver, n, value);
    let (label, length) = match sender.thread.fault.get() {
        Fault::None => (Label::Null, 0),
        Fault::Cap {
            addr,
            phase,
            failure,
        } => {
            put(0, c.pc.get());
            put(1, addr);
            put(2, phase as u64);
            (Label::CapFault, write_lookup_failure(put, 3, failure))
        }
        Fault::UnknownSyscall { number } => {
            let [x0, x1, x2, x3, x4, x5, x6, x7, ..] = &c.x;
            for (n, x) in (0..).zip([x0, x1, x2, x3]) {
                put(n, x.get());
            }
            // The saved pc is the `svc` or `hvc`; word 10 is the instruction behind it.
            let pc = c.pc.get();
            let rest = [
                x4.get(),
                x5.get(),
                x6.get(),
                x7.get(),
                pc,
                c.sp.get(),
                pc.wrapping_add(4),
                c.spsr.get(),
                number,
            ];
            ipc::set_buffer_words(k, receiver, &rest);
            (Label::UnknownSyscall, 13)
        }
        Fault::UserException { number, code } => {
            put(0, c.pc.get());
            put(1, c.sp.get());
            put(2, c.spsr.get());
            put(3, number);
            put(4, code);
            (Label::UserException, 5)
        }
        Fault::Timeout { badge } => {
            put(0, badge);
            let consumed = sender
                .thread
                .sched_context
                .get()
                .map_or(0, |sc| sched_context::take_consumed_us(k, sc));
            put(1, consumed);
            (Label::Timeout, 2)
        }
        Fault::Vm { addr, fsr, access } => {
            put(0, c.pc.get());
            put(1, addr);
            put(2, access as u64);
            put(3, fsr);
            if is_emulated(sender) {
                put(4, stored_register(&c.x, fsr));
                (Label::VmFault, 5)
            } else {
                (Label::VmFault, 4)
            }
        }
        Fault::VgicMaintenance { index } => {
            put(0, index);
            (Label::VgicMaintenance, 1)
        }
        Fault::Vcpu { esr } => {
            put(0, esr);
            (Label::VcpuFault, 1)
        }
        Fault::VppiEvent { irq } => {
            put(0, irq);
            (Label::VppiEvent, 1)
        }
    };
    (label, ipc::receivable(receiver, length))
}

/// Whether a thread's instructions that fault are finished by its handler (`tcb_flags::EMULATED`).
#[inline(always)]
fn is_emulated(tcb: Ref<Tcb>) -> bool {
    tcb.thread.flags.get() & thread_flag::EMULATED != 0
}

/// The register that a data abort's instruction moves, when the syndrome names it (ISV, SRT: Arm ARM D19.2.39); zero for XZR, too.
fn stored_register(x: &[Cell<u64>], esr: u64) -> u64 {
    const VALID: u64 = 1 << 24;
    if esr & VALID == 0 {
        return 0;
    }
    x.get((esr >> 16 & 31) as usize).map_or(0, Cell::get)
}

/// The handler did what the instruction says: `register` (31: none) has its result, and the next one follows. Nothing for a
/// register that does not exist: the instruction runs again.
fn finish_instruction(context: &Registers, register: u64, value: u64) {
    if register > emulated::NO_REGISTER {
        return;
    }
    if let Some(x) = context.x.get(register as usize) {
        x.set(value);
    }
    context.pc.set(context.pc.get().wrapping_add(4));
}

/// What a handler's answer means for the thread that faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Continue,
    /// It goes on when its virtual timer is due, or an interrupt is injected.
    Rest,
    /// It stays stopped.
    Stop,
}

/// Applies the answer in `handler`'s message registers to `tcb`'s fault (manual, section 6.2). Only the answers to unknown
/// system calls, user exceptions and timeouts carry registers.
pub fn answer<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, handler: Ref<Tcb>) -> Verdict {
    let info = handler.context.x.get(1).map_or(0, Cell::get);
    let words = ipc::sendable(handler, info);
    let most = match tcb.thread.fault.get() {
        Fault::UnknownSyscall { .. } => {
            let count = registers::UNKNOWN_SYSCALL_WORDS.min(words);
            for n in 0..count {
                let value = ipc::word(k, handler, n);
                registers::set_unknown_syscall_word(k, tcb, n, value);
            }
            0
        }
        // The first words are pc, sp and spsr for both, as in the order of WriteRegisters.
        Fault::UserException { .. } => registers::USER_EXCEPTION_WORDS,
        Fault::Timeout { .. } => registers::TIMEOUT_WORDS,
        Fault::Vm { .. } | Fault::Vcpu { .. }
            if words >= 2 && is_emulated(tcb) && ipc::label(info) == 0 =>
        {
            let (register, value) = (ipc::word(k, handler, 0), ipc::word(k, handler, 1));
            finish_instruction(&tcb.context, register, value);
            return Verdict::Continue;
        }
        Fault::Vcpu { .. } if is_emulated(tcb) && ipc::label(info) == emulated::REST => {
            finish_instruction(&tcb.context, emulated::NO_REGISTER, 0);
            return Verdict::Rest;
        }
        _ => return Verdict::Continue,
    };
    registers::write(k, tcb, ipc::Words::new(k, handler, 0, most.min(words)));
    if ipc::label(info) == 0 {
        Verdict::Continue
    } else {
        Verdict::Stop
    }
}

/// Raises a fault of the current thread in a system call: it will make the call again when it continues.
pub fn raise_in_call<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, fault: Fault) {
    thread::rewind(tcb);
    raise(k, tcb, fault);
}
