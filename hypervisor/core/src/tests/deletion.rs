//! Deletion: containers, zombies, CNodes that hold themselves and each other, preemption anywhere.

use crate::cap::{CapView, Kind};
use crate::check::fixture::{World, slots};
use crate::cspace::cdt;
use crate::object::error::Error;
use crate::object::slot;
use crate::object::tcb_slot;
use sel4_sys::{Invocation as Label, ObjectType};

/// A CNode of `1 << radix` slots in slot `index`.
fn cnode(w: &World, untyped: u64, radix: u64, index: u64) {
    w.retype(untyped, ObjectType::CapTable, radix, index, 1)
        .unwrap();
}

fn untyped(w: &World, index: u64) {
    w.retype(slots::RAM, ObjectType::Untyped, 14, index, 1)
        .unwrap();
}

/// Deletes (or revokes) with a preemption at every step, checking the invariants at each.
fn to_the_end(w: &mut World, label: Label, index: u64) -> u64 {
    w.set_storm();
    let mut restarts = 0;
    loop {
        w.k.work_units
            .set(crate::state::kernel::WORK_UNITS_PER_PREEMPTION - 1);
        let progress = w
            .call_once(slots::CNODE, label, &[index, 64], &[])
            .expect("valid arguments");
        w.assert_consistent();
        if progress == crate::object::error::Progress::Done {
            return restarts;
        }
        restarts += 1;
        assert!(restarts < 10_000, "no progress");
    }
}

#[test]
fn a_cnode_is_emptied_before_it_goes() {
    let mut w = World::new();
    untyped(&w, 20);
    cnode(&w, 20, 4, 21);
    w.retype(20, ObjectType::Endpoint, 0, 22, 1).unwrap();
    w.copy(23, 22).unwrap();
    w.move_into(21, 3, 22).unwrap();
    w.move_into(21, 15, 23).unwrap();
    let restarts = to_the_end(&mut w, Label::CNodeDelete, 21);
    assert!(restarts > 10, "sixteen slots, a step each");
    assert!(w.slot(21).cap.get().is_null());
    assert!(
        cdt::first_child(w.slot(20)).is_none(),
        "the endpoint went with it"
    );
}

#[test]
fn a_copy_keeps_the_cnode() {
    let w = World::new();
    untyped(&w, 20);
    cnode(&w, 20, 4, 21);
    w.copy(22, 21).unwrap();
    w.retype(20, ObjectType::Endpoint, 0, 23, 1).unwrap();
    w.move_into(21, 3, 23).unwrap();
    w.delete(21).unwrap();
    assert!(!w.slot_in(22, 3).cap.get().is_null());
    w.assert_consistent();
}

#[test]
fn a_zombie_can_be_neither_copied_nor_moved() {
    let mut w = World::new();
    untyped(&w, 20);
    cnode(&w, 20, 4, 21);
    w.set_storm();
    w.k.work_units
        .set(crate::state::kernel::WORK_UNITS_PER_PREEMPTION - 1);
    let first = w.call_once(slots::CNODE, Label::CNodeDelete, &[21, 64], &[]);
    assert_eq!(first, Ok(crate::object::error::Progress::Preempted));
    assert_eq!(w.slot(21).cap.get().kind(), Kind::ZOMBIE);
    w.assert_consistent();
    assert_eq!(w.copy(22, 21), Err(Error::IllegalOperation));
    assert_eq!(w.mint(22, 21, 5), Err(Error::IllegalOperation));
    assert_eq!(w.relocate(22, 21), Err(Error::IllegalOperation));
    let words = [21, 4, 0, 0];
    assert!(w.call(21, Label::CNodeDelete, &words, &[]).is_err());
    w.delete(21).unwrap();
    assert!(w.slot(21).cap.get().is_null());
    w.assert_consistent();
}

#[test]
fn a_cnode_that_holds_its_only_capability() {
    for place in [0, 7, 15] {
        for label in [Label::CNodeRevoke, Label::CNodeDelete] {
            let mut w = World::new();
            untyped(&w, 20);
            cnode(&w, 20, 4, 21);
            w.retype(20, ObjectType::Endpoint, 0, 22, 2).unwrap();
            for (index, source) in [(1, 22), (9, 23)] {
                w.move_into(21, index, source).unwrap();
            }
            if label == Label::CNodeRevoke {
                w.move_into(21, place, 21).unwrap();
                to_the_end(&mut w, label, 20);
                assert!(cdt::first_child(w.slot(20)).is_none(), "place {place}");
            } else {
                // A copy inside does not keep it when that is the last: the outer one is deleted first, then nobody
                // reaches it.
                w.copy(24, 21).unwrap();
                w.move_into(21, place, 24).unwrap();
                to_the_end(&mut w, label, 21);
                assert!(cdt::first_child(w.slot(20)).is_some());
                to_the_end(&mut w, Label::CNodeRevoke, 20);
            }
            w.retype(20, ObjectType::Endpoint, 0, 22, 1).unwrap();
            w.assert_consistent();
        }
    }
}

