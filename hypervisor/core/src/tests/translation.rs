//! Address spaces: mapping, unmapping, ASIDs and VMIDs, and that no translation outlives its mapping.

use crate::arch::{PAddr, Vmid};
use crate::cap::{CapView, Rights};
use crate::check::fixture::{Flaw, Machine, World, slots};
use crate::object::error::{Error, LookupFailure, LookupSide};
use crate::vspace::paging;
use sel4_sys::{Invocation as Label, ObjectType};

const VSPACE: u64 = 20;
const POOL: u64 = 22;
const LEVEL_2: u64 = 23;
const LEVEL_3: u64 = 24;
const PAGE: u64 = 30;
const LARGE: u64 = 40;
const ALL: u64 = 3;
const CACHED: u64 = 1;
const VADDR: u64 = 0x1_4060_3000;

/// An address space with tables for `VADDR` and 4 small frames.
fn space() -> World {
    furnished(World::new())
}

fn furnished(w: World) -> World {
    w.retype(slots::RAM, ObjectType::VSpace, 0, VSPACE, 2)
        .unwrap();
    w.retype(slots::RAM, ObjectType::Untyped, 12, 26, 1)
        .unwrap();
    w.retype(slots::RAM, ObjectType::PageTable, 0, LEVEL_2, 3)
        .unwrap();
    w.retype(slots::RAM, ObjectType::SmallPage, 0, PAGE, 4)
        .unwrap();
    w.call(
        slots::ASID_CONTROL,
        Label::ArmAsidControlMakePool,
        &[POOL, 64],
        &[26, slots::CNODE],
    )
    .unwrap();
    assign(&w, VSPACE).unwrap();
    map_table(&w, LEVEL_2, VADDR).unwrap();
    map_table(&w, LEVEL_3, VADDR).unwrap();
    w.assert_consistent();
    w
}

/// [`space`] with a large frame.
fn space_and_large() -> World {
    let w = furnished(World::spacious());
    w.retype(slots::RAM, ObjectType::LargePage, 0, LARGE, 1)
        .unwrap();
    w
}

fn assign(w: &World, vspace: u64) -> Result<u64, Error> {
    w.call(POOL, Label::ArmAsidPoolAssign, &[], &[vspace])
}

fn map_table(w: &World, table: u64, vaddr: u64) -> Result<u64, Error> {
    w.call(table, Label::ArmPageTableMap, &[vaddr, 3], &[VSPACE])
}

fn map(w: &World, frame: u64, vaddr: u64, rights: u64) -> Result<u64, Error> {
    w.call(
        frame,
        Label::ArmPageMap,
        &[vaddr, rights, CACHED],
        &[VSPACE],
    )
}

fn unmap(w: &World, frame: u64) {
    w.call(frame, Label::ArmPageUnmap, &[], &[]).unwrap();
}

fn root(w: &World, vspace: u64) -> u64 {
    match w.cap(vspace) {
        CapView::VSpace { addr, .. } => addr,
        other => panic!("{other:?}"),
    }
}

fn place(w: &World, vaddr: u64) -> paging::Place {
    paging::walk(&w.k, root(w, VSPACE), vaddr)
}

/// Runs in the address space and remembers the translation of `vaddr`.
fn run(w: &World, vspace: u64, vaddr: u64) -> Option<Vmid> {
    w.k.activate_vspace(w.slot(vspace).cap.get());
    let (_, vmid) = w.k.arch.active()?;
    Machine::touch(&w.k, root(w, vspace), vmid, vaddr)?;
    Some(vmid)
}

fn missing(bits_left: u64) -> Error {
    Error::FailedLookup {
        source: LookupSide::Destination,
        failure: LookupFailure::MissingCapability { bits_left },
    }
}

