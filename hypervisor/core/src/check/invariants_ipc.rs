//! The invariants of threads, queues, budgets and call stacks, as one function; [`crate::check::invariants`] has those of memory and
//! capabilities. For tests and fuzzers: it walks everything.

use crate::arch::Arch;
use crate::cap::CapView;
use crate::object::mem::Ref;
use crate::object::{
    Endpoint, Notification, Reply, SchedContext, Slot, Tcb, ThreadState, WaitQueue, queued,
};
use crate::run::refill;
use crate::run::scheduler;
use crate::state::kernel::Kernel;
use std::collections::BTreeSet;
use std::format;
use std::string::String;
use std::vec::Vec;

/// No list in a test is longer.
const MOST: usize = 100_000;

/// The objects that live capabilities stand for.
#[derive(Default)]
struct Objects {
    tcbs: Vec<Ref<Tcb>>,
    endpoints: Vec<Ref<Endpoint>>,
    notifications: Vec<Ref<Notification>>,
    replies: Vec<Ref<Reply>>,
    contexts: Vec<(Ref<SchedContext>, u32)>,
}

fn objects(slots: &[Ref<Slot>]) -> Objects {
    let mut found = Objects::default();
    let mut seen = BTreeSet::new();
    for slot in slots {
        match slot.cap.get().view() {
            CapView::Thread(tcb) if seen.insert(tcb.addr()) => found.tcbs.push(tcb),
            CapView::Endpoint { object, .. } if seen.insert(object.addr()) => {
                found.endpoints.push(object);
            }
            CapView::Notification { object, .. } if seen.insert(object.addr()) => {
                found.notifications.push(object);
            }
            CapView::Reply { object, .. } if seen.insert(object.addr()) => {
                found.replies.push(object);
            }
            CapView::SchedContext { object, bits } if seen.insert(object.addr()) => {
                found.contexts.push((object, bits));
            }
            _ => {}
        }
    }
    found
}

/// Checks everything between two kernel entries. `slots` are all slots of the derivation list.
///
/// # Errors
/// The first invariant that does not hold, and where.
pub fn check<A: Arch>(k: &Kernel<A>, slots: &[Ref<Slot>]) -> Result<(), String> {
    let found = objects(slots);
    for ep in &found.endpoints {
        let waiters = wait_queue(&ep.queue)?;
        for tcb in &waiters {
            let t = &tcb.thread;
            if t.endpoint.get() != Some(*ep) {
                return Err(format!("{tcb:?} waits at {ep:?} without knowing"));
            }
            let state = t.state.get();
            if !matches!(
                state,
                ThreadState::BlockedOnSend | ThreadState::BlockedOnReceive
            ) || waiters
                .first()
                .is_some_and(|first| first.thread.state.get() != state)
            {
                return Err(format!("{tcb:?} in state {state:?} waits at {ep:?}"));
            }
        }
    }
    for object in &found.notifications {
        notification(*object)?;
    }
    for reply in &found.replies {
        replies(*reply)?;
    }
    for (sc, bits) in &found.contexts {
        context(*sc, *bits)?;
    }
    let ready_threads = k.sched.ready.threads();
    for tcb in &found.tcbs {
        thread(k, *tcb, &ready_threads)?;
    }
    ready(k, &ready_threads)?;
    heap(k.sched.release.first())
}

/// Links, order and groups of a wait queue; its threads.
///
/// # Errors
/// What is wrong.
pub fn wait_queue(queue: &WaitQueue) -> Result<Vec<Ref<Tcb>>, String> {
    let mut all = Vec::new();
    let mut next = queue.head.get();
    let mut before = None;
    let mut leader: Option<Ref<Tcb>> = None;
    while let Some(tcb) = next {
        let t = &tcb.thread;
        if t.wait_prev.get() != before {
            return Err(format!("{tcb:?} does not point back to {before:?}"));
        }
        let same = before.is_some_and(|b: Ref<Tcb>| b.thread.priority.get() == t.priority.get());
        if !same {
            if before.is_some_and(|b| b.thread.priority.get() < t.priority.get()) {
                return Err(format!("{tcb:?} waits behind a lower priority"));
            }
            if t.wait_higher.get() != leader {
                return Err(format!("{tcb:?} does not know the priority above"));
            }
            if let Some(leader) = leader
                && leader.thread.wait_lower.get() != Some(tcb)
            {
                return Err(format!("{leader:?} does not know the priority below"));
            }
            leader = Some(tcb);
        }
        let after = t.wait_next.get();
        let last = after.is_none_or(|a| a.thread.priority.get() != t.priority.get());
        if last
            && (t.wait_first.get() != leader
                || leader.and_then(|l| l.thread.wait_last.get()) != Some(tcb))
        {
            return Err(format!("{tcb:?} ends a group that does not know"));
        }
        all.push(tcb);
        if all.len() > MOST {
            return Err("a wait queue has a cycle".into());
        }
        before = Some(tcb);
        next = after;
    }
    if queue.tail.get() != before {
        return Err(format!("a wait queue's tail is not {before:?}"));
    }
    if leader.is_some_and(|l| l.thread.wait_lower.get().is_some()) {
        return Err("the lowest priority of a wait queue has one below".into());
    }
    Ok(all)
}

