//! Who is whose child (seL4 manual, 3.1.4 and 3.2), and what goes with the last capability to an object.

use crate::same;
use crate::suite::{Failure, Test};
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{CNodeCapData, CapRights, Error, Invocation, ObjectType, init_slot, syscall};
use testbed::{Env, ThreadSpec};

/// The tests of this module.
pub const TESTS: &[Test] = &[
    (
        "derivation_a_copy_of_an_untyped_is_its_child",
        untyped_copies,
    ),
    (
        "derivation_objects_are_children_of_what_they_were_made_of",
        objects,
    ),
    ("derivation_copies_of_copies_are_siblings", siblings),
    ("derivation_badged_capabilities_have_children", badged),
    (
        "derivation_moved_and_mutated_capabilities_keep_their_place",
        moved,
    ),
    ("derivation_copies_live_without_the_original", orphans),
    (
        "derivation_the_last_capability_takes_the_object_along",
        last,
    ),
    ("derivation_a_thread_stops_with_its_last_capability", thread),
    ("derivation_time_ends_with_its_last_capability", time),
    (
        "derivation_an_interrupt_is_free_again_with_its_handler",
        interrupt,
    ),
];

/// 1 if nothing is in the slot.
fn is_empty(env: &mut Env, slot: u64) -> u64 {
    let probe = env.slot();
    let copied = env.copy_to(probe, slot, CapRights::ALL).label;
    // The copy could be the only child, and the last capability.
    env.delete(probe);
    u64::from(copied == Error::FailedLookup.word())
}

/// A copy, and what it answered.
fn copy(env: &mut Env, cap: u64) -> (u64, u64) {
    let slot = env.slot();
    (slot, env.copy_to(slot, cap, CapRights::ALL).label)
}

fn untyped_copies(env: &mut Env) -> Result<(), Failure> {
    let parent = env.object(ObjectType::Untyped, 12);
    let (child, _) = copy(env, parent);
    // The parent has a child now, and is not used or copied; the child is.
    same!(copy(env, parent).1, Error::RevokeFirst.word());
    let (grandchild, copied) = copy(env, child);
    same!(copied, 0);
    let object = env.slot();
    let made = env.retype(grandchild, ObjectType::Endpoint, 0, object, 1);
    same!(made.label, 0);
    same!(env.revoke(child).label, 0);
    same!(is_empty(env, grandchild) & is_empty(env, object), 1);
    same!(is_empty(env, child), 0);
    same!(env.revoke(parent).label, 0);
    same!(is_empty(env, child), 1);
    same!(is_empty(env, parent), 0);
    same!(copy(env, parent).1, 0);
    Ok(())
}

fn objects(env: &mut Env) -> Result<(), Failure> {
    let parent = env.object(ObjectType::Untyped, 14);
    let half = env.slot();
    let made = env.retype(parent, ObjectType::Untyped, 13, half, 1);
    same!(made.label, 0);
    let (near, far) = (env.slot(), env.slot());
    same!(env.retype(parent, ObjectType::Tcb, 0, near, 1).label, 0);
    same!(env.retype(half, ObjectType::Endpoint, 0, far, 1).label, 0);
    let badged = env.mint(far, CapRights::ALL, 3);
    let (copied, _) = copy(env, badged);
    same!(env.revoke(half).label, 0);
    same!(
        is_empty(env, far) & is_empty(env, badged) & is_empty(env, copied),
        1
    );
    same!(is_empty(env, half) | is_empty(env, near), 0);
    same!(env.retype(half, ObjectType::Endpoint, 0, far, 1).label, 0);
    same!(env.revoke(parent).label, 0);
    same!(
        is_empty(env, half) & is_empty(env, near) & is_empty(env, far),
        1
    );
    Ok(())
}

