//! Untyped memory: Retype, and the cleaning that comes before it (seL4 manual, section 2.4).
//!
//! # Invariants
//! - Everything derived from an untyped lies below its free index, and children are disjoint.
//! - In RAM, all memory at or above the free index is zero, and the zeros have reached the point of coherency: whoever reads
//!   past the caches (a guest with its MMU off, a device) reads zeros too. So Retype of fresh memory cleans nothing.
//! - When the last child is gone, the next Retype starts over: it clears from the free index down, a chunk at a time, and
//!   moves the index along, so that a preempted reset continues where it stopped.
//! - The memory of device untypeds is never touched.

use crate::arch::{Arch, ZERO_CHUNK_BYTES};
use crate::cap::{CNodeParts, Cap, CapView, Kind, MemoryKind};
use crate::cspace::cdt;
use crate::cspace::cnode;
use crate::decode::invocation::Invocation;
use crate::lifecycle::create::{self, Fresh};
use crate::object::Slot;
use crate::object::error::{Error, LookupFailure, LookupSide, Outcome, Progress};
use crate::object::mem::Ref;
use crate::object::slot::{self, Derivation};
use crate::state::kernel::Kernel;
use sel4_sys::{Invocation as Label, ObjectType};

/// Most objects of one Retype (seL4's CONFIG_RETYPE_FAN_OUT_LIMIT).
pub const FAN_OUT: u64 = 256;

/// Smallest piece that is zeroed: a cache line. An untyped is at least 16 bytes, so smaller ones are cleared by words.
const LINE_BYTES: u64 = 64;

/// What Retype was asked for, checked.
struct Request {
    object_type: ObjectType,
    /// As given: see [`create::object`].
    size_bits: u32,
    /// log2 of one object's bytes.
    object_bits: u32,
    /// Where the capabilities go: slots `offset` and following of this CNode.
    node: CNodeParts,
    offset: u64,
    /// Slots and objects, 1..=256.
    count: u64,
}

/// An invocation of untyped memory: Retype with words type, size bits, node index, node depth, node offset, number of objects,
/// and capability root.
///
/// # Errors
/// Those that the interface documents.
pub fn decode<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    if inv.label != Label::UntypedRetype.word() {
        return Err(Error::IllegalOperation);
    }
    inv.need_words(6)?;
    let root = inv.extra(0)?;
    // As it is now: a preempted Retype has moved the free index.
    let CapView::Untyped {
        addr,
        bits,
        kind,
        free_offset,
    } = inv.slot.cap.get().view()
    else {
        return Err(Error::InvalidCapability(0));
    };
    let request = decode_request(k, inv, root)?;
    let starts_over = cdt::first_child(inv.slot).is_none();
    let size = 1u64 << bits;
    let used = if starts_over { 0 } else { free_offset };
    let left = size.wrapping_sub(used);
    if left >> request.object_bits < request.count {
        return Err(Error::NotEnoughMemory(left));
    }
    if kind == MemoryKind::Device && !may_be_device(request.object_type) {
        return Err(Error::InvalidArgument(1));
    }
    if starts_over && free_offset != 0 && reset(k, inv.slot, addr, kind) == Progress::Preempted {
        return Ok(Progress::Preempted);
    }

    let object_bytes = 1u64 << request.object_bits;
    let start = used.wrapping_add(object_bytes.wrapping_sub(1)) & !object_bytes.wrapping_sub(1);
    let end = start.wrapping_add(request.count << request.object_bits);
    // The index moves first: objects exist only below it.
    let untyped = inv.slot.cap.get();
    inv.slot.cap.set(untyped.with_untyped_free(end));
    let mut at = addr.wrapping_add(start);
    let mut index = 0u64;
    while index < request.count {
        let fresh = Fresh { addr: at, kind };
        if let Some(cap) = create::object(k, request.object_type, request.size_bits, fresh) {
            let dest = slot::of_cnode(&request.node, request.offset.wrapping_add(index));
            cdt::insert(cap, inv.slot, dest, Derivation::ORIGINAL);
        }
        at = at.wrapping_add(object_bytes);
        index = index.wrapping_add(1);
    }
    Ok(Progress::Done)
}

/// Whether such an object can be made of device memory.
const fn may_be_device(object_type: ObjectType) -> bool {
    matches!(
        object_type,
        ObjectType::Untyped | ObjectType::SmallPage | ObjectType::LargePage | ObjectType::HugePage
    )
}

