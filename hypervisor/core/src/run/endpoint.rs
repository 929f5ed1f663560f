//! Endpoints: sending, receiving, and what happens to those who wait when an endpoint goes (seL4 manual, section 4.2).
//!
//! # Invariants
//! - The threads in an endpoint's queue are all in state `BlockedOnSend` or all in `BlockedOnReceive`, and name the endpoint.

use crate::arch::Arch;
use crate::object::error::Progress;
use crate::object::mem::Ref;
use crate::object::{Endpoint, Notification, Reply, Tcb, ThreadState, ipc_flag};
use crate::run::fault;
use crate::run::ipc;
use crate::run::notification;
use crate::run::reply;
use crate::run::sched_context;
use crate::run::scheduler;
use crate::run::thread;
use crate::state::cancelling::Cancelling;
use crate::state::kernel::Kernel;

/// Whether a system call waits for its partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It blocks.
    Blocks,
    /// It gives up at once.
    Polls,
}

/// Whether a receiver without scheduling context gets the sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Donation {
    /// It does.
    Allowed,
    /// It does not.
    Refused,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Badge of the capability.
    pub badge: u64,
    /// [`ipc_flag`]: `GRANT`, `GRANT_REPLY`, `CALL`.
    pub flags: u8,
    /// Block or give up.
    pub waiting: Waiting,
    /// Whether the scheduling context may go along.
    pub donation: Donation,
}

/// Sends `sender`'s message, or its fault, through an endpoint.
#[inline]
pub fn send<A: Arch>(k: &Kernel<A>, ep: Ref<Endpoint>, sender: Ref<Tcb>, how: Sending) {
    if let Some(receiver) = ep.queue.head.get()
        && receiver.thread.state.get() == ThreadState::BlockedOnReceive
    {
        ep.queue.remove(receiver);
        let r = &receiver.thread;
        r.endpoint.set(None);
        ipc::transfer(k, sender, receiver, Some(ep), how.badge, how.flags);
        let offered = r.reply.get();
        if let Some(offered) = offered {
            reply::unlink(offered, receiver);
        }
        connect(k, sender, receiver, offered, how.flags, how.donation);
        scheduler::wake(k, receiver);
        return;
    }
    if how.waiting == Waiting::Polls {
        return;
    }
    let s = &sender.thread;
    s.state.set(ThreadState::BlockedOnSend);
    s.ipc_badge.set(how.badge);
    block(ep, sender, how.flags);
}

/// Puts the current thread into an endpoint's queue. Its state is already set.
#[inline]
fn block(ep: Ref<Endpoint>, tcb: Ref<Tcb>, flags: u8) {
    let t = &tcb.thread;
    let fault = t.ipc_flags.get() & ipc_flag::FAULT;
    // A thread in a fault continues at its saved pc; one in a system call has its pc behind the call.
    let position = if fault == 0 { ipc_flag::IN_SYSCALL } else { 0 };
    t.ipc_flags.set(flags | fault | position);
    t.endpoint.set(Some(ep));
    ep.queue.insert(tcb);
}

/// After a message of a call has arrived: the sender waits for the answer on the receiver's reply object. Without one, or
/// without Grant and GrantReply, it stops (manual, section 4.2.4).
#[inline]
fn connect<A: Arch>(
    k: &Kernel<A>,
    sender: Ref<Tcb>,
    receiver: Ref<Tcb>,
    offered: Option<Ref<Reply>>,
    flags: u8,
    donation: Donation,
) {
    if flags & ipc_flag::CALL != 0 {
        let s = &sender.thread;
        let kept = s.ipc_flags.get() & (ipc_flag::FAULT | ipc_flag::IN_SYSCALL);
        let position = if kept == 0 { ipc_flag::IN_SYSCALL } else { 0 };
        s.ipc_flags.set(kept | position);
        if flags & (ipc_flag::GRANT | ipc_flag::GRANT_REPLY) != 0
            && let Some(offered) = offered
        {
            reply::push(k, sender, receiver, offered, donation);
        } else {
            thread::rewind_blocked(sender);
            s.state.set(ThreadState::Inactive);
        }
    } else if donation == Donation::Allowed
        && receiver.thread.sched_context.get().is_none()
        && let Some(sc) = sender.thread.sched_context.get()
    {
        sched_context::donate(k, sc, receiver);
    }
}

