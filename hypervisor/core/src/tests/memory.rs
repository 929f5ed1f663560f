//! Untyped memory: sizes, fan-out, cleaning.

use crate::arch::ZERO_CHUNK_BYTES;
use crate::cap::CapView;
use crate::check::fixture::{DEVICE_UNTYPED_BITS, Flaw, RAM_UNTYPED_BITS, World, slots};
use crate::decode::untyped;
use crate::object::error::{Error, LookupFailure, LookupSide};
use sel4_sys::{Invocation as Label, ObjectType};

#[test]
fn every_object_has_its_size_and_alignment() {
    let w = World::spacious();
    let objects = [
        (ObjectType::Endpoint, 0, 4),
        (ObjectType::Tcb, 0, 11),
        (ObjectType::Untyped, 4, 4),
        (ObjectType::Notification, 0, 6),
        (ObjectType::CapTable, 3, 8),
        (ObjectType::SchedContext, 9, 9),
        (ObjectType::Reply, 0, 5),
        (ObjectType::VSpace, 0, 13),
        (ObjectType::SmallPage, 0, 12),
        (ObjectType::PageTable, 0, 12),
        (ObjectType::Vcpu, 0, 12),
        (ObjectType::LargePage, 0, 21),
    ];
    for (slot, (object_type, size_bits, bits)) in (20..).zip(objects) {
        let before = untyped::free_offset(w.slot(slots::RAM).cap.get());
        w.retype(slots::RAM, object_type, size_bits, slot, 1)
            .unwrap();
        let after = untyped::free_offset(w.slot(slots::RAM).cap.get());
        let size = 1u64 << bits;
        let start = if slot == 20 {
            0
        } else {
            before.next_multiple_of(size)
        };
        assert_eq!(after, start + size, "{object_type:?}");
        w.assert_consistent();
    }
}

#[test]
fn the_fan_out_is_256() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::CapTable, 9, 20, 1)
        .unwrap();
    let retype = |count: u64, offset: u64| {
        let words = [ObjectType::Endpoint.word(), 0, 20, 64, offset, count];
        w.call(slots::RAM, Label::UntypedRetype, &words, &[slots::CNODE])
    };
    assert_eq!(retype(257, 0), Err(Error::Range { min: 1, max: 256 }));
    assert_eq!(retype(0, 0), Err(Error::Range { min: 1, max: 256 }));
    assert_eq!(retype(1, 512), Err(Error::Range { min: 0, max: 511 }));
    assert_eq!(retype(5, 508), Err(Error::Range { min: 1, max: 4 }));
    retype(256, 256).unwrap();
    assert_eq!(retype(2, 255), Err(Error::DeleteFirst));
    w.assert_consistent();
    w.revoke(slots::RAM).unwrap();
    assert!(w.slot(20).cap.get().is_null());
    w.assert_consistent();
}

#[test]
fn arguments_are_checked() {
    let w = World::new();
    let call = |words: [u64; 6]| w.call(slots::RAM, Label::UntypedRetype, &words, &[slots::CNODE]);
    assert_eq!(call([13, 0, 0, 0, 20, 1]), Err(Error::InvalidArgument(0)));
    let untyped = ObjectType::Untyped.word();
    assert_eq!(
        call([untyped, 3, 0, 0, 20, 1]),
        Err(Error::InvalidArgument(1))
    );
    assert_eq!(
        call([untyped, 48, 0, 0, 20, 1]),
        Err(Error::Range { min: 0, max: 47 })
    );
    assert_eq!(
        call([untyped, u64::MAX, 0, 0, 20, 1]),
        Err(Error::Range { min: 0, max: 47 })
    );
    let table = ObjectType::CapTable.word();
    assert_eq!(
        call([table, 0, 0, 0, 20, 1]),
        Err(Error::InvalidArgument(1))
    );
    let context = ObjectType::SchedContext.word();
    assert_eq!(
        call([context, 6, 0, 0, 20, 1]),
        Err(Error::InvalidArgument(1))
    );
    let bits = u64::from(RAM_UNTYPED_BITS);
    assert_eq!(
        call([untyped, bits + 1, 0, 0, 20, 1]),
        Err(Error::NotEnoughMemory(1 << bits))
    );
    assert_eq!(
        call([untyped, 12, 20, 64, 20, 1]),
        Err(Error::FailedLookup {
            source: LookupSide::Destination,
            failure: LookupFailure::MissingCapability { bits_left: 64 }
        })
    );
    // Nothing of this has cleaned anything.
    assert_eq!(w.k.arch.chunks(), 0);
    w.assert_consistent();
}

