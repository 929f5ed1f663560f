//! The interrupt controller: which interrupt came, masking, and the registers of the virtual interface that a vCPU has.

#[cfg(test)]
pub mod tests;
mod v2;
mod v3;

use crate::mmio::Mmio;
use crate::tables;
use core::cell::Cell;
use kernel_core::arch::{IrqMask, Trigger};
use kernel_core::object::Vcpu;
use machine::blocks::OutOfTables;
use machine::describe;

/// The kernel's timer: CNTHP.
pub const TIMER_IRQ: u64 = 26;
/// The virtual timer.
pub const VTIMER_IRQ: u64 = 27;
/// The virtual interface's maintenance interrupt.
pub const MAINTENANCE_IRQ: u64 = 25;
/// Interrupt numbers from here on are not interrupts (Arm IHI 0048 3.2.3).
pub const SPURIOUS: u64 = 1020;

/// Indices into [`Vcpu::vgic`].
pub mod saved {
    /// GICH_HCR / ICH_HCR_EL2.
    pub const HCR: usize = 0;
    /// GICH_VMCR / ICH_VMCR_EL2.
    pub const VMCR: usize = 1;
    /// Active priorities: one word on GICv2; up to four of group 0 and four of group 1 on GICv3.
    pub const APR: usize = 2;
}

/// HCR.En: the virtual interface works.
pub const HCR_ENABLED: u64 = 1;

/// The controller that the machine has.
#[derive(Clone, Copy)]
pub enum Gic {
    /// None yet.
    Absent,
    /// GICv2.
    V2(v2::GicV2),
    /// GICv3.
    V3(v3::GicV3),
}

/// Registers of the distributor that both versions share (Arm IHI 0048 table 4-1, IHI 0069 table 12-25).
mod gicd {
    pub const CTLR: u64 = 0;
    pub const TYPER: u64 = 4;
    pub const IGROUPR: u64 = 0x80;
    pub const ISENABLER: u64 = 0x100;
    pub const ICENABLER: u64 = 0x180;
    pub const ICPENDR: u64 = 0x280;
    pub const ICACTIVER: u64 = 0x380;
    pub const IPRIORITYR: u64 = 0x400;
    pub const ITARGETSR: u64 = 0x800;
    pub const ICFGR: u64 = 0xc00;
    pub const SGIR: u64 = 0xf00;
}

/// Number of interrupts of a distributor.
fn interrupts(distributor: Mmio) -> u64 {
    let lines = u64::from(distributor.read(gicd::TYPER) & 0x1f);
    (lines.wrapping_add(1) << 5).min(SPURIOUS)
}

/// Offset and bit of interrupt `irq` in registers of one bit each.
const fn bit(register: u64, irq: u64) -> (u64, u32) {
    (register.wrapping_add((irq >> 5) << 2), 1u32 << (irq & 31))
}

fn set_mask(registers: Mmio, irq: u64, mask: IrqMask) {
    let register = match mask {
        IrqMask::Masked => gicd::ICENABLER,
        IrqMask::Unmasked => gicd::ISENABLER,
    };
    let (offset, bit) = bit(register, irq);
    registers.write(offset, bit);
}

fn set_trigger(registers: Mmio, irq: u64, trigger: Trigger) {
    let offset = gicd::ICFGR.wrapping_add((irq >> 4) << 2);
    let edge = 2u32 << ((irq & 15) << 1);
    let old = registers.read(offset);
    registers.write(
        offset,
        match trigger {
            Trigger::Level => old & !edge,
            Trigger::Edge => old | edge,
        },
    );
}

/// Interrupts `first..end` (multiples of 32): masked, nothing pending or active, one priority, level-sensitive.
fn quiet(registers: Mmio, first: u64, end: u64, group: u32) {
    let mut irq = first;
    while irq < end {
        let word = (irq >> 5) << 2;
        registers.write(gicd::ICENABLER.wrapping_add(word), u32::MAX);
        registers.write(gicd::ICPENDR.wrapping_add(word), u32::MAX);
        registers.write(gicd::ICACTIVER.wrapping_add(word), u32::MAX);
        registers.write(gicd::IGROUPR.wrapping_add(word), group);
        let mut each = 0;
        while each < 32 {
            registers.write(
                gicd::IPRIORITYR.wrapping_add(irq).wrapping_add(each),
                0x8080_8080,
            );
            each = each.wrapping_add(4);
        }
        if irq >= 32 {
            registers.write(gicd::ICFGR.wrapping_add(word << 1), 0);
            registers.write(gicd::ICFGR.wrapping_add(word << 1).wrapping_add(4), 0);
        }
        irq = irq.wrapping_add(32);
    }
}

/// A distributor or redistributor that finds no end (IHI 0069: RWP) is given up after this many reads.
const WAIT_READS: u32 = 1_000_000;

impl Gic {
    /// Maps and sets up the machine's controller.
    ///
    /// # Errors
    /// [`OutOfTables`] when its registers cannot be mapped.
    pub fn set_up(gic: &describe::Gic) -> Result<Self, OutOfTables> {
        match gic {
            describe::Gic::V2 {
                distributor,
                cpu_interface,
                virtual_control,
                ..
            } => Ok(Self::V2(v2::GicV2::set_up(
                tables::map_device(distributor.start, 1)?,
                tables::map_device(cpu_interface.start, 1)?,
                tables::map_device(virtual_control.start, 1)?,
            ))),
            describe::Gic::V3 {
                distributor,
                redistributors,
            } => {
                let distributor = tables::map_device(distributor.start, 16)?;
                Ok(Self::V3(v3::GicV3::set_up(distributor, redistributors)?))
            }
        }
    }

