//! What threads and scheduling contexts answer.

use super::*;
use crate::same;
use crate::suite::Test;
use sel4_sys::ObjectType;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("answers_of_threads", tcb),
    ("answers_with_the_status_of_user_level", status),
    ("answers_of_threads_about_their_spaces", spaces),
    ("answers_of_scheduling", scheduling),
];

fn tcb(env: &mut Env) -> Result<(), Failure> {
    let object = env.object(ObjectType::Tcb, 0);
    let other = env.object(ObjectType::Tcb, 0);
    let node = env.object(ObjectType::CapTable, 4);
    let context = env.object(ObjectType::SchedContext, 8);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let notification = env.object(ObjectType::Notification, 0);
    let (read, write) = (Invocation::TcbReadRegisters, Invocation::TcbWriteRegisters);
    let params = Invocation::TcbSetSchedParams;
    let (bind, unbind) = (
        Invocation::TcbBindNotification,
        Invocation::TcbUnbindNotification,
    );
    check(
        env,
        object,
        &[
            (read, &[0], &[], TRUNCATED, &[]),
            (read, &[0, 0], &[], RANGE, &[1, 36]),
            (read, &[0, 37], &[], RANGE, &[1, 36]),
            (read, &[0, 4], &[], OK, &[0, 0]),
            (write, &[0, 3, 0], &[], TRUNCATED, &[]),
            (write, &[0, 3, 4, 8, MAX], &[], OK, &[]),
            (read, &[0, 4], &[], OK, &[4, 8]),
            (Invocation::TcbCopyRegisters, &[], &[other], TRUNCATED, &[]),
            (
                Invocation::TcbCopyRegisters,
                &[0],
                &[node],
                CAPABILITY,
                &[1],
            ),
            (Invocation::TcbSetPriority, &[], &[other], TRUNCATED, &[]),
            (Invocation::TcbSetPriority, &[0], &[node], CAPABILITY, &[1]),
            (Invocation::TcbSetPriority, &[1], &[other], RANGE, &[0, 0]),
            (
                Invocation::TcbSetMcPriority,
                &[0],
                &[node],
                CAPABILITY,
                &[1],
            ),
            (Invocation::TcbSetMcPriority, &[1], &[other], RANGE, &[0, 0]),
            (params, &[0, 0], &[other, context], TRUNCATED, &[]),
            (
                params,
                &[0, 0],
                &[node, context, endpoint],
                CAPABILITY,
                &[1],
            ),
            (params, &[1, 0], &[other, context, endpoint], RANGE, &[0, 0]),
            (params, &[0, 1], &[other, context, endpoint], RANGE, &[0, 0]),
            (params, &[0, 0], &[other, node, endpoint], CAPABILITY, &[2]),
            (params, &[0, 0], &[other, context, node], CAPABILITY, &[3]),
            (bind, &[], &[], TRUNCATED, &[]),
            (bind, &[], &[node], ILLEGAL, &[]),
            (unbind, &[], &[], ILLEGAL, &[]),
            (bind, &[], &[notification], OK, &[]),
            (bind, &[], &[notification], ILLEGAL, &[]),
            (unbind, &[], &[], OK, &[]),
            (Invocation::TcbSetTlsBase, &[], &[], TRUNCATED, &[]),
            (Invocation::TcbSetFlags, &[0], &[], TRUNCATED, &[]),
            // Of the low 32 bits one is a flag; those of this kernel alone lie above.
            (Invocation::TcbSetFlags, &[0, 0xffff_ffff], &[], OK, &[1]),
        ],
    )?;
    // Nobody's own registers.
    check(
        env,
        init_slot::TCB,
        &[
            (read, &[0, 1], &[], ILLEGAL, &[]),
            (write, &[0, 0], &[], ILLEGAL, &[]),
        ],
    )
}

/// Of the status only the condition flags are user level's.
fn status(env: &mut Env) -> Result<(), Failure> {
    // Whether user level masks SErrors is the kernel's: seL4's two flavours differ in it.
    const SERROR: u64 = 1 << 8;
    let object = env.object(ObjectType::Tcb, 0);
    let seen = |env: &Env| {
        let read = env.invoke(object, Invocation::TcbReadRegisters, &[0, 4], &[]);
        read.words[2] & !SERROR
    };
    same!(seen(env), 0x40);
    for (written, kept) in [(MAX, 0xf000_0040), (0, 0x40), (0x3c5, 0x40)] {
        let words = [0, 3, 0, 0, written];
        let write = env.invoke(object, Invocation::TcbWriteRegisters, &words, &[]);
        same!(write.label, OK);
        same!(seen(env), kept);
    }
    Ok(())
}

