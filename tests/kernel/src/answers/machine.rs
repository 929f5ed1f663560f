//! What interrupts, domains and vCPUs answer.

use super::*;
use crate::suite::Test;
use sel4_sys::ObjectType;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("answers_of_interrupts", interrupts),
    ("answers_of_domains", domains),
    ("answers_of_vcpus", vcpus),
    ("answers_where_secure_monitor_calls_would_be", monitor),
];

fn interrupts(env: &mut Env) -> Result<(), Failure> {
    let (handler, second, third) = (env.slot(), env.slot(), env.slot());
    let other = env.object(ObjectType::Endpoint, 0);
    let notification = env.object(ObjectType::Notification, 0);
    let root = &[init_slot::CNODE][..];
    let get = Invocation::IrqIssueIrqHandler;
    let trigger = Invocation::ArmIrqIssueIrqHandlerTrigger;
    let sgi = Invocation::ArmIrqIssueSgiSignal;
    check(
        env,
        init_slot::IRQ_CONTROL,
        &[
            (get, &[90, handler], root, TRUNCATED, &[]),
            (get, &[90, handler, 64], &[], TRUNCATED, &[]),
            // How many there are is the machine's.
            (get, &[MAX, handler, 64], root, RANGE, &[0]),
            (
                get,
                &[90, handler, 64],
                &[other],
                LOOKUP,
                &[DESTINATION, ROOT],
            ),
            (get, &[90, handler, 65], root, RANGE, &[1, 64]),
            (get, &[90, other, 64], root, DELETE, &[]),
            (get, &[90, handler, 64], root, OK, &[]),
            (get, &[90, second, 64], root, REVOKE, &[]),
            (trigger, &[91, 1, second], root, TRUNCATED, &[]),
            (trigger, &[MAX, 1, second, 64], root, RANGE, &[0]),
            (trigger, &[90, 1, second, 64], root, REVOKE, &[]),
            (trigger, &[91, 1, other, 64], root, DELETE, &[]),
            (trigger, &[91, 1, second, 65], root, RANGE, &[1, 64]),
            (
                trigger,
                &[91, 1, second, 64],
                &[other],
                LOOKUP,
                &[DESTINATION, ROOT],
            ),
            (trigger, &[91, 1, second, 64], &[], TRUNCATED, &[]),
            (trigger, &[91, 1, second, 64], root, OK, &[]),
            (sgi, &[1, 1, second], root, TRUNCATED, &[]),
            (sgi, &[16, 1, second, 64], root, RANGE, &[0, 15]),
            (sgi, &[1, MAX, second, 64], root, ARGUMENT, &[1]),
            (sgi, &[1, 1, other, 64], root, DELETE, &[]),
            (sgi, &[1, 1, third, 65], root, RANGE, &[1, 64]),
            (
                sgi,
                &[1, 1, third, 64],
                &[other],
                LOOKUP,
                &[DESTINATION, ROOT],
            ),
            (sgi, &[1, 1, third, 64], &[], TRUNCATED, &[]),
            (sgi, &[1, 1, third, 64], root, OK, &[]),
        ],
    )?;
    let set = Invocation::IrqSetIrqHandler;
    check(
        env,
        handler,
        &[
            (set, &[], &[], TRUNCATED, &[]),
            (set, &[], &[other], CAPABILITY, &[0]),
            (set, &[], &[notification], OK, &[]),
            (Invocation::IrqAckIrq, &[], &[], OK, &[]),
            (Invocation::IrqClearIrqHandler, &[], &[], OK, &[]),
        ],
    )
}

fn domains(env: &mut Env) -> Result<(), Failure> {
    let other = env.object(ObjectType::Endpoint, 0);
    let set = Invocation::DomainSetSet;
    let configure = Invocation::DomainScheduleConfigure;
    let start = Invocation::DomainScheduleSetStart;
    check(
        env,
        init_slot::DOMAIN,
        &[
            (set, &[], &[init_slot::TCB], TRUNCATED, &[]),
            (set, &[0], &[], TRUNCATED, &[]),
            (set, &[1], &[init_slot::TCB], ARGUMENT, &[0]),
            (set, &[0], &[other], ARGUMENT, &[1]),
            (set, &[0], &[init_slot::TCB], OK, &[]),
            (configure, &[0, 0], &[], TRUNCATED, &[]),
            (configure, &[MAX, 0, 100], &[], RANGE, &[0]),
            (configure, &[0, 1, 100], &[], RANGE, &[0, 0]),
            (configure, &[0, 0, 0], &[], ARGUMENT, &[2]),
            (configure, &[0, 0, 1 << 56], &[], ARGUMENT, &[2]),
            (start, &[], &[], TRUNCATED, &[]),
            // Behind the only entry stands the end marker.
            (start, &[1], &[], ARGUMENT, &[0]),
            (start, &[2], &[], RANGE, &[0, 1]),
            (start, &[0], &[], OK, &[]),
        ],
    )
}

/// In this configuration nobody has a capability for them.
fn monitor(env: &mut Env) -> Result<(), Failure> {
    let call = Invocation::ArmSmcCall;
    let version = [0x8400_0000, 0, 0, 0, 0, 0, 0, 0];
    check(
        env,
        init_slot::SMC,
        &[(call, &version, &[], CAPABILITY, &[0])],
    )
}

fn vcpus(env: &mut Env) -> Result<(), Failure> {
    let object = env.object(ObjectType::Vcpu, 0);
    let other = env.object(ObjectType::Endpoint, 0);
    let (bind, inject) = (Invocation::ArmVcpuSetTcb, Invocation::ArmVcpuInjectIrq);
    let (read, write) = (Invocation::ArmVcpuReadReg, Invocation::ArmVcpuWriteReg);
    let acknowledge = Invocation::ArmVcpuAckVppi;
    check(
        env,
        object,
        &[
            (bind, &[], &[], TRUNCATED, &[]),
            (bind, &[], &[other], ILLEGAL, &[]),
            (inject, &[], &[], TRUNCATED, &[]),
            (inject, &[1024], &[], RANGE, &[0, 1023]),
            (inject, &[32 << 16], &[], RANGE, &[0, 31]),
            (inject, &[2 << 24], &[], RANGE, &[0, 1]),
            (inject, &[255 << 32], &[], RANGE, &[0]),
            (read, &[], &[], TRUNCATED, &[]),
            (read, &[24], &[], ARGUMENT, &[1]),
            // SCTLR_EL1 of a new vCPU.
            (read, &[0], &[], OK, &[0x34d5_8820]),
            (write, &[0], &[], TRUNCATED, &[]),
            (write, &[24, 0], &[], ARGUMENT, &[1]),
            (acknowledge, &[], &[], TRUNCATED, &[]),
            (acknowledge, &[30], &[], ARGUMENT, &[0]),
            (acknowledge, &[MAX], &[], RANGE, &[0]),
        ],
    )
}
