//! Threads: stopping, resuming, priorities, and the end of a thread (seL4 manual, section 6.1).
//!
//! A thread's saved pc is where it continues. While it is blocked in a system call the pc is behind the `svc`
//! ([`ipc_flag::IN_SYSCALL`]); whoever ends the wait without a result moves it back, so that the call is made again.

use crate::arch::Arch;
use crate::object::mem::Ref;
use crate::object::{Tcb, ThreadState, ipc_flag, queued};
use crate::run::endpoint;
use crate::run::fault;
use crate::run::notification;
use crate::run::reply;
use crate::run::sched_context;
use crate::run::scheduler;
use crate::state::kernel::Kernel;

/// Bytes of a system-call instruction.
const CALL_BYTES: u64 = 4;

/// The running thread will make its system call again.
#[inline]
pub fn rewind(tcb: Ref<Tcb>) {
    let pc = &tcb.context.pc;
    pc.set(pc.get().wrapping_sub(CALL_BYTES));
}

/// A blocked thread will make its system call again, if it is in one.
#[inline]
pub fn rewind_blocked(tcb: Ref<Tcb>) {
    let t = &tcb.thread;
    if t.ipc_flags.get() & ipc_flag::IN_SYSCALL != 0 {
        t.ipc_flags.set(t.ipc_flags.get() & !ipc_flag::IN_SYSCALL);
        rewind(tcb);
    }
}

/// Whether it waits for another thread.
#[inline]
#[must_use]
pub fn blocked(tcb: Ref<Tcb>) -> bool {
    matches!(
        tcb.thread.state.get(),
        ThreadState::BlockedOnReceive
            | ThreadState::BlockedOnSend
            | ThreadState::BlockedOnNotification
            | ThreadState::BlockedOnReply
    )
}

/// Ends a thread's wait without a result: it is stopped, and makes its system call again when it is resumed. A pending fault
/// is forgotten.
pub fn cancel_ipc<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    let t = &tcb.thread;
    match t.state.get() {
        ThreadState::BlockedOnReceive => leave_receive(k, tcb),
        ThreadState::BlockedOnSend => endpoint::leave(k, tcb),
        ThreadState::BlockedOnNotification => notification::leave(tcb),
        ThreadState::BlockedOnReply => reply::abandon(tcb),
        _ => {
            if fault::pending(tcb) {
                fault::clear(tcb);
            }
            return;
        }
    }
    rewind_blocked(tcb);
    fault::clear(tcb);
    t.ipc_flags.set(0);
    t.state.set(ThreadState::Inactive);
}

/// A thread stops waiting to receive, because its bound notification was signalled: the call has a result.
#[inline]
pub fn cancel_receive<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    leave_receive(k, tcb);
    tcb.thread.state.set(ThreadState::Inactive);
}

#[inline]
fn leave_receive<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    endpoint::leave(k, tcb);
    if let Some(offered) = tcb.thread.reply.get() {
        reply::unlink(offered, tcb);
    }
}

/// Stops a thread.
pub fn suspend<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    cancel_ipc(k, tcb);
    endpoint::forget_call(k, tcb);
    scheduler::remove(k, tcb);
    sched_context::cancel_yield_to(tcb);
    tcb.thread.state.set(ThreadState::Inactive);
}

/// Starts a stopped thread; one that waits makes its system call again. Running threads go on.
pub fn resume<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    if matches!(
        tcb.thread.state.get(),
        ThreadState::Running | ThreadState::Idle
    ) {
        return;
    }
    cancel_ipc(k, tcb);
    scheduler::wake(k, tcb);
}

/// Changes a thread's priority, and with it its place in the queues.
pub fn set_priority<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, priority: u8) {
    let t = &tcb.thread;
    match t.state.get() {
        ThreadState::BlockedOnReceive | ThreadState::BlockedOnSend => {
            endpoint::reorder(k, tcb, priority);
        }
        ThreadState::BlockedOnNotification => notification::reorder(tcb, priority),
        ThreadState::Running if t.queued.get() & queued::RELEASE == 0 => {
            scheduler::remove(k, tcb);
            t.priority.set(priority);
            scheduler::possible_switch_to(k, tcb);
        }
        _ => t.priority.set(priority),
    }
}

/// The last capability to the thread is gone: it is stopped, and nothing refers to it any more.
pub fn finalise<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    suspend(k, tcb);
    if let Some(object) = tcb.thread.notification.get() {
        notification::unbind(object);
    }
    if let Some(sc) = tcb.thread.sched_context.get() {
        sched_context::unbind_tcb(k, sc, tcb);
    }
}

/// The frame of a thread's IPC buffer is gone: longer messages are cut from now on.
pub fn ipc_buffer_gone<A: Arch>(_k: &Kernel<A>, tcb: Ref<Tcb>) {
    tcb.thread.ipc_buffer_kernel.set(0);
}
