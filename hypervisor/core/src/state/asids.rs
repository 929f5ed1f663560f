//! The pools of address space identifiers, and who has which VMID. `vspace::asid` says what holds of them.

use crate::arch::Vmid;
use crate::object::AsidPool;
use crate::object::mem::Ref;
use core::cell::Cell;

/// ASID pools (seL4_NumASIDPoolsBits = 7).
pub const POOLS: usize = 128;
/// log2 of a pool's entries (seL4_ASIDPoolIndexBits = 9).
pub const POOL_BITS: u32 = 9;
/// Entries of a pool.
pub(crate) const POOL_ENTRIES: u16 = 1 << POOL_BITS;

pub(crate) const ENTRY_FREE: u64 = 1;
pub(crate) const ENTRY_VMID_SHIFT: u32 = 1;
pub(crate) const ENTRY_VMID: u64 = 0xff << ENTRY_VMID_SHIFT;
pub(crate) const ENTRY_HAS_VMID: u64 = 1 << 9;
pub(crate) const ENTRY_ROOT: u64 = !0x1fff;

/// The ASID pools, and who has which VMID.
pub struct AsidState {
    /// Pool of each range of 512 ASIDs.
    pub(crate) pools: [Cell<Option<Ref<AsidPool>>>; POOLS],
    /// Head of each pool's list of free entries: index plus one, zero for none.
    pub(crate) free: [Cell<u16>; POOLS],
    /// First entry of each pool that was never used.
    pub(crate) fresh: [Cell<u16>; POOLS],
    /// The ASID that each VMID is lent to; zero for none.
    pub(crate) vmids: [Cell<u16>; 256],
    /// The VMID that is looked at next when one is needed.
    pub(crate) next_vmid: Cell<u8>,
    /// Root of the address space that the hardware uses, or zero.
    pub(crate) active_root: Cell<u64>,
    /// Its VMID.
    pub(crate) active_vmid: Cell<u8>,
}

#[inline]
pub(crate) const fn pool_number(asid: u16) -> usize {
    (asid >> POOL_BITS) as usize
}

impl AsidState {
    /// No pool, no VMID lent.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pools: [const { Cell::new(None) }; POOLS],
            free: [const { Cell::new(0) }; POOLS],
            fresh: [const { Cell::new(0) }; POOLS],
            vmids: [const { Cell::new(0) }; 256],
            next_vmid: Cell::new(1),
            active_root: Cell::new(0),
            active_vmid: Cell::new(0),
        }
    }

    #[inline]
    pub(crate) fn entry(&self, asid: u16) -> Option<u64> {
        let pool = self.pools.get(pool_number(asid))?.get()?;
        let entry = pool.entries.get(usize::from(asid & (POOL_ENTRIES - 1)))?;
        Some(entry.get())
    }

    #[inline]
    pub(crate) fn set_entry(&self, asid: u16, value: u64) {
        if let Some(Some(pool)) = self.pools.get(pool_number(asid)).map(Cell::get)
            && let Some(entry) = pool.entries.get(usize::from(asid & (POOL_ENTRIES - 1)))
        {
            entry.set(value);
        }
    }

    /// Root (kernel address) of the address space that has this ASID.
    #[inline]
    #[must_use]
    pub fn root(&self, asid: u16) -> Option<u64> {
        let entry = self.entry(asid)?;
        if entry & ENTRY_FREE != 0 || entry & ENTRY_ROOT == 0 {
            return None;
        }
        Some(entry & ENTRY_ROOT)
    }

    /// The VMID that this ASID has at the moment: without one, nothing of it is cached in the hardware.
    #[inline]
    #[must_use]
    pub fn vmid(&self, asid: u16) -> Option<Vmid> {
        let entry = self.entry(asid)?;
        if entry & (ENTRY_HAS_VMID | ENTRY_FREE) != ENTRY_HAS_VMID {
            return None;
        }
        Some(Vmid(((entry & ENTRY_VMID) >> ENTRY_VMID_SHIFT) as u8))
    }

    /// The ASIDs of all pools that exist; for checks.
    #[cfg(any(test, feature = "fixture"))]
    pub(crate) fn all(&self) -> impl Iterator<Item = u16> + '_ {
        let pools = self.pools.iter().enumerate();
        pools
            .filter(|(_, pool)| pool.get().is_some())
            .map(|(number, _)| (number as u16) << POOL_BITS)
            .flat_map(|first| first..first + POOL_ENTRIES)
    }

    /// The VMIDs that are lent, and to which ASID; for checks.
    #[cfg(any(test, feature = "fixture"))]
    pub(crate) fn lent(&self) -> impl Iterator<Item = (Vmid, u16)> + '_ {
        let vmids = self.vmids.iter().enumerate();
        vmids
            .filter(|(_, holder)| holder.get() != 0)
            .map(|(vmid, holder)| (Vmid(vmid as u8), holder.get()))
    }

    /// The pools that exist, each at its number.
    #[must_use]
    pub const fn pools(&self) -> &[Cell<Option<Ref<AsidPool>>>; POOLS] {
        &self.pools
    }

    /// Root of the address space that the hardware uses, or zero.
    #[must_use]
    pub fn active_root(&self) -> u64 {
        self.active_root.get()
    }

    /// The ASID that a VMID is lent to, or zero.
    #[must_use]
    pub fn holder(&self, vmid: Vmid) -> u16 {
        self.vmids.get(usize::from(vmid.0)).map_or(0, Cell::get)
    }
}

impl Default for AsidState {
    fn default() -> Self {
        Self::new()
    }
}
