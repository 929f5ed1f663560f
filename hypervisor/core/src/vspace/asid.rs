//! Address space identifiers: pools of them, and the 8-bit VMIDs that stand for them in the hardware.
//!
//! An ASID (16 bits) names an address space for as long as it is assigned; a VMID (8 bits) is lent to an ASID when its
//! address space is used and taken back when another needs one. An address space without a VMID has no translation cached
//! anywhere: taking a VMID back invalidates all of it.
//!
//! # Invariants
//! - `vmids[v] = a` exactly when the entry of ASID `a` says that it has VMID `v`.
//! - A pool entry is either unused since the pool was made (zero, index at or above `fresh`), on the pool's free list (odd), or
//!   an address space root (8 KiB-aligned) with its VMID in the low bits.
//! - ASID 0 and VMID 0 are never given out.

use crate::arch::{Arch, PAddr, Vmid};
use crate::cap::Cap;
use crate::object::AsidPool;
use crate::object::mem::Ref;
use crate::state::kernel::Kernel;

pub use crate::state::asids::{AsidState, POOL_BITS, POOLS};
use crate::state::asids::{
    ENTRY_FREE, ENTRY_HAS_VMID, ENTRY_ROOT, ENTRY_VMID_SHIFT, POOL_ENTRIES, pool_number,
};

impl<A: Arch> Kernel<A> {
    /// Makes `pool` (zeroed) the first free pool; its first ASID, or `None` when all pools exist.
    pub fn install_asid_pool(&self, pool: Ref<AsidPool>) -> Option<u16> {
        let number = self.free_asid_pool()?;
        let state = &self.asids;
        state.pools.get(number)?.set(Some(pool));
        state.free.get(number)?.set(0);
        // ASID 0 stands for none.
        state.fresh.get(number)?.set(u16::from(number == 0));
        Some((number << POOL_BITS) as u16)
    }

    pub(crate) fn free_asid_pool(&self) -> Option<usize> {
        self.asids
            .pools
            .iter()
            .position(|pool| pool.get().is_none())
    }

    /// Gives the address space at `root` an ASID of the pool that starts at `base`; `None` when the pool is full or gone.
    pub fn assign_asid(&self, base: u16, root: u64) -> Option<u16> {
        let state = &self.asids;
        let number = pool_number(base);
        state.pools.get(number)?.get()?;
        let (free, fresh) = (state.free.get(number)?, state.fresh.get(number)?);
        let index = match free.get().checked_sub(1) {
            Some(index) => {
                free.set((state.entry(base | index)? >> 1) as u16);
                index
            }
            None => {
                let index = fresh.get();
                if index >= POOL_ENTRIES {
                    return None;
                }
                fresh.set(index.wrapping_add(1));
                index
            }
        };
        let asid = base | index;
        state.set_entry(asid, root & ENTRY_ROOT);
        Some(asid)
    }

    /// The address space at `root` gives up its ASID and is used no more; nothing when the ASID is somebody else's by now.
    pub fn release_asid(&self, asid: u16, root: u64) {
        let state = &self.asids;
        if state.root(asid) != Some(root) {
            return;
        }
        if let Some(vmid) = state.vmid(asid) {
            self.take_vmid(vmid);
        }
        let number = pool_number(asid);
        if let Some(free) = state.free.get(number) {
            state.set_entry(asid, (u64::from(free.get()) << 1) | ENTRY_FREE);
            free.set((asid & (POOL_ENTRIES - 1)).wrapping_add(1));
        }
    }

    /// A pool is deleted: its address spaces have no ASID any more and are used no more.
    pub fn remove_asid_pool(&self, pool: Ref<AsidPool>, base: u16) {
        let state = &self.asids;
        let number = pool_number(base);
        let Some(place) = state.pools.get(number) else {
            return;
        };
        if place.get() != Some(pool) {
            return;
        }
        for (vmid, holder) in state.vmids.iter().enumerate() {
            let asid = holder.get();
            if asid != 0 && pool_number(asid) == number {
                self.take_vmid(Vmid(vmid as u8));
            }
        }
        // The 256 rounds above are worth several work units.
        self.work_units.set(self.work_units.get().wrapping_add(4));
        place.set(None);
    }

    /// Takes a VMID back from whoever has it.
    fn take_vmid(&self, vmid: Vmid) {
        let state = &self.asids;
        let Some(holder) = state.vmids.get(usize::from(vmid.0)) else {
            return;
        };
        let asid = holder.replace(0);
        if asid == 0 {
            return;
        }
        if let Some(entry) = state.entry(asid) {
            state.set_entry(asid, entry & ENTRY_ROOT);
        }
        if state.active_root.get() != 0 && state.active_vmid.get() == vmid.0 {
            state.active_root.set(0);
            self.arch.set_vspace(None);
        }
        self.arch.invalidate_vmid(vmid);
    }

    /// The VMID of an ASID that is about to be used.
    fn lend_vmid(&self, asid: u16) -> Option<Vmid> {
        let state = &self.asids;
        if let Some(vmid) = state.vmid(asid) {
            return Some(vmid);
        }
        let number = state.next_vmid.get();
        state.next_vmid.set(if number == u8::MAX {
            1
        } else {
            number.wrapping_add(1)
        });
        let vmid = Vmid(number);
        self.take_vmid(vmid);
        let root = state.entry(asid)? & ENTRY_ROOT;
        state.set_entry(
            asid,
            root | ENTRY_HAS_VMID | (u64::from(number) << ENTRY_VMID_SHIFT),
        );
        state.vmids.get(usize::from(number))?.set(asid);
        Some(vmid)
    }

    /// Makes the hardware use the address space of this capability (a thread's VSpace slot); none when it is none, or when
    /// its ASID has gone.
    #[inline]
    pub fn activate_vspace(&self, cap: Cap) {
        let state = &self.asids;
        let active = state.active_root.get();
        if let Some((addr, asid)) = cap.as_assigned_vspace() {
            if addr == active {
                return;
            }
            if state.root(asid) == Some(addr)
                && let Some(vmid) = self.lend_vmid(asid)
            {
                state.active_root.set(addr);
                state.active_vmid.set(vmid.0);
                self.arch
                    .set_vspace(Some((PAddr(addr.wrapping_sub(A::PHYS_OFFSET)), vmid)));
                return;
            }
        }
        if active != 0 {
            state.active_root.set(0);
            self.arch.set_vspace(None);
        }
    }
}
