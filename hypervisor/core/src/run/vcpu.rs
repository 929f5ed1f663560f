//! vCPUs as user level works with them: one thread each, registers, injected interrupts (`interfaces/object-api-arch.xml`).
//! What is inside belongs to the machine ([`Arch`]).

use crate::arch::Arch;
use crate::object::mem::Ref;
use crate::object::{Tcb, Vcpu, sc_flag};
use crate::run::refill;
use crate::run::scheduler;
use crate::state::kernel::Kernel;
use sel4_sys::VcpuReg;

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
