//! GICv3 and later (Arm IHI 0069), its CPU interface in system registers.

use super::{WAIT_READS, gicd, saved};
use crate::mmio::Mmio;
use crate::regs::{self, guest};
use crate::tables;
use core::cell::Cell;
use kernel_core::object::Vcpu;
use machine::blocks::OutOfTables;
use machine::regions::Region;

/// GICD_CTLR: affinity routing, both groups on, writes in progress.
const CTLR_ARE: u32 = 1 << 4;
const CTLR_GROUPS: u32 = 0b11;
const CTLR_RWP: u32 = 1 << 31;
const IROUTER: u64 = 0x6000;

/// A redistributor (12.10): two frames of 64 KiB, four with virtual LPIs.
mod gicr {
    pub const TYPER: u64 = 0x08;
    pub const TYPER_AFFINITY: u64 = 0x0c;
    pub const WAKER: u64 = 0x14;
    pub const SGI_FRAME: u64 = 0x1_0000;
    pub const STRIDE: u64 = 0x2_0000;
    pub const STRIDE_VLPI: u64 = 0x4_0000;
    pub const TYPER_VLPIS: u32 = 1 << 1;
    pub const TYPER_LAST: u32 = 1 << 4;
    pub const WAKER_SLEEP: u32 = 1 << 1;
    pub const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
}

/// Redistributors looked at for this core's; the boot core is nearly always the first.
const REDISTRIBUTORS: usize = 128;

/// List register (12.4.9): pending, request for maintenance at the end, group.
const LR_PENDING: u64 = 1 << 62;
const LR_STATE: u64 = 3 << 62;
const LR_EOI: u64 = 1 << 41;
const LR_HW: u64 = 1 << 61;
const LR_GROUP: u32 = 60;
/// The five bits of priority that every implementation has are the upper ones.
const LR_PRIORITY: u32 = 48 + 3;

/// A GICv3.
#[derive(Clone, Copy)]
pub struct GicV3 {
    distributor: Mmio,
    /// The frame with this core's interrupts 0 to 31.
    private: Mmio,
    /// Number of interrupts.
    pub interrupts: u64,
    /// Number of list registers.
    pub list_registers: u64,
    /// Words of active priorities of each group.
    active_words: usize,
}

fn wait(mut done: impl FnMut() -> bool) {
    for _ in 0..WAIT_READS {
        if done() {
            return;
        }
    }
}

impl GicV3 {
    /// Everything masked, this core takes all interrupts.
    pub fn set_up(distributor: Mmio, redistributors: &Region) -> Result<Self, OutOfTables> {
        let interrupts = super::interrupts(distributor);
        let synchronise = || wait(|| distributor.read(gicd::CTLR) & CTLR_RWP == 0);
        distributor.write(gicd::CTLR, 0);
        synchronise();
        distributor.write(gicd::CTLR, CTLR_ARE);
        synchronise();
        super::quiet(distributor, 32, interrupts, u32::MAX);
        let mpidr = regs::mpidr_el1();
        let affinity = (mpidr & 0xff_ffff) | (mpidr & 0xff_0000_0000);
        for irq in 32..interrupts {
            let offset = IROUTER.wrapping_add(irq << 3);
            distributor.write(offset, affinity as u32);
            distributor.write(offset.wrapping_add(4), (affinity >> 32) as u32);
        }
        synchronise();
        distributor.write(gicd::CTLR, CTLR_ARE | CTLR_GROUPS);

        let base = find(redistributors, affinity)?;
        let redistributor = tables::map_device(base, 1)?;
        let private = tables::map_device(base.wrapping_add(gicr::SGI_FRAME), 1)?;
        redistributor.write(
            gicr::WAKER,
            redistributor.read(gicr::WAKER) & !gicr::WAKER_SLEEP,
        );
        wait(|| redistributor.read(gicr::WAKER) & gicr::WAKER_CHILDREN_ASLEEP == 0);
        super::quiet(private, 0, 32, u32::MAX);

        // SRE and Enable: system registers at EL2, and EL1's use of them is not trapped.
        regs::write_icc_sre_el2(0b1001 | 0b110);
        regs::isb();
        regs::write_icc_pmr_el1(0xf0);
        regs::write_icc_bpr1_el1(0);
        regs::write_icc_ctlr_el1(0);
        regs::write_icc_igrpen1_el1(1);
        regs::write_ich_hcr_el2(0);
        regs::isb();
        let features = regs::ich_vtr_el2();
        let list_registers = (features & 0x1f).wrapping_add(1).min(16);
        // PREbits (28:26) + 1 preemption bits: 5 take one word, 6 two, 7 four.
        let active_words = match features >> 26 & 7 {
            0..=4 => 1,
            5 => 2,
            _ => 4,
        };
        Ok(Self {
            distributor,
            private,
            interrupts,
            list_registers,
            active_words,
        })
    }

