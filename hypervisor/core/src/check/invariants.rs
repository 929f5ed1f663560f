//! The invariants of capabilities, objects and translation tables as one executable function, for tests and fuzzers.

use crate::arch::Arch;
use crate::cap::{Cap, CapView, Kind, ZOMBIE_TCB};
use crate::cspace::cdt;
use crate::object::mem::Ref;
use crate::object::slot::{self, Derivation};
use crate::object::{Slot, tcb_slot};
use crate::state::kernel::Kernel;
use crate::vspace::paging::{Entry, LEVEL_1_SHIFT, LEVEL_2_SHIFT, LEVEL_3_SHIFT};
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::String;
use std::vec::Vec;

/// More capabilities than any test has: a longer list is a cycle.
const MOST_SLOTS: usize = 1 << 20;

/// All slots in the derivation list, in its order, given one of them.
#[must_use]
pub fn all_slots(any: Ref<Slot>) -> Vec<Ref<Slot>> {
    let mut first = any;
    let mut steps = 0;
    while let Some(prev) = first.prev()
        && steps < MOST_SLOTS
    {
        first = prev;
        steps += 1;
    }
    let mut slots = Vec::new();
    let mut at = Some(first);
    while let Some(slot) = at
        && slots.len() <= MOST_SLOTS
    {
        slots.push(slot);
        at = slot.next.get();
    }
    slots
}

struct Region {
    start: u64,
    bytes: u64,
}

/// The memory of a capability's object.
fn region(cap: Cap) -> Option<Region> {
    let of = |start: u64, bits: u32| {
        Some(Region {
            start,
            bytes: 1 << bits,
        })
    };
    match cap.view() {
        CapView::Untyped { addr, bits, .. } => of(addr, bits),
        CapView::Endpoint { object, .. } => of(object.addr(), 4),
        CapView::Notification { object, .. } => of(object.addr(), 6),
        CapView::Reply { object, .. } => of(object.addr(), 5),
        CapView::CNode { slots, radix, .. } => of(slots.addr(), radix + 5),
        CapView::Zombie { slots, radix, .. } if radix == ZOMBIE_TCB => Some(Region {
            start: slots.addr(),
            bytes: 32 * tcb_slot::COUNT as u64,
        }),
        CapView::Zombie { slots, radix, .. } => of(slots.addr(), radix + 5),
        CapView::Thread(tcb) => of(tcb.addr(), 11),
        CapView::SchedContext { object, bits } => of(object.addr(), bits),
        CapView::Frame { addr, size, .. } => of(addr, size.bits()),
        CapView::PageTable { addr, .. } => of(addr, 12),
        CapView::VSpace { addr, .. } => of(addr, 13),
        CapView::AsidPool { object, .. } => of(object.addr(), 12),
        CapView::Vcpu(vcpu) => of(vcpu.addr(), 12),
        _ => None,
    }
}

/// The first slot of the container that a capability stands for.
fn first_contained(cap: Cap) -> Option<Ref<Slot>> {
    if let Some(node) = cap.as_cnode() {
        Some(node.first())
    } else if let Some(zombie) = cap.as_zombie() {
        Some(zombie.first())
    } else if let CapView::Thread(tcb) = cap.view() {
        Some(slot::of_tcb(tcb, 0))
    } else {
        None
    }
}

/// The slots of the container that a capability stands for.
fn contained(cap: Cap) -> Vec<Ref<Slot>> {
    if let Some(node) = cap.as_cnode() {
        (0..1 << node.radix())
            .map(|index| slot::of_cnode(&node, index))
            .collect()
    } else if let Some(zombie) = cap.as_zombie() {
        (0..)
            .map_while(|index| slot::of_zombie(&zombie, index))
            .collect()
    } else if let CapView::Thread(tcb) = cap.view() {
        (0..tcb_slot::COUNT)
            .map(|index| slot::of_tcb(tcb, index))
            .collect()
    } else {
        Vec::new()
    }
}

