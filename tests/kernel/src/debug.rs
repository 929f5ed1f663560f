//! The debug system calls, which only the debug flavour has. What they print is looked for by `cargo xtask test` (`DEBUG_SIGNS`), and
//! that nothing is printed after the last.

#![allow(unsafe_code)] // A name in the IPC buffer.

use crate::same;
use crate::suite::{Failure, Test};
use sel4_sys::{Invocation, ObjectType, init_slot, syscall};
use testbed::{Env, ThreadSpec};

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("debug_cap_identify_tells_what_a_capability_is", identify),
    ("debug_put_char_prints", put_char),
    ("debug_dump_scheduler_prints_the_names_of_threads", names),
    ("debug_snapshot_comes_back", snapshot),
];

/// The last system call of all: nothing may come after it (test "debug_halt_stops_the_machine").
pub fn halt() {
    syscall::debug_halt();
}

fn put_char(_: &mut Env) -> Result<(), Failure> {
    for character in b"put by the kernel, one by one\n" {
        syscall::debug_put_char(*character);
    }
    Ok(())
}

fn names(env: &mut Env) -> Result<(), Failure> {
    // Ready, and never as important as the root task.
    extern "C" fn spins(_: u64) -> ! {
        loop {
            core::hint::spin_loop();
        }
    }
    let spec = ThreadSpec {
        priority: 1,
        ..ThreadSpec::default()
    };
    let thread = env.spawn(spec, spins, 0);
    let name = u64::from_le_bytes(*b"Wilhelm\0");
    // SAFETY: this thread's IPC buffer, mapped while it runs.
    unsafe { (*testbed::ipc_buffer()).msg[0] = name };
    syscall::debug_name_thread(thread);
    syscall::debug_dump_scheduler();
    same!(
        env.invoke(thread, Invocation::TcbSuspend, &[], &[]).label,
        0
    );
    Ok(())
}

fn snapshot(_: &mut Env) -> Result<(), Failure> {
    syscall::debug_snapshot();
    Ok(())
}

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
