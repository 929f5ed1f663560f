//! Errors that the manual's description of each invocation names and that need more than an argument that does not fit: rights that are
//! missing, capabilities that cannot be derived, objects that are bound or mapped already.

use super::*;
use crate::same;
use crate::suite::Test;
use sel4_sys::{CNodeCapData, CapRights, ObjectType};

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("answers_to_labels_of_other_objects", other_labels),
    ("answers_about_device_memory", devices),
    ("answers_about_what_cannot_be_derived", underivable),
    ("answers_about_guards", guards),
    ("answers_about_rights", rights),
    ("answers_about_what_is_bound", bound),
    ("answers_about_blocked_threads_without_time", blocked),
    ("answers_about_authority_over_time", authority),
];

/// On QEMU's virt machine the platform bus: room for devices, and none there.
const NO_DEVICE: u64 = 0x0c00_0000;

/// Which labels are whose, in the order of the interface.
const OWNERS: [(ObjectType, u64, u64); 8] = [
    (ObjectType::Untyped, 1, 1),
    (ObjectType::Tcb, 2, 17),
    (ObjectType::CapTable, 18, 25),
    (ObjectType::SchedContext, 34, 38),
    (ObjectType::VSpace, 39, 42),
    (ObjectType::PageTable, 44, 45),
    (ObjectType::SmallPage, 46, 52),
    (ObjectType::Vcpu, 55, 59),
];
/// The same for what the root task is given: interrupts, domains, time, identifiers of address spaces.
const GIVEN: [(u64, &[u64]); 4] = [
    (init_slot::IRQ_CONTROL, &[26, 60, 61]),
    (init_slot::DOMAIN, &[30, 31, 32]),
    (init_slot::ASID_CONTROL, &[53]),
    (init_slot::ASID_POOL, &[54]),
];

fn other_labels(env: &mut Env) -> Result<(), Failure> {
    let handler = env.slot();
    let root = [init_slot::CNODE];
    let issue = Invocation::IrqIssueIrqHandler;
    let made = env.invoke(init_slot::IRQ_CONTROL, issue, &[93, handler, 64], &root);
    same!(made.label, OK);
    let node = env.object(ObjectType::CapTable, 4);
    // Where there is nothing, that is the error.
    let empty = env.slot();
    let nothing = testbed::invoke(empty, 1, &[0; 8], &[]);
    same!(nothing.label, CAPABILITY);
    same!(nothing.words[0], 0);
    let refused = |object: u64, own: &dyn Fn(u64) -> bool| {
        for label in (0..64).filter(|label| !own(*label)) {
            for words in 0..9 {
                let answer = testbed::invoke(object, label, &[0; 8][..words], &[node, node]);
                if answer.label != ILLEGAL {
                    println!("  object {object:#x}, label {label}: {}", answer.label);
                }
                same!(answer.label, ILLEGAL);
            }
        }
        Ok(())
    };
    for (kind, first, last) in OWNERS {
        let object = env.object(kind, 12);
        refused(object, &|label| (first..=last).contains(&label))?;
    }
    for (object, own) in GIVEN {
        refused(object, &|label| own.contains(&label))?;
    }
    refused(handler, &|label| (27..30).contains(&label))?;
    refused(env.boot_info().schedcontrol.start, &|label| label == 33)
}

fn devices(env: &mut Env) -> Result<(), Failure> {
    let Some(device) = env.device(NO_DEVICE) else {
        same!(0, 1);
        return Ok(());
    };
    let node = env.object(ObjectType::CapTable, 4);
    let (retype, nodes) = (Invocation::UntypedRetype, &[node][..]);
    let (pool, frame) = (env.slot(), env.slot());
    for kind in [
        ObjectType::Tcb,
        ObjectType::Endpoint,
        ObjectType::Notification,
        ObjectType::CapTable,
        ObjectType::SchedContext,
        ObjectType::Reply,
        ObjectType::PageTable,
        ObjectType::Vcpu,
    ] {
        let words = [kind.word(), 7, 0, 0, 0, 1];
        check(env, device, &[(retype, &words, nodes, ARGUMENT, &[1])])?;
    }
    // What is too large for it as well is told so.
    let large = [ObjectType::VSpace.word(), 0, 0, 0, 0, 1];
    check(env, device, &[(retype, &large, nodes, MEMORY, &[4096])])?;
    let make = Invocation::ArmAsidControlMakePool;
    let caps = [device, init_slot::CNODE];
    check(
        env,
        init_slot::ASID_CONTROL,
        &[(make, &[pool, 64], &caps, CAPABILITY, &[1])],
    )?;
    same!(
        env.retype(device, ObjectType::SmallPage, 0, frame, 1).label,
        OK
    );
    let object = env.object(ObjectType::Tcb, 0);
    let configure = Invocation::TcbConfigure;
    let buffer = Invocation::TcbSetIpcBuffer;
    check(
        env,
        object,
        &[
            (
                configure,
                &[0, 0, 0x1000],
                &[node, SPACE, frame],
                ILLEGAL,
                &[],
            ),
            (buffer, &[0x1000], &[frame], ILLEGAL, &[]),
        ],
    )
}

