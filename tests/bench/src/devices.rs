//! Interrupts, domains, address space identifiers, caches and vCPUs.

use crate::measure::{Clock, delete, invoke, row, rows};
use sel4_sys::{Invocation, ObjectType, init_slot};
use testbed::Env;

/// Interrupts that nothing raises.
const IRQ: u64 = 90;
/// The virtual timer's (Arm BSA: PPI 27), the only one that is a vCPU's own.
const VIRTUAL_TIMER_IRQ: u64 = 27;
const FRAME_BYTES: u64 = 4096;
/// Runs of what uses something up.
const FEW: u64 = 4;

/// All rows.
pub fn devices(env: &mut Env, clock: Clock) {
    interrupts(env, clock);
    caches(env, clock);
    identifiers(env, clock);
    vcpus(env, clock);
    domains(clock);
}

/// Handlers: made and taken away, and used.
fn interrupts(env: &mut Env, clock: Clock) {
    let control = init_slot::IRQ_CONTROL;
    let (handler, root) = (env.slot(), [init_slot::CNODE]);
    for (name, label, first) in [
        (
            "irq_issue_handler_trigger",
            Invocation::ArmIrqIssueIrqHandlerTrigger,
            IRQ,
        ),
        ("irq_issue_sgi_signal", Invocation::ArmIrqIssueSgiSignal, 1),
    ] {
        // Edge-triggered; or to the first processor.
        let second = u64::from(label == Invocation::ArmIrqIssueIrqHandlerTrigger);
        let [issued, _] = clock.by_turns(
            || invoke(control, label, [first, second, handler, 64], root),
            || delete(handler),
        );
        row(name, issued);
    }
    let issue = || {
        invoke(
            control,
            Invocation::IrqIssueIrqHandler,
            [IRQ, handler, 64],
            root,
        )
    };
    let means = clock.by_turns(issue, || delete(handler));
    rows(["irq_issue_handler", "irq_delete_handler"], means);
    issue();
    let notification = env.object(ObjectType::Notification, 0);
    let means = clock.by_turns(
        || invoke(handler, Invocation::IrqSetIrqHandler, [], [notification]),
        || invoke(handler, Invocation::IrqClearIrqHandler, [], []),
    );
    rows(["irq_set_handler", "irq_clear_handler"], means);
    row(
        "irq_ack",
        clock.mean(|| invoke(handler, Invocation::IrqAckIrq, [], [])),
    );
    delete(handler);
}

/// Maintenance of 4 KiB, through the frame and through the address space that it is mapped in.
fn caches(env: &mut Env, clock: Clock) {
    let frame = env.object(ObjectType::SmallPage, 0);
    let vaddr = env.map_here(frame);
    for (name, label) in [
        ("page_clean_4kib", Invocation::ArmPageCleanData),
        ("page_invalidate_4kib", Invocation::ArmPageInvalidateData),
        (
            "page_clean_invalidate_4kib",
            Invocation::ArmPageCleanInvalidateData,
        ),
        ("page_unify_4kib", Invocation::ArmPageUnifyInstruction),
    ] {
        row(
            name,
            clock.mean(|| invoke(frame, label, [0, FRAME_BYTES], [])),
        );
    }
    for (name, label) in [
        ("vspace_clean_4kib", Invocation::ArmVSpaceCleanData),
        (
            "vspace_invalidate_4kib",
            Invocation::ArmVSpaceInvalidateData,
        ),
        (
            "vspace_clean_invalidate_4kib",
            Invocation::ArmVSpaceCleanInvalidateData,
        ),
        ("vspace_unify_4kib", Invocation::ArmVSpaceUnifyInstruction),
    ] {
        row(
            name,
            clock.mean(|| invoke(init_slot::VSPACE, label, [vaddr, vaddr + FRAME_BYTES], [])),
        );
    }
    row(
        "page_get_address",
        clock.mean(|| invoke(frame, Invocation::ArmPageGetAddress, [], [])),
    );
}

/// Pools and what they give.
fn identifiers(env: &mut Env, clock: Clock) {
    let pool = env.slot();
    let untyped = env.object(ObjectType::Untyped, 12);
    row(
        "asid_control_make_pool",
        clock.once(|| {
            let caps = [untyped, init_slot::CNODE];
            invoke(
                init_slot::ASID_CONTROL,
                Invocation::ArmAsidControlMakePool,
                [pool, 64],
                caps,
            );
        }),
    );
    let mut assigned = 0;
    for _ in 0..FEW {
        let vspace = env.object(ObjectType::VSpace, 0);
        assigned += clock.once(|| invoke(pool, Invocation::ArmAsidPoolAssign, [], [vspace]));
    }
    row("asid_pool_assign", assigned / FEW);
}

/// What does not need a guest that runs.
fn vcpus(env: &mut Env, clock: Clock) {
    let mut bound = 0;
    for _ in 0..FEW {
        let (vcpu, tcb) = (
            env.object(ObjectType::Vcpu, 0),
            env.object(ObjectType::Tcb, 0),
        );
        bound += clock.once(|| invoke(vcpu, Invocation::ArmVcpuSetTcb, [], [tcb]));
    }
    row("vcpu_set_tcb", bound / FEW);
    let vcpu = env.object(ObjectType::Vcpu, 0);
    row(
        "vcpu_ack_vppi",
        clock.mean(|| invoke(vcpu, Invocation::ArmVcpuAckVppi, [VIRTUAL_TIMER_IRQ], [])),
    );
}

/// The schedule of domains, set to what it is.
fn domains(clock: Clock) {
    row(
        "domain_schedule_configure",
        clock.mean(|| {
            invoke(
                init_slot::DOMAIN,
                Invocation::DomainScheduleConfigure,
                [0, 0, 0xff_ffff],
                [],
            )
        }),
    );
    row(
        "domain_schedule_set_start",
        clock.mean(|| {
            invoke(
                init_slot::DOMAIN,
                Invocation::DomainScheduleSetStart,
                [0],
                [],
            )
        }),
    );
}
