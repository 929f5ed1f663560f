//! Entry points: what the exception code calls, one for each reason to be in the kernel.
//!
//! The caller has saved the current thread's registers into its TCB, calls one of these, and returns to user level with the
//! registers of [`Kernel::current`], or waits for an interrupt when there is no thread.

use crate::arch::Arch;
use crate::object::mem::Ref;
use crate::object::{SchedContext, Tcb};
use crate::run::fault::{self, Access, Fault};
use crate::run::notification;
use crate::run::sched_context;
use crate::run::scheduler;
use crate::run::thread;
use crate::state::kernel::Kernel;
use crate::syscall::fastpath::{self, Path};
use crate::syscall::slowpath;

impl<A: Arch> Kernel<A> {
    /// A system call of a native thread. `number` is x7; the saved pc is behind the `svc`.
    #[inline]
    pub fn handle_syscall(&self, number: u64) {
        if let Some(current) = self.current.get()
            && fastpath::system_call(self, current, number) == Path::Taken
        {
            return;
        }
        slowpath::dispatch(self, number);
        scheduler::schedule(self);
    }

    /// A guest's HVC, which is never a system call. `number` is x7; the saved pc is behind the `hvc`.
    pub fn handle_unknown_syscall(&self, number: u64) {
        if let Some(tcb) = self.current.get() {
            thread::rewind(tcb);
            self.raise(tcb, Fault::UnknownSyscall { number });
        }
    }

    /// An exception with no message of its own (ESR_EL2 0x0200_0000). The saved pc is the instruction.
    pub fn handle_user_exception(&self, number: u64, code: u64) {
        self.raise_current(Fault::UserException { number, code });
    }

    /// No memory, or no right to it, at `addr`. `fsr` is ESR_EL2.
    pub fn handle_vm_fault(&self, addr: u64, fsr: u64, access: Access) {
        self.raise_current(Fault::Vm { addr, fsr, access });
    }

    /// Something that the vCPU's manager has to handle: trapped instructions, WFI and WFE, exceptions of native threads.
    pub fn handle_vcpu_fault(&self, esr: u64) {
        self.raise_current(Fault::Vcpu { esr });
    }

    /// A private interrupt of the current thread's vCPU (its virtual timer). The caller has masked it.
    pub fn handle_vppi_event(&self, irq: u64) {
        self.vcpu_event(Fault::VppiEvent { irq });
    }

    /// The virtual interrupt controller wants attention. `index` is the list register, or `u64::MAX`.
    pub fn handle_vgic_maintenance(&self, index: u64) {
        self.vcpu_event(Fault::VgicMaintenance { index });
    }

    /// An interrupt that concerns the current thread's vCPU. Without one it came too late, and nobody is told.
    fn vcpu_event(&self, fault: Fault) {
        if let Some(tcb) = self.current.get()
            && tcb.thread.vcpu.get().is_some()
        {
            self.raise(tcb, fault);
        } else {
            scheduler::schedule(self);
        }
    }

    /// A fault of the current thread outside a system call.
    #[inline(always)]
    fn raise_current(&self, fault: Fault) {
        if let Some(tcb) = self.current.get() {
            self.raise(tcb, fault);
        }
    }

    /// A fault of the current thread, as the last step of a kernel entry.
    #[inline(always)]
    fn raise(&self, tcb: Ref<Tcb>, fault: Fault) {
        tcb.thread.fault.set(fault);
        self.raise_prepared(tcb);
    }

    /// The fault is in the thread already.
    #[inline(never)]
    fn raise_prepared(&self, tcb: Ref<Tcb>) {
        if fastpath::fault(self, tcb) == Path::Closed {
            fault::raise_prepared(self, tcb);
            scheduler::schedule(self);
        }
    }

    /// Any other interrupt, acknowledged at the interrupt controller.
    pub fn handle_interrupt(&self, irq: u64) {
        if let Some((object, badge)) = self.take_irq(irq) {
            notification::signal(self, object, badge);
        }
        scheduler::schedule(self);
    }

    /// The kernel's timer.
    pub fn handle_timer(&self) {
        scheduler::timer(self);
        scheduler::schedule(self);
    }

    /// Boot, first step: reads the timer's frequency.
    pub fn init_time(&self) {
        scheduler::init(self);
    }

    /// Boot: gives the initial thread's scheduling context its time (round robin) and binds the two. After [`Self::init_time`].
    pub fn bind_initial(&self, sc: Ref<SchedContext>, tcb: Ref<Tcb>, budget_us: u64) {
        sched_context::configure_boot(self, sc, budget_us);
        sc.tcb.set(Some(tcb));
        tcb.thread.sched_context.set(Some(sc));
    }

    /// Boot, last step: the initial thread runs.
    pub fn start(&self, tcb: Ref<Tcb>) {
        scheduler::start(self, tcb);
    }
}