fn decode_request<A: Arch>(
    k: &Kernel<A>,
    inv: &Invocation,
    root: Ref<Slot>,
) -> Result<Request, Error> {
    let object_type = ObjectType::from_word(inv.word(k, 0)).ok_or(Error::InvalidArgument(0))?;
    let size_word = inv.word(k, 1);
    let max = u64::from(sel4_sys::MAX_UNTYPED_BITS);
    let too_large = Error::Range { min: 0, max };
    if size_word >= cnode::ADDRESS_BITS {
        return Err(too_large);
    }
    let size_bits = size_word as u32;
    let object_bits = match object_type {
        ObjectType::CapTable => size_bits.wrapping_add(sel4_sys::SLOT_BITS),
        ObjectType::Untyped | ObjectType::SchedContext => size_bits,
        other => other.bits(0),
    };
    if object_bits > sel4_sys::MAX_UNTYPED_BITS {
        return Err(too_large);
    }
    let least = match object_type {
        ObjectType::CapTable => 1,
        ObjectType::Untyped => sel4_sys::MIN_UNTYPED_BITS,
        ObjectType::SchedContext => sel4_sys::MIN_SCHED_CONTEXT_BITS,
        _ => 0,
    };
    if size_bits < least {
        return Err(Error::InvalidArgument(1));
    }
    let (index, depth) = (inv.word(k, 2), inv.word(k, 3));
    let node = if depth == 0 {
        root.cap.get()
    } else {
        cnode::operand(root.cap.get(), index, depth, LookupSide::Destination)?
            .cap
            .get()
    };
    let Some(node) = node.as_cnode() else {
        return Err(Error::FailedLookup {
            source: LookupSide::Destination,
            failure: LookupFailure::MissingCapability { bits_left: depth },
        });
    };
    let node_slots = 1u64 << node.radix();
    let (offset, count) = (inv.word(k, 4), inv.word(k, 5));
    if offset >= node_slots {
        return Err(Error::Range {
            min: 0,
            max: node_slots.wrapping_sub(1),
        });
    }
    if count.wrapping_sub(1) >= FAN_OUT {
        return Err(Error::Range {
            min: 1,
            max: FAN_OUT,
        });
    }
    let room = node_slots.wrapping_sub(offset);
    if count > room {
        return Err(Error::Range { min: 1, max: room });
    }
    let mut checked = 0u64;
    while checked < count {
        if !slot::of_cnode(&node, offset.wrapping_add(checked))
            .cap
            .get()
            .is_null()
        {
            return Err(Error::DeleteFirst);
        }
        checked = checked.wrapping_add(1);
    }
    Ok(Request {
        object_type,
        size_bits,
        object_bits,
        node,
        offset,
        count,
    })
}

/// Brings an untyped without children back to its beginning: RAM below the free index is zeroed and cleaned, from the top down.
fn reset<A: Arch>(k: &Kernel<A>, slot: Ref<Slot>, addr: u64, kind: MemoryKind) -> Progress {
    let cap = slot.cap.get();
    if kind == MemoryKind::Device {
        slot.cap.set(cap.with_untyped_free(0));
        return Progress::Done;
    }
    let mut dirty = free_offset(cap);
    while dirty != 0 {
        // Down to the chunk boundary below the last dirty byte.
        let start = dirty.wrapping_sub(1) & !(ZERO_CHUNK_BYTES - 1);
        clear(k, addr.wrapping_add(start), dirty.wrapping_sub(start));
        dirty = start;
        slot.cap.set(cap.with_untyped_free(dirty));
        if dirty != 0 && k.preemption_point() {
            return Progress::Preempted;
        }
    }
    Progress::Done
}

/// Zeroes and cleans at most one chunk. Whole cache lines, except in untypeds smaller than one.
fn clear<A: Arch>(k: &Kernel<A>, addr: u64, bytes: u64) {
    let start = addr & !(LINE_BYTES - 1);
    if start == addr && bytes >= LINE_BYTES {
        // The end may be inside a line; what follows in it is fresh, that is, zero already, unless it is another
        // untyped's: then the untyped ends there and is smaller than a line.
        let whole = bytes.wrapping_add(LINE_BYTES - 1) & !(LINE_BYTES - 1);
        k.arch.zero_and_clean(addr, whole);
        return;
    }
    let mut at = addr;
    let end = addr.wrapping_add(bytes).wrapping_add(7) & !7;
    while at < end {
        k.arch.write_word(at, 0);
        at = at.wrapping_add(8);
    }
    k.arch
        .cache(crate::arch::CacheOp::CleanToPoC, start, LINE_BYTES);
}

/// Free index of an untyped capability: bytes used from its start.
#[must_use]
pub fn free_offset(cap: Cap) -> u64 {
    if cap.kind() == Kind::UNTYPED {
        cap.word()
    } else {
        0
    }
}
