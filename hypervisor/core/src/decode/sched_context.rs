//! Invocations of scheduling contexts and of scheduling control (seL4 manual, sections 6.1.7 to 6.1.9).

use crate::arch::Arch;
use crate::cap::CapView;
use crate::decode::invocation::{Answer, Invocation};
use crate::object::error::{Error, Outcome, Progress};
use crate::object::mem::Ref;
use crate::object::{Notification, SchedContext, Tcb, sc_flag};
use crate::run::refill::{self, MIN_REFILLS};
use crate::run::reply;
use crate::run::sched_context;
use crate::run::scheduler::{self, LEAST_BUDGET_US};
use crate::run::thread;
use crate::state::kernel::Kernel;
use sel4_sys::Invocation as Label;

/// The only invocation of a scheduling control capability: ConfigureFlags with words budget, period (µs), extra refills,
/// badge, flags, and the scheduling context.
///
/// # Errors
/// Those that the interface documents.
pub fn decode_control<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    if inv.label != Label::SchedControlConfigureFlags.word() {
        return Err(Error::IllegalOperation);
    }
    inv.need_words(5)?;
    let target = inv.extra(0)?;
    let budget_us = inv.word(k, 0);
    let period_us = inv.word(k, 1);
    let extra_refills = inv.word(k, 2);
    let badge = inv.word(k, 3);
    let flags = inv.word(k, 4);
    let bounds = Error::Range {
        min: LEAST_BUDGET_US,
        max: k.sched.longest_us(),
    };
    for us in [budget_us, period_us] {
        if us < LEAST_BUDGET_US || us > k.sched.longest_us() {
            return Err(bounds);
        }
    }
    if budget_us > period_us {
        return Err(Error::Range {
            min: LEAST_BUDGET_US,
            max: period_us,
        });
    }
    let CapView::SchedContext { object, bits } = target.cap.get().view() else {
        return Err(Error::InvalidCapability(1));
    };
    let most = sched_context::capacity(bits);
    let refills = extra_refills.saturating_add(MIN_REFILLS);
    if refills > most {
        return Err(Error::Range {
            min: 0,
            max: most.saturating_sub(MIN_REFILLS),
        });
    }
    object.badge.set(badge);
    object
        .flags
        .set(if flags & u64::from(sc_flag::SPORADIC) == 0 {
            0
        } else {
            sc_flag::SPORADIC
        });
    if let CapView::SchedControl { core } = inv.cap.view() {
        object.core.set(core);
    }
    sched_context::configure(
        k,
        object,
        k.sched.ticks(budget_us),
        k.sched.ticks(period_us),
        refills as u16,
    );
    Ok(Progress::Done)
}

/// What Bind and UnbindObject work on.
enum Target {
    Thread(Ref<Tcb>),
    Notification(Ref<Notification>),
}

fn target(inv: &Invocation) -> Result<Target, Error> {
    match inv.extra(0)?.cap.get().view() {
        CapView::Thread(tcb) => Ok(Target::Thread(tcb)),
        CapView::Notification { object, .. } => Ok(Target::Notification(object)),
        _ => Err(Error::InvalidCapability(1)),
    }
}

/// An invocation of a scheduling context.
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    let CapView::SchedContext { object: sc, .. } = inv.cap.view() else {
        return Err(Error::InvalidCapability(0));
    };
    const BIND: u64 = Label::SchedContextBind.word();
    const UNBIND: u64 = Label::SchedContextUnbind.word();
    const UNBIND_OBJECT: u64 = Label::SchedContextUnbindObject.word();
    const CONSUMED: u64 = Label::SchedContextConsumed.word();
    const YIELD_TO: u64 = Label::SchedContextYieldTo.word();
    match inv.label {
        BIND => bind(k, sc, target(inv)?)?,
        UNBIND => {
            if sc.tcb.get() == Some(inv.current) {
                return Err(Error::IllegalOperation);
            }
            if let Some(tcb) = sc.tcb.get() {
                sched_context::unbind_tcb(k, sc, tcb);
            }
            sched_context::unbind_notification(sc);
            reply::detach_stack(sc);
        }
        UNBIND_OBJECT => unbind_object(k, inv, sc, target(inv)?)?,
        CONSUMED => {
            let consumed = sched_context::take_consumed_us(k, sc);
            inv.answer(k, &[consumed]);
        }
        YIELD_TO => yield_to(k, inv, sc)?,
        _ => return Err(Error::IllegalOperation),
    }
    Ok(Progress::Done)
}

fn bind<A: Arch>(k: &Kernel<A>, sc: Ref<SchedContext>, target: Target) -> Result<(), Error> {
    match target {
        Target::Thread(tcb) => {
            if sc.tcb.get().is_some() || tcb.thread.sched_context.get().is_some() {
                return Err(Error::IllegalOperation);
            }
            if thread::blocked(tcb) && !sched_context::released(k, sc) {
                return Err(Error::IllegalOperation);
            }
            sched_context::bind_tcb(k, sc, tcb);
        }
        Target::Notification(object) => {
            if sc.notification.get().is_some() || object.sched_context.get().is_some() {
                return Err(Error::IllegalOperation);
            }
            sc.notification.set(Some(object));
            object.sched_context.set(Some(sc));
        }
    }
    Ok(())
}

fn unbind_object<A: Arch>(
    k: &Kernel<A>,
    inv: &Invocation,
    sc: Ref<SchedContext>,
    target: Target,
) -> Result<(), Error> {
    match target {
        Target::Thread(tcb) => {
            if sc.tcb.get() != Some(tcb) || tcb == inv.current {
                return Err(Error::IllegalOperation);
            }
            sched_context::unbind_tcb(k, sc, tcb);
            // Donated along a call: it goes back to the caller at the top of the stack.
            if let Some(top) = sc.reply.get()
                && let Some(caller) = top.tcb.get()
                && caller.thread.sched_context.get().is_none()
            {
                reply::take_back(k, top, sc, caller);
            }
        }
        Target::Notification(object) => {
            if sc.notification.get() != Some(object) {
                return Err(Error::IllegalOperation);
            }
            sched_context::unbind_notification(sc);
        }
    }
    Ok(())
}

/// YieldTo: the thread on `sc` comes first among its equals; the caller, when it does not outrank it, waits behind it.
fn yield_to<A: Arch>(k: &Kernel<A>, inv: &Invocation, sc: Ref<SchedContext>) -> Result<(), Error> {
    let current = inv.current;
    let Some(tcb) = sc.tcb.get() else {
        return Err(Error::IllegalOperation);
    };
    if tcb == current || tcb.thread.priority.get() > current.thread.mcp.get() {
        return Err(Error::IllegalOperation);
    }
    if scheduler::schedulable(tcb) {
        if sc.flags.get() & sc_flag::SPORADIC != 0 {
            refill::start(sc, scheduler::now(k));
        }
        if tcb.thread.priority.get() < current.thread.priority.get() {
            scheduler::put_first(k, tcb);
        } else {
            scheduler::yield_behind(k, current, tcb);
            if inv.answer == Answer::Wanted {
                // Answered when the caller runs again.
                if let Some(other) = sc.yield_from.get() {
                    sched_context::complete_yield_to(k, other);
                }
                current.thread.yield_to.set(Some(sc));
                sc.yield_from.set(Some(current));
            }
            return Ok(());
        }
    }
    let consumed = sched_context::take_consumed_us(k, sc);
    inv.answer(k, &[consumed]);
    Ok(())
}