/// Receives on an endpoint. `offered` is the reply object for a caller.
#[inline]
pub fn receive<A: Arch>(
    k: &Kernel<A>,
    ep: Ref<Endpoint>,
    receiver: Ref<Tcb>,
    offered: Option<Ref<Reply>>,
    waiting: Waiting,
) {
    let r = &receiver.thread;
    if let Some(offered) = offered
        && let Some(waiter) = offered.tcb.get()
        && waiter != receiver
    {
        // The object serves another call or receiver: that one is given up.
        thread::cancel_ipc(k, waiter);
    }
    if let Some(bound) = r.notification.get() {
        if bound.active.get() != 0 {
            notification::complete(k, bound, receiver);
            return;
        }
        if waiting == Waiting::Blocks {
            notification::return_sched_context(k, bound, receiver);
        }
    }
    if let Some(sender) = ep.queue.head.get()
        && sender.thread.state.get() == ThreadState::BlockedOnSend
    {
        accept(k, ep, sender, receiver, offered);
        return;
    }
    if waiting == Waiting::Polls {
        receiver.context.x[0].set(0);
        return;
    }
    r.state.set(ThreadState::BlockedOnReceive);
    if let Some(offered) = offered {
        reply::offer(offered, receiver);
    }
    block(ep, receiver, 0);
}

/// Takes the first sender's message.
fn accept<A: Arch>(
    k: &Kernel<A>,
    ep: Ref<Endpoint>,
    sender: Ref<Tcb>,
    receiver: Ref<Tcb>,
    offered: Option<Ref<Reply>>,
) {
    let s = &sender.thread;
    ep.queue.remove(sender);
    drop_cursor(k, sender);
    s.endpoint.set(None);
    let flags = s.ipc_flags.get();
    ipc::transfer(k, sender, receiver, Some(ep), s.ipc_badge.get(), flags);
    if flags & ipc_flag::CALL == 0 {
        scheduler::wake(k, sender);
        return;
    }
    // A thread that timed out has nothing to donate, a sender of other calls gives what it has.
    let donation =
        if flags & ipc_flag::FAULT != 0 && matches!(s.fault.get(), fault::Fault::Timeout { .. }) {
            Donation::Refused
        } else {
            Donation::Allowed
        };
    connect(k, sender, receiver, offered, flags, donation);
    if s.state.get() == ThreadState::BlockedOnReply || s.state.get() == ThreadState::Inactive {
        scheduler::remove(k, sender);
    }
}

/// A waiting thread leaves the queue without its message.
pub fn leave<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    if let Some(ep) = tcb.thread.endpoint.take() {
        ep.queue.remove(tcb);
        drop_cursor(k, tcb);
    }
}

/// Changes a waiting thread's priority.
pub fn reorder<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, priority: u8) {
    let t = &tcb.thread;
    match t.endpoint.get() {
        Some(ep) => {
            // A thread that moves to the front could pass the place that a cancellation has reached.
            if let Some(cancelling) = k.cancelling.get()
                && cancelling.next.thread.endpoint.get() == Some(ep)
            {
                forget_cancelling(k);
            }
            ep.queue.remove(tcb);
            t.priority.set(priority);
            ep.queue.insert(tcb);
        }
        None => t.priority.set(priority),
    }
}

/// Sends a waiting thread back to its system call, or stops it when it waited with a fault: its endpoint is gone.
fn expel<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    let faulted = fault::pending(tcb);
    thread::cancel_ipc(k, tcb);
    if !faulted {
        scheduler::wake(k, tcb);
    }
}

