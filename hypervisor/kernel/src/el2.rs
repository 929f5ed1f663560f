//! The machine, as kernel-core sees it: AArch64 EL2 without VHE.
//!
//! Native threads run at EL0 with HCR_EL2.TGE, their stage 1 off, so that a VSpace's stage 2 tables alone translate; guests run at
//! EL1 and EL0 on the same kind of tables.

use crate::fpu::Fpu;
use crate::gic::{self, Gic};
use crate::masked_time;
use crate::memory;
use crate::mmio::Mmio;
use crate::regs;
use crate::tables;
use crate::vcpus::Vcpus;
use core::cell::{Cell, OnceCell};
use kernel_core::arch::{Arch, CacheOp, IrqMask, PAddr, Trigger, Vmid};
use kernel_core::object::mem::Ref;
use kernel_core::object::{Registers, Tcb, Vcpu};
use machine::console::Console;
use machine::describe::PsciConduit;

/// VTCR_EL2: 40-bit addresses (T0SZ 24), start at level 1 with two concatenated tables (SL0 1), walks write-back and inner
/// shareable, 4 KiB granule, 40-bit output (PS 2), 8-bit VMIDs; bit 31 RES1.
const VTCR: u64 = 1 << 31 | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 1 << 6 | 24;
/// Position of the VMID in VTTBR_EL2.
const VMID_SHIFT: u32 = 48;

/// SPSR: condition flags.
const FLAGS: u64 = 0xf000_0000;
/// SPSR of a native thread besides its flags: EL0, A and F set. Neither keeps an exception from EL2; debuggers of seL4's threads
/// see these two bits.
const USER: u64 = 0x140;
/// SPSR: what a guest may have set besides: PAN, UAO, DIT, TCO, SSBS, BTYPE, DAIF.
const GUEST_BITS: u64 = 0x03c0_0000 | 0x1000 | 0xc00 | 0x3c0;
/// SPSR of AArch32 user mode: flags, Q, IT, GE, E, A, I, F, T, mode.
const AARCH32_BITS: u64 = 0xfe0f_ffff;
const MODE: u64 = 0x1f;
const MODE_EL1H: u64 = 5;
const MODE_EL1T: u64 = 4;
const MODE_EL0T: u64 = 0;
const MODE_USR32: u64 = 0x10;

/// The machine.
pub struct El2 {
    gic: OnceCell<Gic>,
    /// Which vCPU is in the registers.
    pub vcpus: Vcpus,
    /// Whose floating-point state is in the registers.
    pub fpu: Fpu,
    /// The console, for the debug flavour and for text before user level runs.
    pub console: Console<Mmio>,
    /// How firmware is called.
    pub psci: Cell<Option<PsciConduit>>,
    /// Physical address of an empty root table, for threads without address space.
    pub empty_root: Cell<u64>,
    vttbr: Cell<u64>,
    running: Cell<Option<Ref<Tcb>>>,
}

impl El2 {
    /// Before anything is known of the machine.
    pub const fn new() -> Self {
        Self {
            gic: OnceCell::new(),
            vcpus: Vcpus::new(),
            fpu: Fpu::new(),
            console: Console::new(),
            psci: Cell::new(None),
            empty_root: Cell::new(0),
            vttbr: Cell::new(0),
            running: Cell::new(None),
        }
    }

    /// The interrupt controller, from now on.
    pub fn set_gic(&self, gic: Gic) {
        // Once, at boot: a second one is not taken.
        let _ = self.gic.set(gic);
    }

    /// The interrupt controller.
    #[inline(always)]
    pub fn gic(&self) -> &Gic {
        self.gic.get().unwrap_or(&Gic::Absent)
    }

    /// Starts the cycle counter from zero. It counts at EL0, EL1 and (NSH) EL2, and EL0 may read and set it; nothing else of the monitors
    /// is on. The first thing of all, so that it tells the root task what booting cost.
    pub fn start_counting() {
        if regs::id_aa64dfr0_el1() >> 8 & 0xf != 0 {
            regs::write_pmintenclr_el1(u64::MAX);
            regs::write_pmccfiltr_el0(1 << 27);
            regs::write_pmcntenset_el0(1 << 31);
            // E, C (reset), LC (64 bits).
            regs::write_pmcr_el0(1 | 1 << 2 | 1 << 6);
            regs::write_pmuserenr_el0(1);
        }
    }

