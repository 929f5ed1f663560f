//! The worst cases.

use super::crowd::{self, CROWD, configure, done, set_priority};
use super::{BOUND, INTERRUPT, RETYPE_BOUND, longest, measured};
use crate::same;
use crate::suite::{Failure, Test};
use sel4_sys::{
    CNodeCapData, CapRights, Invocation, ObjectType, Syscall, init_slot, syscall, vm_attributes,
};
use testbed::{Env, ThreadSpec, pmu, set_receive_slot};

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("masked_time_deep_cnodes", deep_cnodes),
    ("masked_time_message_from_deep_cnodes", deep_message),
    ("masked_time_endpoint_deleted", endpoint_deleted),
    ("masked_time_badged_sends_cancelled", badge_cancelled),
    ("masked_time_notification_deleted", notification_deleted),
    ("masked_time_threads_revoked", threads_revoked),
    ("masked_time_budgets_due_at_once", budgets_due),
    ("masked_time_512_frames_revoked", frames_revoked),
    ("masked_time_vspace_deleted", vspace_deleted),
    ("masked_time_asid_pool_deleted", asid_pool_deleted),
    ("masked_time_1_gib_retyped_and_cleaned", huge_frame),
    ("masked_time_cnode_of_4096_deleted", full_cnode),
    ("masked_time_retype_256", retype_256),
];

/// The most that one Retype makes.
const FAN_OUT: u64 = 256;
/// Address bits, and so the most levels of a CSpace.
const LEVELS: u64 = 64;

/// 64 CNodes of one bit each, whose slots 0 are the next one; slot 1 of the last is free. The slot of the first.
fn chain(env: &mut Env) -> u64 {
    let untyped = env.object(ObjectType::Untyped, 12);
    let first = env.slots(LEVELS);
    done(
        env.retype(untyped, ObjectType::CapTable, 1, first, LEVELS)
            .label,
    );
    // A guard of no bits, explicitly.
    let data = CNodeCapData::new(0, 0).0;
    for index in (1..LEVELS).rev() {
        let words = [0, 1, first + index, 64, CapRights::ALL.0, data];
        let made = env.invoke(
            first + index - 1,
            Invocation::CNodeMint,
            &words,
            &[init_slot::CNODE],
        );
        done(made.label);
    }
    first
}

fn deep_cnodes(env: &mut Env) -> Result<(), Failure> {
    let first = chain(env);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let into = [1, LEVELS, endpoint, 64, CapRights::ALL.0];
    same!(
        env.invoke(first, Invocation::CNodeCopy, &into, &[init_slot::CNODE])
            .label,
        0
    );
    let last = first + LEVELS - 1;
    same!(
        env.invoke(last, Invocation::CNodeDelete, &[0, 1], &[])
            .label,
        0
    );
    measured(env, "deep_cnodes_rotate", BOUND, |env| {
        // Three addresses of 64 levels: what was at the end goes back and forth.
        for (to, from) in [(0, 1), (1, 0)] {
            let words = [to, LEVELS, 0, from, LEVELS, 0, from, LEVELS];
            let moved = [to, LEVELS, from, LEVELS];
            let refused = env.invoke(first, Invocation::CNodeRotate, &words, &[first, first]);
            same!(u64::from(refused.label != 0), 1);
            same!(
                env.invoke(first, Invocation::CNodeMove, &moved, &[first])
                    .label,
                0
            );
        }
        Ok(())
    })
}

extern "C" fn calls_with_capabilities(endpoint: u64) -> ! {
    let deep = 1;
    let words = [0; 120];
    let _ = testbed::invoke(deep, 0, &words, &[deep, deep, endpoint]);
    testbed::park()
}

fn deep_message(env: &mut Env) -> Result<(), Failure> {
    let first = chain(env);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let into = [1, LEVELS, endpoint, 64, CapRights::ALL.0];
    same!(
        env.invoke(first, Invocation::CNodeCopy, &into, &[init_slot::CNODE])
            .label,
        0
    );
    let tcb = env.thread(ThreadSpec::default(), calls_with_capabilities, 1);
    let deep_space = [0, first, init_slot::VSPACE];
    same!(
        env.invoke(tcb, Invocation::TcbSetSpace, &[0, 0], &deep_space)
            .label,
        0
    );
    let receive = env.slot();
    measured(env, "message_from_deep_cnodes", BOUND, |env| {
        set_receive_slot(init_slot::CNODE, receive, 64);
        env.resume(tcb);
        let message = syscall::recv(endpoint, reply);
        same!(message.info.length(), 120);
        same!(message.info.extra_caps(), 3);
        Ok(())
    })
}

fn endpoint_deleted(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let crowd = crowd::make(env, Syscall::Send, |_| endpoint);
    measured(env, "endpoint_queue_of_400_filled", BOUND, |env| {
        crowd.start(env);
        for n in 0..CROWD {
            set_priority(env, crowd.tcbs + n, 2 + n % 250);
        }
        Ok(())
    })?;
    measured(env, "endpoint_queue_of_400_deleted", BOUND, |env| {
        same!(env.delete(endpoint).label, 0);
        Ok(())
    })?;
    same!(env.revoke(crowd.untyped).label, 0);
    Ok(())
}

