//! Which vCPU is in the registers.
//!
//! A vCPU is *loaded* when its EL1 registers and its list registers are in the hardware, and *active* when in addition its thread
//! runs: guest traps on, virtual interface and virtual timer working. Leaving a guest for a native thread only deactivates
//! it; its registers stay until another vCPU is loaded.

use crate::gic::{Gic, VTIMER_IRQ, saved};
use crate::regs::{self, guest};
use core::cell::Cell;
use kernel_core::arch::IrqMask;
use kernel_core::object::Vcpu;
use kernel_core::object::mem::Ref;

/// HCR_EL2 (Arm ARM D19.2.48) of both modes: VM, SWIO, FMO, IMO, AMO, TSC, RW.
const HCR: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 19 | 1 << 31;
/// Native: DC (stage 1 off, memory normal), TGE (EL0's exceptions come to EL2).
const HCR_NATIVE: u64 = HCR | 1 << 12 | 1 << 27;
/// Guest: FB, BSU inner shareable (a guest's invalidations reach all cores), TWI, TWE, TIDCP (implementation-defined registers).
const HCR_GUEST: u64 = HCR | 1 << 9 | 1 << 10 | 1 << 13 | 1 << 14 | 1 << 20;
/// MDCR_EL2: TDRA, TDOSA, TDA: debug registers trap; without HPMN.
const MDCR: u64 = 1 << 11 | 1 << 10 | 1 << 9;
/// Guest, in addition TPM and TPMCR: performance monitors trap. The trap handler reads them as zero and ignores writes, so that a
/// guest neither sees nor disturbs anybody's.
const MDCR_GUEST: u64 = MDCR | 1 << 6 | 1 << 5;
/// SCTLR_EL1 while native threads run (they see EL0's part of it): RES1 bits, UCI, nTWE, nTWI, UCT, DZE, I, C.
const SCTLR_NATIVE: u64 =
    0x30d0_0800 | 1 << 26 | 1 << 18 | 1 << 16 | 1 << 15 | 1 << 14 | 1 << 12 | 1 << 2;
/// SCTLR_EL1 of a new vCPU, as seL4 starts one: RES1 bits, translation and caches off; EL0 may wait, read CTR_EL0, maintain
/// caches and use the AArch32 barriers (UCI, nTWE, nTWI, UCT, CP15BEN).
const SCTLR_RESET: u64 = 0x30d0_0800 | 1 << 26 | 1 << 18 | 1 << 16 | 1 << 15 | 1 << 5;
/// CPACR_EL1 while native threads run: EL1's trap of floating point off (EL2's decides).
const CPACR_NATIVE: u64 = 3 << 20;
/// CNTKCTL_EL1 while native threads run: EL0 reads both counters.
const CNTKCTL_NATIVE: u64 = 0b11;
/// VMPIDR_EL2 of a new vCPU: RES1, core 0.
const VMPIDR_RESET: u64 = 1 << 31;

/// Indices of `seL4_VCPUReg`.
mod register {
    pub const SCTLR: usize = 0;
    pub const CPACR: usize = 1;
    pub const SAVE_START: usize = 2;
    pub const VMPIDR: usize = 16;
    pub const SAVE_END: usize = 19;
    pub const CNTV_CTL: usize = 20;
    pub const CNTV_CVAL: usize = 21;
    pub const CNTVOFF: usize = 22;
    pub const CNTKCTL: usize = 23;
}

/// Indices into [`Vcpu::vtimer`].
mod extra {
    /// 1 while the virtual timer's interrupt waits to be acknowledged.
    pub const TIMER_MASKED: usize = 0;
    /// CSSELR_EL1, which has no `seL4_VCPUReg`.
    pub const CSSELR: usize = 1;
}

fn get(cells: &[Cell<u64>], index: usize) -> u64 {
    cells.get(index).map_or(0, Cell::get)
}

fn set(cells: &[Cell<u64>], index: usize, value: u64) {
    if let Some(cell) = cells.get(index) {
        cell.set(value);
    }
}

/// A loaded register that is not switched when its vCPU is deactivated (`SAVE_START..=SAVE_END`).
#[inline(always)]
fn read_loaded(index: usize) -> u64 {
    match index {
        2 => guest::ttbr0_el1::read(),
        3 => guest::ttbr1_el1::read(),
        4 => guest::tcr_el1::read(),
        5 => guest::mair_el1::read(),
        6 => guest::amair_el1::read(),
        7 => guest::contextidr_el1::read(),
        8 => guest::actlr_el1::read(),
        9 => guest::afsr0_el1::read(),
        10 => guest::afsr1_el1::read(),
        11 => guest::esr_el1::read(),
        12 => guest::far_el1::read(),
        13 => guest::par_el1::read(),
        14 => guest::vbar_el1::read(),
        15 => guest::tpidr_el1::read(),
        16 => guest::vmpidr_el2::read(),
        17 => guest::sp_el1::read(),
        18 => guest::elr_el1::read(),
        _ => guest::spsr_el1::read(),
    }
}