    /// Sets the registers that never change again.
    pub fn set_up(&self) {
        regs::write_vtcr_el2(VTCR);
        self.set_vspace(None);
        regs::write_vpidr_el2(regs::midr_el1());
        regs::write_vmpidr_el2(regs::mpidr_el1());
        regs::write_hstr_el2(0);
        regs::write_actlr_el2(0);
        // EL1 and EL0 read the physical counter; the physical timer traps.
        regs::write_cnthctl_el2(1);
        self.vcpus.set_up();
        self.fpu.set_up();
        regs::tlbi_alle1();
        regs::write_cnthp_cval_el2(u64::MAX);
        regs::write_cnthp_ctl_el2(1);
        regs::isb();
    }

    /// The state of the thread in the registers is put away as far as a native thread, or none, may not meet it.
    fn leave(&self) {
        if self.vcpus.is_active() {
            if let Some(old) = self.running.get() {
                old.context.tpidrro_el0.set(regs::tpidrro_el0());
            }
            self.vcpus.leave(self.gic());
        }
    }

    /// Runs `with` while another VMID is in force.
    fn under_vmid(&self, vmid: Vmid, with: impl FnOnce()) {
        let current = self.vttbr.get();
        let wanted = u64::from(vmid.0);
        if current >> VMID_SHIFT == wanted {
            with();
        } else {
            // The root does not matter to the invalidation; nothing walks while the kernel runs.
            regs::write_vttbr_el2(self.empty_root.get() | wanted << VMID_SHIFT);
            regs::isb();
            with();
            regs::write_vttbr_el2(current);
            regs::isb();
        }
    }
}

impl Arch for El2 {
    const PHYS_OFFSET: u64 = tables::PHYS_OFFSET;

    #[inline]
    fn zero(&self, addr: u64, bytes: u64) {
        memory::zero(addr, bytes);
    }

    #[inline]
    fn zero_and_clean(&self, addr: u64, bytes: u64) {
        memory::zero_and_clean(addr, bytes);
    }

    fn cache(&self, op: CacheOp, addr: u64, bytes: u64) {
        memory::cache(op, addr, bytes);
    }

    #[inline(always)]
    fn read_word(&self, addr: u64) -> u64 {
        memory::read_word(addr)
    }

    #[inline(always)]
    fn write_word(&self, addr: u64, value: u64) {
        memory::write_word(addr, value);
    }

    #[inline(always)]
    fn write_entry(&self, addr: u64, value: u64) {
        memory::write_word(addr, value);
        regs::dsb_ishst();
    }

    fn invalidate_vmid(&self, vmid: Vmid) {
        self.under_vmid(vmid, regs::tlbi_vmalls12e1);
    }

    fn invalidate_ipa(&self, vmid: Vmid, ipa: u64) {
        self.under_vmid(vmid, || regs::tlbi_ipas2e1(ipa));
    }

    #[inline]
    fn set_vspace(&self, table: Option<(PAddr, Vmid)>) {
        let value = match table {
            Some((root, vmid)) => root.0 | u64::from(vmid.0) << VMID_SHIFT,
            None => self.empty_root.get(),
        };
        self.vttbr.set(value);
        regs::write_vttbr_el2(value);
    }

    #[inline]
    fn switch_to(&self, to: Ref<Tcb>) {
        match to.thread.vcpu.get() {
            None => self.leave(),
            Some(vcpu) => {
                if !self.vcpus.is_running(vcpu) {
                    self.leave();
                    self.vcpus.enter(vcpu, self.gic());
                }
            }
        }
        self.running.set(Some(to));
        regs::write_tpidrro_el0(to.context.tpidrro_el0.get());
        self.fpu.switch_to(to);
    }

    fn switch_to_idle(&self) {
        self.leave();
        self.running.set(None);
    }

