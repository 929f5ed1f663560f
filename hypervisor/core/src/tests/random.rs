//! Random sequences of operations, valid and hostile, with every invariant checked after each.

use crate::arch::Vmid;
use crate::cap::{CapView, Kind};
use crate::check::fixture::{Machine, ROOT_RADIX, World, slots};
use crate::cspace::cnode;
use crate::object::Slot;
use crate::object::error::Progress;
use crate::object::mem::Ref;
use proptest::prelude::*;
use sel4_sys::{Invocation as Label, ObjectType};

/// Slots 16..48 of the root CNode take part.
const PLAYGROUND: core::ops::Range<u64> = slots::FREE..slots::FREE + 32;

/// An operation; numbers are choices among what there is.
#[derive(Clone, Debug)]
enum Operation {
    /// Untyped memory in a slot is made into objects.
    Retype {
        untyped: u64,
        kind: u64,
        size: u64,
        dest: u64,
        count: u64,
    },
    /// An operation on slots, which may be inside a CNode found in the root.
    Slots {
        label: usize,
        node: u64,
        index: u64,
        source_node: u64,
        source: u64,
        word: u64,
    },
    /// A mapping, of any frame anywhere.
    Map {
        frame: u64,
        vspace: u64,
        page: u64,
        rights: u64,
    },
    /// A page table.
    MapTable { table: u64, vspace: u64, page: u64 },
    /// Unmaps a frame or page table.
    Unmap { slot: u64 },
    /// Gives an address space an ASID.
    Assign { pool: u64, vspace: u64 },
    /// Makes an ASID pool.
    MakePool { untyped: u64, dest: u64 },
    /// Runs in an address space and touches a page.
    Touch { vspace: u64, page: u64 },
    /// Interrupt handlers.
    Irq {
        label: usize,
        slot: u64,
        irq: u64,
        dest: u64,
    },
    /// Binds a vCPU.
    Bind { vcpu: u64, tcb: u64 },
    /// Puts a capability into a thread's slot.
    Configure { tcb: u64, index: u64, source: u64 },
    /// Writes to a mapped frame.
    Scribble { frame: u64 },
}

fn operation() -> impl Strategy<Value = Operation> {
    let slot = || PLAYGROUND;
    let untyped = || prop_oneof![1 => Just(slots::RAM), 1 => Just(slots::DEVICE), 6 => slot()];
    prop_oneof![
        6 => (untyped(), 0u64..13, 0u64..17, slot(), 1u64..5).prop_map(
            |(untyped, kind, size, dest, count)| Operation::Retype { untyped, kind, size, dest, count }
        ),
        12 => (0usize..8, slot(), 0u64..48, slot(), 0u64..48, 0u64..300).prop_map(
            |(label, node, index, source_node, source, word)| Operation::Slots {
                label, node, index, source_node, source, word
            }
        ),
        5 => (slot(), slot(), 0u64..6, 0u64..4).prop_map(
            |(frame, vspace, page, rights)| Operation::Map { frame, vspace, page, rights }
        ),
        4 => (slot(), slot(), 0u64..6).prop_map(
            |(table, vspace, page)| Operation::MapTable { table, vspace, page }
        ),
        2 => slot().prop_map(|slot| Operation::Unmap { slot }),
        3 => (slot(), slot()).prop_map(|(pool, vspace)| Operation::Assign { pool, vspace }),
        1 => (slot(), slot()).prop_map(|(untyped, dest)| Operation::MakePool { untyped, dest }),
        3 => (slot(), 0u64..6).prop_map(|(vspace, page)| Operation::Touch { vspace, page }),
        2 => (0usize..4, slot(), 30u64..33, slot()).prop_map(
            |(label, slot, irq, dest)| Operation::Irq { label, slot, irq, dest }
        ),
        1 => (slot(), slot()).prop_map(|(vcpu, tcb)| Operation::Bind { vcpu, tcb }),
        1 => (slot(), 0u64..5, slot()).prop_map(
            |(tcb, index, source)| Operation::Configure { tcb, index, source }
        ),
        1 => slot().prop_map(|frame| Operation::Scribble { frame }),
    ]
}

/// Pages that share tables, blocks and address spaces in every way.
fn page_address(page: u64) -> u64 {
    [0, 0x1000, 0x20_0000, 0x40_0000, 0x4000_0000, 0xc020_1000][page as usize]
}

