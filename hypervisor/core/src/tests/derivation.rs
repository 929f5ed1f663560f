//! Copy, Mint, Move, Mutate, Rotate, Revoke: what becomes of the derivation tree.

use crate::cap::{CapView, Rights};
use crate::check::fixture::{World, slots};
use crate::object::error::{Error, LookupFailure, LookupSide};
use sel4_sys::{Invocation as Label, ObjectType};

fn endpoint() -> World {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Endpoint, 0, 20, 1)
        .unwrap();
    w
}

fn filled(w: &World, range: core::ops::Range<u64>) -> std::vec::Vec<u64> {
    range
        .filter(|&index| !w.slot(index).cap.get().is_null())
        .collect()
}

#[test]
fn revoke_takes_copies_of_copies() {
    let w = endpoint();
    w.copy(21, 20).unwrap();
    w.copy(22, 21).unwrap();
    w.copy(23, 20).unwrap();
    w.assert_consistent();
    // A copy has no children.
    w.revoke(21).unwrap();
    assert_eq!(filled(&w, 20..30), [20, 21, 22, 23]);
    w.revoke(20).unwrap();
    assert_eq!(filled(&w, 20..30), [20]);
    w.assert_consistent();
}

#[test]
fn badged_capabilities_are_originals_of_their_own_group() {
    let w = endpoint();
    w.mint(21, 20, 7).unwrap();
    w.mint(22, 20, 7).unwrap();
    w.copy(23, 21).unwrap();
    w.copy(24, 22).unwrap();
    w.copy(25, 23).unwrap();
    w.revoke(21).unwrap();
    assert_eq!(filled(&w, 20..30), [20, 21, 22, 24]);
    // With the original of a group gone, another group must not adopt its copies.
    w.copy(23, 21).unwrap();
    w.delete(21).unwrap();
    w.assert_consistent();
    w.revoke(22).unwrap();
    assert_eq!(filled(&w, 20..30), [20, 22, 23]);
    w.revoke(20).unwrap();
    assert_eq!(filled(&w, 20..30), [20]);
    w.assert_consistent();
}

#[test]
fn a_badge_is_set_once() {
    let w = endpoint();
    w.mint(21, 20, 7).unwrap();
    assert_eq!(w.mint(22, 21, 8), Err(Error::IllegalOperation));
    assert_eq!(w.mint(22, 21, 7), Err(Error::IllegalOperation));
    let words = [22, 64, 20, 64, 9];
    assert_eq!(
        w.call(slots::CNODE, Label::CNodeMutate, &words, &[slots::CNODE]),
        Err(Error::IllegalOperation)
    );
    assert_eq!(filled(&w, 20..30), [20, 21]);
}

#[test]
fn rights_only_shrink() {
    let w = endpoint();
    let words = [21, 64, 20, 64, u64::from(Rights::READ.bits())];
    w.call(slots::CNODE, Label::CNodeCopy, &words, &[slots::CNODE])
        .unwrap();
    w.copy(22, 21).unwrap();
    for index in [21, 22] {
        assert!(matches!(w.cap(index), CapView::Endpoint { rights, .. } if rights == Rights::READ));
    }
}

#[test]
fn move_keeps_the_place_in_the_tree() {
    let w = endpoint();
    w.copy(21, 20).unwrap();
    w.relocate(22, 20).unwrap();
    assert!(w.slot(20).cap.get().is_null());
    w.assert_consistent();
    w.revoke(22).unwrap();
    assert_eq!(filled(&w, 20..30), [22]);
    assert_eq!(w.relocate(22, 22), Err(Error::DeleteFirst));
}

#[test]
fn mutate_sets_a_guard_and_stays_revocable() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::CapTable, 4, 20, 1)
        .unwrap();
    w.copy(21, 20).unwrap();
    let words = [22, 64, 20, 64, 5 << 6 | 8];
    w.call(slots::CNODE, Label::CNodeMutate, &words, &[slots::CNODE])
        .unwrap();
    assert!(matches!(
        w.cap(22),
        CapView::CNode {
            guard: 5,
            guard_bits: 8,
            ..
        }
    ));
    w.revoke(22).unwrap();
    assert_eq!(filled(&w, 20..30), [22]);
    w.assert_consistent();
}

#[test]
fn rotate_sets_guards_as_mutate_does() {
    let w = endpoint();
    for slot in [21, 22] {
        w.retype(slots::RAM, ObjectType::CapTable, 4, slot, 1)
            .unwrap();
    }
    // A guard of 8 bits, then one of none.
    w.call(
        slots::CNODE,
        Label::CNodeMutate,
        &[23, 64, 21, 64, 5 << 6 | 8],
        &[slots::CNODE],
    )
    .unwrap();
    rotate(&w, 24, 23, 22).unwrap();
    let guard = |slot| match w.cap(slot) {
        CapView::CNode { guard_bits, .. } => guard_bits,
        other => panic!("{other:?}"),
    };
    assert_eq!((guard(24), guard(23)), (0, 0));
    // What could have a badge is not moved along, as on seL4.
    assert_eq!(rotate(&w, 25, 20, 23), Err(Error::IllegalOperation));
    assert_eq!(rotate(&w, 25, 23, 20), Err(Error::IllegalOperation));
    assert_eq!(filled(&w, 20..30), [20, 23, 24]);
    w.assert_consistent();
}

