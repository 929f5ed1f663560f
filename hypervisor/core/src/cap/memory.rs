//! Capabilities to memory: untyped, frames, page tables, address spaces. The first word of the mapped kinds says where.

use super::kind::{
    K_ASID_POOL, K_CNODE, K_ENDPOINT, K_FRAME, K_NOTIFICATION, K_PAGE_TABLE, K_REPLY, K_SC,
    K_THREAD, K_UNTYPED, K_VCPU, K_VSPACE, K_ZOMBIE,
};
use super::{ADDR_MASK, Cap, Rights};

/// Where a frame, page table or VSpace is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The address space.
    pub asid: u16,
    /// The address in it.
    pub vaddr: u64,
}

/// Size of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameSize {
    /// 4 KiB.
    Small = 0,
    /// 2 MiB.
    Large = 1,
    /// 1 GiB.
    Huge = 2,
}

impl FrameSize {
    /// log2 of the size in bytes.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Small => 12,
            Self::Large => 21,
            Self::Huge => 30,
        }
    }
}

/// Whether memory is RAM or a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MemoryKind {
    /// RAM: zeroed, may hold kernel objects.
    Ram = 0,
    /// Never touched by the kernel.
    Device = 1,
}

/// What is in a frame capability.
#[derive(Clone, Copy, Debug)]
pub struct FrameParts {
    /// Kernel address (never dereferenced when a device).
    pub addr: u64,
    /// Size.
    pub size: FrameSize,
    /// RAM or device.
    pub kind: MemoryKind,
    /// READ, WRITE.
    pub rights: Rights,
    /// Where it is mapped by this capability.
    pub mapping: Option<Mapping>,
}

/// Bits of the first word of mapped kinds: asid 0..=15, mapped 16, level 17..=18, vaddr >> 12 from 20.
pub(super) const MAPPED: u64 = 1 << 16;

#[inline]
pub(super) const fn mapping_word(mapping: Mapping, level: u32) -> u64 {
    (mapping.asid as u64) | MAPPED | (((level & 3) as u64) << 17) | ((mapping.vaddr >> 12) << 20)
}

impl Cap {
    /// A frame capability, taken apart.
    #[inline(always)]
    #[must_use]
    pub fn as_frame(self) -> Option<FrameParts> {
        if self.packed >> 59 != K_FRAME {
            return None;
        }
        let detail = self.packed >> 44;
        Some(FrameParts {
            addr: (self.packed & ADDR_MASK) << 4,
            size: match detail & 3 {
                0 => FrameSize::Small,
                1 => FrameSize::Large,
                _ => FrameSize::Huge,
            },
            kind: if (detail >> 2) & 1 == 1 {
                MemoryKind::Device
            } else {
                MemoryKind::Ram
            },
            rights: Rights::from_word((detail >> 3) & 3),
            mapping: self.mapping(),
        })
    }

    /// Root (kernel address) and ASID of an address space capability that has one.
    #[inline(always)]
    #[must_use]
    pub fn as_assigned_vspace(self) -> Option<(u64, u16)> {
        if self.packed >> 59 != K_VSPACE || self.word & MAPPED == 0 {
            return None;
        }
        Some(((self.packed & ADDR_MASK) << 4, self.word as u16))
    }

    #[inline(always)]
    pub(super) fn mapping(self) -> Option<Mapping> {
        if self.word & MAPPED == 0 {
            return None;
        }
        Some(Mapping {
            asid: self.word as u16,
            vaddr: (self.word >> 20) << 12,
        })
    }

    /// Whether `other`'s memory lies in this untyped capability's. False unless this is untyped and `other` has memory.
    #[inline]
    #[must_use]
    pub const fn untyped_contains(self, other: Self) -> bool {
        const WITH_MEMORY: u64 = (1 << K_UNTYPED)
            | (1 << K_ENDPOINT)
            | (1 << K_NOTIFICATION)
            | (1 << K_REPLY)
            | (1 << K_CNODE)
            | (1 << K_ZOMBIE)
            | (1 << K_THREAD)
            | (1 << K_SC)
            | (1 << K_FRAME)
            | (1 << K_PAGE_TABLE)
            | (1 << K_VSPACE)
            | (1 << K_ASID_POOL)
            | (1 << K_VCPU);
        if self.packed >> 59 != K_UNTYPED || (WITH_MEMORY >> (other.packed >> 59)) & 1 == 0 {
            return false;
        }
        let bits = (self.packed >> 44) & 63;
        if other.packed >> 59 == K_UNTYPED && (other.packed >> 44) & 63 > bits {
            return false;
        }
        let offset = (other.packed & ADDR_MASK).wrapping_sub(self.packed & ADDR_MASK) << 4;
        offset >> bits == 0
    }

    /// Whether a frame or page table is mapped, or an address space has an ASID; for other kinds without meaning.
    #[inline]
    #[must_use]
    pub const fn is_mapped(self) -> bool {
        self.word & MAPPED != 0
    }

    /// A frame, page table or address space that is mapped nowhere; not to be used on other kinds.
    #[inline]
    #[must_use]
    pub const fn without_mapping(self) -> Self {
        Self {
            word: 0,
            packed: self.packed,
        }
    }

    /// A frame or page table (at `level`, which a frame has not) that is mapped; not to be used on other kinds.
    #[inline]
    #[must_use]
    pub const fn with_mapping(self, mapping: Mapping, level: u32) -> Self {
        Self {
            word: mapping_word(mapping, level),
            packed: self.packed,
        }
    }

    /// An untyped capability with its free index at the end; others unchanged.
    #[inline]
    #[must_use]
    pub const fn with_untyped_full(self) -> Self {
        if self.packed >> 59 == K_UNTYPED {
            self.with_untyped_free(1 << ((self.packed >> 44) & 63))
        } else {
            self
        }
    }

    /// An untyped capability with another free index; not to be used on others.
    #[inline]
    #[must_use]
    pub const fn with_untyped_free(self, free_offset: u64) -> Self {
        Self {
            word: free_offset,
            packed: self.packed,
        }
    }
}
