//! The direct way through the kernel: a call to a waiting server, the answer with the next receive, and signals that wake nobody,
//! when nothing needs deciding.
//!
//! The functions do exactly what `syscall`, `endpoint`, `reply`, `notification` and `scheduler` do in the same situation (a test
//! compares them), or nothing at all. What makes them short is that the scheduler is not asked, because the thread that goes on
//! is at least as important as everything that is ready, and that a passive server goes on with its caller's scheduling context:
//! no time is charged, no timer is set.

use crate::arch::Arch;
use crate::cap::Rights;
use crate::endpoint;
use crate::fault::{self, Fault};
use crate::ipc;
use crate::kernel::Kernel;
use crate::mem::Ref;
use crate::notification;
use crate::object::{SchedContext, Tcb, ThreadState, ipc_flag, sc_flag};
use crate::refill;
use crate::reply;
use crate::scheduler;
use sel4_sys::Syscall;

/// Whether the direct way was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "when it was not, nothing has been done yet"]
pub enum Path {
    /// Everything is done, the next thread is current.
    Taken,
    /// Nothing was done.
    Closed,
}

/// The system call `number` of the current thread, if there is a direct way for it.
#[inline(always)]
pub fn system_call<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, number: u64) -> Path {
    const CALL: u64 = Syscall::Call.word();
    const REPLY_RECV: u64 = Syscall::ReplyRecv.word();
    const SEND: u64 = Syscall::Send.word();
    const NB_SEND: u64 = Syscall::NBSend.word();
    const WAIT: u64 = Syscall::Wait.word();
    const NB_WAIT: u64 = Syscall::NBWait.word();
    match number {
        CALL => call(k, current),
        REPLY_RECV => reply_recv(k, current),
        SEND | NB_SEND => signal(current),
        WAIT => wait(k, current, endpoint::Waiting::Blocks),
        NB_WAIT => wait(k, current, endpoint::Waiting::Polls),
        _ => Path::Closed,
    }
}

/// Whether a thread can go on at once although others are ready.
#[inline(always)]
fn first<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) -> bool {
    k.sched
        .ready
        .highest()
        .is_none_or(|highest| tcb.thread.priority.get() >= highest)
}

/// Whether a thread that was blocked can go on at once on its own scheduling context.
#[inline(never)]
fn ready<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>) -> bool {
    sc.flags.get() & sc_flag::SPORADIC == 0
        && refill::usable(sc, scheduler::now(k), k.sched.least_budget())
}

/// `Call` on an endpoint where a server waits alone with a reply object; no capability goes along.
#[inline(always)]
fn call<A: Arch>(k: &Kernel<A>, caller: Ref<Tcb>) -> Path {
    let c = &caller.thread;
    let tag = caller.context.x[1].get();
    if ipc::caps(tag) != 0 {
        return Path::Closed;
    }
    let Some(slot) = ipc::lookup_flat(caller, caller.context.x[0].get()) else {
        return Path::Closed;
    };
    let cap = slot.cap.get();
    let Some((ep, rights)) = cap.as_endpoint() else {
        return Path::Closed;
    };
    let may_call =
        rights.has(Rights::WRITE) && (rights.has(Rights::GRANT) || rights.has(Rights::GRANT_REPLY));
    let Some(server) = ep.queue.head.get() else {
        return Path::Closed;
    };
    let s = &server.thread;
    if !may_call
        || ep.queue.tail.get() != Some(server)
        || s.state.get() != ThreadState::BlockedOnReceive
        || !first(k, server)
    {
        return Path::Closed;
    }
    let (Some(offered), Some(sc)) = (s.reply.get(), c.sched_context.get()) else {
        return Path::Closed;
    };
    let own = s.sched_context.get();
    if let Some(own) = own
        && !ready(k, own)
    {
        return Path::Closed;
    }

    ep.queue.head.set(None);
    ep.queue.tail.set(None);
    s.endpoint.set(None);
    s.reply.set(None);
    s.ipc_flags.set(0);
    s.state.set(ThreadState::Running);
    ipc::transfer_plain(k, caller, server, tag, cap.word());
    c.reply.set(Some(offered));
    c.ipc_flags.set(ipc_flag::IN_SYSCALL);
    c.state.set(ThreadState::BlockedOnReply);
    offered.tcb.set(Some(caller));
    if own.is_none() {
        c.sched_context.set(None);
        reply::join_top(offered, sc);
        sc.tcb.set(Some(server));
        s.sched_context.set(Some(sc));
        scheduler::switch_thread(k, server);
    } else {
        scheduler::switch_thread_and_time(k, server, own);
    }
    Path::Taken
}

