//! What came from user level, and what to do about it ([`syndrome`] says what an exception is).

use crate::cell::Global;
use crate::el2::El2;
use crate::entry;
use crate::gic::{MAINTENANCE_IRQ, SPURIOUS, TIMER_IRQ, VTIMER_IRQ};
use crate::masked_time::{self, Entry};
use crate::regs::{self, guest};
use crate::syndrome::{self, Mode, Trap};
use kernel_core::object::Tcb;
use kernel_core::state::kernel::Kernel;

/// The kernel.
pub static KERNEL: Global<Kernel<El2>> = Global::new(Kernel::new(El2::new()));

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
    let mode = if k.arch.vcpus.is_active() {
        Mode::Guest
    } else {
        Mode::Native
    };
    match syndrome::decode(esr, mode) {
        Trap::Memory(access) => k.handle_vm_fault(fault_address(k, esr), esr, access),
        Trap::HypervisorCall => k.handle_unknown_syscall(number(&tcb)),
        Trap::FloatingPoint if k.arch.fpu.take(tcb) => {}
        Trap::Ignored => ignore_register(&tcb, esr),
        Trap::User => k.handle_user_exception(esr, 0),
        Trap::FloatingPoint | Trap::Other => k.handle_vcpu_fault(esr),
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
    if syndrome::lacks_address(esr) {
        // Translate again.
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

/// A read gives zero, a write has no effect, the guest goes on behind it.
fn ignore_register(tcb: &Tcb, esr: u64) {
    if let Some(x) = syndrome::read_into(esr).and_then(|register| tcb.context.x.get(register)) {
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