#[test]
fn memory_is_clean_when_it_comes_back() {
    let mut w = World::new();
    w.retype(slots::RAM, ObjectType::Untyped, 14, 20, 1)
        .unwrap();
    w.retype(20, ObjectType::SmallPage, 0, 21, 3).unwrap();
    let CapView::Frame { addr, .. } = w.cap(22) else {
        panic!("no frame");
    };
    w.k.arch.scribble(addr, 4096, 0x77);
    w.assert_consistent();
    w.revoke(20).unwrap();
    w.set_storm();
    let restarts = w.retype(20, ObjectType::SmallPage, 0, 21, 4).unwrap();
    assert_eq!(restarts, 1, "two chunks to clean, preempted between them");
    assert!(w.k.arch.is_clean(addr, 4096));
    w.assert_consistent();
}

#[test]
fn a_preempted_reset_continues() {
    let mut w = World::new();
    w.set_storm();
    let restarts = w
        .retype(slots::RAM, ObjectType::Endpoint, 0, 20, 1)
        .unwrap();
    assert_eq!(restarts, (1 << RAM_UNTYPED_BITS) / ZERO_CHUNK_BYTES - 1);
    assert_eq!(
        w.k.arch.chunks(),
        (1 << RAM_UNTYPED_BITS) / ZERO_CHUNK_BYTES
    );
    w.assert_consistent();
}

#[test]
fn tiny_untypeds_are_cleaned_within_their_line() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Untyped, 4, 20, 4).unwrap();
    w.retype(21, ObjectType::Endpoint, 0, 30, 1).unwrap();
    w.retype(22, ObjectType::Endpoint, 0, 31, 1).unwrap();
    let CapView::Endpoint { object, .. } = w.cap(31) else {
        panic!("no endpoint");
    };
    let neighbour = object.addr();
    w.delete(30).unwrap();
    w.retype(21, ObjectType::Endpoint, 0, 30, 1).unwrap();
    w.assert_consistent();
    assert!(matches!(w.cap(31), CapView::Endpoint { object, .. } if object.addr() == neighbour));
}

#[test]
fn device_memory_is_never_touched() {
    let w = World::new();
    // Any access would panic: the fake machine has no memory there.
    w.retype(slots::DEVICE, ObjectType::SmallPage, 0, 20, 2)
        .unwrap();
    assert_eq!(
        w.retype(slots::DEVICE, ObjectType::Endpoint, 0, 22, 1),
        Err(Error::InvalidArgument(1))
    );
    w.retype(slots::DEVICE, ObjectType::HugePage, 0, 22, 1)
        .unwrap();
    w.assert_consistent();
    w.revoke(slots::DEVICE).unwrap();
    let bits = u64::from(DEVICE_UNTYPED_BITS);
    w.retype(slots::DEVICE, ObjectType::Untyped, bits, 20, 1)
        .unwrap();
    assert_eq!(w.k.arch.chunks(), 0);
    w.assert_consistent();
}

#[test]
fn a_retype_that_forgets_to_zero_is_noticed() {
    let w = World::new();
    w.k.arch.set_flaw(Flaw::ForgetsToZero);
    w.retype(slots::RAM, ObjectType::SmallPage, 0, 20, 1)
        .unwrap();
    assert!(w.check().unwrap_err().contains("not clean"));
}

#[test]
fn a_retype_that_forgets_to_clean_is_noticed() {
    let w = World::new();
    w.k.arch.set_flaw(Flaw::ForgetsToClean);
    w.retype(slots::RAM, ObjectType::SmallPage, 0, 20, 1)
        .unwrap();
    assert!(w.check().unwrap_err().contains("not clean"));
}
