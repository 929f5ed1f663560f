//! Making objects: capability slots, untyped memory, mappings.

use cap::{
    AsidPool, CNode, CapRights, Frame, ObjectType, PageTable, Slot, Untyped, VSpace, vm_attributes,
};
use root_task::memory::Memory;
use rt::window::SCRATCH_SMALL;
use sel4_sys::{WORD_BITS, init_slot};

/// Something that the kernel refused, or for which nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The kernel refused.
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// Its answer.
        error: cap::Error,
    },
    /// No untyped has room for an object of this many bytes (log2).
    NoMemory {
        /// log2 of its bytes.
        bits: u32,
    },
    /// No capability slot is left.
    NoSlot,
    /// What was given does not do.
    Unusable(&'static str),
}

impl core::fmt::Display for Failure {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Kernel { doing, error } => write!(to, "{doing}: the kernel says {error:?}"),
            Self::NoMemory { bits } => write!(to, "no memory is left for 2^{bits} bytes"),
            Self::NoSlot => write!(to, "no capability slot is left"),
            Self::Unusable(what) => write!(to, "{what}"),
        }
    }
}

/// Says what was being done when the kernel refused.
pub trait Doing<T> {
    /// Turns a kernel error into a [`Failure`].
    fn doing(self, doing: &'static str) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, cap::Error> {
    fn doing(self, doing: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Kernel { doing, error })
    }
}

/// The root task's CNode.
pub const ROOT: CNode = CNode::new(init_slot::CNODE);

/// A slot of the root task's CNode.
#[must_use]
pub const fn slot(index: u64) -> Slot {
    ROOT.slot(index, WORD_BITS)
}

/// A range of free slots of the root task's CNode.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    /// First of the range.
    pub first: u64,
    next: u64,
    end: u64,
}

impl Slots {
    /// Slots `first..end`.
    #[must_use]
    pub const fn new(first: u64, end: u64) -> Self {
        Self {
            first,
            next: first,
            end,
        }
    }

    /// Takes `count` consecutive slots.
    pub fn take(&mut self, count: u64) -> Result<u64, Failure> {
        let first = self.next;
        if count > self.end.saturating_sub(first) {
            return Err(Failure::NoSlot);
        }
        self.next += count;
        Ok(first)
    }

    /// The slots taken so far, all free again from now on.
    pub fn reset(&mut self) -> core::ops::Range<u64> {
        let taken = self.first..self.next;
        self.next = self.first;
        taken
    }
}

/// Where objects come from.
pub trait Source {
    /// Makes one object; returns its slot.
    fn make(&mut self, kind: ObjectType, size_bits: u32) -> Result<u64, Failure>;
    /// An empty slot.
    fn empty_slot(&mut self) -> Result<u64, Failure>;
}

/// All of the machine's memory that is not given away.
pub struct Everything {
    /// The memory.
    pub memory: Memory,
    /// The slots.
    pub slots: Slots,
}

impl Source for Everything {
    fn make(&mut self, kind: ObjectType, size_bits: u32) -> Result<u64, Failure> {
        let bits = kind.bits(size_bits);
        let grant = self
            .memory
            .take(bits, 1)
            .ok_or(Failure::NoMemory { bits })?;
        let dest = self.slots.take(1)?;
        Untyped::new(grant.untyped)
            .retype(kind, size_bits, ROOT, dest, 1)
            .doing("making an object")?;
        Ok(dest)
    }

    fn empty_slot(&mut self) -> Result<u64, Failure> {
        self.slots.take(1)
    }
}

/// One guest's private memory: an untyped of its own, so that one revoke takes everything back.
#[derive(Clone, Copy, Debug)]
pub struct Private {
    /// The untyped.
    pub untyped: u64,
    /// Its slots.
    pub slots: Slots,
}

impl Source for Private {
    fn make(&mut self, kind: ObjectType, size_bits: u32) -> Result<u64, Failure> {
        let dest = self.slots.take(1)?;
        Untyped::new(self.untyped)
            .retype(kind, size_bits, ROOT, dest, 1)
            .doing("making an object of a guest")?;
        Ok(dest)
    }

    fn empty_slot(&mut self) -> Result<u64, Failure> {
        self.slots.take(1)
    }
}

/// What code may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Read and execute.
    Execute,
    /// Read and write device registers.
    Device,
}

impl Mapping {
    const fn rights(self) -> CapRights {
        match self {
            Self::Read | Self::Execute => CapRights::READ,
            Self::Write | Self::Device => CapRights::READ_WRITE,
        }
    }

    const fn attributes(self) -> u64 {
        match self {
            Self::Read | Self::Write => vm_attributes::DEFAULT | vm_attributes::EXECUTE_NEVER,
            Self::Execute => vm_attributes::DEFAULT,
            Self::Device => vm_attributes::EXECUTE_NEVER,
        }
    }
}

/// Makes an address space.
pub fn make_vspace(source: &mut dyn Source) -> Result<VSpace, Failure> {
    let vspace = VSpace::new(source.make(ObjectType::VSpace, 0)?);
    AsidPool::new(init_slot::ASID_POOL)
        .assign(vspace)
        .doing("giving an address space an identifier")?;
    Ok(vspace)
}

/// Puts a new page table into the highest level of `vspace` that has none for `vaddr`.
pub fn add_table(source: &mut dyn Source, vspace: VSpace, vaddr: u64) -> Result<(), Failure> {
    PageTable::new(source.make(ObjectType::PageTable, 0)?)
        .map(vspace, vaddr, vm_attributes::DEFAULT)
        .doing("mapping a page table")
}

/// Maps a frame, with the page tables that are missing.
pub fn map(
    source: &mut dyn Source,
    frame: Frame,
    vspace: VSpace,
    vaddr: u64,
    mapping: Mapping,
) -> Result<(), Failure> {
    // At most two levels lie between the root and the frame.
    for _ in 0..2 {
        match frame.map(vspace, vaddr, mapping.rights(), mapping.attributes()) {
            Err(cap::Error::FailedLookup { .. }) => add_table(source, vspace, vaddr)?,
            answer => return answer.doing("mapping a frame"),
        }
    }
    frame
        .map(vspace, vaddr, mapping.rights(), mapping.attributes())
        .doing("mapping a frame")
}

/// Copies `data` to the beginning of a 4 KiB frame that is mapped nowhere. A fresh frame is zero elsewhere.
pub fn fill(source: &mut dyn Source, frame: Frame, data: &[u8]) -> Result<(), Failure> {
    let root = VSpace::new(init_slot::VSPACE);
    map(source, frame, root, SCRATCH_SMALL.vaddr(), Mapping::Write)?;
    SCRATCH_SMALL
        .write(0, data)
        .map_err(|_| Failure::Unusable("more data than the frame holds"))?;
    frame
        .cache(
            cap::CacheOperation::UnifyInstruction,
            0,
            SCRATCH_SMALL.bytes(),
        )
        .doing("making written code visible")?;
    frame.unmap().doing("unmapping a scratch page")
}

/// Makes the page tables of the scratch pages, so that filling a frame later needs none: they must not come from a
/// guest's private memory, and not between the frames of an image.
pub fn prepare_scratch(kernel: &mut Everything) -> Result<(), Failure> {
    let frame = Frame::new(kernel.make(ObjectType::SmallPage, 0)?);
    fill(kernel, frame, &[])
}