    /// The frame that configures an interrupt.
    pub fn registers_of(&self, irq: u64) -> Mmio {
        if irq < 32 {
            self.private
        } else {
            self.distributor
        }
    }

    pub fn acknowledge(&self) -> u64 {
        let irq = regs::icc_iar1_el1() & 0xff_ffff;
        regs::dsb_sy();
        irq
    }

    pub fn end(&self, irq: u64) {
        regs::write_icc_eoir1_el1(irq);
        regs::isb();
    }

    pub fn take_ended(&self) -> Option<u64> {
        let index = u64::from(regs::ich_eisr_el2().trailing_zeros());
        if index >= self.list_registers {
            return None;
        }
        write_list(index, read_list(index) & !LR_EOI);
        Some(index)
    }

    pub fn save(&self, vcpu: &Vcpu) {
        if let Some(cell) = vcpu.vgic.get(saved::VMCR) {
            cell.set(guest::ich_vmcr_el2::read());
        }
        for word in 0..self.active_words {
            let (group0, group1) = active(word);
            for (offset, value) in [(0, group0), (4, group1)] {
                if let Some(cell) = vcpu
                    .vgic
                    .get(saved::APR.wrapping_add(word).wrapping_add(offset))
                {
                    cell.set(value);
                }
            }
        }
        for (index, cell) in (0..self.list_registers).zip(&vcpu.lr) {
            cell.set(read_list(index));
        }
    }

    pub fn load(&self, vcpu: &Vcpu) {
        guest::ich_vmcr_el2::write(vcpu.vgic.get(saved::VMCR).map_or(0, Cell::get));
        for word in 0..self.active_words {
            let value = |offset: usize| {
                vcpu.vgic
                    .get(saved::APR.wrapping_add(word).wrapping_add(offset))
                    .map_or(0, Cell::get)
            };
            set_active(word, value(0), value(4));
        }
        for (index, cell) in (0..self.list_registers).zip(&vcpu.lr) {
            write_list(index, cell.get());
        }
    }
}

/// The redistributor of the core with this affinity.
fn find(region: &Region, affinity: u64) -> Result<u64, OutOfTables> {
    let wanted = ((affinity & 0xff_ffff) | (affinity >> 32 & 0xff) << 24) as u32;
    let mut base = region.start;
    for _ in 0..REDISTRIBUTORS {
        if base >= region.end {
            break;
        }
        let frame = tables::map_device(base, 1)?;
        let features = frame.read(gicr::TYPER);
        if frame.read(gicr::TYPER_AFFINITY) == wanted {
            return Ok(base);
        }
        if features & gicr::TYPER_LAST != 0 {
            break;
        }
        base = base.wrapping_add(if features & gicr::TYPER_VLPIS != 0 {
            gicr::STRIDE_VLPI
        } else {
            gicr::STRIDE
        });
    }
    Err(OutOfTables)
}

