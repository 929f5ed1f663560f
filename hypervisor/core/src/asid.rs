//! Address space identifiers: pools of them, and the 8-bit VMIDs that stand for them in the hardware.
//!
//! An ASID (16 bits) names an address space for as long as it is assigned; a VMID (8 bits) is lent to an ASID when its
//! address space is used and taken back when another needs one.

use crate::mem::Ref;
use crate::object::AsidPool;
use core::cell::Cell;

/// ASID pools (seL4_NumASIDPoolsBits = 7).
pub const POOLS: usize = 128;

/// The ASID pools, and who has which VMID.
pub struct AsidState {
    /// Pool of each range of 512 ASIDs.
    pub pools: [Cell<Option<Ref<AsidPool>>>; POOLS],
    /// The ASID that each VMID is lent to; zero for none (ASID 0 is never assigned).
    pub vmids: [Cell<u16>; 256],
    /// The VMID that is lent or taken back next.
    pub next_vmid: Cell<u8>,
}

impl AsidState {
    /// No pool, no VMID lent.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pools: [const { Cell::new(None) }; POOLS],
            vmids: [const { Cell::new(0) }; 256],
            next_vmid: Cell::new(1),
        }
    }
}

impl Default for AsidState {
    fn default() -> Self {
        Self::new()
    }
}