fn underivable(env: &mut Env) -> Result<(), Failure> {
    let parent = env.object(ObjectType::Untyped, 12);
    let child = env.slot();
    same!(
        env.retype(parent, ObjectType::Endpoint, 0, child, 1).label,
        OK
    );
    let table = env.object(ObjectType::PageTable, 0);
    let unassigned = env.object(ObjectType::VSpace, 0);
    let node = env.object(ObjectType::CapTable, 4);
    let page = env.object(ObjectType::SmallPage, 0);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let root = &[init_slot::CNODE][..];
    let (copy, mint) = (Invocation::CNodeCopy, Invocation::CNodeMint);
    for (source, error) in [
        (parent, REVOKE),
        (table, ILLEGAL),
        (unassigned, ILLEGAL),
        (init_slot::IRQ_CONTROL, ILLEGAL),
    ] {
        check(
            env,
            node,
            &[
                (copy, &[1, 4, source, 64, 15], root, error, &[]),
                (mint, &[1, 4, source, 64, 15, 0], root, error, &[]),
            ],
        )?;
    }
    let object = env.object(ObjectType::Tcb, 0);
    let configure = Invocation::TcbConfigure;
    let set_space = Invocation::TcbSetSpace;
    let buffer = Invocation::TcbSetIpcBuffer;
    let zero = &[0, 0, 0x1000][..];
    check(
        env,
        object,
        &[
            (configure, zero, &[parent, SPACE, page], REVOKE, &[]),
            (configure, zero, &[node, parent, page], REVOKE, &[]),
            (configure, zero, &[node, SPACE, parent], REVOKE, &[]),
            (configure, zero, &[node, table, page], ILLEGAL, &[]),
            (set_space, &[0, 0], &[endpoint, parent, SPACE], REVOKE, &[]),
            (set_space, &[0, 0], &[endpoint, node, parent], REVOKE, &[]),
            (buffer, &[0x1000], &[parent], REVOKE, &[]),
        ],
    )?;
    // Pools of identifiers are made of untyped memory that nobody else has a hold on.
    let page = env.object(ObjectType::Untyped, 12);
    env.copy(page, CapRights::ALL);
    let slot = env.slot();
    let make = Invocation::ArmAsidControlMakePool;
    for untyped in [parent, page] {
        let caps = [untyped, init_slot::CNODE];
        check(
            env,
            init_slot::ASID_CONTROL,
            &[(make, &[slot, 64], &caps, REVOKE, &[])],
        )?;
    }
    // A table with a second capability stays where it is.
    let (map, unmap) = (Invocation::ArmPageTableMap, Invocation::ArmPageTableUnmap);
    check(
        env,
        table,
        &[(map, &[0x13_0000_0000, 0], &[SPACE], OK, &[])],
    )?;
    let second = env.copy(table, CapRights::ALL);
    check(env, table, &[(unmap, &[], &[], REVOKE, &[])])?;
    check(env, second, &[(unmap, &[], &[], REVOKE, &[])])?;
    same!(env.delete(second).label, OK);
    check(env, table, &[(unmap, &[], &[], OK, &[])])
}