/// Checks everything; `any` is a slot in the derivation list.
///
/// # Errors
/// The first invariant that does not hold, and where.
pub fn check<A: Arch>(k: &Kernel<A>, any: Ref<Slot>) -> Result<(), String> {
    let slots = all_slots(any);
    if slots.len() > MOST_SLOTS {
        return Err("the derivation list has a cycle".into());
    }
    list(&slots)?;
    containers(k, &slots)?;
    last_capabilities(&slots)?;
    untyped(&slots)?;
    zombies(&slots)?;
    asids(k, &slots)?;
    tables(k, &slots)?;
    interrupts(k, &slots)?;
    vcpus(&slots)
}

/// Links point both ways, and nothing empty is in the list.
fn list(slots: &[Ref<Slot>]) -> Result<(), String> {
    let mut before = None;
    for &slot in slots {
        if slot.cap.get().is_null() {
            return Err(format!("{slot:?} is empty but in the derivation list"));
        }
        if slot.prev() != before {
            return Err(format!("{slot:?} does not point back to {before:?}"));
        }
        before = Some(slot);
    }
    Ok(())
}

/// Every slot of every container is in the list or wholly empty, and the list has no others.
fn containers<A: Arch>(k: &Kernel<A>, slots: &[Ref<Slot>]) -> Result<(), String> {
    let listed: BTreeSet<u64> = slots.iter().map(|slot| slot.addr()).collect();
    let mut held = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut look = |contained: Vec<Ref<Slot>>| {
        for slot in contained {
            let content: &Slot = &slot;
            if content.cap.get().is_null() {
                if content.next.get().is_some()
                    || content.prev().is_some()
                    || content.derivation() != Derivation::COPY
                {
                    return Err(format!("{slot:?} is empty but has links or flags"));
                }
            } else if listed.contains(&slot.addr()) {
                held.insert(slot.addr());
            } else {
                return Err(format!("{slot:?} is full but not in the derivation list"));
            }
        }
        Ok(())
    };
    for &slot in slots {
        let cap = slot.cap.get();
        if let Some(first) = first_contained(cap)
            && seen.insert(first.addr())
        {
            look(contained(cap))?;
        }
    }
    look((0..).map_while(|irq| k.irqs.slot(irq)).collect())?;
    match listed.difference(&held).next() {
        Some(addr) => Err(format!(
            "slot {addr:#x} is in the derivation list but in no container that has a capability"
        )),
        None => Ok(()),
    }
}

/// Whoever asks the neighbours learns the truth about being the last capability to an object.
fn last_capabilities(slots: &[Ref<Slot>]) -> Result<(), String> {
    for &slot in slots {
        let cap = slot.cap.get();
        if cap.kind() == Kind::UNTYPED || cap.kind() == Kind::SMC || cap.kind() == Kind::FRAME {
            continue;
        }
        let same = slots
            .iter()
            .filter(|other| cap.same_object(other.cap.get()))
            .count();
        if cdt::is_last(slot) != (same == 1) {
            return Err(format!(
                "{slot:?} {:?}: {same} capabilities, but the neighbours say otherwise",
                cap.view()
            ));
        }
    }
    Ok(())
}

/// Children lie inside their untyped, below its free index, and do not overlap; nobody else's object lies there.
fn untyped(slots: &[Ref<Slot>]) -> Result<(), String> {
    for (position, &slot) in slots.iter().enumerate() {
        let cap = slot.cap.get();
        let CapView::Untyped {
            addr,
            bits,
            free_offset,
            kind,
        } = cap.view()
        else {
            continue;
        };
        if free_offset > 1 << bits {
            return Err(format!("{slot:?}: free index beyond the end"));
        }
        let run = slots
            .iter()
            .skip(position + 1)
            .take_while(|child| cdt::is_child(slot, **child))
            .count();
        for (other_position, &other) in slots.iter().enumerate() {
            let other_cap = other.cap.get();
            let Some(region) = region(other_cap) else {
                continue;
            };
            if other == slot {
                continue;
            }
            let overlaps = region.start < addr + (1 << bits) && addr < region.start + region.bytes;
            let is_descendant = other_position > position && other_position <= position + run;
            if overlaps && !is_descendant && other_cap.kind() != Kind::UNTYPED {
                return Err(format!(
                    "{other:?} {:?} lies in untyped {addr:#x} ({bits} bits) but is not derived from it",
                    other_cap.view()
                ));
            }
            if overlaps && other_cap.kind() == Kind::UNTYPED && !is_descendant {
                // Then it has to be the other way round.
                let above = slots
                    .iter()
                    .skip(other_position + 1)
                    .take_while(|child| cdt::is_child(other, **child))
                    .any(|child| *child == slot);
                if !above {
                    return Err(format!("untyped {other:?} and {slot:?} overlap"));
                }
            }
            if is_descendant {
                if region.start < addr || region.start + region.bytes > addr + free_offset {
                    return Err(format!(
                        "{other:?} {:?} is not below the free index {free_offset:#x} of {addr:#x}",
                        other_cap.view()
                    ));
                }
                let child_kind = match other_cap.view() {
                    CapView::Untyped { kind, .. } | CapView::Frame { kind, .. } => kind,
                    _ => crate::cap::MemoryKind::Ram,
                };
                if child_kind != kind {
                    return Err(format!(
                        "{other:?}: RAM made of device memory, or the reverse"
                    ));
                }
            }
        }
        disjoint(slots.iter().skip(position + 1).take(run))?;
    }
    Ok(())
}

