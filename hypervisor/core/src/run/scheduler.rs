//! Who runs next: ready queues, budgets, the timer.
//!
//! # Invariants
//! - The current thread is in no ready queue between two kernel entries. A thread in a ready queue is schedulable
//!   ([`schedulable`]) and its scheduling context usable.
//! - The current thread's priority is not below that of any thread in a ready queue, unless `reschedule` is set.
//! - Time since `since` belongs to `current_sc` and has not been charged yet.
//! - The timer is set to the earlier of the end of the current budget and the first release.

use crate::arch::Arch;
use crate::object::mem::Ref;
use crate::object::{SchedContext, Tcb, ThreadState, queued, sc_flag, tcb_slot};
use crate::run::fault;
use crate::run::refill::{self, Slice};
use crate::run::sched_context;
use crate::state::kernel::Kernel;
use core::num::NonZeroU64;

/// Shortest budget in µs: twice the kernel's own longest run (seL4's MIN_BUDGET_US with a WCET of 10 µs).
pub const LEAST_BUDGET_US: u64 = 20;

/// Threads released by one timer interrupt; when more are due, the timer fires again at once.
const RELEASES: usize = 32;

/// Reads the timer's frequency. Once, at boot.
pub fn init<A: Arch>(k: &Kernel<A>) {
    let hz = NonZeroU64::new(k.arch.frequency_hz()).unwrap_or(NonZeroU64::MIN);
    k.sched.frequency_hz.set(hz);
    k.sched.least_budget.set(k.sched.ticks(LEAST_BUDGET_US));
}

/// The counter, read once in each kernel entry that needs it.
#[inline]
pub fn now<A: Arch>(k: &Kernel<A>) -> u64 {
    let s = &k.sched;
    if !s.now_known.get() {
        s.now.set(k.arch.now());
        s.now_known.set(true);
    }
    s.now.get()
}

/// Whether a thread can be chosen: it wants to run and has a configured scheduling context with budget.
#[inline]
#[must_use]
pub fn schedulable(tcb: Ref<Tcb>) -> bool {
    let t = &tcb.thread;
    t.state.get() == ThreadState::Running
        && t.queued.get() & queued::RELEASE == 0
        && t.sched_context.get().is_some_and(refill::configured)
}

/// The ready queues have to be looked at when the kernel is left.
#[inline]
pub fn require<A: Arch>(k: &Kernel<A>) {
    let s = &k.sched;
    if let Some(candidate) = s.candidate.take() {
        s.ready.push_front(candidate);
    }
    s.reschedule.set(true);
}

/// Takes a thread out of everything that the scheduler knows about it: it is no longer schedulable, or its priority or
/// scheduling context is about to change.
#[inline(always)]
pub fn remove<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    const KNOWN: u8 = queued::READY | queued::RELEASE;
    if tcb.thread.queued.get() & KNOWN != 0 || k.sched.candidate.get() == Some(tcb) {
        remove_known(k, tcb);
    }
}

#[inline(never)]
fn remove_known<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    let s = &k.sched;
    let queues = tcb.thread.queued.get();
    if queues & queued::READY != 0 {
        s.ready.take_out(tcb);
    }
    if queues & queued::RELEASE != 0 {
        s.release.remove(tcb);
        s.deadline_stale.set(true);
    }
    if s.candidate.get() == Some(tcb) {
        s.candidate.set(None);
        s.reschedule.set(true);
    }
}

/// A thread in state `Running` may be run: now, if its priority says so; later, if its budget does.
#[inline]
pub fn possible_switch_to<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    let s = &k.sched;
    let t = &tcb.thread;
    let Some(sc) = t.sched_context.get() else {
        return;
    };
    if t.queued.get() & queued::RELEASE != 0 {
        return;
    }
    if s.current_sc.get() != Some(sc) && !refill::usable(sc, now(k), s.least_budget.get()) {
        postpone(k, tcb, sc);
        return;
    }
    if sc.flags.get() & sc_flag::TURN_OVER != 0 {
        take_turn_behind_others(k, tcb, sc);
        return;
    }
    if k.current.get() == Some(tcb) {
        require(k);
    } else if s.reschedule.get() || s.candidate.get().is_some() {
        require(k);
        s.ready.push_front(tcb);
    } else if t.queued.get() & queued::READY != 0 {
        require(k);
    } else {
        s.candidate.set(Some(tcb));
    }
}

/// A thread whose slice ended while it was blocked runs again: after the others of its priority.
#[inline(never)]
fn take_turn_behind_others<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, sc: Ref<SchedContext>) {
    sc.flags.set(sc.flags.get() & !sc_flag::TURN_OVER);
    require(k);
    if k.current.get() != Some(tcb) && tcb.thread.queued.get() & queued::READY == 0 {
        k.sched.ready.push_back(tcb);
    }
}

/// Puts a schedulable thread at the front of its ready queue (YieldTo).
pub fn put_first<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    remove(k, tcb);
    k.sched.ready.push_front(tcb);
}