fn notification(object: Ref<Notification>) -> Result<(), String> {
    let waiters = wait_queue(&object.queue)?;
    if object.active.get() != 0 && !waiters.is_empty() {
        return Err(format!("{object:?} is signalled and waited for"));
    }
    for tcb in waiters {
        if tcb.thread.waits_for.get() != Some(object)
            || tcb.thread.state.get() != ThreadState::BlockedOnNotification
        {
            return Err(format!("{tcb:?} waits at {object:?} without knowing"));
        }
    }
    if let Some(tcb) = object.bound_tcb.get()
        && tcb.thread.notification.get() != Some(object)
    {
        return Err(format!(
            "{object:?} is bound to {tcb:?}, which does not know"
        ));
    }
    if let Some(sc) = object.sched_context.get()
        && sc.notification.get() != Some(object)
    {
        return Err(format!("{object:?} has {sc:?}, which does not know"));
    }
    Ok(())
}

fn replies(reply: Ref<Reply>) -> Result<(), String> {
    let Some(tcb) = reply.tcb.get() else {
        if reply.caller_side.get().is_some()
            || reply.callee_side.get().is_some()
            || reply.sched_context.get().is_some()
        {
            return Err(format!("{reply:?} is free but in a call stack"));
        }
        return Ok(());
    };
    if tcb.thread.reply.get() != Some(reply) {
        return Err(format!("{reply:?} has {tcb:?}, which does not know"));
    }
    if let Some(sc) = reply.sched_context.get()
        && (sc.reply.get() != Some(reply) || reply.callee_side.get().is_some())
    {
        return Err(format!("{reply:?} is not the top of {sc:?}'s stack"));
    }
    if let Some(newer) = reply.callee_side.get()
        && newer.caller_side.get() != Some(reply)
    {
        return Err(format!("{newer:?} does not lead to {reply:?}"));
    }
    if let Some(older) = reply.caller_side.get()
        && older.callee_side.get() != Some(reply)
    {
        return Err(format!("{older:?} does not lead back to {reply:?}"));
    }
    match tcb.thread.state.get() {
        ThreadState::BlockedOnReply => Ok(()),
        ThreadState::BlockedOnReceive
            if reply.callee_side.get().is_none()
                && reply.caller_side.get().is_none()
                && reply.sched_context.get().is_none() =>
        {
            Ok(())
        }
        state => Err(format!("{reply:?} has {tcb:?} in state {state:?}")),
    }
}

fn context(sc: Ref<SchedContext>, bits: u32) -> Result<(), String> {
    if let Some(tcb) = sc.tcb.get()
        && tcb.thread.sched_context.get() != Some(sc)
    {
        return Err(format!("{sc:?} has {tcb:?}, which does not know"));
    }
    if let Some(object) = sc.notification.get()
        && object.sched_context.get() != Some(sc)
    {
        return Err(format!("{sc:?} has {object:?}, which does not know"));
    }
    if let Some(tcb) = sc.yield_from.get()
        && tcb.thread.yield_to.get() != Some(sc)
    {
        return Err(format!(
            "{sc:?} is yielded to by {tcb:?}, which does not know"
        ));
    }
    if let Some(top) = sc.reply.get()
        && top.sched_context.get() != Some(sc)
    {
        return Err(format!("{sc:?} does not know the top of its stack"));
    }
    if !refill::configured(sc) {
        return Ok(());
    }
    let (count, max) = (sc.refill_count.get(), sc.refill_max.get());
    if count == 0
        || count > max
        || sc.refill_head.get() >= max
        || u64::from(max) > crate::run::sched_context::capacity(bits)
    {
        return Err(format!("{sc:?}: {count} of {max} refills"));
    }
    let period = sc.period.get();
    let total = refill::total(sc);
    if period != 0 && total != sc.budget.get() {
        return Err(format!(
            "{sc:?}: refills of {total} ticks, budget {}",
            sc.budget.get()
        ));
    }
    if period == 0 && total > sc.budget.get() {
        return Err(format!("{sc:?}: more than its time slice"));
    }
    let mut end = 0;
    for (time, amount) in refill::all(sc) {
        if time < end {
            return Err(format!("{sc:?}: refills overlap at {time}"));
        }
        end = time + amount;
    }
    Ok(())
}

