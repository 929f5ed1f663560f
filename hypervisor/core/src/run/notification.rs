//! Notifications: signal, wait, poll; bound notifications; scheduling contexts that passive threads run on when they are
//! signalled (seL4 manual, chapter 5 and section 6.1.9).
//!
//! # Invariants
//! - The queue is empty while a signal is pending. Threads in it are in state `BlockedOnNotification` and name the notification.
//! - `bound_tcb` and the thread's `notification` name each other; the same holds for `sched_context` and the context's `notification`.

use crate::arch::Arch;
use crate::object::mem::Ref;
use crate::object::{Notification, Tcb, ThreadState, ipc_flag};
use crate::run::endpoint::Waiting;
use crate::run::sched_context;
use crate::run::scheduler;
use crate::run::thread;
use crate::state::kernel::Kernel;

/// Signals: wakes the first waiter, or the bound thread when it waits to receive; else the signal stays pending.
#[inline]
pub fn signal<A: Arch>(k: &Kernel<A>, object: Ref<Notification>, badge: u64) {
    if let Some(waiter) = object.queue.head.get() {
        object.queue.remove(waiter);
        waiter.thread.waits_for.set(None);
        deliver(k, object, waiter, badge);
        return;
    }
    if object.active.get() == 0
        && let Some(bound) = object.bound_tcb.get()
        && bound.thread.state.get() == ThreadState::BlockedOnReceive
    {
        thread::cancel_receive(k, bound);
        deliver(k, object, bound, badge);
        return;
    }
    keep(object, badge);
}

/// The signal stays pending.
#[inline(always)]
pub(crate) fn keep(object: Ref<Notification>, badge: u64) {
    object.word.set(object.word.get() | badge);
    object.active.set(1);
}

/// A waiting thread gets the signal and runs.
#[inline]
fn deliver<A: Arch>(k: &Kernel<A>, object: Ref<Notification>, tcb: Ref<Tcb>, badge: u64) {
    tcb.context.x[0].set(badge);
    lend_sched_context(k, object, tcb);
    scheduler::wake(k, tcb);
}

/// Takes a pending signal.
#[inline]
pub fn complete<A: Arch>(k: &Kernel<A>, object: Ref<Notification>, tcb: Ref<Tcb>) {
    tcb.context.x[0].set(object.word.get());
    object.word.set(0);
    object.active.set(0);
    lend_sched_context(k, object, tcb);
}

/// Waits or polls.
#[inline]
pub fn receive<A: Arch>(k: &Kernel<A>, object: Ref<Notification>, tcb: Ref<Tcb>, waiting: Waiting) {
    if object.active.get() != 0 {
        complete(k, object, tcb);
        return;
    }
    if waiting == Waiting::Polls {
        tcb.context.x[0].set(0);
        return;
    }
    let t = &tcb.thread;
    t.state.set(ThreadState::BlockedOnNotification);
    t.ipc_flags.set(ipc_flag::IN_SYSCALL);
    t.waits_for.set(Some(object));
    object.queue.insert(tcb);
    return_sched_context(k, object, tcb);
}

/// A thread without scheduling context runs on the notification's, if that one is free.
#[inline]
fn lend_sched_context<A: Arch>(k: &Kernel<A>, object: Ref<Notification>, tcb: Ref<Tcb>) {
    if tcb.thread.sched_context.get().is_none()
        && let Some(sc) = object.sched_context.get()
        && sc.tcb.get().is_none()
    {
        sched_context::donate(k, sc, tcb);
    }
}

/// A thread that runs on the notification's scheduling context gives it back before it waits again.
#[inline]
pub fn return_sched_context<A: Arch>(k: &Kernel<A>, object: Ref<Notification>, tcb: Ref<Tcb>) {
    if let Some(sc) = object.sched_context.get()
        && tcb.thread.sched_context.get() == Some(sc)
    {
        scheduler::remove(k, tcb);
        tcb.thread.sched_context.set(None);
        sc.tcb.set(None);
    }
}

/// A waiting thread leaves the queue without a signal.
pub fn leave(tcb: Ref<Tcb>) {
    if let Some(object) = tcb.thread.waits_for.take() {
        object.queue.remove(tcb);
    }
}

/// Changes a waiting thread's priority.
pub fn reorder(tcb: Ref<Tcb>, priority: u8) {
    let t = &tcb.thread;
    match t.waits_for.get() {
        Some(object) => {
            object.queue.remove(tcb);
            t.priority.set(priority);
            object.queue.insert(tcb);
        }
        None => t.priority.set(priority),
    }
}

/// Binds a thread and a notification, both unbound.
pub fn bind(object: Ref<Notification>, tcb: Ref<Tcb>) {
    object.bound_tcb.set(Some(tcb));
    tcb.thread.notification.set(Some(object));
}

/// Dissolves a binding.
pub fn unbind(object: Ref<Notification>) {
    if let Some(tcb) = object.bound_tcb.take() {
        tcb.thread.notification.set(None);
    }
}

/// The notification is deleted: bindings dissolve, and everybody who waits makes the system call again.
pub fn finalise<A: Arch>(
    k: &Kernel<A>,
    object: Ref<Notification>,
) -> crate::object::error::Progress {
    unbind(object);
    if let Some(sc) = object.sched_context.take() {
        sc.notification.set(None);
    }
    while let Some(tcb) = object.queue.head.get() {
        thread::cancel_ipc(k, tcb);
        scheduler::wake(k, tcb);
        if k.preemption_point() {
            return crate::object::error::Progress::Preempted;
        }
    }
    crate::object::error::Progress::Done
}