    /// Number of interrupts.
    pub fn interrupts(&self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::V2(gic) => gic.interrupts,
            Self::V3(gic) => gic.interrupts,
        }
    }

    /// Takes the most urgent pending interrupt; [`SPURIOUS`] or above when there is none.
    #[inline]
    pub fn acknowledge(&self) -> u64 {
        match self {
            Self::Absent => SPURIOUS,
            Self::V2(gic) => gic.acknowledge(),
            Self::V3(gic) => gic.acknowledge(),
        }
    }

    /// Ends what [`Self::acknowledge`] began.
    #[inline]
    pub fn end(&self, irq: u64) {
        match self {
            Self::Absent => {}
            Self::V2(gic) => gic.end(irq),
            Self::V3(gic) => gic.end(irq),
        }
    }

    /// Masks or unmasks an interrupt.
    #[inline(never)]
    pub fn mask(&self, irq: u64, mask: IrqMask) {
        match self {
            Self::Absent => {}
            Self::V2(gic) => set_mask(gic.distributor, irq, mask),
            Self::V3(gic) => set_mask(gic.registers_of(irq), irq, mask),
        }
    }

    /// Sets how an interrupt is signalled. Software-generated ones have no choice.
    pub fn set_trigger(&self, irq: u64, trigger: Trigger) {
        match self {
            _ if irq < 16 => {}
            Self::Absent => {}
            Self::V2(gic) => set_trigger(gic.distributor, irq, trigger),
            Self::V3(gic) => set_trigger(gic.registers_of(irq), irq, trigger),
        }
    }

    /// Whether a software-generated interrupt can go to `target`: GICv2, the number of a core; GICv3, its affinities 3 to 0, a byte each.
    pub fn sgi_target_valid(&self, target: u64) -> bool {
        match self {
            Self::Absent => false,
            Self::V2(_) => target < 8,
            Self::V3(_) => target >> 32 == 0,
        }
    }

    /// Sends one (0 to 15).
    pub fn send_sgi(&self, irq: u64, target: u64) {
        match self {
            Self::Absent => {}
            Self::V2(gic) => gic.send_sgi(irq, target),
            Self::V3(_) => v3::send_sgi(irq, target),
        }
    }

    /// Number of list registers.
    pub fn list_registers(&self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::V2(gic) => gic.list_registers,
            Self::V3(gic) => gic.list_registers,
        }
    }

    /// The list register that puts this interrupt into the guest.
    pub fn list_entry(&self, virq: u64, priority: u64, group: u64) -> u64 {
        match self {
            Self::Absent => 0,
            Self::V2(_) => v2::list_entry(virq, priority, group),
            Self::V3(_) => v3::list_entry(virq, priority, group),
        }
    }

    /// Whether a list register holds no interrupt.
    pub fn list_entry_is_free(&self, entry: u64) -> bool {
        match self {
            Self::Absent => false,
            Self::V2(_) => v2::is_free(entry),
            Self::V3(_) => v3::is_free(entry),
        }
    }

    /// Reads list register `index` of the hardware.
    pub fn read_list(&self, index: u64) -> u64 {
        match self {
            Self::Absent => 0,
            Self::V2(gic) => gic.read_list(index),
            Self::V3(_) => v3::read_list(index),
        }
    }

    /// Writes list register `index` of the hardware.
    pub fn write_list(&self, index: u64, entry: u64) {
        match self {
            Self::Absent => {}
            Self::V2(gic) => gic.write_list(index, entry),
            Self::V3(_) => v3::write_list(index, entry),
        }
    }

    /// The first list register whose end asked for maintenance; it asks no more.
    pub fn take_ended(&self) -> Option<u64> {
        match self {
            Self::Absent => None,
            Self::V2(gic) => gic.take_ended(),
            Self::V3(gic) => gic.take_ended(),
        }
    }

    /// The virtual interface works for this vCPU.
    #[inline]
    pub fn enable_virtual(&self, vcpu: &Vcpu) {
        let hcr = vcpu.vgic.first().map_or(0, Cell::get) | HCR_ENABLED;
        match self {
            Self::Absent => {}
            Self::V2(gic) => gic.write_hcr(hcr),
            Self::V3(_) => crate::regs::write_ich_hcr_el2(hcr),
        }
    }

    /// It stops: no virtual interrupt comes, no maintenance is asked.
    #[inline]
    pub fn disable_virtual(&self) {
        match self {
            Self::Absent => {}
            Self::V2(gic) => gic.write_hcr(0),
            Self::V3(_) => crate::regs::write_ich_hcr_el2(0),
        }
    }

    /// Saves the virtual interface's registers.
    pub fn save_virtual(&self, vcpu: &Vcpu) {
        match self {
            Self::Absent => {}
            Self::V2(gic) => gic.save(vcpu),
            Self::V3(gic) => gic.save(vcpu),
        }
    }

    /// Loads them.
    pub fn load_virtual(&self, vcpu: &Vcpu) {
        match self {
            Self::Absent => {}
            Self::V2(gic) => gic.load(vcpu),
            Self::V3(gic) => gic.load(vcpu),
        }
    }
}