/// The nearest slot at or after `slot` with a capability of that kind, so that random choices meet something.
fn find(w: &World, slot: u64, kind: Kind) -> u64 {
    let count = PLAYGROUND.end - PLAYGROUND.start;
    (0..count)
        .map(|step| PLAYGROUND.start + (slot - PLAYGROUND.start + step) % count)
        .find(|&index| w.slot(index).cap.get().kind() == kind)
        .unwrap_or(slot)
}

/// The root and depth under which `index` addresses a slot: in the root CNode, or in a CNode near `node`.
fn address(w: &World, node: u64, index: u64) -> (u64, u64, u64) {
    if index < 32 {
        return (slots::CNODE, PLAYGROUND.start + index, 64);
    }
    let node = find(w, node, Kind::CNODE);
    match w.cap(node) {
        CapView::CNode {
            radix,
            guard,
            guard_bits,
            ..
        } => {
            let inside = (index - 32) & ((1 << radix) - 1);
            let depth = u64::from(radix + guard_bits);
            (node, guard << radix | inside, depth)
        }
        _ => (node, index, 5),
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each operation")]
fn apply(w: &World, operation: &Operation) {
    let _answer = match *operation {
        Operation::Retype {
            untyped,
            kind,
            size,
            dest,
            count,
        } => {
            let untyped = if untyped < slots::FREE {
                untyped
            } else {
                find(w, untyped, Kind::UNTYPED)
            };
            let object_type = ObjectType::from_word(kind).expect("0..13");
            w.retype(untyped, object_type, size, dest, count)
        }
        Operation::Slots {
            label,
            node,
            index,
            source_node,
            source,
            word,
        } => {
            let label = [
                Label::CNodeCopy,
                Label::CNodeMint,
                Label::CNodeMove,
                Label::CNodeMutate,
                Label::CNodeDelete,
                Label::CNodeRevoke,
                Label::CNodeRotate,
                Label::CNodeCancelBadgedSends,
            ][label];
            let (root, index, depth) = address(w, node, index);
            let (source_root, source, source_depth) = address(w, source_node, source);
            let words = match label {
                Label::CNodeRotate => {
                    let pivot = PLAYGROUND.start + word % 32;
                    [index, depth, 0, pivot, 64, 0, source, source_depth]
                }
                Label::CNodeMutate => [index, depth, source, source_depth, word, 0, 0, 0],
                _ => [index, depth, source, source_depth, 15, word, 0, 0],
            };
            let extra = if label == Label::CNodeRotate {
                [slots::CNODE, source_root]
            } else {
                [source_root, source_root]
            };
            w.call(root, label, &words, &extra)
        }
        Operation::Map {
            frame,
            vspace,
            page,
            rights,
        } => {
            let (frame, vspace) = (find(w, frame, Kind::FRAME), find(w, vspace, Kind::VSPACE));
            let words = [page_address(page), rights, 1];
            w.call(frame, Label::ArmPageMap, &words, &[vspace])
        }
        Operation::MapTable {
            table,
            vspace,
            page,
        } => {
            let table = find(w, table, Kind::PAGE_TABLE);
            let vspace = find(w, vspace, Kind::VSPACE);
            w.call(
                table,
                Label::ArmPageTableMap,
                &[page_address(page), 0],
                &[vspace],
            )
        }
        Operation::Unmap { slot } => {
            let label = match w.slot(slot).cap.get().kind() {
                Kind::PAGE_TABLE => Label::ArmPageTableUnmap,
                _ => Label::ArmPageUnmap,
            };
            w.call(slot, label, &[], &[])
        }
        Operation::Assign { pool, vspace } => {
            let (pool, vspace) = (
                find(w, pool, Kind::ASID_POOL),
                find(w, vspace, Kind::VSPACE),
            );
            w.call(pool, Label::ArmAsidPoolAssign, &[], &[vspace])
        }
        Operation::MakePool { untyped, dest } => {
            let untyped = find(w, untyped, Kind::UNTYPED);
            w.call(
                slots::ASID_CONTROL,
                Label::ArmAsidControlMakePool,
                &[dest, 64],
                &[untyped, slots::CNODE],
            )
        }
        Operation::Touch { vspace, page } => {
            let slot = w.slot(find(w, vspace, Kind::VSPACE));
            w.k.activate_vspace(slot.cap.get());
            if let (CapView::VSpace { addr, .. }, Some((_, vmid))) =
                (slot.cap.get().view(), w.k.arch.active())
            {
                let _translation: Option<_> =
                    Machine::touch(&w.k, addr, Vmid(vmid.0), page_address(page));
            }
            Ok(0)
        }
        Operation::Irq {
            label,
            slot,
            irq,
            dest,
        } => match label {
            0 => w.call(
                slots::IRQ_CONTROL,
                Label::IrqIssueIrqHandler,
                &[irq, dest, 64],
                &[slots::CNODE],
            ),
            1 => w.call(
                find(w, slot, Kind::IRQ_HANDLER),
                Label::IrqSetIrqHandler,
                &[],
                &[find(w, dest, Kind::NOTIFICATION)],
            ),
            2 => w.call(
                find(w, slot, Kind::IRQ_HANDLER),
                Label::IrqClearIrqHandler,
                &[],
                &[],
            ),
            _ => w.call(find(w, slot, Kind::IRQ_HANDLER), Label::IrqAckIrq, &[], &[]),
        },
        Operation::Bind { vcpu, tcb } => w.call(
            find(w, vcpu, Kind::VCPU),
            Label::ArmVcpuSetTcb,
            &[],
            &[find(w, tcb, Kind::THREAD)],
        ),
        Operation::Configure { tcb, index, source } => {
            configure(w, w.slot(find(w, tcb, Kind::THREAD)), index, w.slot(source));
            Ok(0)
        }
        Operation::Scribble { frame } => {
            if let CapView::Frame {
                addr,
                kind: crate::cap::MemoryKind::Ram,
                ..
            } = w.cap(find(w, frame, Kind::FRAME))
            {
                w.k.arch.scribble(addr, 4096, 0x5a);
            }
            Ok(0)
        }
    };
}

/// What setting a thread's CSpace, VSpace or handlers does: a derived copy in the thread's slot.
fn configure(w: &World, thread: Ref<Slot>, index: u64, source: Ref<Slot>) {
    let CapView::Thread(tcb) = thread.cap.get().view() else {
        return;
    };
    let dest = crate::object::slot::of_tcb(tcb, index as usize);
    let allowed = match index {
        0 => Kind::CNODE,
        1 => Kind::VSPACE,
        2 => Kind::FRAME,
        _ => Kind::ENDPOINT,
    };
    if source.cap.get().kind() != allowed {
        return;
    }
    while crate::lifecycle::delete::delete(&w.k, dest) == Progress::Preempted {}
    if dest.cap.get().is_null()
        && let Ok(cap) = cnode::derive(source, source.cap.get())
    {
        crate::cspace::cdt::insert_copy(cap, source, dest);
    }
}

/// Things to begin with, so that sequences meet all kinds early.
fn furnished() -> World {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Untyped, 16, 16, 2)
        .unwrap();
    w.retype(slots::RAM, ObjectType::Untyped, 12, 18, 1)
        .unwrap();
    w.retype(16, ObjectType::CapTable, 3, 19, 2).unwrap();
    w.retype(16, ObjectType::VSpace, 0, 21, 2).unwrap();
    w.retype(17, ObjectType::PageTable, 0, 23, 4).unwrap();
    w.retype(17, ObjectType::SmallPage, 0, 27, 2).unwrap();
    w.call(
        slots::ASID_CONTROL,
        Label::ArmAsidControlMakePool,
        &[29, 64],
        &[18, slots::CNODE],
    )
    .unwrap();
    w.call(29, Label::ArmAsidPoolAssign, &[], &[21]).unwrap();
    w.assert_consistent();
    w
}

fn play(operations: &[Operation], mut w: World, storm: Storm) {
    const { assert!(PLAYGROUND.end < 1 << ROOT_RADIX) };
    if storm == Storm::Yes {
        w.set_storm();
    }
    for (n, operation) in operations.iter().enumerate() {
        apply(&w, operation);
        if w.looks()
            && let Err(problem) = w.check()
        {
            panic!("after operation {n}, {operation:?}: {problem}");
        }
    }
    // Everything comes back.
    w.revoke(slots::RAM).unwrap();
    w.revoke(slots::DEVICE).unwrap();
    w.assert_consistent();
    assert!(crate::cspace::cdt::first_child(w.slot(slots::RAM)).is_none());
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Storm {
    Yes,
    No,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: super::cases(850),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_keeps_the_invariants(operations in prop::collection::vec(operation(), 1..super::steps(120))) {
        play(&operations, furnished(), Storm::No);
    }

    #[test]
    fn any_sequence_keeps_the_invariants_under_interrupts(
        operations in prop::collection::vec(operation(), 1..super::steps(120))
    ) {
        play(&operations, furnished(), Storm::Yes);
    }
}
