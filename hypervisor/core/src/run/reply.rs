//! Reply objects: who waits for an answer, and the call stacks along which scheduling contexts are donated.
//!
//! # Invariants
//! - A reply object's thread is in state `BlockedOnReceive` (it offers the object to its next caller) or `BlockedOnReply`
//!   (it waits for the answer), and names the object in its own `reply`.
//! - A call stack is a list from its scheduling context's `reply` along `caller_side`, with `callee_side` the way back; the newest
//!   has `sched_context` set and no `callee_side`.

use crate::arch::Arch;
use crate::cap::Rights;
use crate::object::mem::Ref;
use crate::object::{Reply, Tcb, ThreadState, ipc_flag, sc_flag};
use crate::run::endpoint::Donation;
use crate::run::fault::{self, Verdict};
use crate::run::ipc;
use crate::run::refill;
use crate::run::sched_context;
use crate::run::scheduler;
use crate::run::thread;
use crate::run::vcpu;
use crate::state::kernel::Kernel;

/// `receiver` offers its reply object to whoever calls next.
#[inline]
pub fn offer(reply: Ref<Reply>, receiver: Ref<Tcb>) {
    reply.tcb.set(Some(receiver));
    receiver.thread.reply.set(Some(reply));
}

/// The thread is no longer connected with the object.
#[inline]
pub fn unlink(reply: Ref<Reply>, tcb: Ref<Tcb>) {
    tcb.thread.reply.set(None);
    reply.tcb.set(None);
}

/// `caller` waits on the object for the answer of `callee`, which runs on the caller's scheduling context when it has none of its
/// own and the donation is allowed.
#[inline]
pub fn push<A: Arch>(
    k: &Kernel<A>,
    caller: Ref<Tcb>,
    callee: Ref<Tcb>,
    reply: Ref<Reply>,
    donation: Donation,
) {
    let c = &caller.thread;
    reply.tcb.set(Some(caller));
    c.reply.set(Some(reply));
    c.state.set(ThreadState::BlockedOnReply);
    if donation == Donation::Allowed
        && callee.thread.sched_context.get().is_none()
        && let Some(sc) = c.sched_context.get()
    {
        join_top(reply, sc);
        sched_context::donate(k, sc, callee);
    }
}

/// The object becomes the top of a scheduling context's stack.
#[inline]
pub(crate) fn join_top(reply: Ref<Reply>, sc: Ref<crate::object::SchedContext>) {
    let older = sc.reply.get();
    reply.caller_side.set(older);
    if let Some(older) = older {
        older.callee_side.set(Some(reply));
        older.sched_context.set(None);
    }
    reply.sched_context.set(Some(sc));
    sc.reply.set(Some(reply));
}

/// The call of `tcb`, which waits on `reply`, is over: when it was the newest of its stack, the scheduling context comes back.
#[inline]
fn pop<A: Arch>(k: &Kernel<A>, reply: Ref<Reply>, tcb: Ref<Tcb>) {
    if let Some(sc) = reply.sched_context.get() {
        leave_top(reply, sc);
        if tcb.thread.sched_context.get().is_none() {
            sched_context::donate(k, sc, tcb);
        }
    } else {
        leave_middle(reply);
    }
    unlink(reply, tcb);
}

/// The object leaves the top of its stack.
#[inline]
pub(crate) fn leave_top(reply: Ref<Reply>, sc: Ref<crate::object::SchedContext>) {
    let older = reply.caller_side.get();
    sc.reply.set(older);
    reply.sched_context.set(None);
    reply.caller_side.set(None);
    if let Some(older) = older {
        older.callee_side.set(None);
        older.sched_context.set(Some(sc));
    }
}

/// The object leaves the middle of its stack, or is in none. The scheduling context stays with whoever has it; the stack
/// closes over the gap, so that the older callers still get it back (manual, section 6.1.9).
#[inline]
fn leave_middle(reply: Ref<Reply>) {
    let newer = reply.callee_side.get();
    let older = reply.caller_side.get();
    if newer.is_none() && older.is_none() {
        return;
    }
    reply.callee_side.set(None);
    reply.caller_side.set(None);
    if let Some(newer) = newer {
        newer.caller_side.set(older);
    }
    if let Some(older) = older {
        older.callee_side.set(newer);
    }
}

