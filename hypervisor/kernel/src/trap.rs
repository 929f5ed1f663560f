//! What came from user level, and what to do about it (ESR_EL2: Arm ARM D19.2.39).

use crate::cell::Global;
use crate::el2::El2;
use crate::entry;
use crate::gic::{MAINTENANCE_IRQ, SPURIOUS, TIMER_IRQ, VTIMER_IRQ};
use crate::masked_time::{self, Entry};
use crate::regs::{self, guest};
use kernel_core::object::Tcb;
use kernel_core::run::fault::Access;
use kernel_core::state::kernel::Kernel;

/// The kernel.
pub static KERNEL: Global<Kernel<El2>> = Global::new(Kernel::new(El2::new()));

/// Exception classes.
mod class {
    pub const FLOATING_POINT: u64 = 0x07;
    pub const HVC64: u64 = 0x16;
    pub const SYSTEM_REGISTER: u64 = 0x18;
    pub const INSTRUCTION_ABORT: u64 = 0x20;
    pub const DATA_ABORT: u64 = 0x24;
}

/// An unknown reason, with a 32-bit instruction: the one exception that is a user exception.
const UNKNOWN_REASON: u64 = 0x0200_0000;
/// ISS of aborts: the fault happened on a stage 1 walk.
const S1PTW: u64 = 1 << 7;
/// ISS of aborts: kind of fault in the status code, without its level.
const STATUS_KIND: u64 = 0x3c;
const STATUS_PERMISSION: u64 = 0x0c;
/// PAR_EL1: the translation failed.
const PAR_FAILED: u64 = 1;

/// The registers of the thread to resume; waits until there is one.
#[inline]
fn next(k: &Kernel<El2>) -> u64 {
    loop {
        if let Some(tcb) = k.current.get() {
            masked_time::end(!k.arch.vcpus.is_active());
            return tcb.addr();
        }
        idle(k);
    }
}

#[cold]
fn idle(k: &Kernel<El2>) {
    masked_time::pause();
    // An interrupt ends the wait although it is masked.
    regs::wfi();
    masked_time::begin(Entry::Interrupt, 0, None);
    interrupt(k);
}

fn interrupt(k: &Kernel<El2>) {
    let gic = k.arch.gic();
    let irq = gic.acknowledge();
    match irq {
        TIMER_IRQ => {
            gic.end(irq);
            k.handle_timer();
        }
        VTIMER_IRQ => {
            let guest = k.arch.vcpus.timer_fired(gic);
            gic.end(irq);
            if guest {
                k.handle_vppi_event(irq);
            }
        }
        MAINTENANCE_IRQ => {
            if k.arch.vcpus.is_active() {
                let ended = gic.take_ended();
                gic.end(irq);
                k.handle_vgic_maintenance(ended.unwrap_or(u64::MAX));
            } else {
                gic.end(irq);
            }
        }
        SPURIOUS.. => {}
        _ => {
            k.handle_interrupt(irq);
            gic.end(irq);
        }
    }
}

/// From the vectors: an interrupt while user level ran.
pub extern "C" fn lower_irq() -> u64 {
    let k = KERNEL.get();
    masked_time::begin(Entry::Interrupt, 0, None);
    interrupt(k);
    next(k)
}

/// From the vectors: a system call. (A guest's SVC goes to the guest's EL1.)
pub extern "C" fn lower_svc(number: u64) -> u64 {
    let k = KERNEL.get();
    masked_time::begin(Entry::Call, number, k.current.get().as_deref());
    k.handle_syscall(number);
    next(k)
}

