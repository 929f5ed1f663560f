//! Budgets: the ring of refills in a scheduling context (seL4 manual, section 6.1.7, "sporadic servers").
//!
//! A refill says: so many ticks may be used from that moment on. The head is what its thread uses now; what was used comes back
//! one period after it could first be used.
//!
//! # Invariants (of a configured context)
//! - `1 <= refill_count <= refill_max`, `refill_head < refill_max`.
//! - The amounts add up to the configured budget.
//! - Apart from the head and the tail, every refill is at least the kernel's least budget: a new refill joins a tail that is smaller
//!   (later, never earlier), so that making the head usable takes at most two steps.
//! - Round robin (`period == 0`) uses one refill, whose time has always come.

use crate::object::mem::Ref;
use crate::object::{Refill, SchedContext};

/// Refills of every scheduling context, apart from the extra ones (manual, 6.1.7).
pub const MIN_REFILLS: u64 = 2;

/// Refills that one charge or one unblocking looks at, at most. A charge covers at most a timer deadline and the kernel's own time,
/// far below this many least budgets; what is beyond stays as it is, which is never to the thread's advantage by more than that.
const STEPS: usize = 32;

/// Whether a round-robin thread still has some of its time slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// Time is left in the head refill, or the budget is a sporadic one.
    Goes,
    /// The slice of a round-robin thread is used up, and a new one given: others of its priority come first.
    Ended,
}

/// Whether time can be used at all: the context has been configured.
#[inline]
#[must_use]
pub fn configured(sc: Ref<SchedContext>) -> bool {
    sc.refill_max.get() != 0
}

/// The refill in use.
#[inline]
fn head(sc: Ref<SchedContext>) -> Option<Ref<Refill>> {
    SchedContext::refill(sc, sc.refill_head.get())
}

/// Refill `n` behind the head.
#[inline]
fn behind(sc: Ref<SchedContext>, n: u16) -> Option<Ref<Refill>> {
    let max = sc.refill_max.get();
    let index = sc.refill_head.get().wrapping_add(n);
    SchedContext::refill(
        sc,
        if index >= max {
            index.wrapping_sub(max)
        } else {
            index
        },
    )
}

#[inline]
fn tail(sc: Ref<SchedContext>) -> Option<Ref<Refill>> {
    behind(sc, sc.refill_count.get().wrapping_sub(1))
}

/// Ticks in the head refill; zero for a context that was never configured.
#[inline]
#[must_use]
pub fn head_amount(sc: Ref<SchedContext>) -> u64 {
    head(sc).map_or(0, |r| r.amount.get())
}

/// When the head refill can be used; never for a context that was never configured.
#[inline]
#[must_use]
pub fn head_time(sc: Ref<SchedContext>) -> u64 {
    head(sc).map_or(u64::MAX, |r| r.time.get())
}

/// Whether a thread can run on it now: the head refill's time has come, and it is worth a switch.
#[inline]
#[must_use]
pub fn usable(sc: Ref<SchedContext>, now: u64, least: u64) -> bool {
    if sc.period.get() == 0 {
        // Round robin: a new slice follows the old one.
        return configured(sc);
    }
    head(sc).is_some_and(|r| r.time.get() <= now && r.amount.get() >= least)
}

/// Takes the head off; its amount. Only with at least two refills.
#[inline]
fn pop(sc: Ref<SchedContext>) -> u64 {
    let (amount, end) = head(sc).map_or((0, 0), |r| {
        let amount = r.amount.get();
        (amount, r.time.get().wrapping_add(amount))
    });
    let next = sc.refill_head.get().wrapping_add(1);
    sc.refill_head
        .set(if next >= sc.refill_max.get() { 0 } else { next });
    sc.refill_count.set(sc.refill_count.get().wrapping_sub(1));
    // Two refills in use do not overlap.
    if let Some(new) = head(sc)
        && new.time.get() < end
    {
        new.time.set(end);
    }
    amount
}

/// Schedules time that comes back at `time`, not before anything else in the ring.
fn push(sc: Ref<SchedContext>, time: u64, amount: u64, least: u64) {
    let count = sc.refill_count.get();
    if count != 0
        && let Some(tail) = tail(sc)
    {
        let tail_amount = tail.amount.get();
        let contiguous = tail.time.get().wrapping_add(tail_amount) >= time;
        let small = count > 1 && tail_amount < least;
        if contiguous || small || count >= sc.refill_max.get() {
            if !contiguous {
                tail.time.set(time.wrapping_sub(tail_amount));
            }
            tail.amount.set(tail_amount.wrapping_add(amount));
            return;
        }
    }
    sc.refill_count.set(count.wrapping_add(1));
    if let Some(new) = tail(sc) {
        new.time.set(time);
        new.amount.set(amount);
    }
}

