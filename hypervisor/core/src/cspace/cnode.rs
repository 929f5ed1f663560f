//! CNodes: capability addresses, and the operations on slots (seL4 manual, sections 3.1 and 3.3; `interfaces/object-api.xml`).

use crate::cap::{CNodeParts, Cap, CapView, Kind, Rights};
use crate::cspace::cdt;
use crate::object::Slot;
use crate::object::error::{Error, LookupFailure, LookupSide};
use crate::object::mem::Ref;
use crate::object::slot;

/// Bits in a capability address.
pub const ADDRESS_BITS: u64 = 64;

/// Where a capability address leads.
#[derive(Clone, Copy, Debug)]
pub struct Resolved {
    /// The slot.
    pub slot: Ref<Slot>,
    /// Bits of the address that were not needed, because the slot holds no CNode.
    pub bits_left: u64,
}

#[inline]
const fn low_bits(count: u64) -> u64 {
    if count >= 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

/// Follows the `depth` low bits of `address` from the CNode `root` (manual, section 3.3.1). `depth` is 1..=64.
///
/// # Errors
/// Why it leads nowhere.
#[inline]
pub fn resolve(root: Cap, address: u64, depth: u64) -> Result<Resolved, LookupFailure> {
    let mut bits_left = depth;
    let Some(mut node) = root.as_cnode() else {
        return Err(LookupFailure::InvalidRoot);
    };
    // Each round uses at least one bit: a CNode has at least two slots. So there are at most 64 of them.
    loop {
        let CNodeParts {
            guard, guard_bits, ..
        } = node;
        if guard_bits > bits_left
            || (address >> ((bits_left.wrapping_sub(guard_bits)) & 63)) & low_bits(guard_bits)
                != guard
        {
            return Err(LookupFailure::GuardMismatch {
                bits_left,
                guard_found: guard,
                bits_found: guard_bits,
            });
        }
        let level_bits = node.radix().wrapping_add(guard_bits);
        if level_bits > bits_left {
            return Err(LookupFailure::DepthMismatch {
                bits_left,
                bits_found: level_bits,
            });
        }
        bits_left = bits_left.wrapping_sub(level_bits);
        let slot = slot::of_cnode(&node, address >> (bits_left & 63));
        if bits_left == 0 {
            return Ok(Resolved { slot, bits_left });
        }
        match slot.cap.get().as_cnode() {
            Some(next) => node = next,
            None => return Ok(Resolved { slot, bits_left }),
        }
    }
}

/// Slot `index` of the CNode that `cap` stands for, if there is one.
#[must_use]
pub fn slot_at(cap: Cap, index: u64) -> Option<Ref<Slot>> {
    let node = cap.as_cnode()?;
    if index >> node.radix() == 0 {
        Some(slot::of_cnode(&node, index))
    } else {
        None
    }
}

/// The slot that an operation works on: all `depth` bits have to be used.
///
/// # Errors
/// [`Error::Range`] for the depth, [`Error::FailedLookup`].
#[inline]
pub fn operand(root: Cap, address: u64, depth: u64, side: LookupSide) -> Result<Ref<Slot>, Error> {
    if root.kind() != Kind::CNODE {
        return Err(Error::FailedLookup {
            source: side,
            failure: LookupFailure::InvalidRoot,
        });
    }
    if depth.wrapping_sub(1) >= ADDRESS_BITS {
        return Err(Error::Range {
            min: 1,
            max: ADDRESS_BITS,
        });
    }
    match resolve(root, address, depth) {
        Ok(Resolved { slot, bits_left: 0 }) => Ok(slot),
        Ok(Resolved { bits_left, .. }) => Err(Error::FailedLookup {
            source: side,
            failure: LookupFailure::DepthMismatch {
                bits_left,
                bits_found: 0,
            },
        }),
        Err(failure) => Err(Error::FailedLookup {
            source: side,
            failure,
        }),
    }
}

/// [`operand`] for a slot that has to be empty.
///
/// # Errors
/// As [`operand`], and [`Error::DeleteFirst`].
#[inline]
pub fn empty_operand(root: Cap, address: u64, depth: u64) -> Result<Ref<Slot>, Error> {
    let slot = operand(root, address, depth, LookupSide::Destination)?;
    if slot.cap.get().is_null() {
        Ok(slot)
    } else {
        Err(Error::DeleteFirst)
    }
}

/// A capability with at most these rights (manual, section 3.1.4).
#[inline(always)]
#[must_use]
pub fn with_rights(cap: Cap, rights: Rights) -> Cap {
    cap.masked(rights)
}

/// What setting a badge is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadgeUse {
    /// A new capability is made: endpoints, notifications and SMC capabilities without badge can get one.
    Mint,
    /// The capability itself is moved: only guards can be set.
    Mutate,
}

/// A capability with this badge, or this guard for a CNode (low six bits its length, the rest its value); `None` when it
/// cannot have that one. Kinds that have neither stay as they are.
#[inline(always)]
#[must_use]
pub fn with_badge(cap: Cap, badge: u64, purpose: BadgeUse) -> Option<Cap> {
    match cap.kind() {
        Kind::ENDPOINT | Kind::NOTIFICATION | Kind::SMC => {
            if purpose == BadgeUse::Mint && cap.word() == 0 {
                Some(cap.with_word(badge))
            } else {
                None
            }
        }
        Kind::CNODE => {
            let node = cap.as_cnode()?;
            let guard_bits = badge & 63;
            if guard_bits.wrapping_add(node.radix()) > ADDRESS_BITS {
                return None;
            }
            Some(Cap::from_view(CapView::CNode {
                slots: node.first(),
                radix: node.radix() as u32,
                guard: (badge >> 6) & low_bits(guard_bits),
                guard_bits: guard_bits as u32,
            }))
        }
        _ => Some(cap),
    }
}

/// What a copy of the capability in `source`, already changed to `cap`, looks like (manual, table 3.2).
///
/// # Errors
/// [`Error::RevokeFirst`] for an untyped with children; [`Error::IllegalOperation`] for what cannot be copied.
#[inline(always)]
pub fn derive(source: Ref<Slot>, cap: Cap) -> Result<Cap, Error> {
    match cap.kind() {
        Kind::NULL | Kind::ZOMBIE | Kind::IRQ_CONTROL => Err(Error::IllegalOperation),
        Kind::UNTYPED => {
            if cdt::first_child(source).is_some() {
                Err(Error::RevokeFirst)
            } else {
                Ok(cap)
            }
        }
        Kind::PAGE_TABLE | Kind::VSPACE if !cap.is_mapped() => Err(Error::IllegalOperation),
        Kind::FRAME => Ok(cap.without_mapping()),
        _ => Ok(cap),
    }
}
