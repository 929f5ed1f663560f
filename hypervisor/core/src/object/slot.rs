//! Capability slots as memory: their links, their neighbours in a CNode or TCB, their owner.
//!
//! Every address in [`Slot::prev_and_flags`] was put there by [`Slot::set_prev`] from a live `Ref<Slot>`, and a slot leaves the
//! derivation list before its memory goes: that is what the unsafe blocks here rest on.

#![allow(unsafe_code)] // Slot arithmetic inside one object, and the packed backward link.

use crate::cap::{CNodeParts, ZombieParts};
use crate::object::mem::Ref;
use crate::object::{Slot, Tcb, tcb_slot};
use core::mem::offset_of;
use core::num::NonZeroU64;

/// log2 of a slot's bytes (seL4_SlotBits).
pub const SLOT_BITS: u32 = 5;

const REVOCABLE: u64 = 1;
const FIRST_BADGED: u64 = 2;
const FLAGS: u64 = REVOCABLE | FIRST_BADGED;
const PLACE_SHIFT: u32 = 2;
const PLACE: u64 = 7 << PLACE_SHIFT;
const ADDRESS: u64 = !31;

/// The two flags that, with the capability, say who is whose child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derivation {
    bits: u64,
}

impl Derivation {
    /// A copy: has no children, and may be the child of an original.
    pub const COPY: Self = Self { bits: 0 };
    /// An original: what is derived from it becomes its child.
    pub const ORIGINAL: Self = Self { bits: FLAGS };

    /// Whether it can have children.
    #[inline]
    #[must_use]
    pub const fn revocable(self) -> bool {
        self.bits & REVOCABLE != 0
    }

    /// Whether it starts a new group of equally badged capabilities.
    #[inline]
    #[must_use]
    pub const fn first_badged(self) -> bool {
        self.bits & FIRST_BADGED != 0
    }
}

/// A slot of a TCB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcbPlace {
    /// The thread.
    pub tcb: Ref<Tcb>,
    /// Which slot ([`tcb_slot`]).
    pub index: usize,
}

impl Slot {
    /// The slot before it in the derivation list.
    #[inline]
    #[must_use]
    pub fn prev(&self) -> Option<Ref<Slot>> {
        // SAFETY: the address bits are zero or were stored by `set_prev` from a live slot, which is still linked.
        unsafe { Ref::from_word(self.prev_and_flags.get() & ADDRESS) }
    }

    /// Links it to the slot before it.
    #[inline]
    pub fn set_prev(&self, prev: Option<Ref<Slot>>) {
        let address = prev.map_or(0, Ref::addr);
        self.prev_and_flags
            .set((self.prev_and_flags.get() & !ADDRESS) | address);
    }

    /// Sets link and flags at once.
    #[inline]
    pub fn set_prev_and_derivation(&self, prev: Option<Ref<Slot>>, derivation: Derivation) {
        let place = self.prev_and_flags.get() & PLACE;
        self.prev_and_flags
            .set(prev.map_or(0, Ref::addr) | place | derivation.bits);
    }

    /// Its flags.
    #[inline]
    #[must_use]
    pub fn derivation(&self) -> Derivation {
        Derivation {
            bits: self.prev_and_flags.get() & FLAGS,
        }
    }

    /// Sets its flags.
    #[inline]
    pub fn set_derivation(&self, derivation: Derivation) {
        self.prev_and_flags
            .set((self.prev_and_flags.get() & !FLAGS) | derivation.bits);
    }

    /// Adds flags that the slot before it had.
    #[inline]
    pub fn inherit_first_badged(&self, from: Derivation) {
        self.prev_and_flags
            .set(self.prev_and_flags.get() | (from.bits & FIRST_BADGED));
    }
}

/// Slot `index` of the array that starts at `first`.
///
/// # Safety
/// The array has more than `index` slots.
#[inline(always)]
const unsafe fn nth(first: Ref<Slot>, index: u64) -> Ref<Slot> {
    // SAFETY: one of the array's slots, as the caller vouches; not zero, since `first` is not and the sum stays inside the
    // object.
    unsafe {
        Ref::from_addr(NonZeroU64::new_unchecked(
            first.addr().wrapping_add(index << SLOT_BITS),
        ))
    }
}

