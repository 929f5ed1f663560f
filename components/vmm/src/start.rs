//! From nothing to the guest's first instruction.
//!
//! Source for the entry state: the Linux kernel's `Documentation/arch/arm64/booting.rst`: MMU off, caches clean to
//! the point of coherency over the loaded image, x0 the device tree, interrupts masked, EL1.

use crate::host::{Outside, window_frame};
use cap::{After, CacheOperation, Notification, Tcb, VcpuReg};
use core::fmt;
use lz4_flex::block::DecompressError;
use protocol::bundle::Packing;
use protocol::layout::ipa;
use protocol::memory::Refusal;
use protocol::slots;
use protocol::startup::{StoreFile, Vmm};
use protocol::units::PIECE_BYTES;
use rt::guarded::Staging;
use rt::window::store;
use vmm_core::fdt::TreeError;
use vmm_core::image::{self, LoadError, TREE_BYTES};
use vmm_core::machine::{Machine, VIRTIO_DEVICES};
use vmm_core::ram::AccessError;
use vmm_core::tree;

/// Why a guest cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The memory server refuses the startup memory.
    Memory(Refusal),
    /// Kernel and initrd do not fit, or the kernel is none.
    Load(LoadError),
    /// A file of the store is damaged.
    Damaged(DecompressError),
    /// A file of the store is not where it should be, or not as long as said.
    Store(StoreFile),
    /// The device tree is larger than its room.
    Tree,
    /// The window could not be opened.
    Window(AccessError),
    /// The kernel refused an invocation.
    Kernel(cap::Error),
    /// The staging was used before.
    Twice,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(refusal) => write!(f, "no startup memory: {refusal:?}"),
            Self::Load(error) => write!(f, "the kernel cannot be loaded: {error:?}"),
            Self::Damaged(error) => write!(f, "a packed file is damaged: {error}"),
            Self::Store(file) => write!(f, "a file is not in the store: {file:?}"),
            Self::Tree => write!(f, "the device tree is too large"),
            Self::Window(error) => write!(f, "the guest's memory is not there: {error:?}"),
            Self::Kernel(error) => write!(f, "the kernel refused: {error:?}"),
            Self::Twice => write!(f, "started twice"),
        }
    }
}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<DecompressError> for StartError {
    fn from(error: DecompressError) -> Self {
        Self::Damaged(error)
    }
}

impl From<TreeError> for StartError {
    fn from(_: TreeError) -> Self {
        Self::Tree
    }
}

impl From<AccessError> for StartError {
    fn from(error: AccessError) -> Self {
        Self::Window(error)
    }
}

impl From<cap::Error> for StartError {
    fn from(error: cap::Error) -> Self {
        Self::Kernel(error)
    }
}

/// Obtains the startup memory. Waits while pieces are being cleaned.
pub fn take_memory(machine: &mut Machine, outside: &mut Outside) -> Result<(), StartError> {
    let signals = Notification::new(slots::NOTIFICATION);
    for index in 0..machine.table.startup() {
        loop {
            match machine.table.take(index, outside) {
                Ok(()) => break,
                Err(Refusal::NotReady { .. }) => {
                    signals.wait()?;
                }
                Err(refusal) => return Err(StartError::Memory(refusal)),
            }
        }
    }
    Ok(())
}