fn siblings(env: &mut Env) -> Result<(), Failure> {
    for kind in [
        ObjectType::Tcb,
        ObjectType::CapTable,
        ObjectType::SchedContext,
        ObjectType::Reply,
        ObjectType::SmallPage,
        ObjectType::Vcpu,
        ObjectType::Endpoint,
        ObjectType::Notification,
    ] {
        let original = env.object(kind, 8);
        let (first, _) = copy(env, original);
        let (second, _) = copy(env, first);
        let (third, _) = copy(env, second);
        same!(env.revoke(second).label, 0);
        same!(is_empty(env, first) | is_empty(env, third), 0);
        same!(env.revoke(original).label, 0);
        same!(
            is_empty(env, first) & is_empty(env, second) & is_empty(env, third),
            1
        );
        same!(is_empty(env, original), 0);
    }
    Ok(())
}

fn badged(env: &mut Env) -> Result<(), Failure> {
    for kind in [ObjectType::Endpoint, ObjectType::Notification] {
        let original = env.object(kind, 0);
        let (plain, _) = copy(env, original);
        // Of a copy as of the original; one level each.
        let one = env.mint(original, CapRights::ALL, 1);
        let two = env.mint(plain, CapRights::ALL, 2);
        let (child, _) = copy(env, one);
        let (grandchild, _) = copy(env, child);
        same!(env.revoke(child).label, 0);
        same!(is_empty(env, grandchild), 0);
        same!(env.revoke(one).label, 0);
        same!(is_empty(env, child) & is_empty(env, grandchild), 1);
        same!(
            is_empty(env, one) | is_empty(env, two) | is_empty(env, plain),
            0
        );
        same!(env.revoke(plain).label, 0);
        same!(is_empty(env, one), 0);
        same!(env.revoke(original).label, 0);
        same!(
            is_empty(env, one) & is_empty(env, two) & is_empty(env, plain),
            1
        );
    }
    Ok(())
}

fn moved(env: &mut Env) -> Result<(), Failure> {
    let original = env.object(ObjectType::Endpoint, 0);
    let badged = env.mint(original, CapRights::ALL, 1);
    let (child, _) = copy(env, badged);
    let to = env.slot();
    let root = [init_slot::CNODE];
    let label = Invocation::CNodeMove;
    let done = env.invoke(init_slot::CNODE, label, &[to, 64, badged, 64], &root);
    same!(done.label, 0);
    same!(is_empty(env, badged), 1);
    same!(is_empty(env, child), 0);
    same!(env.revoke(to).label, 0);
    same!(is_empty(env, child), 1);
    same!(env.revoke(original).label, 0);
    same!(is_empty(env, to), 1);
    // An original with another guard is the original yet.
    let node = env.object(ObjectType::CapTable, 4);
    let (child, _) = copy(env, node);
    let to = env.slot();
    let guard = CNodeCapData::new(0, 60).0;
    let label = Invocation::CNodeMutate;
    let done = env.invoke(init_slot::CNODE, label, &[to, 64, node, 64, guard], &root);
    same!(done.label, 0);
    same!(is_empty(env, node), 1);
    same!(env.revoke(to).label, 0);
    same!(is_empty(env, child), 1);
    same!(is_empty(env, to), 0);
    Ok(())
}

fn orphans(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 12);
    let original = env.slot();
    let made = env.retype(untyped, ObjectType::Notification, 0, original, 1);
    same!(made.label, 0);
    let badged = env.mint(original, CapRights::ALL, 4);
    let (plain, _) = copy(env, original);
    same!(env.delete(original).label, 0);
    syscall::signal(badged);
    same!(syscall::nb_wait(plain).badge, 4);
    // They are the untyped's children yet.
    same!(copy(env, untyped).1, Error::RevokeFirst.word());
    same!(env.revoke(untyped).label, 0);
    same!(is_empty(env, badged) & is_empty(env, plain), 1);
    Ok(())
}