/// The current thread waits behind `tcb`, both at the front of their ready queues (YieldTo).
pub fn yield_behind<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, tcb: Ref<Tcb>) {
    require(k);
    remove(k, tcb);
    k.sched.ready.push_front(current);
    k.sched.ready.push_front(tcb);
}

/// A thread that wants to run waits for its budget.
#[inline(never)]
pub fn postpone<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, sc: Ref<SchedContext>) {
    remove(k, tcb);
    if !refill::configured(sc) {
        return;
    }
    rest(k, tcb, refill::head_time(sc));
}

/// A thread in state `Running` that is in none of the scheduler's queues does not run before `time`, unless it is [`rouse`]d.
pub fn rest<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, time: u64) {
    k.sched.release.insert(tcb, time);
    k.sched.deadline_stale.set(true);
}

/// A thread that rests may run now. (One that waits for budget goes on waiting for it.)
pub fn rouse<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    if tcb.thread.queued.get() & queued::RELEASE != 0 {
        remove(k, tcb);
        possible_switch_to(k, tcb);
    }
}

/// Blocked or stopped until now, a thread runs again.
#[inline]
pub fn wake<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    let t = &tcb.thread;
    t.state.set(ThreadState::Running);
    t.ipc_flags.set(0);
    if let Some(sc) = t.sched_context.get() {
        if sc.flags.get() & sc_flag::SPORADIC != 0 && k.sched.current_sc.get() != Some(sc) {
            refill::start(sc, now(k));
        }
        possible_switch_to(k, tcb);
    }
}

/// Charges the time since the last charge to `sc`, the current scheduling context.
#[inline]
fn account<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>, now: u64) -> Slice {
    let s = &k.sched;
    let used = now.wrapping_sub(s.since.get());
    s.since.set(now);
    sc.consumed.set(sc.consumed.get().wrapping_add(used));
    s.deadline_stale.set(true);
    refill::charge(sc, used, s.least_budget.get())
}

/// Ticks that `sc` has used and that are not in `consumed` yet.
#[must_use]
pub fn uncharged<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>) -> u64 {
    if k.sched.current_sc.get() == Some(sc) {
        now(k).wrapping_sub(k.sched.since.get())
    } else {
        0
    }
}

/// Charges what has been used so far, because the budget is about to be changed.
pub fn settle<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>) {
    if k.sched.current_sc.get() == Some(sc) {
        let _slice = account(k, sc, now(k));
    }
}

/// The refills of `sc` were changed.
pub fn refills_changed<A: Arch>(k: &Kernel<A>) {
    k.sched.deadline_stale.set(true);
}

/// `sc` is about to be deleted: no more time is charged to it.
pub fn forget<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>) {
    if k.sched.current_sc.get() == Some(sc) {
        k.sched.current_sc.set(None);
        k.sched.deadline_stale.set(true);
    }
}

/// Time is charged to `next` from now on.
#[inline]
fn switch_sc<A: Arch>(k: &Kernel<A>, next: Option<Ref<SchedContext>>) {
    let s = &k.sched;
    let old = s.current_sc.get();
    if old == next {
        return;
    }
    let now = now(k);
    if let Some(old) = old {
        let slice = account(k, old, now);
        let preempted = old
            .tcb
            .get()
            .filter(|tcb| tcb.thread.queued.get() & queued::READY != 0);
        if let Some(tcb) = preempted {
            // It was preempted; what it has left decides where it waits.
            if slice == Slice::Ended {
                s.ready.take_out(tcb);
                s.ready.push_back(tcb);
            } else if !refill::usable(old, now, s.least_budget.get()) {
                postpone(k, tcb, old);
            }
        } else if slice == Slice::Ended {
            // It is blocked. Two threads that call each other all the time would never lose their turn otherwise.
            old.flags.set(old.flags.get() | sc_flag::TURN_OVER);
        }
    }
    s.since.set(now);
    s.current_sc.set(next);
    s.deadline_stale.set(true);
    if let Some(sc) = next
        && sc.flags.get() & sc_flag::SPORADIC == 0
    {
        refill::start(sc, now);
    }
}

/// Sets the timer.
#[inline]
fn update_deadline<A: Arch>(k: &Kernel<A>) {
    let s = &k.sched;
    if !s.deadline_stale.get() {
        return;
    }
    s.deadline_stale.set(false);
    let end = s.current_sc.get().map_or(u64::MAX, |sc| {
        s.since.get().saturating_add(refill::head_amount(sc))
    });
    let deadline = end.min(s.release.first_time());
    if deadline != s.deadline.get() {
        s.deadline.set(deadline);
        k.arch.set_deadline(deadline);
    }
}

/// Makes a thread current. Its scheduling context is the current one already.
#[inline(always)]
pub(crate) fn switch_thread<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    k.current.set(Some(tcb));
    k.activate_vspace(tcb.slots[tcb_slot::VSPACE].cap.get());
    k.arch.switch_to(tcb);
}

