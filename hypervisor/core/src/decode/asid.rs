//! Invocations of ASID control and of ASID pools.

use crate::arch::Arch;
use crate::cap::{Cap, CapView, Kind};
use crate::cspace::cdt;
use crate::cspace::cnode;
use crate::decode::invocation::Invocation;
use crate::lifecycle::create;
use crate::object::error::{Error, LookupFailure, LookupSide, Outcome, Progress};
use crate::object::slot::Derivation;
use crate::state::asids;
use crate::state::kernel::Kernel;
use core::cell::Cell;
use sel4_sys::Invocation as Label;

/// An invocation of the ASID control capability: MakePool with words index, depth and capabilities untyped, root.
///
/// # Errors
/// Those that the interface documents.
pub fn decode_control<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    if inv.label != Label::ArmAsidControlMakePool.word() {
        return Err(Error::IllegalOperation);
    }
    inv.need_words(2)?;
    let untyped = inv.extra(0)?;
    let root = inv.extra(1)?;
    if k.free_asid_pool().is_none() {
        return Err(Error::DeleteFirst);
    }
    let memory = create::AsidPoolMemory::from_untyped(untyped.cap.get())
        .ok_or(Error::InvalidCapability(1))?;
    if cdt::first_child(untyped).is_some() {
        return Err(Error::RevokeFirst);
    }
    let dest = cnode::empty_operand(root.cap.get(), inv.word(k, 0), inv.word(k, 1))?;
    untyped.cap.set(untyped.cap.get().with_untyped_full());
    let object = memory.create(k);
    if let Some(base) = k.install_asid_pool(object) {
        let cap = Cap::from_view(CapView::AsidPool { object, base });
        cdt::insert(cap, untyped, dest, Derivation::ORIGINAL);
    }
    Ok(Progress::Done)
}

/// An invocation of an ASID pool: Assign with capability vspace.
///
/// # Errors
/// Those that the interface documents.
pub fn decode_pool<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    if inv.label != Label::ArmAsidPoolAssign.word() {
        return Err(Error::IllegalOperation);
    }
    let slot = inv.extra(0)?;
    let vspace = slot.cap.get();
    if vspace.kind() != Kind::VSPACE || vspace.is_mapped() {
        return Err(Error::InvalidCapability(1));
    }
    let (CapView::AsidPool { object, base }, CapView::VSpace { addr, .. }) =
        (inv.cap.view(), vspace.view())
    else {
        return Err(Error::IllegalOperation);
    };
    match k.asids.pools().get(asids::pool_number(base)).map(Cell::get) {
        Some(Some(pool)) if pool == object => {}
        Some(Some(_)) => return Err(Error::InvalidCapability(0)),
        _ => {
            return Err(Error::FailedLookup {
                source: LookupSide::Destination,
                failure: LookupFailure::InvalidRoot,
            });
        }
    }
    let asid = k.assign_asid(base, addr).ok_or(Error::DeleteFirst)?;
    slot.cap.set(Cap::from_view(CapView::VSpace {
        addr,
        asid: Some(asid),
    }));
    Ok(Progress::Done)
}
