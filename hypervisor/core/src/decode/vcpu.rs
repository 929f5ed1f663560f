//! Invocations of vCPUs (`interfaces/object-api-arch.xml`).

use crate::arch::Arch;
use crate::cap::CapView;
use crate::decode::invocation::Invocation;
use crate::object::Vcpu;
use crate::object::error::{Error, Outcome, Progress};
use crate::object::mem::Ref;
use crate::run::scheduler;
use crate::run::vcpu;
use crate::state::kernel::Kernel;
use sel4_sys::Invocation as Label;

/// Registers of a vCPU (seL4_VCPUReg_Num).
pub const REGISTERS: u64 = 24;
/// Largest interrupt number that can be injected (GIC architecture: INTIDs 1020 and above are special, ten bits fit).
const MAX_VIRQ: u64 = 1023;
/// Largest priority: five bits of it are implemented in list registers.
const MAX_PRIORITY: u64 = 31;
/// Largest interrupt group.
const MAX_GROUP: u64 = 1;

/// An invocation of a vCPU: SetTCB (capability tcb), InjectIRQ (one word), ReadReg (register), WriteReg (register, value),
/// AckVPPI (irq).
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    const SET_TCB: u64 = Label::ArmVcpuSetTcb.word();
    const INJECT: u64 = Label::ArmVcpuInjectIrq.word();
    const READ: u64 = Label::ArmVcpuReadReg.word();
    const WRITE: u64 = Label::ArmVcpuWriteReg.word();
    const ACK: u64 = Label::ArmVcpuAckVppi.word();
    let CapView::Vcpu(object) = inv.cap.view() else {
        return Err(Error::InvalidCapability(0));
    };
    match inv.label {
        SET_TCB => match inv.extra(0)?.cap.get().view() {
            CapView::Thread(tcb) => vcpu::associate(k, object, tcb),
            _ => return Err(Error::IllegalOperation),
        },
        INJECT => {
            inv.need_words(1)?;
            inject(k, object, inv.word(k, 0))?;
        }
        READ => {
            inv.need_words(1)?;
            let register = checked_register(inv.word(k, 0))?;
            inv.answer(k, &[k.arch.vcpu_read(object, register)]);
        }
        WRITE => {
            inv.need_words(2)?;
            let register = checked_register(inv.word(k, 0))?;
            k.arch.vcpu_write(object, register, inv.word(k, 1));
        }
        ACK => {
            inv.need_words(1)?;
            let irq = inv.word(k, 0);
            let max = k.arch.max_irq();
            if irq > max {
                return Err(Error::Range { min: 0, max });
            }
            if !k.arch.vcpu_ack_vppi(object, irq) {
                return Err(Error::InvalidArgument(0));
            }
        }
        _ => return Err(Error::IllegalOperation),
    }
    Ok(Progress::Done)
}

fn checked_register(register: u64) -> Result<u64, Error> {
    if register < REGISTERS {
        Ok(register)
    } else {
        Err(Error::InvalidArgument(1))
    }
}

/// One word: virq 0..16, priority 16..24, group 24..32, list register 32..40.
fn inject<A: Arch>(k: &Kernel<A>, vcpu: Ref<Vcpu>, word: u64) -> Result<(), Error> {
    let at_most = |value: u64, max: u64| {
        if value > max {
            Err(Error::Range { min: 0, max })
        } else {
            Ok(value)
        }
    };
    let virq = at_most(word & 0xffff, MAX_VIRQ)?;
    let priority = at_most((word >> 16) & 0xff, MAX_PRIORITY)?;
    let group = at_most((word >> 24) & 0xff, MAX_GROUP)?;
    let index = at_most(
        (word >> 32) & 0xff,
        k.arch.list_registers().saturating_sub(1),
    )?;
    if !k.arch.vcpu_inject(vcpu, index, virq, priority, group) {
        return Err(Error::DeleteFirst);
    }
    if let Some(tcb) = vcpu.tcb.get() {
        scheduler::rouse(k, tcb);
    }
    Ok(())
}
