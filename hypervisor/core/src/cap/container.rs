//! Capabilities to what holds capabilities: CNodes, and the zombies that CNodes and threads become under deletion.

use super::Cap;
use super::kind::{K_CNODE, K_ZOMBIE};
use crate::object::mem::Ref;
use crate::object::{Slot, tcb_slot};

/// What is in a CNode capability. Made only from one, so the CNode has as many slots as it says.
#[derive(Clone, Copy, Debug)]
pub struct CNodeParts {
    slots: Ref<Slot>,
    radix: u64,
    /// Guard value.
    pub guard: u64,
    /// Guard length in bits.
    pub guard_bits: u64,
}

impl CNodeParts {
    /// Its first slot.
    #[inline(always)]
    #[must_use]
    pub const fn first(&self) -> Ref<Slot> {
        self.slots
    }

    /// log2 of its slots; below 64.
    #[inline(always)]
    #[must_use]
    pub const fn radix(&self) -> u64 {
        self.radix
    }
}

/// What is in a zombie. Made only from one, so the container has as many slots as it says.
#[derive(Clone, Copy, Debug)]
pub struct ZombieParts {
    slots: Ref<Slot>,
    radix: u32,
    /// The lowest slots, which are not known to be empty; never more than the container has.
    pub remaining: u64,
}

impl ZombieParts {
    /// The container's first slot.
    #[inline]
    #[must_use]
    pub const fn first(&self) -> Ref<Slot> {
        self.slots
    }

    /// log2 of a CNode's slots, or [`ZOMBIE_TCB`].
    #[inline]
    #[must_use]
    pub const fn radix(&self) -> u32 {
        self.radix
    }

    /// The number of the container's slots.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> u64 {
        if self.radix == ZOMBIE_TCB {
            tcb_slot::COUNT as u64
        } else {
            1 << (self.radix & 63)
        }
    }
}

/// [`CapView::Zombie`]'s radix for a TCB.
pub const ZOMBIE_TCB: u32 = 63;

impl Cap {
    /// A CNode capability, taken apart.
    #[inline(always)]
    #[must_use]
    pub fn as_cnode(self) -> Option<CNodeParts> {
        if self.packed >> 59 != K_CNODE {
            return None;
        }
        Some(CNodeParts {
            slots: self.object()?,
            radix: (self.packed >> 44) & 63,
            guard: self.word,
            guard_bits: (self.packed >> 50) & 63,
        })
    }

    /// A zombie, taken apart.
    #[inline(always)]
    #[must_use]
    pub fn as_zombie(self) -> Option<ZombieParts> {
        if self.packed >> 59 != K_ZOMBIE {
            return None;
        }
        Some(ZombieParts {
            slots: self.object()?,
            radix: ((self.packed >> 44) & 63) as u32,
            remaining: self.word,
        })
    }

    /// The zombie that this CNode or thread capability becomes, `word` slots still to be emptied.
    #[inline]
    #[must_use]
    pub const fn zombie(slots: Ref<Slot>, radix: u32, word: u64) -> Self {
        Self::new(K_ZOMBIE, (radix & 63) as u64, slots.addr(), word)
    }
}