#[test]
fn descriptors_are_those_of_the_architecture() {
    let w = space_and_large();
    map(&w, PAGE, VADDR, ALL).unwrap();
    let CapView::Frame { addr, .. } = w.cap(PAGE) else {
        panic!("no frame");
    };
    // Page, normal write-back, read and write, inner shareable, accessed.
    assert_eq!(place(&w, VADDR).entry.0, addr | 0x7ff);
    w.call(PAGE, Label::ArmPageMap, &[VADDR, 2, 4], &[VSPACE])
        .unwrap();
    // Device-nGnRnE, read only, not executable.
    assert_eq!(place(&w, VADDR).entry.0, addr | 0x743 | 1 << 54);
    map(&w, LARGE, 0x1_4080_0000, ALL).unwrap();
    let large = place(&w, 0x1_4080_0000);
    assert_eq!((large.entry.0 & 0xfff, large.shift), (0x7fd, 21));
    w.assert_consistent();
}

#[test]
fn unmapping_takes_the_translation_along() {
    let w = space();
    map(&w, PAGE, VADDR, ALL).unwrap();
    run(&w, VSPACE, VADDR).unwrap();
    w.assert_consistent();
    unmap(&w, PAGE);
    assert!(!place(&w, VADDR).entry.is_valid());
    assert!(w.k.arch.translations().is_empty());
    unmap(&w, PAGE);
    w.assert_consistent();
}

#[test]
fn a_forgotten_invalidation_is_noticed() {
    let w = space();
    map(&w, PAGE, VADDR, ALL).unwrap();
    run(&w, VSPACE, VADDR).unwrap();
    w.k.arch.set_flaw(Flaw::ForgetsToInvalidate);
    unmap(&w, PAGE);
    assert!(w.check().unwrap_err().contains("stale translation"));
}

#[test]
fn a_table_that_keeps_its_entries_is_noticed() {
    let w = space();
    map(&w, PAGE, VADDR, ALL).unwrap();
    w.k.arch.set_flaw(Flaw::ForgetsToZero);
    w.call(LEVEL_3, Label::ArmPageTableUnmap, &[], &[]).unwrap();
    unmap(&w, PAGE);
    map_table(&w, LEVEL_3, VADDR).unwrap();
    assert!(w.check().unwrap_err().contains("no capability says so"));
}

#[test]
fn downgrades_and_replacements_invalidate() {
    let w = space();
    map(&w, PAGE, VADDR, ALL).unwrap();
    run(&w, VSPACE, VADDR).unwrap();
    map(&w, PAGE, VADDR, 2).unwrap();
    w.assert_consistent();
    assert_eq!(place(&w, VADDR).entry.rights(), Rights::READ);
    run(&w, VSPACE, VADDR).unwrap();
    // Another frame in its place; the first one's capability must not remove it later.
    map(&w, PAGE + 1, VADDR, ALL).unwrap();
    w.assert_consistent();
    run(&w, VSPACE, VADDR).unwrap();
    unmap(&w, PAGE);
    assert!(place(&w, VADDR).entry.is_valid());
    w.assert_consistent();
    w.delete(PAGE + 1).unwrap();
    assert!(!place(&w, VADDR).entry.is_valid());
    w.assert_consistent();
}

