//! Frames, page tables and address spaces as user level works with them (seL4 manual, chapter 7; `interfaces/object-api-arch.xml`
//! and `object-api-sel4-arch.xml`).
//!
//! A frame capability knows where it is mapped; the tables are told by that what to remove, and an entry is removed only if
//! it is still the frame's own. The same holds for page tables and the table above them.

use crate::arch::{Arch, CacheOp, ZERO_CHUNK_BYTES};
use crate::cap::{Cap, CapView, FrameParts, Mapping, MemoryKind, Rights};
use crate::cspace::cdt;
use crate::decode::invocation::Invocation;
use crate::object::error::{Error, LookupFailure, LookupSide, Outcome, Progress};
use crate::state::kernel::Kernel;
use crate::vspace::paging::{self, Entry, LEVEL_1_SHIFT, LEVEL_3_SHIFT, USER_TOP_BITS};
use sel4_sys::Invocation as Label;

const PAGE_MAP: u64 = Label::ArmPageMap.word();
const PAGE_UNMAP: u64 = Label::ArmPageUnmap.word();
const PAGE_GET_ADDRESS: u64 = Label::ArmPageGetAddress.word();
const PAGE_CLEAN: u64 = Label::ArmPageCleanData.word();
const PAGE_INVALIDATE: u64 = Label::ArmPageInvalidateData.word();
const PAGE_CLEAN_INVALIDATE: u64 = Label::ArmPageCleanInvalidateData.word();
const PAGE_UNIFY: u64 = Label::ArmPageUnifyInstruction.word();
const VSPACE_CLEAN: u64 = Label::ArmVSpaceCleanData.word();
const VSPACE_INVALIDATE: u64 = Label::ArmVSpaceInvalidateData.word();
const VSPACE_CLEAN_INVALIDATE: u64 = Label::ArmVSpaceCleanInvalidateData.word();
const VSPACE_UNIFY: u64 = Label::ArmVSpaceUnifyInstruction.word();
const PAGE_TABLE_MAP: u64 = Label::ArmPageTableMap.word();
const PAGE_TABLE_UNMAP: u64 = Label::ArmPageTableUnmap.word();

/// An address space in use: the capability is good and its ASID is its own.
#[derive(Clone, Copy)]
struct Space {
    root: u64,
    asid: u16,
}

fn invalid_root() -> Error {
    Error::FailedLookup {
        source: LookupSide::Destination,
        failure: LookupFailure::InvalidRoot,
    }
}

fn missing(bits_left: u32) -> Error {
    Error::FailedLookup {
        source: LookupSide::Destination,
        failure: LookupFailure::MissingCapability {
            bits_left: u64::from(bits_left),
        },
    }
}

/// The address space of capability argument `argument`.
#[inline]
fn space<A: Arch>(k: &Kernel<A>, cap: Cap, argument: u64) -> Result<Space, Error> {
    let Some((addr, asid)) = cap.as_assigned_vspace() else {
        return Err(Error::InvalidCapability(argument));
    };
    match k.asids.root(asid) {
        Some(root) if root == addr => Ok(Space { root, asid }),
        Some(_) => Err(Error::InvalidCapability(argument)),
        None => Err(invalid_root()),
    }
}

#[inline(always)]
const fn paddr<A: Arch>(addr: u64) -> u64 {
    addr.wrapping_sub(A::PHYS_OFFSET)
}

/// An invocation of a frame.
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode_frame<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    let Some(frame) = inv.cap.as_frame() else {
        return Err(Error::InvalidCapability(0));
    };
    match inv.label {
        PAGE_MAP => map_frame(k, inv, frame),
        PAGE_UNMAP => {
            if let Some(mapping) = frame.mapping {
                paging::unmap_frame(
                    k,
                    mapping.asid,
                    mapping.vaddr,
                    paddr::<A>(frame.addr),
                    frame.size.bits(),
                );
                inv.slot.cap.set(inv.cap.without_mapping());
            }
            Ok(Progress::Done)
        }
        PAGE_GET_ADDRESS => {
            inv.answer(k, &[paddr::<A>(frame.addr)]);
            Ok(Progress::Done)
        }
        PAGE_CLEAN => frame_cache(k, inv, frame, CacheOp::CleanToPoC),
        PAGE_INVALIDATE => frame_cache(k, inv, frame, CacheOp::Invalidate),
        PAGE_CLEAN_INVALIDATE => frame_cache(k, inv, frame, CacheOp::CleanInvalidate),
        PAGE_UNIFY => frame_cache(k, inv, frame, CacheOp::Unify),
        _ => Err(Error::IllegalOperation),
    }
}

/// Map: words vaddr, rights, attributes, capability vspace.
#[inline]
fn map_frame<A: Arch>(k: &Kernel<A>, inv: &Invocation, frame: FrameParts) -> Outcome {
    inv.need_words(3)?;
    let vspace = inv.extra(0)?;
    let vaddr = inv.word(k, 0);
    let space = space(k, vspace.cap.get(), 1)?;
    let shift = frame.size.bits();
    if vaddr & (1u64 << shift).wrapping_sub(1) != 0 {
        return Err(Error::Alignment);
    }
    match frame.mapping {
        Some(mapping) => {
            if mapping.asid != space.asid {
                return Err(Error::InvalidCapability(1));
            }
            if mapping.vaddr != vaddr {
                return Err(Error::InvalidArgument(0));
            }
        }
        None => {
            if vaddr >> USER_TOP_BITS != 0 {
                return Err(Error::InvalidArgument(0));
            }
        }
    }
    let place = paging::walk(k, space.root, vaddr);
    if place.shift != shift {
        return Err(missing(place.shift));
    }
    let asked = Rights::from_word(inv.word(k, 1));
    let entry = Entry::leaf(
        paddr::<A>(frame.addr),
        shift,
        frame.kind,
        frame.rights.and(asked),
        inv.word(k, 2),
    );
    inv.slot.cap.set(inv.cap.with_mapping(
        Mapping {
            asid: space.asid,
            vaddr,
        },
        0,
    ));
    paging::replace_leaf(k, place, entry, space.asid, vaddr);
    Ok(Progress::Done)
}