/// From the vectors: any other synchronous exception of user level, with ESR_EL2.
pub extern "C" fn lower_sync(esr: u64) -> u64 {
    let k = KERNEL.get();
    masked_time::begin(Entry::Exception, 0, None);
    let Some(tcb) = k.current.get() else {
        return next(k);
    };
    match esr >> 26 & 0x3f {
        class::INSTRUCTION_ABORT => k.handle_vm_fault(fault_address(k, esr), esr, Access::Fetch),
        class::DATA_ABORT => k.handle_vm_fault(fault_address(k, esr), esr, Access::Data),
        class::HVC64 => k.handle_unknown_syscall(number(&tcb)),
        class::FLOATING_POINT if k.arch.fpu.take(tcb) => {}
        class::SYSTEM_REGISTER if k.arch.vcpus.is_active() && is_debug_or_monitor(esr) => {
            ignore_register(&tcb, esr)
        }
        _ if esr == UNKNOWN_REASON && !k.arch.vcpus.is_active() => k.handle_user_exception(esr, 0),
        _ => k.handle_vcpu_fault(esr),
    }
    next(k)
}

/// x7: the number of a system call.
#[inline(always)]
fn number(tcb: &Tcb) -> u64 {
    let [_, _, _, _, _, _, _, x7, ..] = &tcb.context.x;
    x7.get()
}

/// The intermediate physical address of an abort.
fn fault_address(k: &Kernel<El2>, esr: u64) -> u64 {
    let virtual_address = regs::far_el2();
    if !k.arch.vcpus.is_active() {
        // Stage 1 is off: both are the same, and every fault reports this one.
        return virtual_address;
    }
    // HPFAR_EL2 is not valid for a permission fault outside of a stage 1 walk (D19.2.61): translate again.
    if esr & STATUS_KIND == STATUS_PERMISSION && esr & S1PTW == 0 {
        let saved = guest::par_el1::read();
        regs::translate_stage1(virtual_address);
        let result = guest::par_el1::read();
        guest::par_el1::write(saved);
        if result & PAR_FAILED == 0 {
            return (result & 0x0000_ffff_ffff_f000) | (virtual_address & 0xfff);
        }
    }
    (regs::hpfar_el2() & 0x0fff_ffff_fff0) << 8 | (virtual_address & 0xfff)
}

/// Whether a trapped register access is to the debug registers (op0 2) or the performance monitors (op0 3, CRn 9 with CRm 12
/// to 14, CRn 14 with CRm 8 to 15).
const fn is_debug_or_monitor(esr: u64) -> bool {
    let (op0, crn, crm) = (esr >> 20 & 3, esr >> 10 & 0xf, esr >> 1 & 0xf);
    op0 == 2 || op0 == 3 && (crn == 9 && crm >= 12 && crm <= 14 || crn == 14 && crm >= 8)
}

/// A read gives zero, a write has no effect, the guest goes on behind it.
fn ignore_register(tcb: &Tcb, esr: u64) {
    let register = (esr >> 5 & 0x1f) as usize;
    if esr & 1 == 1
        && let Some(x) = tcb.context.x.get(register)
    {
        x.set(0);
    }
    let pc = &tcb.context.pc;
    pc.set(pc.get().wrapping_add(4));
}

/// From the vectors: a system error while user level ran. On the machines in question it is a device access gone wrong; the
/// thread is told as of any exception without a message of its own.
pub extern "C" fn lower_system_error() -> u64 {
    let k = KERNEL.get();
    masked_time::begin(Entry::Exception, 0, None);
    k.handle_vcpu_fault(regs::esr_el2());
    next(k)
}

/// From the vectors: an exception in the kernel itself, which is a defect of the kernel (or of the hardware).
pub extern "C" fn kernel_exception(kind: u64) -> ! {
    let console = &KERNEL.get().arch.console;
    console.text("\nkernel exception ");
    console.hex(kind);
    for (name, value) in [
        (" esr ", regs::esr_el2()),
        (" elr ", regs::elr_el2()),
        (" far ", regs::far_el2()),
        (" spsr ", regs::spsr_el2()),
    ] {
        console.text(name);
        console.hex(value);
    }
    console.text("\n");
    entry::halt()
}