#[test]
fn cnodes_that_hold_each_other() {
    for (place_a, place_b) in [(0, 0), (0, 5), (5, 0), (3, 7), (7, 7)] {
        let mut w = World::new();
        untyped(&w, 20);
        cnode(&w, 20, 3, 21);
        cnode(&w, 20, 3, 22);
        w.retype(20, ObjectType::Endpoint, 0, 23, 1).unwrap();
        w.move_into(21, 2, 23).unwrap();
        w.copy(24, 22).unwrap();
        // 21 holds 22's only capability, and 22 holds 21's.
        w.move_into(21, place_a, 24).unwrap();
        w.move_into(22, place_b, 21).unwrap();
        w.delete(22).unwrap();
        w.assert_consistent();
        to_the_end(&mut w, Label::CNodeRevoke, 20);
        assert!(cdt::first_child(w.slot(20)).is_none());
        w.retype(20, ObjectType::CapTable, 3, 21, 1).unwrap();
        w.assert_consistent();
    }
}

#[test]
fn a_chain_of_cnodes() {
    let mut w = World::new();
    untyped(&w, 20);
    let length = 12;
    for n in 0..length {
        cnode(&w, 20, 2, 21 + n);
    }
    // From the far end: each into the first or last slot of the one before it.
    for n in (1..length).rev() {
        let place = if n % 2 == 0 { 0 } else { 3 };
        w.move_into(21 + n - 1, place, 21 + n).unwrap();
    }
    w.assert_consistent();
    to_the_end(&mut w, Label::CNodeDelete, 21);
    assert!(w.slot(21).cap.get().is_null());
    to_the_end(&mut w, Label::CNodeRevoke, 20);
    assert!(cdt::first_child(w.slot(20)).is_none());
}

#[test]
fn a_thread_in_a_cnode_goes_with_it_and_takes_its_capabilities_along() {
    let mut w = World::new();
    untyped(&w, 20);
    cnode(&w, 20, 3, 21);
    w.retype(20, ObjectType::Tcb, 0, 22, 1).unwrap();
    w.retype(20, ObjectType::Endpoint, 0, 23, 1).unwrap();
    cnode(&w, 20, 3, 24);
    let CapView::Thread(tcb) = w.cap(22) else {
        panic!("no thread");
    };
    // The thread has the last capability to the CNode of slot 24 and to the endpoint.
    let cspace = slot::of_tcb(tcb, tcb_slot::CSPACE);
    cdt::relocate(w.slot(24).cap.get(), w.slot(24), cspace);
    let handler = slot::of_tcb(tcb, tcb_slot::FAULT_HANDLER);
    cdt::relocate(w.slot(23).cap.get(), w.slot(23), handler);
    w.move_into(21, 1, 22).unwrap();
    w.assert_consistent();
    to_the_end(&mut w, Label::CNodeDelete, 21);
    // Only the CNode that nobody reaches is left.
    let left: std::vec::Vec<_> = crate::check::invariants::all_slots(w.slot(20))
        .into_iter()
        .filter(|&slot| slot != w.slot(20) && cdt::is_child(w.slot(20), slot))
        .map(|slot| slot.cap.get().kind())
        .collect();
    assert_eq!(left, [Kind::ZOMBIE]);
    to_the_end(&mut w, Label::CNodeRevoke, 20);
    assert!(cdt::first_child(w.slot(20)).is_none());
}

#[test]
fn a_zombie_inside_a_cnode_that_is_deleted() {
    let mut w = World::new();
    untyped(&w, 20);
    cnode(&w, 20, 3, 21);
    cnode(&w, 20, 4, 22);
    w.retype(20, ObjectType::Endpoint, 0, 23, 1).unwrap();
    w.move_into(22, 2, 23).unwrap();
    w.move_into(21, 6, 22).unwrap();
    // A deletion of the inner one that is preempted...
    w.set_storm();
    w.k.work_units
        .set(crate::state::kernel::WORK_UNITS_PER_PREEMPTION - 1);
    let first = w.call_once(21, Label::CNodeDelete, &[6, 3], &[]);
    assert_eq!(first, Ok(crate::object::error::Progress::Preempted));
    // ... and then the outer one is deleted.
    to_the_end(&mut w, Label::CNodeDelete, 21);
    assert!(w.slot(21).cap.get().is_null());
    to_the_end(&mut w, Label::CNodeRevoke, 20);
    assert!(cdt::first_child(w.slot(20)).is_none());
}

#[test]
fn a_revoke_that_misses_a_child_is_noticed() {
    let w = World::new();
    untyped(&w, 20);
    w.retype(20, ObjectType::Endpoint, 0, 21, 3).unwrap();
    // What a faulty revoke would leave: a capability out of the list, its memory given out again.
    let missed = w.slot(22);
    let cap = missed.cap.get();
    cdt::remove(missed);
    missed.cap.set(cap);
    w.revoke(20).unwrap();
    assert!(
        w.check()
            .unwrap_err()
            .contains("not in the derivation list")
    );
}
