//! Stage-2 translation tables: 4 KiB granule, 40-bit intermediate physical addresses (Arm ARM D8.2, D8.3).
//!
//! The root is two concatenated level-1 tables (1024 entries of 1 GiB), below it levels 2 and 3 of 512 entries. Tables are
//! plain memory that only [`Arch::read_word`] and [`Arch::write_entry`] touch.

use crate::arch::Arch;
use crate::cap::{MemoryKind, Rights};
use crate::state::kernel::Kernel;

/// Addresses below this can be mapped: 2^40 (seL4_UserTop is the last one).
pub const USER_TOP_BITS: u32 = 40;
/// log2 of what an entry of level 1 covers.
pub const LEVEL_1_SHIFT: u32 = 30;
/// log2 of what an entry of level 2 covers.
pub const LEVEL_2_SHIFT: u32 = 21;
/// log2 of what an entry of level 3 covers.
pub const LEVEL_3_SHIFT: u32 = 12;

const TYPE: u64 = 3;
const TABLE: u64 = 3;
const BLOCK: u64 = 1;
const PAGE: u64 = 3;
/// Output address of a table, block or page, bits 47:12.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Access flag: no access-flag faults.
const ACCESSED: u64 = 1 << 10;
/// Inner shareable.
const SHAREABLE: u64 = 3 << 8;
/// S2AP read and write.
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
/// MemAttr: normal, inner and outer write-back. Zero is Device-nGnRnE.
const NORMAL: u64 = 0xf << 2;
/// XN[1]: not executable at EL1 and EL0.
const EXECUTE_NEVER: u64 = 1 << 54;
/// Software bit: the frame is a device's, so that the kernel does no cache maintenance on it.
const DEVICE: u64 = 1 << 55;

/// `seL4_ARM_PageCacheable`.
const ATTRIBUTE_CACHEABLE: u64 = 1;
/// `seL4_ARM_ExecuteNever`.
const ATTRIBUTE_EXECUTE_NEVER: u64 = 4;

/// A table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// Maps nothing.
    pub const INVALID: Self = Self(0);

    /// A block or page of `1 << shift` bytes at physical address `paddr`.
    #[inline]
    #[must_use]
    pub const fn leaf(
        paddr: u64,
        shift: u32,
        kind: MemoryKind,
        rights: Rights,
        attributes: u64,
    ) -> Self {
        let mut entry = (paddr & ADDRESS) | ACCESSED | SHAREABLE;
        entry |= if shift == LEVEL_3_SHIFT { PAGE } else { BLOCK };
        if rights.has(Rights::READ) {
            entry |= READ;
            if rights.has(Rights::WRITE) {
                entry |= WRITE;
            }
        }
        if attributes & ATTRIBUTE_CACHEABLE != 0 {
            entry |= NORMAL;
        }
        if attributes & ATTRIBUTE_EXECUTE_NEVER != 0 {
            entry |= EXECUTE_NEVER;
        }
        if matches!(kind, MemoryKind::Device) {
            entry |= DEVICE;
        }
        Self(entry)
    }

    /// A pointer to the table at physical address `paddr`.
    #[inline]
    #[must_use]
    pub const fn table(paddr: u64) -> Self {
        Self((paddr & ADDRESS) | TABLE)
    }

    /// Whether it maps something or points to a table.
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether, at the level of this shift, it points to a table.
    #[inline]
    #[must_use]
    pub const fn is_table(self, shift: u32) -> bool {
        shift != LEVEL_3_SHIFT && self.0 & TYPE == TABLE
    }

    /// Whether, at the level of this shift, it maps a block or page.
    #[inline]
    #[must_use]
    pub const fn is_leaf(self, shift: u32) -> bool {
        self.0 & TYPE == if shift == LEVEL_3_SHIFT { PAGE } else { BLOCK }
    }

    /// The physical address in it.
    #[inline]
    #[must_use]
    pub const fn paddr(self) -> u64 {
        self.0 & ADDRESS
    }

    /// Whether the frame it maps is a device's.
    #[inline]
    #[must_use]
    pub const fn is_device(self) -> bool {
        self.0 & DEVICE != 0
    }

    /// The rights of the mapping.
    #[must_use]
    pub const fn rights(self) -> Rights {
        Rights::from_word(((self.0 & WRITE) >> 7) | ((self.0 & READ) >> 5))
    }
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Kernel address of the entry.
    pub addr: u64,
    /// What it is.
    pub entry: Entry,
    /// log2 of what it covers.
    pub shift: u32,
}

