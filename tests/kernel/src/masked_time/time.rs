//! Worst cases of budgets: rings of refills, timeouts.

use super::crowd::{self, CROWD, configure, done, set_priority};
use super::{BOUND, cases, longest, measured};
use crate::same;
use crate::suite::{Failure, Test};
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{CapRights, Invocation, ObjectType, Syscall, init_slot, syscall};
use testbed::{Env, ThreadSpec, pmu};

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("masked_time_refills_of_a_full_ring", full_ring),
    ("masked_time_timeout_behind_400_senders", timeout),
    ("masked_time_every_other_badge_cancelled", every_other_badge),
];

/// log2 of a scheduling context's bytes, and the refills that this has room for beside the two of every one.
const CONTEXT_BITS: u64 = 12;
const EXTRA_REFILLS: u64 = 248;
/// `seL4_SchedContext_Sporadic`.
const SPORADIC: u64 = 1;
/// What the thread uses each time, and how long it then waits, so that each use comes back by itself.
const USE_US: u64 = 100;
const PERIOD_US: u64 = 100_000;
const BUDGET_US: u64 = 50_000;
/// Refills that one entry to the kernel looks at, at most, and the least that looking at one takes: a ring that is not full would be
/// done with fewer instructions.
const STEPS: u64 = 32;
const LEAST_STEP: u64 = 30;

static GO: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static USE: AtomicU64 = AtomicU64::new(0);

fn spin_us(us: u64) {
    let until = pmu::ticks() + pmu::frequency_hz() * us / 1_000_000;
    while pmu::ticks() < until {}
}

/// Uses some time whenever it is told to.
extern "C" fn uses(_: u64) -> ! {
    loop {
        syscall::wait(GO.load(Ordering::Relaxed));
        spin_us(USE.load(Ordering::Relaxed));
        syscall::signal(DONE.load(Ordering::Relaxed));
    }
}

/// Has the thread use its time, and waits until it has.
fn use_us(us: u64) {
    USE.store(us, Ordering::Relaxed);
    syscall::signal(GO.load(Ordering::Relaxed));
    syscall::wait(DONE.load(Ordering::Relaxed));
}

/// A sporadic budget is used in so many small parts that the ring is full; all of them come back, to a thread that wakes up, and
/// to one that goes on.
fn full_ring(env: &mut Env) -> Result<(), Failure> {
    GO.store(env.object(ObjectType::Notification, 0), Ordering::Relaxed);
    DONE.store(env.object(ObjectType::Notification, 0), Ordering::Relaxed);
    let context = env.object(ObjectType::SchedContext, CONTEXT_BITS);
    let words = [BUDGET_US, PERIOD_US, EXTRA_REFILLS, 0, SPORADIC];
    let control = env.boot_info().schedcontrol.start;
    let label = Invocation::SchedControlConfigureFlags;
    done(env.invoke(control, label, &words, &[context]).label);
    let passive = ThreadSpec {
        budget_us: None,
        ..ThreadSpec::default()
    };
    let tcb = env.thread(passive, uses, 0);
    let parameters = [200, 200];
    let caps = [init_slot::TCB, context, 0];
    let label = Invocation::TcbSetSchedParams;
    done(env.invoke(tcb, label, &parameters, &caps).label);
    env.resume(tcb);
    // Below the other one, which so waits again before it is woken again: time is lost to a sporadic budget in between.
    set_priority(env, init_slot::TCB, 150);
    let part = || {
        use_us(USE_US);
        spin_us(USE_US);
    };
    measured(env, "refills_of_a_ring_of_250_filled", BOUND, |_| {
        (0..EXTRA_REFILLS + 4).for_each(|_| part());
        Ok(())
    })?;
    spin_us(PERIOD_US);
    measured(env, "refills_of_a_ring_of_250_due", BOUND, |_| {
        part();
        Ok(())
    })?;
    let due = longest().instructions;
    // As often until none is left that is due.
    (0..EXTRA_REFILLS / STEPS + 1).for_each(|_| part());
    measured(env, "refills_of_which_none_is_due", BOUND, |_| {
        part();
        Ok(())
    })?;
    let none = longest().instructions;
    same!(u64::from(due > none + STEPS * LEAST_STEP), 1);
    measured(env, "refills_of_a_ring_of_250_used", BOUND, |_| {
        use_us(BUDGET_US * 3 / 2);
        Ok(())
    })?;
    set_priority(env, init_slot::TCB, 255);
    same!(env.delete(tcb).label, 0);
    Ok(())
}

extern "C" fn spins(_: u64) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// A budget ends while its thread's timeout handler's endpoint has senders of nearly every priority, all but a few of them before
/// the thread's own.
fn timeout(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let crowd = crowd::make(env, Syscall::Send, |_| endpoint);
    crowd.start(env);
    let handler = env.mint(endpoint, CapRights::ALL, 1);
    let low = ThreadSpec {
        priority: 3,
        ..ThreadSpec::default()
    };
    let tcb = env.thread(low, spins, 0);
    let context = env.object(ObjectType::SchedContext, 8);
    configure(env, context, 1_000, 1_000_000);
    let label = Invocation::TcbSetSchedParams;
    let caps = [init_slot::TCB, 0, 0];
    done(env.invoke(tcb, label, &[3, 3], &caps).label);
    let caps = [init_slot::TCB, context, 0];
    done(env.invoke(tcb, label, &[3, 3], &caps).label);
    let label = Invocation::TcbSetTimeoutEndpoint;
    done(env.invoke(tcb, label, &[], &[handler]).label);
    measured(env, "timeout_fault_behind_400_senders", BOUND, |env| {
        env.resume(tcb);
        // It runs until its budget ends.
        set_priority(env, init_slot::TCB, 1);
        set_priority(env, init_slot::TCB, 255);
        Ok(())
    })?;
    // It waits among the senders: behind those of every higher priority.
    let reply = env.object(ObjectType::Reply, 0);
    let mut faults = 0;
    let mut before = 0;
    while faults == 0 && before < CROWD {
        let message = syscall::recv(endpoint, reply);
        if message.badge == 1 {
            faults += 1;
        } else {
            before += 1;
        }
    }
    same!(faults, 1);
    same!(u64::from(before > CROWD - 10), 1);
    same!(env.delete(tcb).label, 0);
    same!(env.revoke(crowd.untyped).label, 0);
    Ok(())
}

/// Half of the senders stay, each between two that go.
fn every_other_badge(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let badges = [1, 2].map(|badge| env.mint(endpoint, CapRights::ALL, badge));
    let choose = |n| badges[(n & 1) as usize];
    cases::cancelled(env, "badged_sends_every_other_of_400", badges[0], choose)
}