fn rotate(w: &World, dest: u64, pivot: u64, source: u64) -> Result<u64, Error> {
    let words = [dest, 64, 0, pivot, 64, 0, source, 64];
    w.call(
        slots::CNODE,
        Label::CNodeRotate,
        &words,
        &[slots::CNODE, slots::CNODE],
    )
}

#[test]
fn rotate_moves_two_at_once() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Tcb, 0, 20, 1).unwrap();
    w.retype(slots::RAM, ObjectType::Reply, 0, 21, 1).unwrap();
    w.copy(23, 20).unwrap();
    // 20 -> 22, 21 -> 20.
    rotate(&w, 22, 20, 21).unwrap();
    assert!(matches!(w.cap(22), CapView::Thread(_)));
    assert!(matches!(w.cap(20), CapView::Reply { .. }));
    assert!(w.slot(21).cap.get().is_null());
    w.assert_consistent();
    // Swap.
    rotate(&w, 20, 22, 20).unwrap();
    assert!(matches!(w.cap(20), CapView::Thread(_)));
    assert!(matches!(w.cap(22), CapView::Reply { .. }));
    w.assert_consistent();
    // Neighbours in the derivation list.
    rotate(&w, 20, 23, 20).unwrap();
    w.assert_consistent();
    w.revoke(23).unwrap();
    assert_eq!(filled(&w, 20..30), [22, 23]);
    assert_eq!(rotate(&w, 24, 23, 23), Err(Error::IllegalOperation));
    assert_eq!(rotate(&w, 23, 23, 22), Err(Error::IllegalOperation));
    w.copy(24, 23).unwrap();
    assert_eq!(rotate(&w, 24, 23, 22), Err(Error::DeleteFirst));
    assert_eq!(
        rotate(&w, 25, 23, 26),
        Err(Error::FailedLookup {
            source: LookupSide::Source,
            failure: LookupFailure::MissingCapability { bits_left: 64 }
        })
    );
    w.assert_consistent();
}

#[test]
fn copies_of_untyped_are_children_and_use_it_up() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Untyped, 16, 20, 1)
        .unwrap();
    w.retype(20, ObjectType::Endpoint, 0, 30, 1).unwrap();
    assert_eq!(w.copy(21, 20), Err(Error::RevokeFirst));
    w.delete(30).unwrap();
    w.copy(21, 20).unwrap();
    w.assert_consistent();
    assert_eq!(
        w.retype(20, ObjectType::Endpoint, 0, 31, 1),
        Err(Error::NotEnoughMemory(0))
    );
    w.retype(21, ObjectType::Endpoint, 0, 31, 4).unwrap();
    w.assert_consistent();
    w.revoke(20).unwrap();
    assert_eq!(filled(&w, 20..40), [20]);
    w.retype(20, ObjectType::Endpoint, 0, 31, 1).unwrap();
    w.assert_consistent();
}

#[test]
fn what_cannot_be_copied() {
    let w = World::new();
    assert_eq!(w.copy(20, slots::IRQ_CONTROL), Err(Error::IllegalOperation));
    w.retype(slots::RAM, ObjectType::VSpace, 0, 20, 1).unwrap();
    w.retype(slots::RAM, ObjectType::PageTable, 0, 21, 1)
        .unwrap();
    assert_eq!(w.copy(22, 20), Err(Error::IllegalOperation));
    assert_eq!(w.copy(22, 21), Err(Error::IllegalOperation));
    assert_eq!(filled(&w, 20..30), [20, 21]);
}

#[test]
fn a_full_destination_comes_first() {
    let w = endpoint();
    w.copy(21, 20).unwrap();
    assert_eq!(w.copy(21, 20), Err(Error::DeleteFirst));
    assert_eq!(w.copy(21, 29), Err(Error::DeleteFirst));
}

#[test]
fn short_messages_are_truncated() {
    let w = endpoint();
    for (label, full) in [
        (Label::CNodeCopy, 5),
        (Label::CNodeMint, 6),
        (Label::CNodeMove, 4),
        (Label::CNodeMutate, 5),
        (Label::CNodeRotate, 8),
        (Label::CNodeDelete, 2),
        (Label::CNodeRevoke, 2),
    ] {
        let words = [22, 64, 20, 64, 15, 0, 21, 64];
        for length in 0..full {
            assert_eq!(
                w.call(
                    slots::CNODE,
                    label,
                    &words[..length],
                    &[slots::CNODE, slots::CNODE]
                ),
                Err(Error::TruncatedMessage),
                "{label:?} with {length} words"
            );
        }
    }
    let words = [22, 64, 20, 64, 15];
    assert_eq!(
        w.call(slots::CNODE, Label::CNodeCopy, &words, &[]),
        Err(Error::TruncatedMessage)
    );
    assert_eq!(
        w.call(slots::CNODE, Label::UntypedRetype, &words, &[]),
        Err(Error::IllegalOperation)
    );
}