fn write_loaded(index: usize, value: u64) {
    match index {
        2 => guest::ttbr0_el1::write(value),
        3 => guest::ttbr1_el1::write(value),
        4 => guest::tcr_el1::write(value),
        5 => guest::mair_el1::write(value),
        6 => guest::amair_el1::write(value),
        7 => guest::contextidr_el1::write(value),
        8 => guest::actlr_el1::write(value),
        9 => guest::afsr0_el1::write(value),
        10 => guest::afsr1_el1::write(value),
        11 => guest::esr_el1::write(value),
        12 => guest::far_el1::write(value),
        13 => guest::par_el1::write(value),
        14 => guest::vbar_el1::write(value),
        15 => guest::tpidr_el1::write(value),
        16 => guest::vmpidr_el2::write(value),
        17 => guest::sp_el1::write(value),
        18 => guest::elr_el1::write(value),
        _ => guest::spsr_el1::write(value),
    }
}

/// Which vCPU is loaded, and whether it is active.
pub struct Vcpus {
    loaded: Cell<Option<Ref<Vcpu>>>,
    active: Cell<bool>,
    /// Whether the virtual timer's interrupt is masked at the controller.
    timer_mask: Cell<IrqMask>,
    mdcr: Cell<u64>,
}

impl Vcpus {
    /// None.
    pub const fn new() -> Self {
        Self {
            loaded: Cell::new(None),
            active: Cell::new(false),
            timer_mask: Cell::new(IrqMask::Masked),
            mdcr: Cell::new(0),
        }
    }

    /// Native mode, for the first time.
    pub fn set_up(&self) {
        // HPMN, PMCR_EL0.N: all event counters belong to EL1 and EL0.
        self.mdcr.set(if regs::id_aa64dfr0_el1() >> 8 & 0xf == 0 {
            0
        } else {
            regs::pmcr_el0() >> 11 & 0x1f
        });
        regs::write_mdscr_el1(0);
        self.native();
        regs::isb();
    }

    fn native(&self) {
        guest::sctlr_el1::write(SCTLR_NATIVE);
        guest::cpacr_el1::write(CPACR_NATIVE);
        guest::cntv_ctl_el0::write(0);
        guest::cntvoff_el2::write(0);
        guest::cntkctl_el1::write(CNTKCTL_NATIVE);
        regs::write_hcr_el2(HCR_NATIVE);
        regs::write_mdcr_el2(MDCR | self.mdcr.get());
    }

    /// Whether a guest is in the registers.
    #[inline(always)]
    pub fn is_active(&self) -> bool {
        self.active.get()
    }

    /// Whether this one is.
    #[inline(always)]
    pub fn is_running(&self, vcpu: Ref<Vcpu>) -> bool {
        self.active.get() && self.loaded.get() == Some(vcpu)
    }

    /// A guest gives way to a native thread or to nobody.
    pub fn leave(&self, gic: &Gic) {
        let Some(vcpu) = self.loaded.get() else {
            return;
        };
        let saved = &vcpu.registers;
        set(saved, register::SCTLR, guest::sctlr_el1::read());
        set(saved, register::CPACR, guest::cpacr_el1::read());
        set(saved, register::CNTV_CTL, guest::cntv_ctl_el0::read());
        set(saved, register::CNTV_CVAL, guest::cntv_cval_el0::read());
        set(saved, register::CNTKCTL, guest::cntkctl_el1::read());
        gic.disable_virtual();
        self.native();
        self.active.set(false);
    }

    /// A vCPU's thread runs next; no other one is active.
    pub fn enter(&self, vcpu: Ref<Vcpu>, gic: &Gic) {
        if self.loaded.get() != Some(vcpu) {
            if let Some(old) = self.loaded.get() {
                self.save(old, gic);
            }
            self.load(vcpu, gic);
        }
        let saved = &vcpu.registers;
        guest::sctlr_el1::write(get(saved, register::SCTLR));
        guest::cpacr_el1::write(get(saved, register::CPACR));
        guest::cntkctl_el1::write(get(saved, register::CNTKCTL));
        guest::cntvoff_el2::write(get(saved, register::CNTVOFF));
        guest::cntv_cval_el0::write(get(saved, register::CNTV_CVAL));
        self.mask_timer(vcpu, gic);
        guest::cntv_ctl_el0::write(get(saved, register::CNTV_CTL));
        regs::write_hcr_el2(HCR_GUEST);
        regs::write_mdcr_el2(MDCR_GUEST | self.mdcr.get());
        gic.enable_virtual(&vcpu);
        self.active.set(true);
    }

    /// The virtual timer's interrupt is masked while its event has not been acknowledged.
    fn mask_timer(&self, vcpu: Ref<Vcpu>, gic: &Gic) {
        let wanted = if get(&vcpu.vtimer, extra::TIMER_MASKED) == 0 {
            IrqMask::Unmasked
        } else {
            IrqMask::Masked
        };
        if wanted != self.timer_mask.get() {
            gic.mask(VTIMER_IRQ, wanted);
            self.timer_mask.set(wanted);
        }
    }

