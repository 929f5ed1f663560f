//! What the machine does for the kernel. `hypervisor/kernel` implements it for AArch64 EL2; tests implement it with a fake
//! that records what was asked (QEMU models no caches, so a forgotten clean is seen only there).

use crate::object::mem::Ref;
use crate::object::{Registers, Tcb, Vcpu};

/// A VMID as the hardware knows it (8 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vmid(pub u8);

/// A physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PAddr(pub u64);

/// A cache operation by address (Arm ARM D7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOp {
    /// Clean the data cache to the point of coherency.
    CleanToPoC,
    /// Invalidate the data cache.
    Invalidate,
    /// Clean and invalidate the data cache to the point of coherency.
    CleanInvalidate,
    /// Clean the data cache to the point of unification and invalidate the instruction cache.
    Unify,
}

/// Most bytes that one call of [`Arch::zero_and_clean`] or [`Arch::cache`] gets: 128 lines of 64 bytes take 384 instructions,
/// so that with its overhead a chunk stays below the 500 of a work unit.
pub const ZERO_CHUNK_BYTES: u64 = 8192;

/// The machine. Every method is bounded; addresses are kernel addresses (physical + [`Arch::PHYS_OFFSET`]).
pub trait Arch {
    /// Kernel address minus physical address. Zero on the host.
    const PHYS_OFFSET: u64;

    // --- memory ---
    /// Sets `bytes` bytes at `addr` to zero. Both are multiples of 64.
    fn zero(&self, addr: u64, bytes: u64);
    /// Sets `bytes` bytes at `addr` to zero and cleans them to the point of coherency, in one pass. Both are multiples of
    /// 64; the caller passes at most [`ZERO_CHUNK_BYTES`], which is one work unit.
    fn zero_and_clean(&self, addr: u64, bytes: u64);
    /// A cache operation on `bytes` bytes at `addr`; at most [`ZERO_CHUNK_BYTES`] at a time.
    fn cache(&self, op: CacheOp, addr: u64, bytes: u64);
    /// Reads a page-table entry or message word at a kernel address that is 8-byte aligned.
    fn read_word(&self, addr: u64) -> u64;
    /// Writes one. A page-table entry is made visible to the table walker.
    fn write_word(&self, addr: u64, value: u64);
    /// [`Self::write_word`] for a translation-table entry: cleaned as the walker needs it, followed by the barrier.
    fn write_entry(&self, addr: u64, value: u64);

    // --- translation ---
    /// Invalidates all translations of a VMID, on both stages.
    fn invalidate_vmid(&self, vmid: Vmid);
    /// Invalidates the translation of one intermediate physical address.
    fn invalidate_ipa(&self, vmid: Vmid, ipa: u64);
    /// Makes a stage-2 table current (or none).
    fn set_vspace(&self, table: Option<(PAddr, Vmid)>);

    // --- threads ---
    /// The machine state of `to` replaces the one of the thread before: vCPU or native mode, FPU, TLS registers. The general
    /// registers are loaded on return to user level from [`Tcb::context`].
    fn switch_to(&self, to: Ref<Tcb>);
    /// No thread can run: the machine state of the one before is put away as far as it must not act any more (vCPU, virtual timer).
    fn switch_to_idle(&self);
    /// TLS base or flags of `tcb` changed in the TCB: what of it is in registers follows.
    fn refresh(&self, tcb: Ref<Tcb>);
    /// A vCPU is about to lose its thread or its memory: nothing of it may stay in registers afterwards.
    fn forget_vcpu(&self, vcpu: Ref<Vcpu>);
    /// A thread is about to be deleted: nothing of it (FPU) may stay in registers afterwards.
    fn forget_thread(&self, tcb: Ref<Tcb>);
    /// The state in which a new thread starts.
    fn init_context(&self, registers: &Registers);
    /// Makes a saved program status word harmless for a native (`None`) or vCPU thread.
    fn sanitise_spsr(&self, spsr: u64, vcpu: Option<Ref<Vcpu>>) -> u64;

    // --- vCPUs ---
    /// Reads a vCPU register (index of `seL4_VCPUReg`).
    fn vcpu_read(&self, vcpu: Ref<Vcpu>, register: u64) -> u64;
    /// Writes one.
    fn vcpu_write(&self, vcpu: Ref<Vcpu>, register: u64, value: u64);
    /// The number of list registers.
    fn list_registers(&self) -> u64;
    /// Writes a list register; the caller has checked that it is free. `false`: it holds a pending interrupt.
    fn vcpu_inject(
        &self,
        vcpu: Ref<Vcpu>,
        index: u64,
        virq: u64,
        priority: u64,
        group: u64,
    ) -> bool;
    /// The virtual timer's interrupt may be delivered again. `false`: `irq` is no interrupt of that kind.
    fn vcpu_ack_vppi(&self, vcpu: Ref<Vcpu>, irq: u64) -> bool;
    /// Sets up a new vCPU object.
    fn vcpu_init(&self, vcpu: Ref<Vcpu>);

    // --- time ---
    /// The counter.
    fn now(&self) -> u64;
    /// The counter's frequency in Hz.
    fn frequency_hz(&self) -> u64;
    /// The next timer interrupt shall come at this count.
    fn set_deadline(&self, ticks: u64);

    // --- interrupts ---
    /// Number of the highest interrupt.
    fn max_irq(&self) -> u64;
    /// Masks or unmasks one.
    fn mask_irq(&self, irq: u64, state: IrqMask);
    /// Edge or level.
    fn set_trigger(&self, irq: u64, trigger: Trigger);
    /// Whether an interrupt waits (for preemption points).
    fn interrupt_pending(&self) -> bool;

    /// Whether a software-generated interrupt can be sent to this target (GICv2: 0..=7; GICv3: affinities 3 to 0, a byte each).
    fn sgi_target_valid(&self, target: u64) -> bool;
    /// Sends software-generated interrupt `irq` (0..=15) to a valid target.
    fn send_sgi(&self, irq: u64, target: u64);
    /// Makes a secure monitor call with these registers x0..x7 and returns them as it left them.
    fn smc(&self, registers: [u64; 8]) -> [u64; 8];

    // --- debug flavour ---
    /// Writes a character on the debug UART.
    fn debug_putchar(&self, byte: u8);
    /// Stops the machine.
    fn debug_halt(&self);
}

/// Whether an interrupt is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqMask {
    /// Not delivered.
    Masked,
    /// Delivered.
    Unmasked,
}

/// How an interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Level-sensitive.
    Level,
    /// Edge-triggered.
    Edge,
}