/// Loads the guest and sets its registers; the address of its first instruction. The guest does not run yet.
pub fn load(vmm: &Vmm, machine: &mut Machine, outside: &mut Outside) -> Result<(), StartError> {
    let mut staging = Staging::claim().ok_or(StartError::Twice)?;
    let ram_bytes = u64::from(machine.table.startup()) * PIECE_BYTES;
    let room = |bytes: u64| {
        if bytes > ram_bytes {
            return Err(StartError::Load(LoadError::TooLarge {
                needed: bytes,
                available: ram_bytes,
            }));
        }
        Ok(bytes)
    };
    // The header is inside the packed file: unpack to the bottom of memory, then move up by its text offset.
    let kernel_bytes = room(vmm.kernel.bytes)?;
    let staged_bytes = (kernel_bytes + PIECE_BYTES).min(ram_bytes);
    machine.table.open_range(ipa::RAM, staged_bytes, outside)?;
    let out = staging
        .bytes(ipa::RAM, staged_bytes)
        .ok_or(StartError::Twice)?;
    unpack(&vmm.kernel, out)?;
    let header = image::parse_header(out)?;
    let initrd_bytes = vmm.initrd.map_or(0, |file| file.bytes);
    let plan = image::plan(&header, kernel_bytes, initrd_bytes, ipa::RAM, ram_bytes)?;
    let kernel_offset = plan.kernel - ipa::RAM;
    if kernel_offset != 0 {
        let bytes = usize::try_from(kernel_bytes).unwrap_or(usize::MAX);
        let offset = usize::try_from(kernel_offset).unwrap_or(usize::MAX);
        if bytes.checked_add(offset).is_none_or(|end| end > out.len()) {
            return Err(StartError::Load(LoadError::TextOffset {
                found: header.text_offset,
            }));
        }
        out.copy_within(..bytes, offset);
    }
    clean(plan.kernel, kernel_bytes, machine)?;

    if let Some(file) = &vmm.initrd {
        machine
            .table
            .open_range(plan.initrd, initrd_bytes, outside)?;
        let out = staging
            .bytes(plan.initrd, initrd_bytes)
            .ok_or(StartError::Twice)?;
        unpack(file, out)?;
        clean(plan.initrd, initrd_bytes, machine)?;
    }

    machine.table.open_range(plan.tree, TREE_BYTES, outside)?;
    let out = staging
        .bytes(plan.tree, TREE_BYTES)
        .ok_or(StartError::Twice)?;
    tree::write(
        out,
        &tree::Description {
            command_line: &vmm.command_line,
            initrd: vmm
                .initrd
                .map(|_| (plan.initrd, plan.initrd + initrd_bytes)),
            ram_bytes,
            gic: vmm.gic,
            virtio_devices: VIRTIO_DEVICES,
            rng_seed: vmm.rng_seed.as_ref().map(|seed| seed.0.as_slice()),
        },
    )?;
    clean(plan.tree, TREE_BYTES, machine)?;
    registers(outside, plan.kernel, plan.tree)
}

/// Unpacks a file of the store into the beginning of `out`.
fn unpack(file: &StoreFile, out: &mut [u8]) -> Result<(), StartError> {
    let packed = store(file.vaddr, file.stored_bytes).ok_or(StartError::Store(*file))?;
    let out = usize::try_from(file.bytes)
        .ok()
        .and_then(|bytes| out.get_mut(..bytes))
        .ok_or(StartError::Store(*file))?;
    match file.packing {
        Packing::Plain => {
            if packed.len() != out.len() {
                return Err(StartError::Store(*file));
            }
            out.copy_from_slice(packed);
        }
        Packing::Lz4 => {
            if lz4_flex::block::decompress_into(packed, out)? != out.len() {
                return Err(StartError::Store(*file));
            }
        }
    }
    Ok(())
}

/// Cleans a range to the point of coherency, and makes instructions in it visible.
fn clean(start: u64, bytes: u64, machine: &Machine) -> Result<(), StartError> {
    let end = start + bytes;
    let mut at = start;
    while at < end {
        let Some(index) = machine.table.index_of(at) else {
            return Err(StartError::Window(AccessError::OutOfRange {
                ipa: at,
                len: end - at,
            }));
        };
        let base = machine.table.ipa_of(index);
        let stop = (base + PIECE_BYTES).min(end);
        let frame = window_frame(index);
        frame.cache(CacheOperation::Clean, at - base, stop - base)?;
        frame.cache(CacheOperation::UnifyInstruction, at - base, stop - base)?;
        at = stop;
    }
    Ok(())
}

/// SCTLR_EL1 at reset: MMU, caches and alignment checks off; the bits that are one on every core.
const SCTLR_RESET: u64 = 0x00c5_0078;
/// VMPIDR_EL2: affinity 0, bit 31 is one.
const CPU_0: u64 = 1 << 31;
/// SPSR: EL1h, all interrupts masked.
const EL1H_MASKED: u64 = 0x3c5;

fn registers(outside: &Outside, pc: u64, tree: u64) -> Result<(), StartError> {
    let vcpu = outside.vcpu();
    vcpu.write_reg(VcpuReg::Sctlr, SCTLR_RESET)?;
    vcpu.write_reg(VcpuReg::VmpidrEl2, CPU_0)?;
    vcpu.write_reg(VcpuReg::Cntvoff, 0)?;
    let guest = Tcb::new(slots::vmm::GUEST_TCB);
    // pc, sp, spsr, x0 to x3 (booting.rst: x1 to x3 are zero).
    guest.write_words(After::Keep, &[pc, 0, EL1H_MASKED, tree, 0, 0, 0])?;
    Ok(())
}