/// The sends of a crowd through a badged capability are cancelled; the crowd sends through those that `choose` gives it.
pub(super) fn cancelled(
    env: &mut Env,
    name: &'static str,
    badged: u64,
    choose: impl Fn(u64) -> u64,
) -> Result<(), Failure> {
    let crowd = crowd::make(env, Syscall::Send, choose);
    crowd.start(env);
    measured(env, name, BOUND, |env| {
        let words = [badged, 64];
        let label = Invocation::CNodeCancelBadgedSends;
        same!(env.invoke(init_slot::CNODE, label, &words, &[]).label, 0);
        Ok(())
    })?;
    same!(env.revoke(crowd.untyped).label, 0);
    Ok(())
}

fn badge_cancelled(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let badged = env.mint(endpoint, CapRights::ALL, 1);
    cancelled(env, "badged_sends_of_400_cancelled", badged, |_| badged)
}

fn notification_deleted(env: &mut Env) -> Result<(), Failure> {
    let notification = env.object(ObjectType::Notification, 0);
    let crowd = crowd::make(env, Syscall::Wait, |_| notification);
    crowd.start(env);
    measured(env, "all_400_waiters_woken", BOUND, |env| {
        same!(env.delete(notification).label, 0);
        Ok(())
    })?;
    same!(env.revoke(crowd.untyped).label, 0);
    Ok(())
}

fn threads_revoked(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let crowd = crowd::make(env, Syscall::Send, |_| endpoint);
    crowd.start(env);
    measured(env, "waiting_threads_400_revoked", BOUND, |env| {
        same!(env.revoke(crowd.untyped).label, 0);
        Ok(())
    })
}

/// Threads yield the rest of their budgets one after the other, with periods that end in the same microsecond.
fn budgets_due(env: &mut Env) -> Result<(), Failure> {
    let crowd = crowd::make(env, Syscall::Yield, |_| 0);
    let hz = pmu::frequency_hz();
    let due = pmu::ticks() + hz * 2 / 5;
    set_priority(env, init_slot::TCB, 1);
    for n in 0..CROWD {
        let left_us = due.saturating_sub(pmu::ticks()) * 1_000_000 / hz;
        configure(env, crowd.contexts + n, 1_000, left_us);
        env.resume(crowd.tcbs + n);
    }
    set_priority(env, init_slot::TCB, 255);
    while pmu::ticks() + hz / 10_000 < due {}
    measured(env, "budgets_of_400_due_at_once", BOUND, |_| {
        while pmu::ticks() < due + hz / 1_000 {}
        Ok(())
    })?;
    // The timer's; a case in which few are due would not be.
    same!(longest().entry, INTERRUPT);
    same!(u64::from(longest().instructions > 32 * 100), 1);
    same!(env.revoke(crowd.untyped).label, 0);
    Ok(())
}

/// 512 frames, mapped in `vspace` at `vaddr`, where a table of level 3 is. Their untyped.
fn mapped_frames(env: &mut Env, vspace: u64, vaddr: u64) -> u64 {
    let untyped = env.object(ObjectType::Untyped, 21);
    let first = env.slots(2 * FAN_OUT);
    for half in [0, FAN_OUT] {
        done(
            env.retype(untyped, ObjectType::SmallPage, 0, first + half, FAN_OUT)
                .label,
        );
    }
    for n in 0..2 * FAN_OUT {
        let attributes = vm_attributes::DEFAULT;
        let at = vaddr + n * 4096;
        done(
            env.map(first + n, vspace, at, CapRights::READ_WRITE, attributes)
                .label,
        );
    }
    untyped
}

/// An address space with one table of level 3, at 0.
fn address_space(env: &mut Env) -> u64 {
    let vspace = env.object(ObjectType::VSpace, 0);
    let assign = Invocation::ArmAsidPoolAssign;
    done(
        env.invoke(init_slot::ASID_POOL, assign, &[], &[vspace])
            .label,
    );
    for _ in 0..2 {
        let table = env.object(ObjectType::PageTable, 0);
        let words = [0, vm_attributes::DEFAULT];
        done(
            env.invoke(table, Invocation::ArmPageTableMap, &words, &[vspace])
                .label,
        );
    }
    vspace
}

fn frames_revoked(env: &mut Env) -> Result<(), Failure> {
    let vspace = address_space(env);
    let frames = mapped_frames(env, vspace, 0);
    measured(env, "frames_512_revoked", BOUND, |env| {
        same!(env.revoke(frames).label, 0);
        Ok(())
    })
}

fn vspace_deleted(env: &mut Env) -> Result<(), Failure> {
    let vspace = address_space(env);
    mapped_frames(env, vspace, 0);
    measured(env, "vspace_with_512_frames_deleted", BOUND, |env| {
        same!(env.delete(vspace).label, 0);
        Ok(())
    })
}