/// ICC_SGI1R_EL1 (12.2.22): affinities 3, 2, 1, the list of affinity 0, the number.
pub fn send_sgi(irq: u64, target: u64) {
    let (aff1, aff2, aff3) = (target >> 8 & 0xff, target >> 16 & 0xff, target >> 24 & 0xff);
    // Behind the first 16 of affinity 0 is nobody on machines without a range selector: what is sent there gets lost.
    if target & 0xf0 != 0 {
        return;
    }
    regs::dsb_ishst();
    regs::write_icc_sgi1r_el1(
        aff3 << 48 | aff2 << 32 | (irq & 15) << 24 | aff1 << 16 | 1 << (target & 15),
    );
    regs::isb();
}

pub const fn list_entry(virq: u64, priority: u64, group: u64) -> u64 {
    (virq & 0xffff_ffff)
        | LR_EOI
        | (priority & 0x1f) << LR_PRIORITY
        | LR_PENDING
        | (group & 1) << LR_GROUP
}

pub const fn is_free(entry: u64) -> bool {
    entry & (LR_STATE | LR_HW) == 0
}

fn active(word: usize) -> (u64, u64) {
    match word {
        0 => (guest::ich_ap0r0_el2::read(), guest::ich_ap1r0_el2::read()),
        1 => (guest::ich_ap0r1_el2::read(), guest::ich_ap1r1_el2::read()),
        2 => (guest::ich_ap0r2_el2::read(), guest::ich_ap1r2_el2::read()),
        _ => (guest::ich_ap0r3_el2::read(), guest::ich_ap1r3_el2::read()),
    }
}

fn set_active(word: usize, group0: u64, group1: u64) {
    match word {
        0 => (
            guest::ich_ap0r0_el2::write(group0),
            guest::ich_ap1r0_el2::write(group1),
        ),
        1 => (
            guest::ich_ap0r1_el2::write(group0),
            guest::ich_ap1r1_el2::write(group1),
        ),
        2 => (
            guest::ich_ap0r2_el2::write(group0),
            guest::ich_ap1r2_el2::write(group1),
        ),
        _ => (
            guest::ich_ap0r3_el2::write(group0),
            guest::ich_ap1r3_el2::write(group1),
        ),
    };
}

pub fn read_list(index: u64) -> u64 {
    match index {
        0 => guest::ich_lr0_el2::read(),
        1 => guest::ich_lr1_el2::read(),
        2 => guest::ich_lr2_el2::read(),
        3 => guest::ich_lr3_el2::read(),
        4 => guest::ich_lr4_el2::read(),
        5 => guest::ich_lr5_el2::read(),
        6 => guest::ich_lr6_el2::read(),
        7 => guest::ich_lr7_el2::read(),
        8 => guest::ich_lr8_el2::read(),
        9 => guest::ich_lr9_el2::read(),
        10 => guest::ich_lr10_el2::read(),
        11 => guest::ich_lr11_el2::read(),
        12 => guest::ich_lr12_el2::read(),
        13 => guest::ich_lr13_el2::read(),
        14 => guest::ich_lr14_el2::read(),
        _ => guest::ich_lr15_el2::read(),
    }
}

pub fn write_list(index: u64, entry: u64) {
    match index {
        0 => guest::ich_lr0_el2::write(entry),
        1 => guest::ich_lr1_el2::write(entry),
        2 => guest::ich_lr2_el2::write(entry),
        3 => guest::ich_lr3_el2::write(entry),
        4 => guest::ich_lr4_el2::write(entry),
        5 => guest::ich_lr5_el2::write(entry),
        6 => guest::ich_lr6_el2::write(entry),
        7 => guest::ich_lr7_el2::write(entry),
        8 => guest::ich_lr8_el2::write(entry),
        9 => guest::ich_lr9_el2::write(entry),
        10 => guest::ich_lr10_el2::write(entry),
        11 => guest::ich_lr11_el2::write(entry),
        12 => guest::ich_lr12_el2::write(entry),
        13 => guest::ich_lr13_el2::write(entry),
        14 => guest::ich_lr14_el2::write(entry),
        _ => guest::ich_lr15_el2::write(entry),
    }
}