/// Makes a thread current that runs on its own scheduling context, which is not the current one.
#[inline(never)]
pub(crate) fn switch_thread_and_time<A: Arch>(
    k: &Kernel<A>,
    tcb: Ref<Tcb>,
    sc: Option<Ref<SchedContext>>,
) {
    switch_sc(k, sc);
    switch_thread(k, tcb);
    update_deadline(k);
    k.sched.now_known.set(false);
}

/// [`schedule`] after an operation of `current` that seldom matters to it: when nothing has happened, nothing is decided.
#[inline(always)]
pub fn schedule_if_needed<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>) {
    let s = &k.sched;
    let t = &current.thread;
    let quiet = !s.reschedule.get()
        && !s.deadline_stale.get()
        && s.candidate.get().is_none()
        && k.current.get() == Some(current)
        && s.current_sc.get() == t.sched_context.get()
        && schedulable(current)
        && t.yield_to.get().is_none();
    if quiet {
        s.now_known.set(false);
    } else {
        schedule(k);
    }
}

/// The last step of every kernel entry: decides which thread runs and makes it current.
#[inline]
pub fn schedule<A: Arch>(k: &Kernel<A>) {
    let s = &k.sched;
    let current = k.current.get();
    let runs = current.filter(|&tcb| schedulable(tcb));
    let next = if s.reschedule.get() {
        s.reschedule.set(false);
        if let Some(current) = runs {
            s.ready.push_front(current);
        }
        s.ready.pop_highest()
    } else {
        match (runs, s.candidate.take()) {
            (runs @ Some(_), None) => runs,
            (None, None) => s.ready.pop_highest(),
            (Some(current), Some(candidate)) => {
                let priority = candidate.thread.priority.get();
                let own = current.thread.priority.get();
                if priority > own {
                    s.ready.push_front(current);
                    Some(candidate)
                } else {
                    if priority == own {
                        s.ready.push_back(candidate);
                    } else {
                        s.ready.push_front(candidate);
                    }
                    Some(current)
                }
            }
            (None, Some(candidate)) => {
                if s.ready
                    .highest()
                    .is_none_or(|highest| candidate.thread.priority.get() >= highest)
                {
                    Some(candidate)
                } else {
                    s.ready.push_front(candidate);
                    s.ready.pop_highest()
                }
            }
        }
    };
    switch_sc(k, next.and_then(|tcb| tcb.thread.sched_context.get()));
    if next != current {
        match next {
            Some(tcb) => switch_thread(k, tcb),
            None => {
                k.current.set(None);
                k.arch.switch_to_idle();
            }
        }
    }
    if let Some(tcb) = next
        && tcb.thread.yield_to.get().is_some()
    {
        sched_context::complete_yield_to(k, tcb);
    }
    update_deadline(k);
    s.now_known.set(false);
}

/// The current thread has used up its head refill.
fn end_of_budget<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, sc: Ref<SchedContext>, slice: Slice) {
    let s = &k.sched;
    if slice == Slice::Ended || refill::usable(sc, now(k), s.least_budget.get()) {
        require(k);
        s.ready.push_back(tcb);
    } else {
        postpone(k, tcb, sc);
        require(k);
    }
}

/// The timer fired: the current budget has ended, or threads have budget again.
pub fn timer<A: Arch>(k: &Kernel<A>) {
    let s = &k.sched;
    let now = now(k);
    if let Some(sc) = s.current_sc.get()
        && now.wrapping_sub(s.since.get()) >= refill::head_amount(sc)
    {
        let slice = account(k, sc, now);
        if let Some(tcb) = k.current.get()
            && tcb.thread.sched_context.get() == Some(sc)
            && schedulable(tcb)
            && (slice == Slice::Ended || sc.period.get() == 0 || !fault::raise_timeout(k, tcb))
        {
            end_of_budget(k, tcb, sc, slice);
        }
    }
    for _ in 0..RELEASES {
        let Some(tcb) = s.release.first() else { break };
        if tcb.thread.release_time.get() > now {
            break;
        }
        s.release.remove(tcb);
        possible_switch_to(k, tcb);
    }
    // Whatever happened, the timer has to be set again: this deadline is over, and no new one is zero.
    s.deadline.set(0);
    s.deadline_stale.set(true);
}

/// The current thread gives up the rest of its head refill (`seL4_Yield`).
pub fn yield_current<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    let s = &k.sched;
    let Some(sc) = tcb.thread.sched_context.get() else {
        return;
    };
    let now = now(k);
    if s.current_sc.get() == Some(sc) {
        let used = now.wrapping_sub(s.since.get());
        s.since.set(now);
        sc.consumed.set(sc.consumed.get().wrapping_add(used));
        s.deadline_stale.set(true);
        let slice = refill::charge(sc, used.max(refill::head_amount(sc)), s.least_budget.get());
        end_of_budget(k, tcb, sc, slice);
    }
}

/// Makes the first thread current. Once, at boot, instead of [`schedule`].
pub fn start<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    tcb.thread.state.set(ThreadState::Running);
    possible_switch_to(k, tcb);
    schedule(k);
}