/// The endpoint is deleted: everybody who waits makes the system call again, and finds the capability gone.
pub fn cancel_all<A: Arch>(k: &Kernel<A>, ep: Ref<Endpoint>) -> Progress {
    while let Some(tcb) = ep.queue.head.get() {
        expel(k, tcb);
        if k.preemption_point() {
            return Progress::Preempted;
        }
    }
    Progress::Done
}

/// Everybody who waits to send with this badge makes the system call again. Progress is kept: senders that have been looked
/// at are not looked at again when the call is restarted.
///
/// That it is restarted, and not made anew, is marked in the caller's own information word, in bits that mean nothing there: whoever makes
/// another call sets that word. So a call that somebody turned into another one half-way, by changing the caller's capability
/// space, leaves nothing behind with which a later one would pass over senders that have come since. Who sets the mark passes over
/// senders in a call of its own.
pub fn cancel_badged_sends<A: Arch>(
    k: &Kernel<A>,
    ep: Ref<Endpoint>,
    badge: u64,
    caller: Ref<Tcb>,
) -> Progress {
    let tag = &caller.context.x[1];
    let restarted = tag.get() & ipc::UNSENT == ipc::UNSENT;
    tag.set(tag.get() & !ipc::UNSENT);
    let mut next = match forget_cancelling(k) {
        Some(c)
            if restarted
                && c.caller == caller
                && c.badge == badge
                && c.next.thread.endpoint.get() == Some(ep) =>
        {
            Some(c.next)
        }
        _ => ep.queue.head.get(),
    };
    if let Some(first) = next
        && first.thread.state.get() != ThreadState::BlockedOnSend
    {
        return Progress::Done;
    }
    while let Some(tcb) = next {
        next = tcb.thread.wait_next.get();
        if tcb.thread.ipc_badge.get() == badge {
            expel(k, tcb);
        }
        if let Some(next) = next
            && k.preemption_point()
        {
            remember_cancelling(
                k,
                Cancelling {
                    next,
                    badge,
                    caller,
                },
            );
            tag.set(tag.get() | ipc::UNSENT);
            return Progress::Preempted;
        }
    }
    Progress::Done
}

fn remember_cancelling<A: Arch>(k: &Kernel<A>, cancelling: Cancelling) {
    let flags = &cancelling.next.thread.ipc_flags;
    flags.set(flags.get() | ipc_flag::CURSOR);
    k.cancelling.set(Some(cancelling));
}

fn forget_cancelling<A: Arch>(k: &Kernel<A>) -> Option<Cancelling> {
    let cancelling = k.cancelling.take()?;
    let flags = &cancelling.next.thread.ipc_flags;
    flags.set(flags.get() & !ipc_flag::CURSOR);
    Some(cancelling)
}

/// The thread is stopped, or gets other registers: what it calls next is not the call that was preempted.
pub fn forget_call<A: Arch>(k: &Kernel<A>, caller: Ref<Tcb>) {
    if k.cancelling.get().is_some_and(|c| c.caller == caller) {
        forget_cancelling(k);
    }
}

/// A thread that leaves a queue moves the place of [`Cancelling`] on, when it stands there.
#[inline]
fn drop_cursor<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    if tcb.thread.ipc_flags.get() & ipc_flag::CURSOR == 0 {
        return;
    }
    // `wait_next` still says who stood behind it.
    if let Some(cancelling) = forget_cancelling(k)
        && let Some(next) = tcb.thread.wait_next.get()
    {
        remember_cancelling(k, Cancelling { next, ..cancelling });
    }
}

/// What a receiving thread may do with a notification: wait when it is bound to nobody else.
#[inline]
#[must_use]
pub fn may_wait(object: Ref<Notification>, tcb: Ref<Tcb>) -> bool {
    object.bound_tcb.get().is_none_or(|bound| bound == tcb)
}
