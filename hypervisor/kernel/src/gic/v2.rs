//! GICv2 (Arm IHI 0048B).

use super::{gicd, saved};
use crate::mmio::Mmio;
use kernel_core::object::Vcpu;

/// CPU interface (table 4-2).
mod gicc {
    pub const CTLR: u64 = 0;
    pub const PMR: u64 = 4;
    pub const BPR: u64 = 8;
    pub const IAR: u64 = 0xc;
    pub const EOIR: u64 = 0x10;
}

/// Virtual interface control (table 5-4).
mod gich {
    pub const HCR: u64 = 0;
    pub const VTR: u64 = 4;
    pub const VMCR: u64 = 8;
    pub const EISR0: u64 = 0x20;
    pub const EISR1: u64 = 0x24;
    pub const APR: u64 = 0xf0;
    pub const LR: u64 = 0x100;
}

/// List register (5.3.11): pending state, request for maintenance at the end, group.
const LR_PENDING: u64 = 1 << 28;
const LR_STATE: u64 = 3 << 28;
const LR_EOI: u64 = 1 << 19;
const LR_GROUP: u32 = 30;
const LR_PRIORITY: u32 = 23;

/// A GICv2.
#[derive(Clone, Copy)]
pub struct GicV2 {
    /// Distributor.
    pub distributor: Mmio,
    cpu: Mmio,
    virtual_control: Mmio,
    /// Number of interrupts.
    pub interrupts: u64,
    /// Number of list registers.
    pub list_registers: u64,
}

impl GicV2 {
    /// Everything masked, this core takes all interrupts.
    pub fn set_up(distributor: Mmio, cpu: Mmio, virtual_control: Mmio) -> Self {
        let interrupts = super::interrupts(distributor);
        distributor.write(gicd::CTLR, 0);
        super::quiet(distributor, 0, interrupts, 0);
        // Which bit this core is in target lists: the banked registers of interrupts 0 to 31 say.
        let mut target = 0;
        for word in 0..8u64 {
            target |= distributor.read(gicd::ITARGETSR.wrapping_add(word << 2));
        }
        let target = (target | target >> 8 | target >> 16 | target >> 24) & 0xff;
        let mut irq = 32;
        while irq < interrupts {
            distributor.write(
                gicd::ITARGETSR.wrapping_add(irq),
                target.wrapping_mul(0x0101_0101),
            );
            irq = irq.wrapping_add(4);
        }
        distributor.write(gicd::CTLR, 1);
        cpu.write(gicc::PMR, 0xf0);
        cpu.write(gicc::BPR, 0);
        cpu.write(gicc::CTLR, 1);
        virtual_control.write(gich::HCR, 0);
        let list_registers = u64::from(virtual_control.read(gich::VTR) & 0x3f).wrapping_add(1);
        Self {
            distributor,
            cpu,
            virtual_control,
            interrupts,
            list_registers,
        }
    }

    pub fn acknowledge(&self) -> u64 {
        u64::from(self.cpu.read(gicc::IAR) & 0x3ff)
    }

    pub fn end(&self, irq: u64) {
        self.cpu.write(gicc::EOIR, irq as u32);
    }

    pub fn send_sgi(&self, irq: u64, target: u64) {
        crate::regs::dsb_ishst();
        self.distributor
            .write(gicd::SGIR, 1u32 << (16 + (target & 7)) | (irq as u32 & 15));
    }

    pub fn write_hcr(&self, value: u64) {
        self.virtual_control.write(gich::HCR, value as u32);
    }

    pub fn read_list(&self, index: u64) -> u64 {
        u64::from(self.virtual_control.read(gich::LR.wrapping_add(index << 2)))
    }

    pub fn write_list(&self, index: u64, entry: u64) {
        self.virtual_control
            .write(gich::LR.wrapping_add(index << 2), entry as u32);
    }

    pub fn take_ended(&self) -> Option<u64> {
        let low = self.virtual_control.read(gich::EISR0);
        let high = if self.list_registers > 32 {
            self.virtual_control.read(gich::EISR1)
        } else {
            0
        };
        let ended = u64::from(low) | u64::from(high) << 32;
        let index = u64::from(ended.trailing_zeros());
        if index >= self.list_registers {
            return None;
        }
        self.write_list(index, self.read_list(index) & !LR_EOI);
        Some(index)
    }

    pub fn save(&self, vcpu: &Vcpu) {
        for (offset, index) in [(gich::VMCR, saved::VMCR), (gich::APR, saved::APR)] {
            if let Some(cell) = vcpu.vgic.get(index) {
                cell.set(u64::from(self.virtual_control.read(offset)));
            }
        }
        for (index, cell) in (0..self.list_registers).zip(&vcpu.lr) {
            cell.set(self.read_list(index));
        }
    }

    pub fn load(&self, vcpu: &Vcpu) {
        for (offset, index) in [(gich::VMCR, saved::VMCR), (gich::APR, saved::APR)] {
            if let Some(cell) = vcpu.vgic.get(index) {
                self.virtual_control.write(offset, cell.get() as u32);
            }
        }
        for (index, cell) in (0..self.list_registers).zip(&vcpu.lr) {
            self.write_list(index, cell.get());
        }
    }
}

pub const fn list_entry(virq: u64, priority: u64, group: u64) -> u64 {
    (virq & 0x3ff)
        | LR_EOI
        | (priority & 0x1f) << LR_PRIORITY
        | LR_PENDING
        | (group & 1) << LR_GROUP
}

pub const fn is_free(entry: u64) -> bool {
    entry & LR_STATE == 0
}
