//! Capability addresses: guards, depths, and why a look-up fails.

use crate::cap::{Cap, CapView};
use crate::check::fixture::{World, slots};
use crate::cspace::cnode::{self, BadgeUse};
use crate::object::error::{Error, LookupFailure, LookupSide};
use sel4_sys::{Invocation as Label, ObjectType};

/// A world with a CNode of 16 slots in slot 20, an endpoint in its slot 3, and a CNode of 4 slots in its slot 5.
fn nested() -> World {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::CapTable, 4, 20, 1)
        .unwrap();
    w.retype(slots::RAM, ObjectType::CapTable, 2, 21, 1)
        .unwrap();
    w.retype(slots::RAM, ObjectType::Endpoint, 0, 22, 1)
        .unwrap();
    w.move_into(20, 3, 22).unwrap();
    w.move_into(20, 5, 21).unwrap();
    w.assert_consistent();
    w
}

fn guarded(w: &World, slot: u64, guard: u64, bits: u64) -> Cap {
    cnode::with_badge(w.slot(slot).cap.get(), guard << 6 | bits, BadgeUse::Mint).unwrap()
}

#[test]
fn a_full_depth_address_finds_its_slot() {
    let w = nested();
    let root = guarded(&w, 20, 0xab, 60);
    let found = cnode::resolve(root, 0xab3, 64).unwrap();
    assert_eq!((found.slot, found.bits_left), (w.slot_in(20, 3), 0));
}

#[test]
fn two_levels_with_a_guard_between() {
    let w = nested();
    let root = w.slot(20).cap.get();
    let inner = guarded_inner(&w);
    w.slot_in(20, 5).cap.set(inner);
    // 4 bits of index 5, guard 0b101, 2 bits of index 2.
    let found = cnode::resolve(root, 0b0_1011_0110, 9).unwrap();
    assert_eq!(found.slot, cnode::slot_at(inner, 2).unwrap());
    assert_eq!(
        cnode::resolve(root, 0b0_1011_0010, 9).unwrap_err(),
        LookupFailure::GuardMismatch {
            bits_left: 5,
            guard_found: 0b101,
            bits_found: 3
        }
    );
    // Three bits of the five that the inner one needs.
    assert_eq!(
        cnode::resolve(root, 0b010_1101, 7).unwrap_err(),
        LookupFailure::DepthMismatch {
            bits_left: 3,
            bits_found: 5
        }
    );
    // Fewer bits than the guard itself has.
    assert_eq!(
        cnode::resolve(root, 0b01_0110, 6).unwrap_err(),
        LookupFailure::GuardMismatch {
            bits_left: 2,
            guard_found: 0b101,
            bits_found: 3
        }
    );
    // Exactly the CNode capability itself.
    let itself = cnode::resolve(root, 0b0101, 4).unwrap();
    assert_eq!(itself.slot, w.slot_in(20, 5));
}

fn guarded_inner(w: &World) -> Cap {
    cnode::with_badge(w.slot_in(20, 5).cap.get(), 0b101 << 6 | 3, BadgeUse::Mint).unwrap()
}

#[test]
fn bits_may_be_left_when_invoking_but_not_when_operating() {
    let w = nested();
    let root = w.slot(20).cap.get();
    let found = cnode::resolve(root, 0x3f, 8).unwrap();
    assert_eq!((found.slot, found.bits_left), (w.slot_in(20, 3), 4));
    assert_eq!(
        cnode::operand(root, 0x3f, 8, LookupSide::Source).unwrap_err(),
        Error::FailedLookup {
            source: LookupSide::Source,
            failure: LookupFailure::DepthMismatch {
                bits_left: 4,
                bits_found: 0
            }
        }
    );
}

#[test]
fn an_operation_wants_a_depth_and_a_cnode() {
    let w = nested();
    let root = w.slot(20).cap.get();
    for depth in [0, 65, u64::MAX] {
        assert_eq!(
            cnode::operand(root, 3, depth, LookupSide::Destination).unwrap_err(),
            Error::Range { min: 1, max: 64 }
        );
    }
    let endpoint = w.slot_in(20, 3).cap.get();
    assert_eq!(
        cnode::operand(endpoint, 3, 4, LookupSide::Destination).unwrap_err(),
        Error::FailedLookup {
            source: LookupSide::Destination,
            failure: LookupFailure::InvalidRoot
        }
    );
}

#[test]
fn an_empty_source_is_a_missing_capability() {
    let w = nested();
    let words = [30, 64, 31, 64, 15];
    assert_eq!(
        w.call(slots::CNODE, Label::CNodeCopy, &words, &[slots::CNODE]),
        Err(Error::FailedLookup {
            source: LookupSide::Source,
            failure: LookupFailure::MissingCapability { bits_left: 64 }
        })
    );
}

#[test]
fn a_guard_that_does_not_fit_is_refused() {
    let w = nested();
    // 61 bits of guard and 4 of radix are more than 64.
    assert_eq!(w.mint(30, 20, 61), Err(Error::IllegalOperation));
    w.mint(30, 20, 60 | 0x7 << 6).unwrap();
    assert!(matches!(
        w.cap(30),
        CapView::CNode {
            guard: 7,
            guard_bits: 60,
            radix: 4,
            ..
        }
    ));
    w.assert_consistent();
}