/// Objects other than untyped memory are disjoint from one another.
fn disjoint<'a>(children: impl Iterator<Item = &'a Ref<Slot>>) -> Result<(), String> {
    let mut objects: Vec<(u64, u64)> = children
        .filter(|child| child.cap.get().kind() != Kind::UNTYPED)
        .filter_map(|child| region(child.cap.get()))
        .map(|region| (region.start, region.bytes))
        .collect();
    objects.sort_unstable();
    objects.dedup();
    for pair in objects.windows(2) {
        if let [(start, bytes), (next, _)] = pair
            && start + bytes > *next
        {
            return Err(format!("objects at {start:#x} and {next:#x} overlap"));
        }
    }
    Ok(())
}

/// A zombie is alone, and what it counts as done is empty.
fn zombies(slots: &[Ref<Slot>]) -> Result<(), String> {
    for &slot in slots {
        let Some(zombie) = slot.cap.get().as_zombie() else {
            continue;
        };
        let (first, count, left) = (zombie.first(), zombie.count(), zombie.remaining);
        if left > count {
            return Err(format!("{slot:?}: a zombie of {left} slots out of {count}"));
        }
        for done in (left..count).filter_map(|index| slot::of_zombie(&zombie, index)) {
            if !done.cap.get().is_null() {
                return Err(format!(
                    "{slot:?}: {done:?} is counted as emptied but is full"
                ));
            }
        }
        let others = slots
            .iter()
            .filter(|other| first_contained(other.cap.get()) == Some(first))
            .count();
        if others != 1 {
            return Err(format!(
                "{slot:?}: {others} capabilities to a zombie's container"
            ));
        }
    }
    Ok(())
}

/// ASIDs belong to address spaces that have a capability, VMIDs to ASIDs.
fn asids<A: Arch>(k: &Kernel<A>, slots: &[Ref<Slot>]) -> Result<(), String> {
    let roots: BTreeMap<u64, Option<u16>> = slots
        .iter()
        .filter_map(|slot| match slot.cap.get().view() {
            CapView::VSpace { addr, asid } => Some((addr, asid)),
            _ => None,
        })
        .collect();
    for asid in k.asids.all() {
        if let Some(root) = k.asids.root(asid) {
            if roots.get(&root) != Some(&Some(asid)) {
                return Err(format!(
                    "ASID {asid} belongs to {root:#x}, which has no capability that says so"
                ));
            }
            if let Some(vmid) = k.asids.vmid(asid)
                && k.asids.holder(vmid) != asid
            {
                return Err(format!(
                    "ASID {asid} has {vmid:?}, which is lent to another"
                ));
            }
        }
    }
    for (vmid, holder) in k.asids.lent() {
        if k.asids.vmid(holder) != Some(vmid) {
            return Err(format!("{vmid:?} is lent to {holder}, which does not know"));
        }
    }
    let active = k.asids.active_root();
    if active != 0
        && !matches!(roots.get(&active), Some(Some(asid)) if k.asids.root(*asid) == Some(active))
    {
        return Err(format!(
            "the hardware uses the address space {active:#x}, which is gone"
        ));
    }
    Ok(())
}