fn spaces(env: &mut Env) -> Result<(), Failure> {
    let object = env.object(ObjectType::Tcb, 0);
    let node = env.object(ObjectType::CapTable, 4);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let page = env.object(ObjectType::SmallPage, 0);
    let unassigned = env.object(ObjectType::VSpace, 0);
    let configure = Invocation::TcbConfigure;
    let set_space = Invocation::TcbSetSpace;
    check(
        env,
        object,
        &[
            (configure, &[0, 0], &[node, SPACE, page], TRUNCATED, &[]),
            (configure, &[0, 0, 0], &[node, SPACE], TRUNCATED, &[]),
            (configure, &[0, 0, 1], &[node, SPACE, page], ALIGNMENT, &[]),
            (
                configure,
                &[0, 0, 0x1000],
                &[node, SPACE, node],
                ILLEGAL,
                &[],
            ),
            (
                configure,
                &[0, 0, 0],
                &[endpoint, SPACE, page],
                ILLEGAL,
                &[],
            ),
            (configure, &[0, 0, 0], &[node, node, page], ILLEGAL, &[]),
            (
                configure,
                &[0, 0, 0],
                &[node, unassigned, page],
                ILLEGAL,
                &[],
            ),
            (set_space, &[0], &[endpoint, node, SPACE], TRUNCATED, &[]),
            (set_space, &[0, 0], &[endpoint, node], TRUNCATED, &[]),
            (set_space, &[0, 0], &[node, node, SPACE], CAPABILITY, &[1]),
            (
                set_space,
                &[0, 0],
                &[endpoint, endpoint, SPACE],
                ILLEGAL,
                &[],
            ),
            (set_space, &[0, 0], &[endpoint, node, node], ILLEGAL, &[]),
            (Invocation::TcbSetIpcBuffer, &[], &[page], TRUNCATED, &[]),
            (Invocation::TcbSetIpcBuffer, &[1], &[page], ALIGNMENT, &[]),
            (Invocation::TcbSetIpcBuffer, &[0x400], &[node], ILLEGAL, &[]),
            (Invocation::TcbSetTimeoutEndpoint, &[], &[], TRUNCATED, &[]),
            (
                Invocation::TcbSetTimeoutEndpoint,
                &[],
                &[node],
                CAPABILITY,
                &[1],
            ),
        ],
    )
}

fn scheduling(env: &mut Env) -> Result<(), Failure> {
    let object = env.object(ObjectType::SchedContext, 8);
    let second = env.object(ObjectType::SchedContext, 8);
    let thread = env.object(ObjectType::Tcb, 0);
    let idle = env.object(ObjectType::Tcb, 0);
    let node = env.object(ObjectType::CapTable, 4);
    let configure = Invocation::SchedControlConfigureFlags;
    check(
        env,
        env.boot_info().schedcontrol.start,
        &[
            (configure, &[1000, 1000, 0, 0], &[object], TRUNCATED, &[]),
            (configure, &[1000, 1000, 0, 0, 0], &[], TRUNCATED, &[]),
            // How long is possible depends on the timer's frequency.
            (configure, &[0, 0, 0, 0, 0], &[node], RANGE, &[20]),
            (configure, &[1000, MAX, 0, 0, 0], &[object], RANGE, &[20]),
            (configure, &[100, 50, 0, 0, 0], &[object], RANGE, &[20, 50]),
            (configure, &[1000, 1000, 0, 0, 0], &[node], CAPABILITY, &[1]),
            (
                configure,
                &[1000, 10_000, 99, 0, 0],
                &[object],
                RANGE,
                &[0, 8],
            ),
            (configure, &[1000, 10_000, 8, 0, 0], &[object], OK, &[]),
        ],
    )?;
    let bind = Invocation::SchedContextBind;
    let unbind = Invocation::SchedContextUnbindObject;
    let yield_to = Invocation::SchedContextYieldTo;
    check(
        env,
        object,
        &[
            (yield_to, &[], &[], ILLEGAL, &[]),
            (bind, &[], &[], TRUNCATED, &[]),
            (bind, &[], &[node], CAPABILITY, &[1]),
            (bind, &[], &[thread], OK, &[]),
            (bind, &[], &[thread], ILLEGAL, &[]),
            (bind, &[], &[idle], ILLEGAL, &[]),
            (unbind, &[], &[], TRUNCATED, &[]),
            (unbind, &[], &[node], CAPABILITY, &[1]),
            (unbind, &[], &[idle], ILLEGAL, &[]),
            (Invocation::SchedContextConsumed, &[], &[], OK, &[0]),
        ],
    )?;
    check(env, second, &[(bind, &[], &[thread], ILLEGAL, &[])])?;
    // Nobody takes away the time on which it runs.
    check(
        env,
        init_slot::SCHED_CONTEXT,
        &[
            (Invocation::SchedContextUnbind, &[], &[], ILLEGAL, &[]),
            (unbind, &[], &[init_slot::TCB], ILLEGAL, &[]),
            (yield_to, &[], &[], ILLEGAL, &[]),
        ],
    )
}