fn guards(env: &mut Env) -> Result<(), Failure> {
    let object = env.object(ObjectType::Tcb, 0);
    let node = env.object(ObjectType::CapTable, 4);
    let held = env.object(ObjectType::CapTable, 4);
    let page = env.object(ObjectType::SmallPage, 0);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    // With its own four bits it would translate 65.
    let long = CNodeCapData::new(0, 61).0;
    let fits = CNodeCapData::new(0, 60).0;
    let configure = Invocation::TcbConfigure;
    let set_space = Invocation::TcbSetSpace;
    let caps = [node, SPACE, page];
    let spaces = [endpoint, node, SPACE];
    check(
        env,
        object,
        &[
            (configure, &[long, 0, 0x1000], &caps, ILLEGAL, &[]),
            (configure, &[fits, 0, 0x1000], &caps, OK, &[]),
            (set_space, &[long, 0], &spaces, ILLEGAL, &[]),
            (set_space, &[fits, 0], &spaces, OK, &[]),
        ],
    )?;
    let root = &[init_slot::CNODE][..];
    let own = &[node][..];
    let both = &[node, node][..];
    let (mint, mutate) = (Invocation::CNodeMint, Invocation::CNodeMutate);
    let rotate = Invocation::CNodeRotate;
    let turn = |to: u64, over: u64| [3, 4, to, 2, 4, over, 1, 4];
    check(
        env,
        node,
        &[
            (mint, &[1, 4, held, 64, 15, long], root, ILLEGAL, &[]),
            (mint, &[1, 4, held, 64, 15, fits], root, OK, &[]),
            (mint, &[2, 4, held, 64, 15, fits], root, OK, &[]),
            (mutate, &[3, 4, 1, 4, long], own, ILLEGAL, &[]),
            (rotate, &turn(long, fits), both, ILLEGAL, &[]),
            (rotate, &turn(fits, long), both, ILLEGAL, &[]),
            (rotate, &turn(fits, fits), both, OK, &[]),
            (mutate, &[1, 4, 3, 4, fits], own, OK, &[]),
        ],
    )
}

fn rights(env: &mut Env) -> Result<(), Failure> {
    let node = env.object(ObjectType::CapTable, 4);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let notification = env.object(ObjectType::Notification, 0);
    let object = env.object(ObjectType::Tcb, 0);
    let context = env.object(ObjectType::SchedContext, 8);
    let params = Invocation::TcbSetSchedParams;
    let set_space = Invocation::TcbSetSpace;
    let timeout = Invocation::TcbSetTimeoutEndpoint;
    let cancel = Invocation::CNodeCancelBadgedSends;
    let reads = CapRights::READ.union(CapRights::GRANT);
    for weak in [CapRights::READ_WRITE, reads, CapRights::NONE] {
        let weak = env.copy(endpoint, weak);
        let caps = [init_slot::TCB, context, weak];
        check(
            env,
            object,
            &[
                (params, &[0, 0], &caps, CAPABILITY, &[3]),
                (set_space, &[0, 0], &[weak, node, SPACE], CAPABILITY, &[1]),
                (timeout, &[], &[weak], CAPABILITY, &[1]),
            ],
        )?;
    }
    // Who faults calls: the handler has to be able to answer, with or without capabilities.
    for right in [CapRights::GRANT, CapRights::GRANT_REPLY] {
        let enough = env.copy(endpoint, CapRights::WRITE.union(right));
        check(
            env,
            object,
            &[
                (set_space, &[0, 0], &[enough, node, SPACE], OK, &[]),
                (timeout, &[], &[enough], OK, &[]),
            ],
        )?;
    }
    for missing in [
        CapRights::WRITE,
        CapRights::READ,
        CapRights::GRANT,
        CapRights::GRANT_REPLY,
    ] {
        let rights = CapRights::from_word(CapRights::ALL.0 & !missing.0);
        let weak = env.mint(endpoint, rights, 5);
        check(
            env,
            init_slot::CNODE,
            &[(cancel, &[weak, 64], &[], ILLEGAL, &[])],
        )?;
    }
    let full = env.mint(endpoint, CapRights::ALL, 5);
    check(
        env,
        init_slot::CNODE,
        &[(cancel, &[full, 64], &[], OK, &[])],
    )?;
    let deaf = env.copy(notification, CapRights::WRITE);
    let mute = env.copy(notification, CapRights::READ);
    let bind = Invocation::TcbBindNotification;
    check(env, object, &[(bind, &[], &[deaf], ILLEGAL, &[])])?;
    let handler = env.slot();
    let root = &[init_slot::CNODE][..];
    let issue = Invocation::IrqIssueIrqHandler;
    check(
        env,
        init_slot::IRQ_CONTROL,
        &[(issue, &[94, handler, 64], root, OK, &[])],
    )?;
    let set = Invocation::IrqSetIrqHandler;
    check(
        env,
        handler,
        &[
            (set, &[], &[mute], CAPABILITY, &[0]),
            (set, &[], &[deaf], OK, &[]),
        ],
    )
}