fn thread<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, ready_threads: &[Ref<Tcb>]) -> Result<(), String> {
    let t = &tcb.thread;
    let state = t.state.get();
    let queues = t.queued.get();
    if let Some(sc) = t.sched_context.get()
        && sc.tcb.get() != Some(tcb)
    {
        return Err(format!("{tcb:?} runs on {sc:?}, which does not know"));
    }
    if let Some(object) = t.notification.get()
        && object.bound_tcb.get() != Some(tcb)
    {
        return Err(format!(
            "{tcb:?} is bound to {object:?}, which does not know"
        ));
    }
    if let Some(reply) = t.reply.get()
        && reply.tcb.get() != Some(tcb)
    {
        return Err(format!("{tcb:?} has {reply:?}, which does not know"));
    }
    let blocked_at = (
        t.endpoint.get().is_some(),
        t.waits_for.get().is_some(),
        state,
    );
    if !matches!(
        blocked_at,
        (
            true,
            false,
            ThreadState::BlockedOnSend | ThreadState::BlockedOnReceive
        ) | (false, true, ThreadState::BlockedOnNotification)
            | (
                false,
                false,
                ThreadState::Inactive | ThreadState::Running | ThreadState::BlockedOnReply
            )
    ) {
        return Err(format!("{tcb:?} is blocked on {blocked_at:?}"));
    }
    if state == ThreadState::BlockedOnReply && t.reply.get().is_none() {
        return Err(format!("{tcb:?} waits for an answer that nobody can give"));
    }
    if queues != 0 && state != ThreadState::Running {
        return Err(format!("{tcb:?} in state {state:?} is queued to run"));
    }
    if state == ThreadState::Running && t.sched_context.get().is_some_and(refill::configured) {
        let current = k.current.get() == Some(tcb);
        let places = [
            current,
            queues & queued::READY != 0,
            queues & queued::RELEASE != 0,
        ];
        if places.iter().filter(|&&place| place).count() != 1 {
            return Err(format!("{tcb:?} wants to run but is in {places:?}"));
        }
    }
    if queues & queued::READY != 0 && !ready_threads.contains(&tcb) {
        return Err(format!("{tcb:?} is marked ready but in no queue"));
    }
    Ok(())
}

fn ready<A: Arch>(k: &Kernel<A>, threads: &[Ref<Tcb>]) -> Result<(), String> {
    if !k.sched.ready.bitmap_is_right() {
        return Err("the bitmap of ready priorities is wrong".into());
    }
    for &tcb in threads {
        if tcb.thread.queued.get() & queued::READY == 0 || !scheduler::schedulable(tcb) {
            return Err(format!("{tcb:?} is in a ready queue but cannot run"));
        }
    }
    match (k.current.get(), k.sched.ready.highest()) {
        (None, Some(priority)) => Err(format!("idle with priority {priority} ready")),
        (Some(tcb), highest) => {
            if !scheduler::schedulable(tcb) {
                return Err(format!("the current {tcb:?} cannot run"));
            }
            if tcb.thread.sched_context.get() != k.sched.current_sc.get() {
                return Err("time is charged to another than the current thread".into());
            }
            if highest.is_some_and(|priority| priority > tcb.thread.priority.get()) {
                return Err(format!("{tcb:?} runs before priority {highest:?}"));
            }
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

/// Order, links and ranks of the release heap.
///
/// # Errors
/// What is wrong.
pub fn heap(root: Option<Ref<Tcb>>) -> Result<(), String> {
    let mut work: Vec<_> = root.map(|root| (root, None)).into_iter().collect();
    let mut seen = 0;
    while let Some((tcb, parent)) = work.pop() {
        let t = &tcb.thread;
        seen += 1;
        if seen > MOST {
            return Err("the release heap has a cycle".into());
        }
        if t.release_parent.get() != parent {
            return Err(format!(
                "{tcb:?} does not know its parent in the release heap"
            ));
        }
        if let Some(parent) = parent
            && parent.thread.release_time.get() > t.release_time.get()
        {
            return Err(format!("{tcb:?} is released before its parent"));
        }
        if t.queued.get() & queued::RELEASE == 0 {
            return Err(format!("{tcb:?} is in the release heap without knowing"));
        }
        let rank = |tcb: Option<Ref<Tcb>>| tcb.map_or(0, |t| t.thread.release_rank.get());
        let (left, right) = (t.release_left.get(), t.release_right.get());
        if rank(left) < rank(right) || t.release_rank.get() != rank(right) + 1 {
            return Err(format!("{tcb:?} has a wrong rank in the release heap"));
        }
        for child in [left, right].into_iter().flatten() {
            work.push((child, Some(tcb)));
        }
    }
    Ok(())
}
