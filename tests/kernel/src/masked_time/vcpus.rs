//! Worst cases of guests: everything that a vCPU has is switched.

use super::{BOUND, longest, measured};
use crate::same;
use crate::suite::{Failure, Test};
use sel4_sys::{CapRights, Invocation, ObjectType, syscall};
use testbed::Env;
use testbed::guest::{Guest, instruction};

/// The tests of this module.
pub const TESTS: &[Test] = &[("masked_time_vcpus_with_everything", everything)];

/// Uses floating point in a loop for longer than a time slice, then an HVC:
/// `mov x0, #3 << 20`, `msr cpacr_el1, x0`, `isb`, `mov x3, #0x98 << 16`, `fmov d0, x3`, `subs x3, x3, #1`, `b.ne` to the `fmov`.
const CODE: [u32; 9] = [
    0xd2a0_0600,
    0xd518_1040,
    0xd503_3fdf,
    0xd2a0_1303,
    0x9e67_0060,
    0xf100_0463,
    0x54ff_ffc1,
    instruction::HVC,
    instruction::SELF,
];
/// More list registers than any interrupt controller has: those that are not there are refused.
const LIST_REGISTERS: u64 = 16;
/// The least that a switch of vCPUs takes: a switch of threads, and 18 system registers and the list registers each way.
const LEAST: u64 = 500;

/// A guest with a pending interrupt in each list register.
fn guest(env: &mut Env, faults: u64) -> Result<Guest, Failure> {
    let guest = env.bare_guest(&CODE, faults, 100);
    let mut injected = 0;
    for list in 0..LIST_REGISTERS {
        // Virtual interrupt 0..=15, priority 16..=23, group 24..=31, list register 32..=39.
        let word = (40 + list) | 0x10 << 16 | 1 << 24 | list << 32;
        let label = Invocation::ArmVcpuInjectIrq;
        injected += u64::from(env.invoke(guest.vcpu, label, &[word], &[]).label == 0);
    }
    same!(u64::from(injected >= 4), 1);
    Ok(guest)
}

fn everything(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let faults = env.mint(endpoint, CapRights::ALL, 1);
    let reply = env.object(ObjectType::Reply, 0);
    let guests = [guest(env, faults)?, guest(env, faults)?];
    measured(env, "vcpus_switched_by_time_slices", BOUND, |env| {
        for guest in guests {
            env.resume(guest.tcb);
        }
        let fault = syscall::recv(endpoint, reply);
        same!(fault.info.label(), sel4_sys::Fault::UnknownSyscall.word());
        Ok(())
    })?;
    same!(u64::from(longest().instructions > LEAST), 1);
    measured(env, "vcpus_deleted", BOUND, |env| {
        for guest in guests {
            same!(env.delete(guest.vcpu).label, 0);
            same!(env.delete(guest.tcb).label, 0);
        }
        Ok(())
    })
}