/// Cache maintenance of a mapped frame: words start offset, end offset.
fn frame_cache<A: Arch>(
    k: &Kernel<A>,
    inv: &Invocation,
    frame: FrameParts,
    op: CacheOp,
) -> Outcome {
    inv.need_words(2)?;
    let Some(mapping) = frame.mapping else {
        return Err(Error::IllegalOperation);
    };
    if k.asids.root(mapping.asid).is_none() {
        return Err(invalid_root());
    }
    let (start, end) = (inv.word(k, 0), inv.word(k, 1));
    if end <= start {
        return Err(Error::InvalidArgument(1));
    }
    if end > 1 << frame.size.bits() {
        return Err(Error::InvalidArgument(0));
    }
    if frame.kind == MemoryKind::Device {
        // Not in the kernel's window, and never cached by it.
        return Ok(Progress::Done);
    }
    Ok(cache_range(k, inv, op, frame.addr, start, end))
}

/// Works on `base + start .. base + end` in chunks. When an interrupt waits, the caller's first message word takes the new start,
/// so that the system call continues there.
fn cache_range<A: Arch>(
    k: &Kernel<A>,
    inv: &Invocation,
    op: CacheOp,
    base: u64,
    start: u64,
    end: u64,
) -> Progress {
    let mut at = start;
    while at < end {
        let boundary = (at | (ZERO_CHUNK_BYTES - 1)).wrapping_add(1);
        let stop = if boundary < end { boundary } else { end };
        k.arch
            .cache(op, base.wrapping_add(at), stop.wrapping_sub(at));
        at = stop;
        if at < end && k.preemption_point() {
            if let Some(register) = inv.current.context.x.get(2) {
                register.set(at);
            }
            return Progress::Preempted;
        }
    }
    Progress::Done
}

/// An invocation of an address space: cache maintenance of a range in one of its pages, words start, end.
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode_vspace<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    let op = match inv.label {
        VSPACE_CLEAN => CacheOp::CleanToPoC,
        VSPACE_INVALIDATE => CacheOp::Invalidate,
        VSPACE_CLEAN_INVALIDATE => CacheOp::CleanInvalidate,
        VSPACE_UNIFY => CacheOp::Unify,
        _ => return Err(Error::IllegalOperation),
    };
    inv.need_words(2)?;
    let (start, end) = (inv.word(k, 0), inv.word(k, 1));
    if end <= start {
        return Err(Error::InvalidArgument(1));
    }
    if end >> USER_TOP_BITS != 0 {
        return Err(Error::IllegalOperation);
    }
    let space = space(k, inv.cap, 0)?;
    let place = paging::walk(k, space.root, start);
    if !place.entry.is_leaf(place.shift) {
        // Nothing is mapped there, so nothing is cached under that address.
        return Ok(Progress::Done);
    }
    let mask = (1u64 << place.shift).wrapping_sub(1);
    let page = start & !mask;
    let last = page | mask;
    if end.wrapping_sub(1) > last {
        return Err(Error::Range {
            min: start,
            max: last,
        });
    }
    if place.entry.is_device() {
        return Ok(Progress::Done);
    }
    let base = place
        .entry
        .paddr()
        .wrapping_add(A::PHYS_OFFSET)
        .wrapping_sub(page);
    Ok(cache_range(k, inv, op, base, start, end))
}

/// An invocation of a page table: Map (words vaddr, attributes; capability vspace) or Unmap.
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode_page_table<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    let CapView::PageTable {
        addr,
        mapping,
        level,
    } = inv.cap.view()
    else {
        return Err(Error::InvalidCapability(0));
    };
    let paddr = addr.wrapping_sub(A::PHYS_OFFSET);
    match inv.label {
        PAGE_TABLE_MAP => {
            inv.need_words(2)?;
            let vspace = inv.extra(0)?;
            if mapping.is_some() {
                return Err(Error::InvalidCapability(0));
            }
            let space = space(k, vspace.cap.get(), 1)?;
            let vaddr = inv.word(k, 0);
            if vaddr >> USER_TOP_BITS != 0 {
                return Err(Error::InvalidArgument(0));
            }
            let place = paging::walk(k, space.root, vaddr);
            if place.shift == LEVEL_3_SHIFT || place.entry.is_valid() {
                return Err(Error::DeleteFirst);
            }
            let level = if place.shift == LEVEL_1_SHIFT { 2 } else { 3 };
            let covered = (1u64 << place.shift).wrapping_sub(1);
            inv.slot.cap.set(inv.cap.with_mapping(
                Mapping {
                    asid: space.asid,
                    vaddr: vaddr & !covered,
                },
                level,
            ));
            k.arch.write_entry(place.addr, Entry::table(paddr).0);
            Ok(Progress::Done)
        }
        PAGE_TABLE_UNMAP => {
            if !cdt::is_last(inv.slot) {
                return Err(Error::RevokeFirst);
            }
            if let Some(mapping) = mapping {
                paging::unmap_table(k, mapping.asid, mapping.vaddr, paddr, level);
                // What the table maps must not come back when it is mapped again.
                k.arch.zero_and_clean(addr, 1 << LEVEL_3_SHIFT);
                inv.slot.cap.set(inv.cap.without_mapping());
            }
            Ok(Progress::Done)
        }
        _ => Err(Error::IllegalOperation),
    }
}
