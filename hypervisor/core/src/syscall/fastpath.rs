//! The fastpath: a call to a waiting server, the answer with the next receive, and signals that wake nobody,
//! when nothing needs deciding. Calls of the kernel's own objects are here too, without the detour through the scheduler.
//!
//! The functions do exactly what `syscall`, `endpoint`, `reply`, `notification` and `scheduler` do in the same situation (a test
//! compares them), or nothing at all. What makes them short is that the scheduler is not asked, because the thread that goes on
//! is at least as important as everything that is ready, and that a passive server goes on with its caller's scheduling context:
//! no time is charged, no timer is set.

pub use crate::syscall::path::Path;

use crate::arch::Arch;
use crate::cap::Rights;
use crate::object::mem::Ref;
use crate::object::{Endpoint, Reply, SchedContext, Tcb, ThreadState, ipc_flag, sc_flag, tcb_slot};
use crate::run::endpoint;
use crate::run::fault::{self, Fault};
use crate::run::ipc;
use crate::run::notification;
use crate::run::refill;
use crate::run::reply;
use crate::run::scheduler;
use crate::state::kernel::Kernel;
use crate::syscall::slowpath;
use sel4_sys::Syscall;

/// The system call `number` of the current thread, if there is a fastpath for it.
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
        SEND | NB_SEND => signal(k, current),
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
    sc.flags.get() & (sc_flag::SPORADIC | sc_flag::TURN_OVER) == 0
        && refill::usable(sc, scheduler::now(k), k.sched.least_budget())
}

/// A server that waits alone at an endpoint, with a reply object, and can go on at once.
#[derive(Clone, Copy)]
struct Waiting {
    server: Ref<Tcb>,
    offered: Ref<Reply>,
    /// Its own scheduling context; without one it goes on with its caller's.
    own: Option<Ref<SchedContext>>,
}

impl Waiting {
    #[inline(always)]
    fn at<A: Arch>(k: &Kernel<A>, ep: Ref<Endpoint>) -> Option<Self> {
        let server = ep.queue.head.get()?;
        let s = &server.thread;
        if ep.queue.tail.get() != Some(server)
            || s.state.get() != ThreadState::BlockedOnReceive
            || !first(k, server)
        {
            return None;
        }
        let offered = s.reply.get()?;
        let own = s.sched_context.get();
        if let Some(own) = own
            && !ready(k, own)
        {
            return None;
        }
        Some(Self {
            server,
            offered,
            own,
        })
    }

    /// It leaves the endpoint's queue.
    #[inline(always)]
    fn wake(self, ep: Ref<Endpoint>) {
        ep.queue.head.set(None);
        ep.queue.tail.set(None);
        let s = &self.server.thread;
        s.endpoint.set(None);
        s.reply.set(None);
        s.ipc_flags.set(0);
        s.state.set(ThreadState::Running);
    }

    /// `caller`, with its scheduling context `sc`, waits for its answer; it goes on.
    #[inline(always)]
    fn go<A: Arch>(self, k: &Kernel<A>, caller: Ref<Tcb>, sc: Ref<SchedContext>, flags: u8) {
        let Self {
            server,
            offered,
            own,
        } = self;
        let c = &caller.thread;
        c.reply.set(Some(offered));
        c.ipc_flags.set(flags);
        c.state.set(ThreadState::BlockedOnReply);
        offered.tcb.set(Some(caller));
        if own.is_none() {
            c.sched_context.set(None);
            reply::join_top(offered, sc);
            sc.tcb.set(Some(server));
            server.thread.sched_context.set(Some(sc));
            scheduler::switch_thread(k, server);
        } else {
            scheduler::switch_thread_and_time(k, server, own);
        }
    }
}

/// `Call` on an object of the kernel, or on an endpoint where a server waits; at most one capability goes along.
#[inline(always)]
fn call<A: Arch>(k: &Kernel<A>, caller: Ref<Tcb>) -> Path {
    let tag = caller.context.x[1].get();
    let Some(slot) = ipc::lookup_flat(caller, caller.context.x[0].get()) else {
        return Path::Closed;
    };
    let cap = slot.cap.get();
    let Some((ep, rights)) = cap.as_endpoint() else {
        return slowpath::call_object(k, caller, slot, tag);
    };
    let may_call =
        rights.has(Rights::WRITE) && (rights.has(Rights::GRANT) || rights.has(Rights::GRANT_REPLY));
    let caps = ipc::caps(tag);
    if !may_call || caps > 1 || caps == 1 && ipc::only_extra_cap(k, caller).is_none() {
        return Path::Closed;
    }
    let (Some(waiting), Some(sc)) = (Waiting::at(k, ep), caller.thread.sched_context.get()) else {
        return Path::Closed;
    };

    waiting.wake(ep);
    if caps == 0 {
        ipc::transfer_plain(k, caller, waiting.server, tag, cap.word());
    } else {
        let flags = if rights.has(Rights::GRANT) {
            ipc_flag::GRANT
        } else {
            0
        };
        ipc::transfer_with_caps(k, caller, waiting.server, ep, tag, cap.word(), flags);
    }
    waiting.go(k, caller, sc, ipc_flag::IN_SYSCALL);
    Path::Taken
}

/// The fault in the running thread, whose handler waits. The pc is where the thread is to continue.
#[inline(always)]
pub fn fault<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) -> Path {
    let Some((ep, badge, _)) = fault::handler(tcb, tcb_slot::FAULT_HANDLER) else {
        return Path::Closed;
    };
    let (Some(waiting), Some(sc)) = (Waiting::at(k, ep), tcb.thread.sched_context.get()) else {
        return Path::Closed;
    };

    waiting.wake(ep);
    let (label, length) = fault::write_message(k, tcb, waiting.server);
    let to = &waiting.server.context.x;
    to[0].set(badge);
    to[1].set(ipc::info(label.word(), length));
    waiting.go(k, tcb, sc, ipc_flag::FAULT);
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

/// `Send` and `NBSend` on a notification.
#[inline(never)]
fn signal<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>) -> Path {
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
    if !rights.has(Rights::WRITE) {
        return Path::Closed;
    }
    let wakes_bound = object
        .bound_tcb
        .get()
        .is_some_and(|bound| bound.thread.state.get() == ThreadState::BlockedOnReceive);
    if wakes_bound || object.queue.head.get().is_some() {
        notification::signal(k, object, cap.word());
        scheduler::schedule(k);
    } else {
        notification::keep(object, cap.word());
    }
    Path::Taken
}

/// `Wait` and `NBWait` on a notification.
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
    let blocks = object.active.get() == 0 && waiting == endpoint::Waiting::Blocks;
    notification::receive(k, object, current, waiting);
    if blocks {
        scheduler::schedule(k);
    }
    Path::Taken
}