/// Walks from the root at kernel address `root` to the last entry for `vaddr`: a leaf, or one that is not valid.
#[inline]
#[must_use]
pub fn walk<A: Arch>(k: &Kernel<A>, root: u64, vaddr: u64) -> Place {
    let at = |table: u64, index: u64, shift: u32| {
        let addr = table.wrapping_add(index << 3);
        Place {
            addr,
            entry: Entry(k.arch.read_word(addr)),
            shift,
        }
    };
    let place = at(root, (vaddr >> LEVEL_1_SHIFT) & 1023, LEVEL_1_SHIFT);
    if !place.entry.is_table(LEVEL_1_SHIFT) {
        return place;
    }
    let table = place.entry.paddr().wrapping_add(A::PHYS_OFFSET);
    let place = at(table, (vaddr >> LEVEL_2_SHIFT) & 511, LEVEL_2_SHIFT);
    if !place.entry.is_table(LEVEL_2_SHIFT) {
        return place;
    }
    let table = place.entry.paddr().wrapping_add(A::PHYS_OFFSET);
    at(table, (vaddr >> LEVEL_3_SHIFT) & 511, LEVEL_3_SHIFT)
}

/// The entry for `vaddr` at the level of `shift`, if the tables reach that far.
#[must_use]
pub fn entry_at<A: Arch>(k: &Kernel<A>, root: u64, vaddr: u64, shift: u32) -> Option<Place> {
    let mut place = Place {
        addr: root.wrapping_add(((vaddr >> LEVEL_1_SHIFT) & 1023) << 3),
        entry: Entry::INVALID,
        shift: LEVEL_1_SHIFT,
    };
    place.entry = Entry(k.arch.read_word(place.addr));
    if shift == LEVEL_1_SHIFT {
        return Some(place);
    }
    if shift != LEVEL_2_SHIFT || !place.entry.is_table(LEVEL_1_SHIFT) {
        return None;
    }
    place.addr = place
        .entry
        .paddr()
        .wrapping_add(A::PHYS_OFFSET)
        .wrapping_add(((vaddr >> LEVEL_2_SHIFT) & 511) << 3);
    place.entry = Entry(k.arch.read_word(place.addr));
    place.shift = LEVEL_2_SHIFT;
    Some(place)
}

/// Writes a leaf over whatever is in `place`, for the translation of `vaddr` under `asid`. A valid entry is first
/// removed and its translation invalidated (break before make, Arm ARM D8.14.1).
#[inline]
pub fn replace_leaf<A: Arch>(k: &Kernel<A>, place: Place, entry: Entry, asid: u16, vaddr: u64) {
    if place.entry.is_valid() {
        if place.entry == entry {
            return;
        }
        k.arch.write_entry(place.addr, 0);
        if let Some(vmid) = k.asids.vmid(asid) {
            k.arch.invalidate_ipa(vmid, vaddr);
        }
    }
    k.arch.write_entry(place.addr, entry.0);
}

/// Removes the mapping of a frame, if it is still there: the entry for `vaddr` has to be a leaf of this size with this
/// physical address.
#[inline]
pub fn unmap_frame<A: Arch>(k: &Kernel<A>, asid: u16, vaddr: u64, paddr: u64, shift: u32) {
    let Some(root) = k.asids.root(asid) else {
        return;
    };
    let place = walk(k, root, vaddr);
    if place.shift != shift || !place.entry.is_leaf(shift) || place.entry.paddr() != paddr {
        return;
    }
    k.arch.write_entry(place.addr, 0);
    if let Some(vmid) = k.asids.vmid(asid) {
        k.arch.invalidate_ipa(vmid, vaddr);
    }
}

/// Removes a table of level 2 or 3 from the table above it, if it is still there.
pub fn unmap_table<A: Arch>(k: &Kernel<A>, asid: u16, vaddr: u64, paddr: u64, level: u32) {
    let Some(root) = k.asids.root(asid) else {
        return;
    };
    let shift = if level == 2 {
        LEVEL_1_SHIFT
    } else {
        LEVEL_2_SHIFT
    };
    let Some(place) = entry_at(k, root, vaddr, shift) else {
        return;
    };
    if !place.entry.is_table(shift) || place.entry.paddr() != paddr {
        return;
    }
    k.arch.write_entry(place.addr, 0);
    if let Some(vmid) = k.asids.vmid(asid) {
        k.arch.invalidate_vmid(vmid);
    }
}