    fn save(&self, vcpu: Ref<Vcpu>, gic: &Gic) {
        macro_rules! each {
            ($($index:literal)*) => {
                $(set(&vcpu.registers, $index, read_loaded($index));)*
            };
        }
        // One by one: in a loop each of them would have to find its instruction by its number. All of `SAVE_START..=SAVE_END`,
        // but VMPIDR_EL2, which changes by `write` only.
        each!(2 3 4 5 6 7 8 9 10 11 12 13 14 15 17 18 19);
        set(&vcpu.vtimer, extra::CSSELR, guest::csselr_el1::read());
        gic.save_virtual(&vcpu);
        self.loaded.set(None);
    }

    fn load(&self, vcpu: Ref<Vcpu>, gic: &Gic) {
        for index in register::SAVE_START..=register::SAVE_END {
            write_loaded(index, get(&vcpu.registers, index));
        }
        guest::csselr_el1::write(get(&vcpu.vtimer, extra::CSSELR));
        gic.load_virtual(&vcpu);
        self.loaded.set(Some(vcpu));
    }

    /// Nothing of an inactive vCPU stays in the registers.
    pub fn unload(&self, vcpu: Ref<Vcpu>, gic: &Gic) {
        if self.loaded.get() == Some(vcpu) && !self.active.get() {
            self.save(vcpu, gic);
        }
    }

    /// The virtual timer's interrupt came: it is masked until it is acknowledged. `false`: no guest is there to have it.
    #[must_use]
    pub fn timer_fired(&self, gic: &Gic) -> bool {
        gic.mask(VTIMER_IRQ, IrqMask::Masked);
        self.timer_mask.set(IrqMask::Masked);
        match self.loaded.get() {
            Some(vcpu) if self.active.get() => {
                set(&vcpu.vtimer, extra::TIMER_MASKED, 1);
                true
            }
            _ => false,
        }
    }

    /// It is acknowledged.
    pub fn acknowledge_timer(&self, vcpu: Ref<Vcpu>, gic: &Gic) {
        set(&vcpu.vtimer, extra::TIMER_MASKED, 0);
        if self.is_running(vcpu) {
            self.mask_timer(vcpu, gic);
        }
    }

    /// Reads a register by its `seL4_VCPUReg` index.
    pub fn read(&self, vcpu: Ref<Vcpu>, index: u64) -> u64 {
        let index = index as usize;
        if self.is_running(vcpu) {
            match index {
                register::SCTLR => return guest::sctlr_el1::read(),
                register::CPACR => return guest::cpacr_el1::read(),
                register::CNTV_CTL => return guest::cntv_ctl_el0::read(),
                register::CNTV_CVAL => return guest::cntv_cval_el0::read(),
                register::CNTVOFF => return guest::cntvoff_el2::read(),
                register::CNTKCTL => return guest::cntkctl_el1::read(),
                _ => {}
            }
        }
        if self.loaded.get() == Some(vcpu)
            && (register::SAVE_START..=register::SAVE_END).contains(&index)
        {
            return read_loaded(index);
        }
        get(&vcpu.registers, index)
    }

    /// Writes one.
    pub fn write(&self, vcpu: Ref<Vcpu>, index: u64, value: u64) {
        let index = index as usize;
        set(&vcpu.registers, index, value);
        if self.loaded.get() == Some(vcpu)
            && (register::SAVE_START..=register::SAVE_END).contains(&index)
        {
            write_loaded(index, value);
        }
        if self.is_running(vcpu) {
            match index {
                register::SCTLR => guest::sctlr_el1::write(value),
                register::CPACR => guest::cpacr_el1::write(value),
                register::CNTV_CTL => guest::cntv_ctl_el0::write(value),
                register::CNTV_CVAL => guest::cntv_cval_el0::write(value),
                register::CNTVOFF => guest::cntvoff_el2::write(value),
                register::CNTKCTL => guest::cntkctl_el1::write(value),
                _ => {}
            }
        }
    }

    /// Puts an interrupt (number, priority, group) into a list register. `false`: one is in it.
    pub fn inject(&self, vcpu: Ref<Vcpu>, gic: &Gic, index: u64, virq: (u64, u64, u64)) -> bool {
        let entry = gic.list_entry(virq.0, virq.1, virq.2);
        let loaded = self.loaded.get() == Some(vcpu);
        let old = if loaded {
            gic.read_list(index)
        } else {
            get(&vcpu.lr, index as usize)
        };
        if !gic.list_entry_is_free(old) {
            return false;
        }
        if loaded {
            gic.write_list(index, entry);
        } else {
            set(&vcpu.lr, index as usize, entry);
        }
        true
    }

    /// A new vCPU, its memory zeroed.
    pub fn init(&self, vcpu: Ref<Vcpu>) {
        set(&vcpu.registers, register::SCTLR, SCTLR_RESET);
        set(&vcpu.registers, register::VMPIDR, VMPIDR_RESET);
        set(&vcpu.vgic, saved::HCR, crate::gic::HCR_ENABLED);
    }
}