/// The slot of a CNode that the low bits of `index` name, as many as the CNode's radix.
#[inline(always)]
#[must_use]
pub const fn of_cnode(node: &CNodeParts, index: u64) -> Ref<Slot> {
    let index = index & !(u64::MAX << (node.radix() & 63));
    // SAFETY: the parts come from a capability to a CNode of `1 << radix` slots, and the index is below that.
    unsafe { nth(node.first(), index) }
}

/// Slot `index` of a container under deletion, if it has so many.
#[inline]
#[must_use]
pub const fn of_zombie(zombie: &ZombieParts, index: u64) -> Option<Ref<Slot>> {
    if index < zombie.count() {
        // SAFETY: the parts come from a capability to a container of `count` slots.
        Some(unsafe { nth(zombie.first(), index) })
    } else {
        None
    }
}

/// Slots side by side that belong to no object: boot set them aside.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    first: Ref<Slot>,
    count: u64,
}

impl Row {
    /// The slots from `first` on.
    ///
    /// # Safety
    /// There are `count` of them.
    #[must_use]
    pub const unsafe fn new(first: Ref<Slot>, count: u64) -> Self {
        Self { first, count }
    }

    /// How many they are.
    #[inline]
    #[must_use]
    pub const fn count(self) -> u64 {
        self.count
    }

    /// Slot `index`, if there are so many.
    #[inline]
    #[must_use]
    pub const fn get(self, index: u64) -> Option<Ref<Slot>> {
        if index < self.count {
            // SAFETY: one of the slots that `new`'s caller vouched for.
            Some(unsafe { nth(self.first, index) })
        } else {
            None
        }
    }
}

/// The first capability slot of a thread.
#[inline]
#[must_use]
pub fn tcb_slots(tcb: Ref<Tcb>) -> Ref<Slot> {
    let addr = NonZeroU64::MIN.saturating_add(
        tcb.addr()
            .wrapping_add(offset_of!(Tcb, slots) as u64)
            .wrapping_sub(1),
    );
    // SAFETY: a field of a live TCB, at its offset (one less and one more: an address is never zero).
    unsafe { Ref::from_addr(addr) }
}

/// Slot `index` ([`tcb_slot`]) of a thread; the first one for an index that does not exist.
#[inline]
#[must_use]
pub fn of_tcb(tcb: Ref<Tcb>, index: usize) -> Ref<Slot> {
    let index = if index < tcb_slot::COUNT { index } else { 0 };
    // SAFETY: a TCB has `tcb_slot::COUNT` slots.
    unsafe { nth(tcb_slots(tcb), index as u64) }
}

/// Tells the slots of a new TCB where they are, so that a thread learns when one of its capabilities is revoked.
pub fn init_tcb_slots(tcb: Ref<Tcb>) {
    let mut place = 1u64;
    for slot in &tcb.slots {
        slot.prev_and_flags.set(place << PLACE_SHIFT);
        place = place.wrapping_add(1);
    }
}

/// The thread that a slot belongs to, if it lies in a TCB.
#[inline]
#[must_use]
pub fn tcb_place(slot: Ref<Slot>) -> Option<TcbPlace> {
    let place = (slot.prev_and_flags.get() & PLACE) >> PLACE_SHIFT;
    let index = place.checked_sub(1)?;
    let addr = slot
        .addr()
        .wrapping_sub(index << SLOT_BITS)
        .wrapping_sub(offset_of!(Tcb, slots) as u64);
    // SAFETY: only `init_tcb_slots` sets a place, to one more than the slot's index in its TCB; nothing else changes it,
    // and the memory of a TCB is zeroed before it becomes anything else.
    let tcb = unsafe { Ref::from_word(addr) }?;
    Some(TcbPlace {
        tcb,
        index: index as usize,
    })
}

/// The thread whose slots start at `first` (a zombie's).
#[inline]
#[must_use]
pub fn tcb_of_slots(first: Ref<Slot>) -> Option<Ref<Tcb>> {
    tcb_place(first).map(|place| place.tcb)
}
