//! CNodes: capability addresses, and the operations on slots (seL4 manual, sections 3.1 and 3.3; `interfaces/object-api.xml`).

use crate::arch::Arch;
use crate::cap::{CNodeParts, Cap, CapView, Kind, Rights};
use crate::cspace::cdt;
use crate::decode::invocation::Invocation;
use crate::lifecycle::delete;
use crate::object::Slot;
use crate::object::error::{Error, LookupFailure, LookupSide, Outcome, Progress};
use crate::object::mem::Ref;
use crate::object::slot;
use crate::run::endpoint;
use crate::state::kernel::Kernel;
use sel4_sys::Invocation as Label;

/// Bits in a capability address.
pub const ADDRESS_BITS: u64 = 64;

const REVOKE: u64 = Label::CNodeRevoke.word();
const DELETE: u64 = Label::CNodeDelete.word();
const CANCEL_BADGED_SENDS: u64 = Label::CNodeCancelBadgedSends.word();
const COPY: u64 = Label::CNodeCopy.word();
const MINT: u64 = Label::CNodeMint.word();
const MOVE: u64 = Label::CNodeMove.word();
const MUTATE: u64 = Label::CNodeMutate.word();
const ROTATE: u64 = Label::CNodeRotate.word();

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

/// Whether an invocation of `cap` is one that only puts capabilities into slots.
#[inline(always)]
#[must_use]
pub fn only_moves(cap: Cap, label: u64) -> bool {
    const _: () = assert!(MINT == COPY + 1 && MOVE == COPY + 2 && MUTATE == COPY + 3);
    cap.kind() == Kind::CNODE && label.wrapping_sub(COPY) <= MUTATE - COPY
}

/// An invocation of a CNode capability.
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    if inv.label < REVOKE || inv.label > ROTATE {
        return Err(Error::IllegalOperation);
    }
    inv.need_words(2)?;
    let slot = operand(
        inv.cap,
        inv.word(k, 0),
        inv.word(k, 1),
        LookupSide::Destination,
    )?;
    match inv.label {
        COPY | MINT | MOVE | MUTATE => transfer(k, inv, slot),
        REVOKE => Ok(delete::revoke(k, slot)),
        DELETE => Ok(delete::delete(k, slot)),
        CANCEL_BADGED_SENDS => cancel_badged_sends(k, inv, slot),
        _ => rotate(k, inv, slot),
    }
}

fn missing_source(bits_left: u64) -> Error {
    Error::FailedLookup {
        source: LookupSide::Source,
        failure: LookupFailure::MissingCapability { bits_left },
    }
}

/// Copy, Mint, Move and Mutate: words dest index, dest depth, source index, source depth, then rights and badge
/// (Mutate: badge).
#[inline]
fn transfer<A: Arch>(k: &Kernel<A>, inv: &Invocation, dest: Ref<Slot>) -> Outcome {
    inv.need_words(4)?;
    let root = inv.extra(0)?;
    if !dest.cap.get().is_null() {
        return Err(Error::DeleteFirst);
    }
    let depth = inv.word(k, 3);
    let source = operand(root.cap.get(), inv.word(k, 2), depth, LookupSide::Source)?;
    let cap = source.cap.get();
    if cap.is_null() {
        return Err(missing_source(depth));
    }
    match inv.label {
        COPY => {
            inv.need_words(5)?;
            let cap = with_rights(cap, Rights::from_word(inv.word(k, 4)));
            cdt::insert_copy(derive(source, cap)?, source, dest);
        }
        MINT => {
            inv.need_words(6)?;
            let cap = with_rights(cap, Rights::from_word(inv.word(k, 4)));
            let cap =
                with_badge(cap, inv.word(k, 5), BadgeUse::Mint).ok_or(Error::IllegalOperation)?;
            cdt::insert_copy(derive(source, cap)?, source, dest);
        }
        MOVE => {
            if cap.kind() == Kind::ZOMBIE {
                return Err(Error::IllegalOperation);
            }
            cdt::relocate(cap, source, dest);
        }
        _ => {
            inv.need_words(5)?;
            if cap.kind() == Kind::ZOMBIE {
                return Err(Error::IllegalOperation);
            }
            let cap =
                with_badge(cap, inv.word(k, 4), BadgeUse::Mutate).ok_or(Error::IllegalOperation)?;
            cdt::relocate(cap, source, dest);
        }
    }
    Ok(Progress::Done)
}

fn cancel_badged_sends<A: Arch>(k: &Kernel<A>, inv: &Invocation, slot: Ref<Slot>) -> Outcome {
    match slot.cap.get().view() {
        CapView::Endpoint {
            object,
            badge,
            rights,
        } if rights.has(Rights::ALL) => {
            if badge == 0 {
                return Ok(Progress::Done);
            }
            Ok(endpoint::cancel_badged_sends(k, object, badge, inv.current))
        }
        _ => Err(Error::IllegalOperation),
    }
}

/// Rotate: pivot to destination, source to pivot; destination and source may be the same slot.
fn rotate<A: Arch>(k: &Kernel<A>, inv: &Invocation, dest: Ref<Slot>) -> Outcome {
    inv.need_words(8)?;
    let pivot_root = inv.extra(0)?.cap.get();
    let source_root = inv.extra(1)?.cap.get();
    let pivot_depth = inv.word(k, 4);
    let source_depth = inv.word(k, 7);
    let source = operand(
        source_root,
        inv.word(k, 6),
        source_depth,
        LookupSide::Source,
    )?;
    let pivot = operand(pivot_root, inv.word(k, 3), pivot_depth, LookupSide::Source)?;
    if pivot == source || pivot == dest {
        return Err(Error::IllegalOperation);
    }
    if dest != source && !dest.cap.get().is_null() {
        return Err(Error::DeleteFirst);
    }
    let source_cap = source.cap.get();
    if source_cap.is_null() {
        return Err(missing_source(source_depth));
    }
    let pivot_cap = pivot.cap.get();
    if pivot_cap.is_null() {
        return Err(Error::FailedLookup {
            source: LookupSide::Destination,
            failure: LookupFailure::MissingCapability {
                bits_left: pivot_depth,
            },
        });
    }
    if source_cap.kind() == Kind::ZOMBIE || pivot_cap.kind() == Kind::ZOMBIE {
        return Err(Error::IllegalOperation);
    }
    // As Mutate: guards are set, to none with data 0, and what could carry a badge is refused.
    let changed = |cap: Cap, badge: u64| {
        with_badge(cap, badge, BadgeUse::Mutate).ok_or(Error::IllegalOperation)
    };
    let to_dest = changed(pivot_cap, inv.word(k, 2))?;
    let to_pivot = changed(source_cap, inv.word(k, 5))?;
    if dest == source {
        cdt::swap(source, pivot, to_dest, to_pivot);
    } else {
        cdt::relocate(to_dest, pivot, dest);
        cdt::relocate(to_pivot, source, pivot);
    }
    Ok(Progress::Done)
}
