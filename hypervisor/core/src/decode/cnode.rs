//! Invocations of CNodes (`interfaces/object-api.xml`).

use crate::arch::Arch;
use crate::cap::{Cap, CapView, Kind, Rights};
use crate::cspace::cdt;
use crate::cspace::cnode::{BadgeUse, derive, operand, with_badge, with_rights};
use crate::decode::invocation::Invocation;
use crate::lifecycle::delete;
use crate::object::Slot;
use crate::object::error::{Error, LookupFailure, LookupSide, Outcome, Progress};
use crate::object::mem::Ref;
use crate::run::endpoint;
use crate::state::kernel::Kernel;
use sel4_sys::Invocation as Label;

const REVOKE: u64 = Label::CNodeRevoke.word();
const DELETE: u64 = Label::CNodeDelete.word();
const CANCEL_BADGED_SENDS: u64 = Label::CNodeCancelBadgedSends.word();
const COPY: u64 = Label::CNodeCopy.word();
const MINT: u64 = Label::CNodeMint.word();
const MOVE: u64 = Label::CNodeMove.word();
const MUTATE: u64 = Label::CNodeMutate.word();
const ROTATE: u64 = Label::CNodeRotate.word();

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