#[test]
fn errors_of_page_map() {
    let w = space_and_large();
    assert_eq!(map(&w, PAGE, VADDR + 1, ALL), Err(Error::Alignment));
    assert_eq!(map(&w, PAGE, 1 << 40 | 1, ALL), Err(Error::Alignment));
    assert_eq!(map(&w, PAGE, 1 << 40, ALL), Err(Error::InvalidArgument(0)));
    assert_eq!(map(&w, PAGE, 0x8000_0000, ALL), Err(missing(30)));
    assert_eq!(map(&w, PAGE, VADDR + (1 << 21), ALL), Err(missing(21)));
    assert_eq!(map(&w, LARGE, 0x1_4060_0000, ALL), Err(missing(12)));
    map(&w, LARGE, 0x1_4080_0000, ALL).unwrap();
    assert_eq!(map(&w, PAGE, 0x1_4080_0000, ALL), Err(missing(21)));
    map(&w, PAGE, VADDR, ALL).unwrap();
    assert_eq!(
        map(&w, PAGE, VADDR + 4096, ALL),
        Err(Error::InvalidArgument(0))
    );
    assert_eq!(map(&w, PAGE, VADDR + 1, ALL), Err(Error::Alignment));
    assert_eq!(
        w.call(PAGE, Label::ArmPageMap, &[VADDR, 3, 1], &[VSPACE + 1]),
        Err(Error::InvalidCapability(1))
    );
    assign(&w, VSPACE + 1).unwrap();
    assert_eq!(
        w.call(PAGE, Label::ArmPageMap, &[VADDR, 3, 1], &[VSPACE + 1]),
        Err(Error::InvalidCapability(1))
    );
    assert_eq!(
        w.call(PAGE, Label::ArmPageMap, &[VADDR, 3, 1], &[PAGE + 1]),
        Err(Error::InvalidCapability(1))
    );
    assert_eq!(
        w.call(PAGE, Label::ArmPageMap, &[VADDR, 3, 1], &[]),
        Err(Error::TruncatedMessage)
    );
    assert_eq!(
        w.call(PAGE, Label::ArmVcpuReadReg, &[0], &[]),
        Err(Error::IllegalOperation)
    );
    w.assert_consistent();
}

#[test]
fn errors_of_page_tables() {
    let w = space();
    assert_eq!(
        map_table(&w, LEVEL_3, VADDR),
        Err(Error::InvalidCapability(0))
    );
    assert_eq!(map_table(&w, 25, VADDR), Err(Error::DeleteFirst));
    assert_eq!(map_table(&w, 25, 1 << 40), Err(Error::InvalidArgument(0)));
    w.copy(27, LEVEL_3).unwrap();
    assert_eq!(
        w.call(LEVEL_3, Label::ArmPageTableUnmap, &[], &[]),
        Err(Error::RevokeFirst)
    );
    w.delete(LEVEL_3).unwrap();
    // The copy is the last one and still knows where.
    w.call(27, Label::ArmPageTableUnmap, &[], &[]).unwrap();
    assert_eq!(map(&w, PAGE, VADDR, ALL), Err(missing(21)));
    map_table(&w, 27, VADDR).unwrap();
    map(&w, PAGE, VADDR, ALL).unwrap();
    w.assert_consistent();
}

#[test]
fn a_table_that_goes_hides_what_is_below() {
    let w = space();
    map(&w, PAGE, VADDR, ALL).unwrap();
    run(&w, VSPACE, VADDR).unwrap();
    w.delete(LEVEL_2).unwrap();
    assert!(w.k.arch.translations().is_empty());
    assert_eq!(place(&w, VADDR).shift, 30);
    w.assert_consistent();
    unmap(&w, PAGE);
    w.call(LEVEL_3, Label::ArmPageTableUnmap, &[], &[]).unwrap();
    map_table(&w, 25, VADDR).unwrap();
    map_table(&w, LEVEL_3, VADDR).unwrap();
    assert!(!place(&w, VADDR).entry.is_valid(), "the table was cleared");
    w.assert_consistent();
}

#[test]
fn copies_are_mapped_apart() {
    let w = space();
    map(&w, PAGE, VADDR, ALL).unwrap();
    w.copy(31 + 10, PAGE).unwrap();
    assert!(matches!(w.cap(41), CapView::Frame { mapping: None, .. }));
    map(&w, 41, VADDR + 4096, ALL).unwrap();
    run(&w, VSPACE, VADDR).unwrap();
    run(&w, VSPACE, VADDR + 4096).unwrap();
    w.revoke(PAGE).unwrap();
    assert!(place(&w, VADDR).entry.is_valid());
    assert!(!place(&w, VADDR + 4096).entry.is_valid());
    assert_eq!(w.k.arch.translations().len(), 1);
    w.assert_consistent();
    w.revoke(slots::RAM).unwrap();
    assert!(w.k.arch.translations().is_empty());
    assert_eq!(w.k.arch.active(), None);
    w.assert_consistent();
}

