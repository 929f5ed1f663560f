//! Scheduling contexts: binding, donation, configuration, the invocations on them (seL4 manual, sections 6.1.7 to 6.1.9).
//!
//! # Invariants
//! - A context's `tcb` and the thread's `sched_context` name each other, as do `notification` and the notification's
//!   `sched_context`, and `yield_from` and the thread's `yield_to`.
//! - `refill_max` is at most the number of refills that the object has room for.

use crate::arch::Arch;
use crate::object::mem::Ref;
use crate::object::{Refill, SchedContext, Tcb, ThreadState, sc_flag};
use crate::run::ipc;
use crate::run::refill::{self, MIN_REFILLS};
use crate::run::reply;
use crate::run::scheduler::{self};
use crate::state::kernel::Kernel;

/// Bytes in front of the refills.
const FIXED_BYTES: u64 = core::mem::offset_of!(SchedContext, refills) as u64;

/// Refills that an object of this size has room for.
#[must_use]
pub const fn capacity(size_bits: u32) -> u64 {
    let bytes = 1u64 << (size_bits & 63);
    let room = bytes.saturating_sub(FIXED_BYTES) / size_of::<Refill>() as u64;
    if room > u16::MAX as u64 {
        u16::MAX as u64
    } else {
        room
    }
}

/// The context passes to a thread that has none; who had it before stops being schedulable.
#[inline]
pub fn donate<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>, to: Ref<Tcb>) {
    if let Some(from) = sc.tcb.get() {
        scheduler::remove(k, from);
        from.thread.sched_context.set(None);
    }
    sc.tcb.set(Some(to));
    to.thread.sched_context.set(Some(sc));
}

/// A thread loses its context.
pub fn unbind_tcb<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>, tcb: Ref<Tcb>) {
    scheduler::remove(k, tcb);
    tcb.thread.sched_context.set(None);
    sc.tcb.set(None);
}

/// A thread gets a context; both are free.
pub fn bind_tcb<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>, tcb: Ref<Tcb>) {
    sc.tcb.set(Some(tcb));
    tcb.thread.sched_context.set(Some(sc));
    if sc.flags.get() & sc_flag::SPORADIC != 0 && k.sched.current_sc.get() != Some(sc) {
        refill::start(sc, scheduler::now(k));
    }
    if tcb.thread.state.get() == ThreadState::Running {
        scheduler::possible_switch_to(k, tcb);
    }
}

/// Whether a thread that gets this context while it is blocked can leave the kernel again.
#[must_use]
pub fn released<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>) -> bool {
    refill::usable(sc, scheduler::now(k), k.sched.least_budget())
}

pub(crate) fn unbind_notification(sc: Ref<SchedContext>) {
    if let Some(object) = sc.notification.take() {
        object.sched_context.set(None);
    }
}

/// The context is deleted.
pub fn finalise<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>) {
    if let Some(tcb) = sc.tcb.get() {
        unbind_tcb(k, sc, tcb);
    }
    unbind_notification(sc);
    reply::detach_stack(sc);
    if let Some(tcb) = sc.yield_from.get() {
        complete_yield_to(k, tcb);
    }
    scheduler::forget(k, sc);
    sc.refill_max.set(0);
    sc.refill_count.set(0);
}

/// Time used since last asked, in µs; counted anew from now on.
#[inline(never)]
pub fn take_consumed_us<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>) -> u64 {
    let uncharged = scheduler::uncharged(k, sc);
    let consumed = sc.consumed.get().wrapping_add(uncharged);
    // The uncharged part will be added when it is charged.
    sc.consumed.set(0u64.wrapping_sub(uncharged));
    k.sched.microseconds(consumed)
}

/// A thread that yielded to a context runs again: it learns how much time that one used.
pub fn complete_yield_to<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    if let Some(sc) = tcb.thread.yield_to.take() {
        sc.yield_from.set(None);
        let consumed = take_consumed_us(k, sc);
        tcb.context.x[0].set(0);
        tcb.context.x[1].set(ipc::info(0, 1));
        tcb.context.x[2].set(consumed);
    }
}

/// A thread that yielded is stopped: nothing is answered.
pub fn cancel_yield_to(tcb: Ref<Tcb>) {
    if let Some(sc) = tcb.thread.yield_to.take() {
        sc.yield_from.set(None);
    }
}

/// Gives a context its time: `budget` every `period`, both in ticks; equal ones mean round robin.
pub(crate) fn configure<A: Arch>(
    k: &Kernel<A>,
    sc: Ref<SchedContext>,
    budget: u64,
    period: u64,
    refills: u16,
) {
    let (period, refills) = if budget == period {
        (0, MIN_REFILLS as u16)
    } else {
        (period, refills)
    };
    let bound = sc.tcb.get();
    if let Some(tcb) = bound {
        scheduler::remove(k, tcb);
    }
    scheduler::settle(k, sc);
    let now = scheduler::now(k);
    // A thread that could go on keeps what it has used; one that cannot starts anew (seL4 manual, 6.1.6).
    let is_running = bound.is_some_and(|tcb| tcb.thread.state.get() == ThreadState::Running);
    if is_running && refill::configured(sc) {
        refill::change(sc, refills, budget, period, now, k.sched.least_budget());
    } else {
        refill::fill(sc, refills, budget, period, now);
    }
    scheduler::refills_changed(k);
    let Some(tcb) = bound else { return };
    if tcb.thread.state.get() != ThreadState::Running {
        return;
    }
    if refill::usable(sc, now, k.sched.least_budget()) {
        scheduler::possible_switch_to(k, tcb);
    } else {
        scheduler::postpone(k, tcb, sc);
        scheduler::require(k);
    }
}

/// Configures the initial thread's context, at boot.
pub fn configure_boot<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>, budget_us: u64) {
    let ticks = k.sched.ticks(budget_us);
    configure(k, sc, ticks, ticks, MIN_REFILLS as u16);
}