/// Tables map only what capabilities say, with at most their rights.
fn tables<A: Arch>(k: &Kernel<A>, slots: &[Ref<Slot>]) -> Result<(), String> {
    let mut frames = BTreeMap::new();
    let mut page_tables = BTreeSet::new();
    for &slot in slots {
        match slot.cap.get().view() {
            CapView::Frame {
                addr,
                size,
                rights,
                mapping: Some(mapping),
                ..
            } => {
                let key = (mapping.asid, mapping.vaddr, size.bits(), addr);
                let best = frames.entry(key).or_insert(rights);
                *best = best.or(rights);
            }
            CapView::PageTable {
                addr,
                mapping: Some(mapping),
                level,
            } => {
                page_tables.insert((mapping.asid, mapping.vaddr, level, addr));
            }
            _ => {}
        }
    }
    let mut work: Vec<(u16, u64, u64, u32, u64)> = Vec::new();
    for &slot in slots {
        if let CapView::VSpace {
            addr,
            asid: Some(asid),
        } = slot.cap.get().view()
            && k.asids.root(asid) == Some(addr)
        {
            work.push((asid, addr, 0, LEVEL_1_SHIFT, 1024));
        }
    }
    while let Some((asid, table, base, shift, entries)) = work.pop() {
        for index in 0..entries {
            let entry = Entry(k.arch.read_word(table + 8 * index));
            let vaddr = base + (index << shift);
            if entry.is_leaf(shift) {
                let key = (asid, vaddr, shift, entry.paddr() + A::PHYS_OFFSET);
                match frames.get(&key) {
                    None => {
                        return Err(format!(
                            "{vaddr:#x} of ASID {asid} maps {:#x}, but no capability says so",
                            entry.paddr()
                        ));
                    }
                    Some(rights) if !rights.has(entry.rights()) => {
                        return Err(format!(
                            "{vaddr:#x} of ASID {asid} has more rights than its capability"
                        ));
                    }
                    Some(_) => {}
                }
            } else if entry.is_table(shift) {
                let (level, next) = if shift == LEVEL_1_SHIFT {
                    (2, LEVEL_2_SHIFT)
                } else {
                    (3, LEVEL_3_SHIFT)
                };
                let addr = entry.paddr() + A::PHYS_OFFSET;
                if !page_tables.contains(&(asid, vaddr, level, addr)) {
                    return Err(format!(
                        "{vaddr:#x} of ASID {asid} points to the table {addr:#x}, but no capability says so"
                    ));
                }
                work.push((asid, addr, vaddr, next, 512));
            } else if entry.is_valid() {
                return Err(format!(
                    "{vaddr:#x} of ASID {asid} has a malformed entry {:#x}",
                    entry.0
                ));
            }
        }
    }
    Ok(())
}

/// An interrupt signals something only while it has a handler.
fn interrupts<A: Arch>(k: &Kernel<A>, slots: &[Ref<Slot>]) -> Result<(), String> {
    let mut handlers = BTreeSet::new();
    for &slot in slots {
        if let CapView::IrqHandler { irq } = slot.cap.get().view() {
            handlers.insert(irq);
            if !k.irqs.is_issued(irq) {
                return Err(format!("interrupt {irq} has a handler but is not marked"));
            }
        }
    }
    for irq in 0..k.irqs.count() {
        if let Some(slot) = k.irqs.slot(irq)
            && !slot.cap.get().is_null()
            && !handlers.contains(&irq)
        {
            return Err(format!(
                "interrupt {irq} signals something but has no handler"
            ));
        }
    }
    Ok(())
}

/// vCPUs and threads point to each other.
fn vcpus(slots: &[Ref<Slot>]) -> Result<(), String> {
    for &slot in slots {
        match slot.cap.get().view() {
            CapView::Vcpu(vcpu) => {
                if let Some(tcb) = vcpu.tcb.get()
                    && tcb.thread.vcpu.get() != Some(vcpu)
                {
                    return Err(format!("{vcpu:?} has a thread that does not know"));
                }
            }
            CapView::Thread(tcb) => {
                if let Some(vcpu) = tcb.thread.vcpu.get()
                    && vcpu.tcb.get() != Some(tcb)
                {
                    return Err(format!("{tcb:?} has a vCPU that does not know"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