fn bound(env: &mut Env) -> Result<(), Failure> {
    let first = env.object(ObjectType::Tcb, 0);
    let second = env.object(ObjectType::Tcb, 0);
    let contexts = [env.sched_context(100, 100), env.sched_context(100, 100)];
    let notifications = [
        env.object(ObjectType::Notification, 0),
        env.object(ObjectType::Notification, 0),
    ];
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let bind = Invocation::TcbBindNotification;
    check(env, first, &[(bind, &[], &[notifications[0]], OK, &[])])?;
    check(
        env,
        second,
        &[(bind, &[], &[notifications[0]], ILLEGAL, &[])],
    )?;
    let params = Invocation::TcbSetSchedParams;
    let with = |context: u64| [init_slot::TCB, context, endpoint];
    check(
        env,
        first,
        &[
            (params, &[0, 0], &with(contexts[0]), OK, &[]),
            (params, &[0, 0], &with(contexts[0]), OK, &[]),
            (params, &[0, 0], &with(contexts[1]), ILLEGAL, &[]),
        ],
    )?;
    check(
        env,
        second,
        &[(params, &[0, 0], &with(contexts[0]), ILLEGAL, &[])],
    )?;
    // Nobody takes away the time on which it runs, or takes other time.
    check(
        env,
        init_slot::TCB,
        &[
            (params, &[255, 255], &with(0), ILLEGAL, &[]),
            (params, &[255, 255], &with(contexts[1]), ILLEGAL, &[]),
        ],
    )?;
    let bind = Invocation::SchedContextBind;
    let unbind = Invocation::SchedContextUnbindObject;
    let [one, other] = notifications;
    // A scheduling context has one thread and one notification.
    check(
        env,
        contexts[0],
        &[
            (bind, &[], &[one], OK, &[]),
            (bind, &[], &[other], ILLEGAL, &[]),
        ],
    )?;
    check(
        env,
        contexts[1],
        &[
            (bind, &[], &[one], ILLEGAL, &[]),
            (bind, &[], &[first], ILLEGAL, &[]),
            (unbind, &[], &[one], ILLEGAL, &[]),
            (unbind, &[], &[first], ILLEGAL, &[]),
            (bind, &[], &[other], OK, &[]),
            (bind, &[], &[second], OK, &[]),
            (unbind, &[], &[other], OK, &[]),
            (unbind, &[], &[second], OK, &[]),
        ],
    )
}

/// A thread that waits for a message cannot be bound to a scheduling context that was never configured.
fn blocked(env: &mut Env) -> Result<(), Failure> {
    env.set_own_priority(100);
    let spec = testbed::ThreadSpec {
        budget_us: Some(1000),
        ..testbed::ThreadSpec::default()
    };
    extern "C" fn waits(_: u64) -> ! {
        testbed::park()
    }
    let thread = env.spawn(spec, waits, 0);
    env.set_own_priority(255);
    let empty = env.object(ObjectType::SchedContext, 8);
    let params = Invocation::TcbSetSchedParams;
    let none = [init_slot::TCB, 0, 0];
    let with = [init_slot::TCB, empty, 0];
    check(
        env,
        thread,
        &[
            (params, &[10, 10], &none, OK, &[]),
            (params, &[10, 10], &with, ILLEGAL, &[]),
        ],
    )?;
    let bind = Invocation::SchedContextBind;
    check(env, empty, &[(bind, &[], &[thread], ILLEGAL, &[])])?;
    check(
        env,
        thread,
        &[
            (Invocation::TcbSuspend, &[], &[], OK, &[]),
            (params, &[10, 10], &with, OK, &[]),
        ],
    )
}

/// YieldTo and priorities reach as far as the caller's maximum controlled priority.
fn authority(env: &mut Env) -> Result<(), Failure> {
    let strong = env.object(ObjectType::Tcb, 0);
    let thread = env.object(ObjectType::Tcb, 0);
    let context = env.sched_context(100, 100);
    let own = &[init_slot::TCB][..];
    let (limit, priority) = (Invocation::TcbSetMcPriority, Invocation::TcbSetPriority);
    check(env, strong, &[(limit, &[255], own, OK, &[])])?;
    check(env, thread, &[(priority, &[200], own, OK, &[])])?;
    let bind = Invocation::SchedContextBind;
    let yield_to = Invocation::SchedContextYieldTo;
    check(env, context, &[(bind, &[], &[thread], OK, &[])])?;
    check(env, init_slot::TCB, &[(limit, &[199], own, OK, &[])])?;
    let low = env.invoke(context, yield_to, &[], &[]);
    let refused = env.invoke(thread, priority, &[200], own);
    check(env, init_slot::TCB, &[(limit, &[200], &[strong], OK, &[])])?;
    let enough = env.invoke(context, yield_to, &[], &[]);
    check(env, init_slot::TCB, &[(limit, &[255], &[strong], OK, &[])])?;
    same!(low.label, ILLEGAL);
    same!(refused.label, RANGE);
    same!(refused.words[0], 0);
    same!(refused.words[1], 199);
    same!(enough.label, OK);
    Ok(())
}
