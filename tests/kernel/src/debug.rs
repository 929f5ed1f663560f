//! The debug system calls, which only the debug flavour has.

use crate::same;
use crate::suite::{Failure, Test};
use sel4_sys::{Invocation, ObjectType, init_slot, syscall};
use testbed::Env;

/// The tests of this module.
pub const TESTS: &[Test] = &[("debug_cap_identify_tells_what_a_capability_is", identify)];

fn identify(env: &mut Env) -> Result<(), Failure> {
    let empty = env.slot();
    for (slot, number) in [
        (empty, 0),
        (0xffff_ffff, 0),
        (env.boot_info().schedcontrol.start, 24),
        (init_slot::IRQ_CONTROL, 14),
        (init_slot::ASID_CONTROL, 11),
        (init_slot::ASID_POOL, 13),
        (init_slot::DOMAIN, 20),
    ] {
        same!(syscall::debug_cap_identify(slot), number);
    }
    for (kind, number) in [
        (ObjectType::Untyped, 2),
        (ObjectType::Endpoint, 4),
        (ObjectType::Notification, 6),
        (ObjectType::Reply, 8),
        (ObjectType::CapTable, 10),
        (ObjectType::Tcb, 12),
        (ObjectType::SchedContext, 22),
        (ObjectType::SmallPage, 1),
        (ObjectType::PageTable, 3),
        (ObjectType::VSpace, 9),
        (ObjectType::Vcpu, 15),
    ] {
        let object = env.object(kind, 8);
        same!(syscall::debug_cap_identify(object), number);
    }
    for (label, words, number) in [
        (Invocation::ArmIrqIssueSgiSignal, [3, 1, 0, 64], 27),
        (Invocation::IrqIssueIrqHandler, [77, 0, 64, 0], 16),
    ] {
        let slot = env.slot();
        let words = words.map(|word| if word == 0 { slot } else { word });
        let made = env.invoke(init_slot::IRQ_CONTROL, label, &words, &[init_slot::CNODE]);
        same!(made.label, 0);
        same!(syscall::debug_cap_identify(slot), number);
    }
    Ok(())
}