/// `ReplyRecv` to an endpoint where nobody waits: by a passive server that runs on its caller's scheduling context, or by an active
/// one to a caller that kept its own; no capability goes along. The answer to a fault is one too.
#[inline(always)]
fn reply_recv<A: Arch>(k: &Kernel<A>, server: Ref<Tcb>) -> Path {
    let s = &server.thread;
    let tag = server.context.x[1].get();
    if ipc::caps(tag) != 0 {
        return Path::Closed;
    }
    let Some(slot) = ipc::lookup_flat(server, server.context.x[6].get()) else {
        return Path::Closed;
    };
    let Some((object, _)) = slot.cap.get().as_reply() else {
        return Path::Closed;
    };
    let Some(slot) = ipc::lookup_flat(server, server.context.x[0].get()) else {
        return Path::Closed;
    };
    let Some((ep, rights)) = slot.cap.get().as_endpoint() else {
        return Path::Closed;
    };
    let Some(caller) = object.tcb.get() else {
        return Path::Closed;
    };
    let c = &caller.thread;
    if !rights.has(Rights::READ)
        || ep.queue.head.get().is_some()
        || c.state.get() != ThreadState::BlockedOnReply
        || s.notification.get().is_some()
        || !first(k, caller)
    {
        return Path::Closed;
    }
    let faulted = c.ipc_flags.get() & ipc_flag::FAULT != 0;
    if faulted && (ipc::label(tag) != 0 || matches!(c.fault.get(), Fault::Timeout { .. })) {
        return Path::Closed;
    }
    let donated = object.sched_context.get();
    let kept = c.sched_context.get();
    let in_middle = object.caller_side.get().is_some() || object.callee_side.get().is_some();
    match (donated, kept) {
        (Some(sc), None) if s.sched_context.get() == Some(sc) => {}
        (None, Some(own)) if !in_middle && ready(k, own) => {}
        _ => return Path::Closed,
    }

    if faulted {
        // With label zero the thread goes on, whatever the fault was.
        let _continues = fault::answer(k, caller, server);
        fault::clear(caller);
    } else {
        ipc::transfer_plain(k, server, caller, tag, 0);
    }
    c.reply.set(None);
    c.ipc_flags.set(0);
    c.state.set(ThreadState::Running);
    s.ipc_flags.set(ipc_flag::IN_SYSCALL);
    s.state.set(ThreadState::BlockedOnReceive);
    s.endpoint.set(Some(ep));
    if let Some(sc) = donated {
        reply::leave_top(object, sc);
        c.sched_context.set(Some(sc));
        sc.tcb.set(Some(caller));
        s.sched_context.set(None);
    }
    reply::offer(object, server);
    ep.queue.insert_first(server);
    if donated.is_some() {
        scheduler::switch_thread(k, caller);
    } else {
        scheduler::switch_thread_and_time(k, caller, kept);
    }
    Path::Taken
}

/// `Send` and `NBSend` on a notification that nobody waits for.
#[inline(never)]
fn signal(current: Ref<Tcb>) -> Path {
    if ipc::caps(current.context.x[1].get()) != 0 {
        return Path::Closed;
    }
    let Some(slot) = ipc::lookup_flat(current, current.context.x[0].get()) else {
        return Path::Closed;
    };
    let cap = slot.cap.get();
    let Some((object, rights)) = cap.as_notification() else {
        return Path::Closed;
    };
    let wakes_bound = object
        .bound_tcb
        .get()
        .is_some_and(|bound| bound.thread.state.get() == ThreadState::BlockedOnReceive);
    if !rights.has(Rights::WRITE) || wakes_bound || object.queue.head.get().is_some() {
        return Path::Closed;
    }
    notification::keep(object, cap.word());
    Path::Taken
}

/// `Wait` on a notification that is signalled, `NBWait` on any.
#[inline(never)]
fn wait<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, waiting: endpoint::Waiting) -> Path {
    let Some(slot) = ipc::lookup_flat(current, current.context.x[0].get()) else {
        return Path::Closed;
    };
    let Some((object, rights)) = slot.cap.get().as_notification() else {
        return Path::Closed;
    };
    if !rights.has(Rights::READ) || !endpoint::may_wait(object, current) {
        return Path::Closed;
    }
    if object.active.get() == 0 && waiting == endpoint::Waiting::Blocks {
        return Path::Closed;
    }
    notification::receive(k, object, current, waiting);
    Path::Taken
}
