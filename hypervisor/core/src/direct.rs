//! The direct way through the kernel: a call to a waiting passive server, and the answer with the next receive, when nothing needs
//! deciding.
//!
//! Both functions do exactly what `syscall`, `endpoint`, `reply` and `scheduler` do in the same situation (a test compares them),
//! or nothing at all. What makes them short is that the scheduling context stays in use: no time is charged, no timer is set, and
//! the scheduler is not asked, because the thread that goes on is at least as important as everything that is ready.

use crate::arch::Arch;
use crate::cap::Rights;
use crate::ipc;
use crate::kernel::Kernel;
use crate::mem::Ref;
use crate::object::{Tcb, ThreadState, ipc_flag};
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
    match number {
        CALL => call(k, current),
        REPLY_RECV => reply_recv(k, current),
        _ => Path::Closed,
    }
}

/// Whether a thread can go on at once although others are ready.
#[inline(always)]
fn first<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) -> bool {
    k.sched
        .highest()
        .is_none_or(|highest| tcb.thread.priority.get() >= highest)
}

/// `Call` on an endpoint where a passive server waits alone with a reply object.
#[inline(always)]
fn call<A: Arch>(k: &Kernel<A>, caller: Ref<Tcb>) -> Path {
    let c = &caller.thread;
    let tag = caller.context.x[1].get();
    if !ipc::is_short(tag) {
        return Path::Closed;
    }
    let Ok(slot) = ipc::lookup(caller, caller.context.x[0].get()) else {
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
        || s.sched_context.get().is_some()
    {
        return Path::Closed;
    }
    let (Some(offered), Some(sc)) = (s.reply.get(), c.sched_context.get()) else {
        return Path::Closed;
    };
    if !first(k, server) {
        return Path::Closed;
    }

    ep.queue.head.set(None);
    ep.queue.tail.set(None);
    s.endpoint.set(None);
    s.reply.set(None);
    s.ipc_flags.set(0);
    s.state.set(ThreadState::Running);
    ipc::transfer_short(caller, server, tag, cap.word());
    c.reply.set(Some(offered));
    c.ipc_flags.set(ipc_flag::IN_SYSCALL);
    c.state.set(ThreadState::BlockedOnReply);
    c.sched_context.set(None);
    offered.tcb.set(Some(caller));
    reply::join_top(offered, sc);
    sc.tcb.set(Some(server));
    s.sched_context.set(Some(sc));
    scheduler::switch_thread(k, server);
    Path::Taken
}

/// `ReplyRecv` by a passive server that runs on its caller's scheduling context, to an endpoint where nobody waits.
#[inline(always)]
fn reply_recv<A: Arch>(k: &Kernel<A>, server: Ref<Tcb>) -> Path {
    let s = &server.thread;
    let tag = server.context.x[1].get();
    if !ipc::is_short(tag) {
        return Path::Closed;
    }
    let Ok(slot) = ipc::lookup(server, server.context.x[6].get()) else {
        return Path::Closed;
    };
    let Some((object, _)) = slot.cap.get().as_reply() else {
        return Path::Closed;
    };
    let Ok(slot) = ipc::lookup(server, server.context.x[0].get()) else {
        return Path::Closed;
    };
    let Some((ep, rights)) = slot.cap.get().as_endpoint() else {
        return Path::Closed;
    };
    let (Some(caller), Some(sc)) = (object.tcb.get(), object.sched_context.get()) else {
        return Path::Closed;
    };
    let c = &caller.thread;
    if !rights.has(Rights::READ)
        || ep.queue.head.get().is_some()
        || c.state.get() != ThreadState::BlockedOnReply
        || c.ipc_flags.get() & ipc_flag::FAULT != 0
        || c.sched_context.get().is_some()
        || s.sched_context.get() != Some(sc)
        || s.notification.get().is_some()
        || !first(k, caller)
    {
        return Path::Closed;
    }

    ipc::transfer_short(server, caller, tag, 0);
    reply::leave_top(object, sc);
    c.reply.set(None);
    c.ipc_flags.set(0);
    c.state.set(ThreadState::Running);
    c.sched_context.set(Some(sc));
    sc.tcb.set(Some(caller));
    s.sched_context.set(None);
    s.ipc_flags.set(ipc_flag::IN_SYSCALL);
    s.state.set(ThreadState::BlockedOnReceive);
    s.endpoint.set(Some(ep));
    reply::offer(object, server);
    ep.queue.insert_first(server);
    scheduler::switch_thread(k, caller);
    Path::Taken
}
