//! A kernel that runs on the host: what it writes is what is read here, though nothing of the reading is shared.

use crate::dump_header::Anchor;
use crate::picture::Picture;
use crate::ram::{Changed, NotRam, Ram, words};
use crate::{Capability, ObjectKind, kernel};
use kernel_core::arch::Arch as _;
use kernel_core::cap::{CapView, FrameSize, MemoryKind, Rights};
use kernel_core::check::fixture::{ARENA_BYTES, World, slots};
use kernel_core::object::mem::Ref;
use kernel_core::vspace::paging;
use sel4_sys::{Invocation as Label, ObjectType};
use std::ops::Range;

const VSPACE: u64 = 20;
const POOL: u64 = 22;
const TABLES: u64 = 23;
const POOL_MEMORY: u64 = 26;
const PAGE: u64 = 30;
const LARGE: u64 = 40;
const DEVICE: u64 = 41;
const OTHERS: u64 = 50;
const READ_WRITE: u64 = 3;
const CACHED: u64 = 1;
const NEVER_EXECUTED: u64 = 4;
const VADDR: u64 = 0x1_4060_3000;
const LARGE_VADDR: u64 = 0x1_4080_0000;
const DEVICE_VADDR: u64 = 0x1_4060_7000;

struct Arena<'a>(&'a World);

impl Ram for Arena<'_> {
    fn range(&self) -> Range<u64> {
        let base = self.0.k.arch.base();
        base..base + ARENA_BYTES
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), NotRam> {
        let range = self.range();
        let bytes = into.len();
        if !range.contains(&at) || bytes as u64 > range.end - at {
            return Err(NotRam { at, bytes });
        }
        for (byte, at) in into.iter_mut().zip(at..) {
            *byte = self.0.k.arch.read_word(at & !7).to_le_bytes()[(at & 7) as usize];
        }
        Ok(())
    }
}

fn anchor(w: &World) -> Anchor {
    let pools = w.k.asids.pools().iter();
    Anchor {
        image: 0..0,
        image_physical: 0,
        window: 0,
        root_thread: w.tcb.addr(),
        pools: pools.map(|pool| pool.get().map_or(0, Ref::addr)).collect(),
    }
}

/// Two address spaces, a small, a large and a device's frame in the first, and one object of every other kind.
fn world() -> World {
    let w = World::new();
    let retype = |kind, bits, dest, count| {
        w.retype(slots::RAM, kind, bits, dest, count).unwrap();
    };
    retype(ObjectType::VSpace, 0, VSPACE, 2);
    retype(ObjectType::Untyped, 12, POOL_MEMORY, 1);
    retype(ObjectType::PageTable, 0, TABLES, 3);
    retype(ObjectType::SmallPage, 0, PAGE, 2);
    let others = [
        (ObjectType::Tcb, 0),
        (ObjectType::Endpoint, 0),
        (ObjectType::Notification, 0),
        (ObjectType::Reply, 0),
        (ObjectType::CapTable, 4),
        (ObjectType::SchedContext, 8),
        (ObjectType::Vcpu, 0),
    ];
    for (slot, (kind, bits)) in (OTHERS..).zip(others) {
        retype(kind, bits, slot, 1);
    }
    retype(ObjectType::LargePage, 0, LARGE, 1);
    w.retype(slots::DEVICE, ObjectType::SmallPage, 0, DEVICE, 1)
        .unwrap();
    let make = [POOL, 64];
    let from = [POOL_MEMORY, slots::CNODE];
    w.call(
        slots::ASID_CONTROL,
        Label::ArmAsidControlMakePool,
        &make,
        &from,
    )
    .unwrap();
    for vspace in [VSPACE, VSPACE + 1] {
        w.call(POOL, Label::ArmAsidPoolAssign, &[], &[vspace])
            .unwrap();
    }
    for table in [TABLES, TABLES + 1] {
        w.call(table, Label::ArmPageTableMap, &[VADDR, 3], &[VSPACE])
            .unwrap();
    }
    for (frame, vaddr, attributes) in [
        (PAGE, VADDR, CACHED),
        (LARGE, LARGE_VADDR, CACHED),
        (DEVICE, DEVICE_VADDR, NEVER_EXECUTED),
    ] {
        let words = [vaddr, READ_WRITE, attributes];
        w.call(frame, Label::ArmPageMap, &words, &[VSPACE]).unwrap();
    }
    w.assert_consistent();
    w
}

