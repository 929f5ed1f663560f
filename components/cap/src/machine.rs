//! Interrupts and vCPUs.

use crate::{Error, Notification, Slot, Tcb, capability, thread};
use sel4_sys::{Invocation, VcpuReg};

capability! {
    /// The right to hand out interrupts.
    IrqControl;
    /// One interrupt.
    IrqHandler;
    /// A guest's virtual CPU.
    Vcpu;
}

/// How an interrupt line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Active while the level is high.
    Level,
    /// On a rising edge.
    Edge,
}

impl IrqControl {
    /// Puts the handler capability of interrupt `irq` (its INTID) into `dest`.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM IRQ Control - Get Trigger); `RevokeFirst` when it was handed out before.
    pub fn get(self, irq: u64, trigger: Trigger, dest: Slot) -> Result<(), Error> {
        let trigger = match trigger {
            Trigger::Level => 0,
            Trigger::Edge => 1,
        };
        thread::invoke(
            self.cptr(),
            Invocation::ArmIrqIssueIrqHandlerTrigger,
            &[irq, trigger, dest.index, u64::from(dest.depth)],
            &[dest.root.cptr()],
        )
        .map(drop)
    }
}

impl IrqHandler {
    /// The interrupt may come again.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, IRQ Handler - Acknowledge).
    #[inline]
    pub fn ack(self) -> Result<(), Error> {
        thread::invoke(self.cptr(), Invocation::IrqAckIrq, &[], &[]).map(drop)
    }

    /// The notification that the interrupt signals.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, IRQ Handler - Set Notification).
    pub fn set_notification(self, notification: Notification) -> Result<(), Error> {
        thread::invoke(
            self.cptr(),
            Invocation::IrqSetIrqHandler,
            &[],
            &[notification.cptr()],
        )
        .map(drop)
    }

    /// Forgets the notification.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, IRQ Handler - Clear).
    pub fn clear(self) -> Result<(), Error> {
        thread::invoke(self.cptr(), Invocation::IrqClearIrqHandler, &[], &[]).map(drop)
    }
}

impl Vcpu {
    /// Makes `tcb` the thread of this vCPU.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM VCPU - Set TCB).
    pub fn set_tcb(self, tcb: Tcb) -> Result<(), Error> {
        thread::invoke(self.cptr(), Invocation::ArmVcpuSetTcb, &[], &[tcb.cptr()]).map(drop)
    }

    /// Puts interrupt `virq` (its INTID in the guest) into list register `index`, with a priority of 0..=31 and group
    /// 0 or 1.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM VCPU - Inject IRQ); `DeleteFirst` when the register is in use.
    #[inline]
    pub fn inject_irq(self, virq: u16, priority: u8, group: u8, index: u8) -> Result<(), Error> {
        let word = u64::from(virq)
            | (u64::from(priority) << 16)
            | (u64::from(group) << 24)
            | (u64::from(index) << 32);
        thread::invoke(self.cptr(), Invocation::ArmVcpuInjectIrq, &[word], &[]).map(drop)
    }

    /// Reads a register.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM VCPU - Read Registers).
    #[inline]
    pub fn read_reg(self, register: VcpuReg) -> Result<u64, Error> {
        thread::invoke(
            self.cptr(),
            Invocation::ArmVcpuReadReg,
            &[register.word()],
            &[],
        )
        .map(|words| words[0])
    }

    /// Writes a register.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM VCPU - Write Registers).
    #[inline]
    pub fn write_reg(self, register: VcpuReg, value: u64) -> Result<(), Error> {
        thread::invoke(
            self.cptr(),
            Invocation::ArmVcpuWriteReg,
            &[register.word(), value],
            &[],
        )
        .map(drop)
    }

    /// The virtual private interrupt `irq` was handled by the guest: it may come again.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM VCPU - Acknowledge VPPI).
    #[inline]
    pub fn ack_vppi(self, irq: u64) -> Result<(), Error> {
        thread::invoke(self.cptr(), Invocation::ArmVcpuAckVppi, &[irq], &[]).map(drop)
    }
}
