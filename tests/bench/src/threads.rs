//! What is done to threads and to their scheduling contexts.

use crate::measure::{Clock, invoke, row, rows};
use crate::messages::never;
use sel4_sys::{Invocation, ObjectType, USER_CONTEXT_WORDS, init_slot};
use testbed::{Env, ThreadSpec};

/// Below the measuring thread's: who is resumed does not run.
const PRIORITY: u64 = 100;
/// What a register message has before the registers.
const HEAD: usize = 2;
/// TCB_CopyRegisters: both halves of the registers, nobody stopped or started.
const BOTH_HALVES: u64 = 0b1100;

/// A thread that is ready whenever it is not suspended, and never runs while we do.
fn low_thread(env: &mut Env) -> u64 {
    let spec = ThreadSpec {
        priority: PRIORITY,
        ..ThreadSpec::default()
    };
    env.thread(spec, never, 0)
}

/// All rows.
pub fn threads(env: &mut Env, clock: Clock) {
    let tcb = low_thread(env);
    registers(env, clock, tcb);
    spaces(env, clock);
    scheduling(env, clock, tcb);
    contexts(env, clock);
}

/// Registers, all of them, in each direction; and the few that have invocations of their own.
fn registers(env: &mut Env, clock: Clock, tcb: u64) {
    let other = env.object(ObjectType::Tcb, 0);
    let count = USER_CONTEXT_WORDS as u64;
    row(
        "tcb_read_registers",
        clock.mean(|| invoke(tcb, Invocation::TcbReadRegisters, [0, count], [])),
    );
    let mut words = [0; HEAD + USER_CONTEXT_WORDS];
    words[1] = count;
    row(
        "tcb_write_registers",
        clock.mean(|| invoke(other, Invocation::TcbWriteRegisters, words, [])),
    );
    row(
        "tcb_copy_registers",
        clock.mean(|| invoke(other, Invocation::TcbCopyRegisters, [BOTH_HALVES], [tcb])),
    );
    row(
        "tcb_set_tls_base",
        clock.mean(|| invoke(other, Invocation::TcbSetTlsBase, [0], [])),
    );
    row(
        "tcb_set_flags",
        clock.mean(|| invoke(other, Invocation::TcbSetFlags, [0, 0], [])),
    );
}

/// CSpace, address space, buffer and fault handlers: what replaces what was there before.
fn spaces(env: &mut Env, clock: Clock) {
    let tcb = env.object(ObjectType::Tcb, 0);
    let handler = env.object(ObjectType::Endpoint, 0);
    let frame = env.object(ObjectType::SmallPage, 0);
    let buffer = env.map_here(frame);
    let (cspace, vspace) = (init_slot::CNODE, init_slot::VSPACE);
    row(
        "tcb_configure",
        clock.mean(|| {
            let words = [0, 0, buffer];
            invoke(
                tcb,
                Invocation::TcbConfigure,
                words,
                [cspace, vspace, frame],
            )
        }),
    );
    row(
        "tcb_set_space",
        clock.mean(|| {
            invoke(
                tcb,
                Invocation::TcbSetSpace,
                [0, 0],
                [handler, cspace, vspace],
            )
        }),
    );
    row(
        "tcb_set_ipc_buffer",
        clock.mean(|| invoke(tcb, Invocation::TcbSetIpcBuffer, [buffer], [frame])),
    );
    row(
        "tcb_set_timeout_endpoint",
        clock.mean(|| invoke(tcb, Invocation::TcbSetTimeoutEndpoint, [], [handler])),
    );
}

/// Whether and how urgently a thread runs.
fn scheduling(env: &mut Env, clock: Clock, tcb: u64) {
    let notification = env.object(ObjectType::Notification, 0);
    let authority = init_slot::TCB;
    row(
        "tcb_set_priority",
        clock.mean(|| invoke(tcb, Invocation::TcbSetPriority, [PRIORITY], [authority])),
    );
    row(
        "tcb_set_mc_priority",
        clock.mean(|| invoke(tcb, Invocation::TcbSetMcPriority, [PRIORITY], [authority])),
    );
    let idle = env.object(ObjectType::Tcb, 0);
    let context = env.sched_context(10_000, 10_000);
    row(
        "tcb_set_sched_params",
        clock.mean(|| {
            let words = [PRIORITY, PRIORITY];
            invoke(
                idle,
                Invocation::TcbSetSchedParams,
                words,
                [authority, context, 0],
            )
        }),
    );
    let means = clock.by_turns(
        || invoke(tcb, Invocation::TcbResume, [], []),
        || invoke(tcb, Invocation::TcbSuspend, [], []),
    );
    rows(["tcb_resume", "tcb_suspend"], means);
    let means = clock.by_turns(
        || invoke(tcb, Invocation::TcbBindNotification, [], [notification]),
        || invoke(tcb, Invocation::TcbUnbindNotification, [], []),
    );
    rows(["tcb_bind_notification", "tcb_unbind_notification"], means);
    row(
        "domain_set",
        clock.mean(|| invoke(init_slot::DOMAIN, Invocation::DomainSetSet, [0], [idle])),
    );
}

/// Scheduling contexts.
fn contexts(env: &mut Env, clock: Clock) {
    let context = env.sched_context(10_000, 10_000);
    let control = env.boot_info().schedcontrol.start;
    let tcb = env.object(ObjectType::Tcb, 0);
    row(
        "sched_control_configure",
        clock.mean(|| {
            let words = [10_000, 10_000, 0, 0, 0];
            invoke(
                control,
                Invocation::SchedControlConfigureFlags,
                words,
                [context],
            )
        }),
    );
    let bind = || invoke(context, Invocation::SchedContextBind, [], [tcb]);
    let means = clock.by_turns(bind, || {
        invoke(context, Invocation::SchedContextUnbind, [], [])
    });
    rows(["sched_context_bind", "sched_context_unbind"], means);
    let [_, unbound] = clock.by_turns(bind, || {
        invoke(context, Invocation::SchedContextUnbindObject, [], [tcb])
    });
    row("sched_context_unbind_object", unbound);
    row(
        "sched_context_consumed",
        clock.mean(|| invoke(context, Invocation::SchedContextConsumed, [], [])),
    );
    // To a thread that is ready and less important: it is put first of its priority, and we go on.
    let spec = ThreadSpec {
        priority: PRIORITY,
        budget_us: None,
        ..ThreadSpec::default()
    };
    let ready = env.thread(spec, never, 0);
    let _ = env.invoke(context, Invocation::SchedContextBind, &[], &[ready]);
    env.resume(ready);
    row(
        "sched_context_yield_to",
        clock.mean(|| invoke(context, Invocation::SchedContextYieldTo, [], [])),
    );
    let _ = env.invoke(ready, Invocation::TcbSuspend, &[], &[]);
}