#[test]
fn a_read_only_capability_maps_read_only() {
    let w = space();
    let words = [41, 64, PAGE, 64, u64::from(Rights::READ.bits())];
    w.call(slots::CNODE, Label::CNodeCopy, &words, &[slots::CNODE])
        .unwrap();
    map(&w, 41, VADDR, ALL).unwrap();
    assert_eq!(place(&w, VADDR).entry.rights(), Rights::READ);
    // Without read there is nothing.
    let words = [42, 64, PAGE, 64, u64::from(Rights::WRITE.bits())];
    w.call(slots::CNODE, Label::CNodeCopy, &words, &[slots::CNODE])
        .unwrap();
    map(&w, 42, VADDR + 4096, ALL).unwrap();
    assert_eq!(place(&w, VADDR + 4096).entry.rights(), Rights::default());
    w.assert_consistent();
}

#[test]
fn vmids_are_lent_and_taken_back() {
    let w = furnished(World::spacious());
    w.retype(slots::RAM, ObjectType::CapTable, 9, 50, 1)
        .unwrap();
    let words = [ObjectType::VSpace.word(), 0, 50, 64, 0, 128];
    for round in 0..2u64 {
        let mut words = words;
        words[4] = 128 * round;
        w.call(slots::RAM, Label::UntypedRetype, &words, &[slots::CNODE])
            .unwrap();
    }
    map(&w, PAGE, VADDR, ALL).unwrap();
    run(&w, VSPACE, VADDR).unwrap();
    for index in 0..256 {
        let slot = w.slot_in(50, index);
        w.invoke(w.slot(POOL), Label::ArmAsidPoolAssign, &[], &[slot])
            .unwrap();
        w.k.activate_vspace(slot.cap.get());
        if index % 64 == 0 {
            w.assert_consistent();
        }
    }
    // 257 address spaces and 255 VMIDs: the first one lost its own, and with it what the hardware remembered.
    assert!(w.k.arch.translations().is_empty());
    w.assert_consistent();
    run(&w, VSPACE, VADDR).unwrap();
    w.assert_consistent();
}

#[test]
fn asids_are_used_again() {
    let w = space();
    for _ in 0..if cfg!(miri) { 12 } else { 600 } {
        w.retype(26 + 1, ObjectType::VSpace, 0, 60, 1).unwrap_err();
        w.retype(slots::RAM, ObjectType::Untyped, 13, 27, 1)
            .unwrap();
        w.retype(27, ObjectType::VSpace, 0, 60, 1).unwrap();
        assign(&w, 60).unwrap();
        w.k.activate_vspace(w.slot(60).cap.get());
        w.delete(60).unwrap();
        assert_eq!(w.k.arch.active(), None);
        w.delete(27).unwrap();
        if crate::decode::untyped::free_offset(w.slot(slots::RAM).cap.get()) > 3 << 20 {
            break;
        }
    }
    w.assert_consistent();
}

#[test]
fn a_pool_that_goes_takes_its_address_spaces_out_of_use() {
    let w = space();
    map(&w, PAGE, VADDR, ALL).unwrap();
    run(&w, VSPACE, VADDR).unwrap();
    w.delete(POOL).unwrap();
    assert_eq!(w.k.arch.active(), None);
    assert!(w.k.arch.translations().is_empty());
    w.k.activate_vspace(w.slot(VSPACE).cap.get());
    assert_eq!(w.k.arch.active(), None);
    assert_eq!(
        w.call(PAGE + 1, Label::ArmPageMap, &[VADDR, 3, 1], &[VSPACE]),
        Err(Error::FailedLookup {
            source: LookupSide::Destination,
            failure: LookupFailure::InvalidRoot
        })
    );
    unmap(&w, PAGE);
    w.assert_consistent();
}