/// The scheduling context goes back to the caller that waits on `top`, the newest of its stack, before it is answered.
pub fn take_back<A: Arch>(
    k: &Kernel<A>,
    top: Ref<Reply>,
    sc: Ref<crate::object::SchedContext>,
    caller: Ref<Tcb>,
) {
    leave_top(top, sc);
    sched_context::donate(k, sc, caller);
}

/// The thread that waits on the object is cancelled: it gets no answer, and no scheduling context comes back to it.
pub fn abandon(tcb: Ref<Tcb>) {
    let Some(reply) = tcb.thread.reply.get() else {
        return;
    };
    if let Some(sc) = reply.sched_context.get() {
        // The callee keeps the scheduling context, the stack below goes on without this call.
        leave_top(reply, sc);
    } else {
        leave_middle(reply);
    }
    unlink(reply, tcb);
}

/// A scheduling context is deleted, or taken from everybody: nobody on its call stack gets it back.
pub fn detach_stack(sc: Ref<crate::object::SchedContext>) {
    if let Some(top) = sc.reply.take() {
        top.sched_context.set(None);
    }
}

/// Answers: `sender`'s message goes to the thread that waits on the object, if one does (seL4 manual, section 4.2.4).
#[inline]
pub fn send<A: Arch>(k: &Kernel<A>, sender: Ref<Tcb>, reply: Ref<Reply>, rights: Rights) {
    let Some(receiver) = reply.tcb.get() else {
        return;
    };
    let r = &receiver.thread;
    if r.state.get() != ThreadState::BlockedOnReply {
        return;
    }
    pop(k, reply, receiver);
    if let Some(sc) = r.sched_context.get()
        && sc.flags.get() & sc_flag::SPORADIC != 0
        && k.sched.current_sc.get() != Some(sc)
    {
        refill::start(sc, scheduler::now(k));
    }
    if !fault::pending(receiver) {
        let grant = if rights.has(Rights::GRANT) {
            ipc_flag::GRANT
        } else {
            0
        };
        ipc::transfer(k, sender, receiver, None, 0, grant);
        r.ipc_flags.set(0);
        r.state.set(ThreadState::Running);
        resume(k, receiver, Timeouts::Raised);
        return;
    }
    let timed_out = matches!(r.fault.get(), fault::Fault::Timeout { .. });
    let verdict = fault::answer(k, receiver, sender);
    fault::clear(receiver);
    r.ipc_flags.set(0);
    if verdict == Verdict::Stop {
        r.state.set(ThreadState::Inactive);
        return;
    }
    r.state.set(ThreadState::Running);
    if verdict == Verdict::Rest
        && let Some(time) = vcpu::time_to_rest(k, receiver)
    {
        scheduler::rest(k, receiver, time);
        return;
    }
    resume(
        k,
        receiver,
        if timed_out {
            Timeouts::Suppressed
        } else {
            Timeouts::Raised
        },
    );
}

/// Whether a thread that is answered without having budget raises a timeout fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timeouts {
    Raised,
    Suppressed,
}

/// The answered thread runs, if its scheduling context lets it.
#[inline]
fn resume<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, timeouts: Timeouts) {
    let Some(sc) = tcb.thread.sched_context.get() else {
        return;
    };
    if timeouts == Timeouts::Raised && k.sched.current_sc.get() != Some(sc) {
        let usable = refill::usable(sc, scheduler::now(k), k.sched.least_budget());
        if !usable && refill::configured(sc) && fault::raise_timeout(k, tcb) {
            return;
        }
    }
    scheduler::possible_switch_to(k, tcb);
}

/// The object is deleted: a thread that waits on it or with it stops waiting.
pub fn finalise<A: Arch>(k: &Kernel<A>, reply: Ref<Reply>) {
    let Some(tcb) = reply.tcb.get() else { return };
    match tcb.thread.state.get() {
        ThreadState::BlockedOnReply => {
            // The caller gets its scheduling context back, as if it had been answered, but stays stopped.
            let was_fault = fault::pending(tcb);
            pop(k, reply, tcb);
            fault::clear(tcb);
            if !was_fault {
                thread::rewind_blocked(tcb);
            }
            tcb.thread.state.set(ThreadState::Inactive);
        }
        ThreadState::BlockedOnReceive => thread::cancel_ipc(k, tcb),
        _ => unlink(reply, tcb),
    }
}
