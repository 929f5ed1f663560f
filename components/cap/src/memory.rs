//! Untyped memory, frames, page tables, address spaces and their identifiers.

use crate::{CNode, Error, Slot, capability, thread};
use sel4_sys::{CapRights, Invocation, ObjectType};

capability! {
    /// Untyped memory.
    Untyped;
    /// A frame of 4 KiB, 2 MiB or 1 GiB.
    Frame;
    /// A page table below an address space's root.
    PageTable;
    /// The root of an address space (of a component or of a guest).
    VSpace;
    /// An ASID pool: an address space must be assigned from one before anything is mapped in it.
    AsidPool;
    /// Makes ASID pools.
    AsidControl;
}

impl Untyped {
    /// Makes `count` objects; their capabilities go to slots `first..first + count` of the CNode `dest` itself.
    /// `size_bits` matters for untyped memory and scheduling contexts (log2 of bytes) and CNodes (log2 of slots).
    ///
    /// # Errors
    /// The kernel's (seL4 manual, Untyped - Retype); `Range` for more than 256 objects, `NotEnoughMemory`,
    /// `DeleteFirst` for an occupied slot.
    pub fn retype(
        self,
        kind: ObjectType,
        size_bits: u32,
        dest: CNode,
        first: u64,
        count: u64,
    ) -> Result<(), Error> {
        // Index and depth 0 name `dest` itself (seL4 manual, 3.1.2: a depth of zero uses the root).
        let words = [kind.word(), u64::from(size_bits), 0, 0, first, count];
        thread::invoke(
            self.cptr(),
            Invocation::UntypedRetype,
            &words,
            &[dest.cptr()],
        )
        .map(drop)
    }

    /// As [`Self::retype`], into the CNode that sits in the slot `dest`.
    ///
    /// # Errors
    /// As [`Self::retype`].
    pub fn retype_below(
        self,
        kind: ObjectType,
        size_bits: u32,
        dest: Slot,
        first: u64,
        count: u64,
    ) -> Result<(), Error> {
        let words = [
            kind.word(),
            u64::from(size_bits),
            dest.index,
            u64::from(dest.depth),
            first,
            count,
        ];
        thread::invoke(
            self.cptr(),
            Invocation::UntypedRetype,
            &words,
            &[dest.root.cptr()],
        )
        .map(drop)
    }
}

/// A cache operation on a frame or an address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOperation {
    /// Clean data to the point of coherency.
    Clean,
    /// Invalidate data.
    Invalidate,
    /// Clean and invalidate data.
    CleanInvalidate,
    /// Clean data to the point of unification and invalidate instructions: after code was written.
    UnifyInstruction,
}

impl Frame {
    /// Maps the frame; over an existing mapping of the same frame in the same place it changes rights. `attributes`
    /// are those of [`sel4_sys::vm_attributes`].
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM Page - Map); `FailedLookup` when a page table is missing, `DeleteFirst` when
    /// the place is taken, `InvalidCapability` when this capability is mapped elsewhere.
    #[inline]
    pub fn map(
        self,
        vspace: VSpace,
        vaddr: u64,
        rights: CapRights,
        attributes: u64,
    ) -> Result<(), Error> {
        thread::invoke(
            self.cptr(),
            Invocation::ArmPageMap,
            &[vaddr, rights.0, attributes],
            &[vspace.cptr()],
        )
        .map(drop)
    }

    /// Takes the mapping made through this capability away, if there is one.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM Page - Unmap).
    #[inline]
    pub fn unmap(self) -> Result<(), Error> {
        thread::invoke(self.cptr(), Invocation::ArmPageUnmap, &[], &[]).map(drop)
    }

    /// The frame's physical address.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM Page - Get Address).
    #[inline]
    pub fn address(self) -> Result<u64, Error> {
        thread::invoke(self.cptr(), Invocation::ArmPageGetAddress, &[], &[]).map(|words| words[0])
    }

    /// A cache operation on bytes `start..end` of the frame.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM Page - Clean Data and following).
    pub fn cache(self, operation: CacheOperation, start: u64, end: u64) -> Result<(), Error> {
        let label = match operation {
            CacheOperation::Clean => Invocation::ArmPageCleanData,
            CacheOperation::Invalidate => Invocation::ArmPageInvalidateData,
            CacheOperation::CleanInvalidate => Invocation::ArmPageCleanInvalidateData,
            CacheOperation::UnifyInstruction => Invocation::ArmPageUnifyInstruction,
        };
        thread::invoke(self.cptr(), label, &[start, end], &[]).map(drop)
    }
}

impl PageTable {
    /// Puts the table into the highest level that has none for `vaddr`.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM Page Table - Map); `DeleteFirst` when all levels are there.
    pub fn map(self, vspace: VSpace, vaddr: u64, attributes: u64) -> Result<(), Error> {
        thread::invoke(
            self.cptr(),
            Invocation::ArmPageTableMap,
            &[vaddr, attributes],
            &[vspace.cptr()],
        )
        .map(drop)
    }

    /// Takes the table out and clears it.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM Page Table - Unmap).
    pub fn unmap(self) -> Result<(), Error> {
        thread::invoke(self.cptr(), Invocation::ArmPageTableUnmap, &[], &[]).map(drop)
    }
}

impl VSpace {
    /// A cache operation on the virtual range `start..end`, which lies in one page.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM VSpace - Clean Data and following).
    pub fn cache(self, operation: CacheOperation, start: u64, end: u64) -> Result<(), Error> {
        let label = match operation {
            CacheOperation::Clean => Invocation::ArmVSpaceCleanData,
            CacheOperation::Invalidate => Invocation::ArmVSpaceInvalidateData,
            CacheOperation::CleanInvalidate => Invocation::ArmVSpaceCleanInvalidateData,
            CacheOperation::UnifyInstruction => Invocation::ArmVSpaceUnifyInstruction,
        };
        thread::invoke(self.cptr(), label, &[start, end], &[]).map(drop)
    }
}

impl AsidPool {
    /// Gives an address space an identifier.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM ASID Pool - Assign).
    pub fn assign(self, vspace: VSpace) -> Result<(), Error> {
        thread::invoke(
            self.cptr(),
            Invocation::ArmAsidPoolAssign,
            &[],
            &[vspace.cptr()],
        )
        .map(drop)
    }
}

impl AsidControl {
    /// Turns a 4 KiB untyped into an ASID pool, its capability in `dest`.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, ARM ASID Control - Make Pool).
    pub fn make_pool(self, untyped: Untyped, dest: Slot) -> Result<(), Error> {
        thread::invoke(
            self.cptr(),
            Invocation::ArmAsidControlMakePool,
            &[dest.index, u64::from(dest.depth)],
            &[untyped.cptr(), dest.root.cptr()],
        )
        .map(drop)
    }
}