#[test]
fn errors_of_asids() {
    let w = space();
    assert_eq!(assign(&w, VSPACE), Err(Error::InvalidCapability(1)));
    assert_eq!(assign(&w, PAGE), Err(Error::InvalidCapability(1)));
    let make = |untyped: u64, dest: u64| {
        w.call(
            slots::ASID_CONTROL,
            Label::ArmAsidControlMakePool,
            &[dest, 64],
            &[untyped, slots::CNODE],
        )
    };
    assert_eq!(make(26, 70), Err(Error::RevokeFirst));
    assert_eq!(make(slots::RAM, 70), Err(Error::InvalidCapability(1)));
    w.retype(slots::RAM, ObjectType::Untyped, 12, 27, 1)
        .unwrap();
    assert_eq!(make(27, PAGE), Err(Error::DeleteFirst));
    make(27, 70).unwrap();
    assert!(matches!(w.cap(70), CapView::AsidPool { base: 512, .. }));
    w.assert_consistent();
}

#[test]
fn the_answer_of_get_address_is_physical() {
    let w = space();
    w.call(PAGE, Label::ArmPageGetAddress, &[], &[]).unwrap();
    assert!(
        matches!(w.cap(PAGE), CapView::Frame { addr, .. } if PAddr(addr) == PAddr(w.answer(0)))
    );
}

#[test]
fn cache_operations_go_in_steps() {
    let mut w = space_and_large();
    map(&w, LARGE, 0x1_4080_0000, ALL).unwrap();
    let CapView::Frame { addr, .. } = w.cap(LARGE) else {
        panic!("no frame");
    };
    w.k.arch.scribble(addr, 2 << 20, 0);
    assert!(!w.k.arch.is_clean(addr, 2 << 20));
    w.set_storm();
    let size = 2 << 20;
    let part = if cfg!(miri) { size / 16 } else { size };
    let restarts = w
        .call(LARGE, Label::ArmPageCleanData, &[0, part], &[])
        .unwrap();
    assert_eq!(restarts, part / crate::arch::ZERO_CHUNK_BYTES - 1);
    assert!(w.k.arch.is_clean(addr, part));
    assert_eq!(w.k.arch.is_clean(addr, size), part == size);
    let clean = |start: u64, end: u64| w.call(LARGE, Label::ArmPageCleanData, &[start, end], &[]);
    assert_eq!(clean(5, 5), Err(Error::InvalidArgument(1)));
    assert_eq!(clean(0, size + 1), Err(Error::InvalidArgument(0)));
    assert_eq!(
        w.call(PAGE, Label::ArmPageCleanData, &[0, 4096], &[]),
        Err(Error::IllegalOperation)
    );
    let base = 0x1_4080_0000;
    let space =
        |start: u64, end: u64| w.call(VSPACE, Label::ArmVSpaceCleanData, &[start, end], &[]);
    space(base + 100, base + part).unwrap();
    assert_eq!(
        space(base + 100, base + size + 1),
        Err(Error::Range {
            min: base + 100,
            max: base + size - 1
        })
    );
    assert_eq!(space(base, (1 << 40) + 1), Err(Error::IllegalOperation));
    space(0x2000, 0x3000).unwrap();
}

#[test]
fn a_device_frame_is_not_maintained() {
    let w = space();
    w.retype(slots::DEVICE, ObjectType::SmallPage, 0, 70, 1)
        .unwrap();
    w.call(70, Label::ArmPageMap, &[VADDR, 3, 1], &[VSPACE])
        .unwrap();
    // Both would panic in the fake machine if the kernel touched that address.
    w.call(70, Label::ArmPageCleanData, &[0, 4096], &[])
        .unwrap();
    w.call(VSPACE, Label::ArmVSpaceCleanData, &[VADDR, VADDR + 64], &[])
        .unwrap();
    w.assert_consistent();
}

#[test]
fn a_thread_whose_address_space_is_taken_is_in_none() {
    let w = space();
    let own = crate::object::slot::of_tcb(w.tcb, crate::object::tcb_slot::VSPACE);
    let cap = w.slot(VSPACE).cap.get();
    crate::cspace::cdt::insert_copy(cap, w.slot(VSPACE), own);
    w.k.activate_vspace(own.cap.get());
    assert!(w.k.arch.active().is_some());
    w.revoke(VSPACE).unwrap();
    assert!(own.cap.get().is_null());
    assert_eq!(w.k.arch.active(), None);
    w.assert_consistent();
}