/// Fills a context anew: the whole budget from `now` on. `max` is what the object has room for; zero `period` is round robin.
pub fn fill(sc: Ref<SchedContext>, max: u16, budget: u64, period: u64, now: u64) {
    sc.period.set(period);
    sc.budget.set(budget);
    sc.refill_max.set(max);
    sc.refill_head.set(0);
    sc.refill_count.set(1);
    if let Some(head) = head(sc) {
        head.time.set(now);
        head.amount.set(budget);
    }
}

/// Changes a context that a thread is using: what is left of the head refill stays usable up to the new budget, the rest comes one
/// new period later.
pub fn change(sc: Ref<SchedContext>, max: u16, budget: u64, period: u64, now: u64, least: u64) {
    let time = head_time(sc).max(now);
    let left = head_amount(sc);
    if period == 0 {
        fill(sc, max, budget, period, now);
        return;
    }
    fill(sc, max, budget, period, time);
    if left < budget && left >= least {
        if let Some(head) = head(sc) {
            head.amount.set(left);
        }
        push(
            sc,
            time.wrapping_add(period),
            budget.wrapping_sub(left),
            least,
        );
    }
}

/// Charges `used` ticks.
#[inline]
pub fn charge(sc: Ref<SchedContext>, used: u64, least: u64) -> Slice {
    let Some(first) = head(sc) else {
        return Slice::Goes;
    };
    if sc.period.get() == 0 {
        let left = first.amount.get().saturating_sub(used);
        if left >= least {
            first.amount.set(left);
            return Slice::Goes;
        }
        first.amount.set(sc.budget.get());
        return Slice::Ended;
    }
    charge_sporadic(sc, used, least);
    Slice::Goes
}

fn charge_sporadic(sc: Ref<SchedContext>, used: u64, least: u64) {
    let period = sc.period.get();
    let mut used = used;
    // Refills used up come back whole.
    for _ in 0..STEPS {
        let Some(first) = head(sc) else { return };
        let amount = first.amount.get();
        if used < amount {
            break;
        }
        used = used.wrapping_sub(amount);
        let time = first.time.get().wrapping_add(period);
        if sc.refill_count.get() <= 1 {
            first.time.set(time);
            if used == 0 {
                break;
            }
        } else {
            pop(sc);
            push(sc, time, amount, least);
        }
        if used == 0 {
            break;
        }
    }
    // A part of one comes back, the rest stays in use.
    if let Some(first) = head(sc)
        && used != 0
        && used < first.amount.get()
    {
        let start = first.time.get();
        first.amount.set(first.amount.get().wrapping_sub(used));
        first.time.set(start.wrapping_add(used));
        push(sc, start.wrapping_add(period), used, least);
    }
    make_usable(sc, least);
}

/// A head below the least budget is no use by itself: it joins the next refill.
fn make_usable(sc: Ref<SchedContext>, least: u64) {
    for _ in 0..STEPS {
        if head_amount(sc) >= least || sc.refill_count.get() <= 1 {
            return;
        }
        let amount = pop(sc);
        if let Some(first) = head(sc) {
            first.time.set(first.time.get().wrapping_sub(amount));
            first.amount.set(first.amount.get().wrapping_add(amount));
        }
    }
}

/// The thread starts to use its budget now: time that could have been used before is lost, so that what is used comes back one
/// period after now at the earliest. Refills that could be used within this one's time become one.
#[inline]
pub fn start(sc: Ref<SchedContext>, now: u64) {
    if sc.period.get() != 0 {
        start_sporadic(sc, now);
    }
}

fn start_sporadic(sc: Ref<SchedContext>, now: u64) {
    let Some(first) = head(sc) else { return };
    if first.time.get() > now {
        return;
    }
    first.time.set(now);
    for _ in 0..STEPS {
        if sc.refill_count.get() <= 1 {
            return;
        }
        let end = now.wrapping_add(head_amount(sc));
        if behind(sc, 1).is_none_or(|next| next.time.get() > end) {
            return;
        }
        let amount = pop(sc);
        if let Some(first) = head(sc) {
            first.time.set(now);
            first.amount.set(first.amount.get().wrapping_add(amount));
        }
    }
}

/// All refills, for checks: time and amount of each, from the head on.
#[cfg(any(test, feature = "fixture"))]
pub fn all(sc: Ref<SchedContext>) -> impl Iterator<Item = (u64, u64)> {
    (0..sc.refill_count.get())
        .filter_map(move |n| behind(sc, n))
        .map(|r| (r.time.get(), r.amount.get()))
}

/// The sum of all refills, for checks.
#[cfg(any(test, feature = "fixture"))]
#[must_use]
pub fn total(sc: Ref<SchedContext>) -> u64 {
    let mut sum = 0u64;
    for n in 0..sc.refill_count.get() {
        sum = sum.wrapping_add(behind(sc, n).map_or(0, |r| r.amount.get()));
    }
    sum
}
