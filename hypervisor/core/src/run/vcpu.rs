//! vCPUs as user level works with them: one thread each, registers, injected interrupts (`interfaces/object-api-arch.xml`).
//! What is inside belongs to the machine ([`Arch`]).

use crate::arch::Arch;
use crate::cap::CapView;
use crate::decode::invocation::Invocation;
use crate::object::error::{Error, Outcome, Progress};
use crate::object::mem::Ref;
use crate::object::{Tcb, Vcpu, sc_flag};
use crate::run::refill;
use crate::run::scheduler;
use crate::state::kernel::Kernel;
use sel4_sys::{Invocation as Label, VcpuReg};

/// Registers of a vCPU (seL4_VCPUReg_Num).
pub const REGISTERS: u64 = 24;
/// Largest interrupt number that can be injected (GIC architecture: INTIDs 1020 and above are special, ten bits fit).
const MAX_VIRQ: u64 = 1023;
/// Largest priority: five bits of it are implemented in list registers.
const MAX_PRIORITY: u64 = 31;
/// Largest interrupt group.
const MAX_GROUP: u64 = 1;

/// Binds a thread and a vCPU, taking both from whom they belonged to.
pub fn associate<A: Arch>(k: &Kernel<A>, vcpu: Ref<Vcpu>, tcb: Ref<Tcb>) {
    dissociate(k, vcpu);
    forget_thread(k, tcb);
    vcpu.tcb.set(Some(tcb));
    tcb.thread.vcpu.set(Some(vcpu));
    let spsr = &tcb.context.spsr;
    spsr.set(k.arch.sanitise_spsr(spsr.get(), Some(vcpu)));
    refresh(k, tcb);
}

/// Takes a vCPU from its thread, if it has one.
pub fn dissociate<A: Arch>(k: &Kernel<A>, vcpu: Ref<Vcpu>) {
    let Some(tcb) = vcpu.tcb.get() else {
        return;
    };
    k.arch.forget_vcpu(vcpu);
    vcpu.tcb.set(None);
    tcb.thread.vcpu.set(None);
    // There is no timer any more that would end its rest.
    scheduler::rouse(k, tcb);
    // The thread must not keep a status that is for guests only.
    let spsr = &tcb.context.spsr;
    spsr.set(k.arch.sanitise_spsr(spsr.get(), None));
    refresh(k, tcb);
}

/// Takes a thread's vCPU from it, if it has one.
pub fn forget_thread<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    if let Some(vcpu) = tcb.thread.vcpu.get() {
        dissociate(k, vcpu);
    }
}

/// The last capability to a vCPU is gone.
pub fn finalise<A: Arch>(k: &Kernel<A>, vcpu: Ref<Vcpu>) {
    dissociate(k, vcpu);
    k.arch.forget_vcpu(vcpu);
}

/// The running thread's mode has changed under it.
fn refresh<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) {
    if k.current.get() == Some(tcb) {
        k.arch.switch_to(tcb);
    }
}

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
    let CapView::Vcpu(vcpu) = inv.cap.view() else {
        return Err(Error::InvalidCapability(0));
    };
    match inv.label {
        SET_TCB => match inv.extra(0)?.cap.get().view() {
            CapView::Thread(tcb) => associate(k, vcpu, tcb),
            _ => return Err(Error::IllegalOperation),
        },
        INJECT => {
            inv.need_words(1)?;
            inject(k, vcpu, inv.word(k, 0))?;
        }
        READ => {
            inv.need_words(1)?;
            let register = checked_register(inv.word(k, 0))?;
            inv.answer(k, &[k.arch.vcpu_read(vcpu, register)]);
        }
        WRITE => {
            inv.need_words(2)?;
            let register = checked_register(inv.word(k, 0))?;
            k.arch.vcpu_write(vcpu, register, inv.word(k, 1));
        }
        ACK => {
            inv.need_words(1)?;
            let irq = inv.word(k, 0);
            let max = k.arch.max_irq();
            if irq > max {
                return Err(Error::Range { min: 0, max });
            }
            if !k.arch.vcpu_ack_vppi(vcpu, irq) {
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

/// Until when a thread can rest that waits for its vCPU's virtual timer: `u64::MAX` while that one is off or masked (CNTV_CTL_EL0,
/// Arm ARM D24.10). `None` when the timer is due already, there is no vCPU, or no time of its own that could wait: then it goes
/// on, which a wait for an interrupt may always do. (A sporadic server's time would have to be counted anew when it wakes.)
#[must_use]
pub fn time_to_rest<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) -> Option<u64> {
    const TIMER_BITS: u64 = 3;
    const TIMER_ON: u64 = 1;
    let t = &tcb.thread;
    let vcpu = t.vcpu.get()?;
    let sc = t.sched_context.get()?;
    if !refill::configured(sc) || sc.flags.get() & sc_flag::SPORADIC != 0 {
        return None;
    }
    let read = |register: VcpuReg| k.arch.vcpu_read(vcpu, register.word());
    if read(VcpuReg::CntvCtl) & TIMER_BITS != TIMER_ON {
        return Some(u64::MAX);
    }
    let now = scheduler::now(k);
    let virtual_now = now.wrapping_sub(read(VcpuReg::Cntvoff));
    let left = read(VcpuReg::CntvCval).saturating_sub(virtual_now);
    if left == 0 {
        None
    } else {
        Some(now.saturating_add(left))
    }
}