fn last(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 12);
    let (node, held) = (env.slot(), env.slot());
    same!(
        env.retype(untyped, ObjectType::CapTable, 4, node, 1).label,
        0
    );
    same!(
        env.retype(untyped, ObjectType::Endpoint, 0, held, 1).label,
        0
    );
    let badged = env.mint(held, CapRights::ALL, 4);
    let words = [1, 4, held, 64];
    let label = Invocation::CNodeMove;
    let moved = env.invoke(node, label, &words, &[init_slot::CNODE]);
    same!(moved.label, 0);
    let (second, _) = copy(env, node);
    // The node's content stays as long as somebody has the node.
    same!(env.delete(node).label, 0);
    let probe = env.slot();
    let words = [probe, 64, 1, 4, 15];
    let label = Invocation::CNodeCopy;
    let found = env.invoke(init_slot::CNODE, label, &words, &[second]);
    same!(found.label, 0);
    same!(env.delete(probe).label, 0);
    same!(env.delete(second).label, 0);
    // With the original endpoint gone, its badged copy is still a capability to the endpoint, and the untyped's last child.
    same!(is_empty(env, badged), 0);
    same!(env.delete(badged).label, 0);
    same!(copy(env, untyped).1, 0);
    Ok(())
}

static COUNT: AtomicU64 = AtomicU64::new(0);

extern "C" fn counts(_: u64) -> ! {
    loop {
        COUNT.fetch_add(1, Ordering::SeqCst);
        syscall::yield_now();
    }
}

/// How far the counting thread comes while the root task gives it the processor.
fn progress(env: &Env) -> u64 {
    let before = COUNT.load(Ordering::SeqCst);
    env.set_own_priority(10);
    for _ in 0..5 {
        syscall::yield_now();
    }
    env.set_own_priority(255);
    COUNT.load(Ordering::SeqCst) - before
}

fn thread(env: &mut Env) -> Result<(), Failure> {
    let spec = ThreadSpec {
        priority: 10,
        ..ThreadSpec::default()
    };
    let tcb = env.spawn(spec, counts, 0);
    let (second, _) = copy(env, tcb);
    same!(u64::from(progress(env) > 0), 1);
    same!(env.delete(tcb).label, 0);
    same!(u64::from(progress(env) > 0), 1);
    same!(env.delete(second).label, 0);
    same!(progress(env), 0);
    Ok(())
}

fn time(env: &mut Env) -> Result<(), Failure> {
    let spec = ThreadSpec {
        priority: 10,
        budget_us: None,
        ..ThreadSpec::default()
    };
    let tcb = env.spawn(spec, counts, 0);
    let context = env.sched_context(1_000, 1_000);
    let bind = Invocation::SchedContextBind;
    same!(env.invoke(context, bind, &[], &[tcb]).label, 0);
    same!(u64::from(progress(env) > 0), 1);
    same!(env.delete(context).label, 0);
    same!(progress(env), 0);
    let context = env.sched_context(1_000, 1_000);
    same!(env.invoke(context, bind, &[], &[tcb]).label, 0);
    same!(u64::from(progress(env) > 0), 1);
    same!(env.delete(tcb).label, 0);
    Ok(())
}

fn interrupt(env: &mut Env) -> Result<(), Failure> {
    let handler = env.slot();
    let issue = |env: &Env, slot| {
        let label = Invocation::IrqIssueIrqHandler;
        let root = [init_slot::CNODE];
        env.invoke(init_slot::IRQ_CONTROL, label, &[95, slot, 64], &root)
            .label
    };
    same!(issue(env, handler), 0);
    let (second, _) = copy(env, handler);
    let other = env.slot();
    same!(env.delete(handler).label, 0);
    same!(issue(env, other), Error::RevokeFirst.word());
    same!(env.delete(second).label, 0);
    same!(issue(env, other), 0);
    // Handlers are children of the control.
    same!(env.revoke(init_slot::IRQ_CONTROL).label, 0);
    same!(is_empty(env, other), 1);
    same!(issue(env, other), 0);
    Ok(())
}