    fn refresh(&self, tcb: Ref<Tcb>) {
        if self.running.get() == Some(tcb) {
            regs::write_tpidrro_el0(tcb.context.tpidrro_el0.get());
            self.fpu.switch_to(tcb);
        }
    }

    fn forget_vcpu(&self, vcpu: Ref<Vcpu>) {
        if self.vcpus.is_running(vcpu) {
            self.leave();
        }
        self.vcpus.unload(vcpu, self.gic());
    }

    fn forget_thread(&self, tcb: Ref<Tcb>) {
        if self.running.get() == Some(tcb) {
            self.leave();
            self.running.set(None);
        }
        self.fpu.forget(tcb);
    }

    fn init_context(&self, registers: &Registers) {
        registers.spsr.set(USER);
    }

    fn sanitise_spsr(&self, spsr: u64, vcpu: Option<Ref<Vcpu>>) -> u64 {
        match (vcpu, spsr & MODE) {
            (None, _) => spsr & FLAGS | USER,
            (Some(_), MODE_USR32) => spsr & AARCH32_BITS,
            (Some(_), mode @ (MODE_EL0T | MODE_EL1T | MODE_EL1H)) => {
                spsr & (FLAGS | GUEST_BITS) | mode
            }
            (Some(_), _) => spsr & (FLAGS | GUEST_BITS) | MODE_EL1H,
        }
    }

    fn vcpu_read(&self, vcpu: Ref<Vcpu>, register: u64) -> u64 {
        self.vcpus.read(vcpu, register)
    }

    fn vcpu_write(&self, vcpu: Ref<Vcpu>, register: u64, value: u64) {
        self.vcpus.write(vcpu, register, value);
    }

    fn list_registers(&self) -> u64 {
        self.gic().list_registers()
    }

    fn vcpu_inject(
        &self,
        vcpu: Ref<Vcpu>,
        index: u64,
        virq: u64,
        priority: u64,
        group: u64,
    ) -> bool {
        self.vcpus
            .inject(vcpu, self.gic(), index, (virq, priority, group))
    }

    fn vcpu_ack_vppi(&self, vcpu: Ref<Vcpu>, irq: u64) -> bool {
        if irq != gic::VTIMER_IRQ {
            return false;
        }
        self.vcpus.acknowledge_timer(vcpu, self.gic());
        true
    }

    fn vcpu_init(&self, vcpu: Ref<Vcpu>) {
        self.vcpus.init(vcpu);
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        regs::cntpct_el0()
    }

    fn frequency_hz(&self) -> u64 {
        regs::cntfrq_el0()
    }

    #[inline(always)]
    fn set_deadline(&self, ticks: u64) {
        regs::write_cnthp_cval_el2(ticks);
    }

    fn max_irq(&self) -> u64 {
        self.gic().interrupts().saturating_sub(1)
    }

    fn mask_irq(&self, irq: u64, state: IrqMask) {
        self.gic().mask(irq, state);
    }

    fn set_trigger(&self, irq: u64, trigger: Trigger) {
        self.gic().set_trigger(irq, trigger);
    }

    #[inline(always)]
    fn interrupt_pending(&self) -> bool {
        let waiting = regs::irq_pending();
        masked_time::looked(waiting);
        waiting
    }

    fn sgi_target_valid(&self, target: u64) -> bool {
        self.gic().sgi_target_valid(target)
    }

    fn send_sgi(&self, irq: u64, target: u64) {
        self.gic().send_sgi(irq, target);
    }

    fn smc(&self, registers: [u64; 8]) -> [u64; 8] {
        regs::smc(registers)
    }

    fn debug_putchar(&self, byte: u8) {
        self.console.put(byte);
    }

    fn debug_halt(&self) {
        self.console.text("Debug halt.\n");
        if self.psci.get() == Some(PsciConduit::Smc) {
            // PSCI SYSTEM_OFF (Arm DEN 0022, 5.1.9).
            regs::smc([0x8400_0008, 0, 0, 0, 0, 0, 0, 0]);
        }
        crate::entry::halt()
    }
}