/// An ASID pool dies with the address spaces in it.
fn asid_pool_deleted(env: &mut Env) -> Result<(), Failure> {
    let page = env.object(ObjectType::Untyped, 12);
    let pool = env.slot();
    let make = Invocation::ArmAsidControlMakePool;
    let caps = [page, init_slot::CNODE];
    same!(
        env.invoke(init_slot::ASID_CONTROL, make, &[pool, 64], &caps)
            .label,
        0
    );
    let untyped = env.object(ObjectType::Untyped, 21);
    let first = env.slots(FAN_OUT);
    done(
        env.retype(untyped, ObjectType::VSpace, 0, first, FAN_OUT)
            .label,
    );
    measured(env, "asid_pool_of_256_filled", BOUND, |env| {
        let assign = Invocation::ArmAsidPoolAssign;
        for vspace in first..first + FAN_OUT {
            same!(env.invoke(pool, assign, &[], &[vspace]).label, 0);
        }
        Ok(())
    })?;
    measured(env, "asid_pool_of_256_deleted", BOUND, |env| {
        same!(env.revoke(page).label, 0);
        Ok(())
    })?;
    measured(env, "vspaces_256_revoked", BOUND, |env| {
        same!(env.revoke(untyped).label, 0);
        Ok(())
    })
}

fn huge_frame(env: &mut Env) -> Result<(), Failure> {
    const BYTES: u64 = 1 << 30;
    let list = &env.boot_info().untyped_list;
    let found = list
        .iter()
        .take(env.boot_info().untyped.len() as usize)
        .position(|untyped| untyped.is_device == 0 && untyped.size_bits == 30);
    let Some(index) = found else {
        same!(0, 1);
        return Ok(());
    };
    let untyped = env.boot_info().untyped.start + index as u64;
    let frame = env.slot();
    let make = |env: &mut Env| -> Result<(), Failure> {
        same!(
            env.retype(untyped, ObjectType::HugePage, 0, frame, 1).label,
            0
        );
        Ok(())
    };
    make(env)?;
    same!(env.revoke(untyped).label, 0);
    // Now it has to be zeroed and cleaned.
    measured(env, "retype_1_gib", BOUND, make)?;
    // A gibibyte of its own, for which the root is the table. Unmapped frames are not maintained.
    let vaddr = 0x30_0000_0000;
    let attributes = vm_attributes::DEFAULT | vm_attributes::EXECUTE_NEVER;
    let rights = CapRights::READ_WRITE;
    same!(
        env.map(frame, init_slot::VSPACE, vaddr, rights, attributes)
            .label,
        0
    );
    for (name, label) in [
        ("clean_1_gib", Invocation::ArmPageCleanData),
        ("invalidate_1_gib", Invocation::ArmPageInvalidateData),
        (
            "clean_invalidate_1_gib",
            Invocation::ArmPageCleanInvalidateData,
        ),
        ("unify_1_gib", Invocation::ArmPageUnifyInstruction),
    ] {
        measured(env, name, BOUND, |env| {
            same!(env.invoke(frame, label, &[0, BYTES], &[]).label, 0);
            Ok(())
        })?;
    }
    Ok(())
}

fn full_cnode(env: &mut Env) -> Result<(), Failure> {
    const BITS: u64 = 12;
    let cnode = env.object(ObjectType::CapTable, BITS);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    for index in 0..1 << BITS {
        let words = [index, BITS, endpoint, 64, CapRights::ALL.0];
        let copied = env.invoke(cnode, Invocation::CNodeCopy, &words, &[init_slot::CNODE]);
        same!(copied.label, 0);
    }
    measured(env, "cnode_of_4096_deleted", BOUND, |env| {
        same!(env.delete(cnode).label, 0);
        Ok(())
    })
}

/// Fresh objects, and objects in memory that has to be zeroed first.
fn retype_256(env: &mut Env) -> Result<(), Failure> {
    let slots = env.slots(FAN_OUT);
    for (name, kind, bits) in [
        ("retype_256_frames", ObjectType::SmallPage, 0),
        ("retype_256_tcbs", ObjectType::Tcb, 0),
        ("retype_256_vcpus", ObjectType::Vcpu, 0),
        ("retype_256_cnodes", ObjectType::CapTable, 1),
        ("retype_256_contexts", ObjectType::SchedContext, 8),
        ("retype_256_untypeds", ObjectType::Untyped, 12),
        ("retype_256_vspaces", ObjectType::VSpace, 0),
    ] {
        let untyped = env.object(ObjectType::Untyped, 21);
        measured(env, name, RETYPE_BOUND, |env| {
            for _ in 0..2 {
                same!(env.retype(untyped, kind, bits, slots, FAN_OUT).label, 0);
                same!(env.revoke(untyped).label, 0);
            }
            Ok(())
        })?;
    }
    Ok(())
}