fn problems(w: &World, words: Vec<(u64, u64)>) -> Vec<String> {
    let arena = Arena(w);
    let ram = Changed { ram: &arena, words };
    let picture = Picture::take(&ram, &anchor(w)).unwrap();
    kernel::check(&picture, &anchor(w), &ram.range())
}

/// The address of the descriptor for an address in the first address space.
fn descriptor(w: &World, vaddr: u64) -> u64 {
    let CapView::VSpace { addr, .. } = w.cap(VSPACE) else {
        panic!("no address space");
    };
    paging::walk(&w.k, addr, vaddr).addr
}

fn paddr(w: &World, slot: u64) -> u64 {
    match w.cap(slot) {
        CapView::Frame { addr, .. } | CapView::PageTable { addr, .. } => addr,
        CapView::CNode { slots, .. } => slots.addr(),
        CapView::Thread(tcb) => tcb.addr(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn capabilities_look_here_as_they_do_in_the_kernel() {
    let w = world();
    let mut kinds = Vec::new();
    for index in 0..1 << kernel_core::check::fixture::ROOT_RADIX {
        let slot = w.slot(index);
        let content = words(&Arena(&w), slot.addr(), 2).unwrap();
        let here = Capability::decode(content[0], content[1]);
        let mapped = |mapping: Option<kernel_core::cap::Mapping>, level| {
            mapping.map(|mapping| crate::Mapping {
                asid: mapping.asid,
                vaddr: mapping.vaddr,
                level,
            })
        };
        let other = |kind, address, bytes| Capability::Other {
            kind,
            address,
            bytes,
        };
        let there = match slot.cap.get().view() {
            CapView::Null => Capability::Null,
            CapView::Untyped {
                addr, bits, kind, ..
            } => Capability::Untyped {
                address: addr,
                bits,
                device: kind == MemoryKind::Device,
            },
            CapView::Frame {
                addr,
                size,
                kind,
                rights,
                mapping,
            } => Capability::Frame {
                address: addr,
                bits: FrameSize::bits(size),
                device: kind == MemoryKind::Device,
                read: rights.has(Rights::READ),
                write: rights.has(Rights::WRITE),
                mapping: mapped(mapping, 0),
            },
            CapView::PageTable {
                addr,
                mapping,
                level,
            } => Capability::PageTable {
                address: addr,
                mapping: mapped(mapping, level),
            },
            CapView::VSpace { addr, asid } => Capability::VSpace {
                address: addr,
                asid,
            },
            CapView::CNode { slots, radix, .. } => Capability::Slots {
                kind: ObjectKind::CNode,
                address: slots.addr(),
                first: slots.addr(),
                count: 1 << radix,
                zombie: false,
            },
            CapView::Thread(tcb) => Capability::thread(tcb.addr()),
            CapView::Endpoint { object, .. } => other(ObjectKind::Endpoint, object.addr(), 16),
            CapView::Notification { object, .. } => {
                other(ObjectKind::Notification, object.addr(), 64)
            }
            CapView::Reply { object, .. } => other(ObjectKind::Reply, object.addr(), 32),
            CapView::SchedContext { object, bits } => {
                other(ObjectKind::SchedContext, object.addr(), 1 << bits)
            }
            CapView::AsidPool { object, .. } => other(ObjectKind::AsidPool, object.addr(), 4096),
            CapView::Vcpu(object) => other(ObjectKind::Vcpu, object.addr(), 4096),
            _ => Capability::Authority,
        };
        assert_eq!(here, there, "slot {index}");
        kinds.push(std::mem::discriminant(&slot.cap.get().view()));
    }
    kinds.sort_by_key(|kind| format!("{kind:?}"));
    kinds.dedup();
    assert!(kinds.len() >= 16, "only {} kinds were seen", kinds.len());
}

#[test]
fn everything_is_found_and_sound() {
    let w = world();
    assert_eq!(problems(&w, Vec::new()), Vec::<String>::new());
    let picture = Picture::take(&Arena(&w), &anchor(&w)).unwrap();
    let figures = picture.figures();
    assert_eq!(
        (figures.spaces, figures.tables, figures.leaves),
        (2, 2, 3),
        "{figures}"
    );
    // All that is in the root CNode, and the capability to it in the thread.
    let full = (0..1 << kernel_core::check::fixture::ROOT_RADIX)
        .filter(|&index| !w.slot(index).cap.get().is_null())
        .count();
    assert_eq!(figures.capabilities, full + 1);
}

#[test]
fn a_capability_outside_of_every_cnode_is_found_by_its_relatives() {
    let w = world();
    // The only capability to a CNode moves into it: no thread leads there.
    let node = OTHERS + 4;
    w.move_into(node, 3, PAGE).unwrap();
    let inner = w.slot_in(node, 3).addr();
    w.copy(90, node).unwrap();
    w.move_into(90, 5, node).unwrap();
    w.delete(90).unwrap();
    let picture = Picture::take(&Arena(&w), &anchor(&w)).unwrap();
    assert!(matches!(picture.at(inner), Capability::Frame { .. }));
    assert_eq!(problems(&w, Vec::new()), Vec::<String>::new());
}

/// Descriptors that no operation of the kernel writes.
#[test]
fn planted_translations_are_found() {
    let w = world();
    let small = descriptor(&w, VADDR);
    let large = descriptor(&w, LARGE_VADDR);
    let device = descriptor(&w, DEVICE_VADDR);
    let free = descriptor(&w, VADDR + 0x1000);
    let read = |at| w.k.arch.read_word(at);
    let (was, was_large, was_device) = (read(small), read(large), read(device));
    const FLAGS: u64 = 0x7ff;
    for (what, word, complaint) in [
        (
            "another frame",
            (free, paddr(&w, PAGE + 1) | FLAGS),
            "no capability says so",
        ),
        ("the same frame twice", (free, was), "no capability says so"),
        (
            "a CNode",
            (free, paddr(&w, OTHERS + 4) & !0xfff | FLAGS),
            "kernel object",
        ),
        (
            "its own table",
            (small, paddr(&w, TABLES + 1) | FLAGS),
            "kernel object",
        ),
        (
            "a thread",
            (small, paddr(&w, OTHERS) & !0xfff | FLAGS),
            "kernel object",
        ),
        (
            "memory as a device",
            (small, was & !(15 << 2)),
            "not as normal",
        ),
        (
            "memory that is not shared",
            (small, was & !(3 << 8)),
            "not as normal",
        ),
        (
            "a cached device",
            (device, was_device | 15 << 2),
            "cached or executable",
        ),
        (
            "an executable device",
            (device, was_device & !(1 << 54)),
            "cached or executable",
        ),
        (
            "memory that is not there",
            (small, 0x7000_0000_0000 | FLAGS),
            "no capability",
        ),
        ("a reserved descriptor", (small, was & !2), "means nothing"),
        (
            "a block that is not aligned",
            (large, was_large | 0x1000),
            "means nothing",
        ),
        (
            "a table without a capability",
            (large, paddr(&w, TABLES + 2) | 3),
            "puts a table there",
        ),
        (
            "a table in two places",
            (large, paddr(&w, TABLES + 1) | 3),
            "in two places",
        ),
    ] {
        let found = problems(&w, vec![word]);
        assert!(
            found.iter().any(|problem| problem.contains(complaint)),
            "{what}: {found:?}"
        );
    }
}

/// Capabilities that say more, or less, than they did.
#[test]
fn planted_capabilities_are_found() {
    let w = world();
    let word = |slot: u64, index: u64| {
        let at = w.slot(slot).addr() + 8 * index;
        (at, w.k.arch.read_word(at))
    };
    let (frame, was) = word(PAGE, 1);
    let (mapping, mapped) = word(PAGE, 0);
    let (table, _) = word(TABLES + 2, 1);
    let (root, _) = word(VSPACE, 0);
    let (device, was_device) = word(DEVICE, 1);
    let thread = w.k.arch.read_word(w.slot(OTHERS).addr() + 8) & ((1 << 44) - 1);
    for (what, change, complaint) in [
        (
            "a frame that may not be written",
            (frame, was & !(1 << 47)),
            "not allow so much",
        ),
        (
            "a mapping elsewhere",
            (mapping, mapped + (1 << 20)),
            "no capability says so",
        ),
        (
            "a device where memory is",
            (frame, was | 1 << 46),
            "takes memory for a device",
        ),
        (
            "memory where a device is",
            (device, was_device & !(1 << 46)),
            "a device for memory",
        ),
        (
            "a table over a thread",
            (table, 13 << 59 | thread),
            "overlap",
        ),
        ("no such kind", (table, 30 << 59), "of no kind"),
        (
            "an address space without a capability",
            (root, 0),
            "is nobody's",
        ),
    ] {
        let found = problems(&w, vec![change]);
        assert!(
            found.iter().any(|problem| problem.contains(complaint)),
            "{what}: {found:?}"
        );
    }
}
