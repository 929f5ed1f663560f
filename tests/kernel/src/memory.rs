//! Untyped memory, frames and address spaces.

#![allow(unsafe_code)] // Looking at mapped frames.

use crate::same;
use crate::suite::{Failure, Test};
use sel4_sys::{CapRights, Error, Invocation, ObjectType, init_slot, vm_attributes};
use testbed::Env;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("untyped_too_small_is_refused", too_small),
    ("untyped_fan_out_is_at_most_256", fan_out),
    ("untyped_retype_needs_empty_slots", occupied),
    ("untyped_with_children_is_not_copied", copy_with_children),
    ("untyped_fan_out_256_frames_and_back", many_frames),
    ("untyped_of_a_dead_child_is_used_again_zeroed", zeroed_again),
    ("large_frame_is_zeroed_after_its_owner", large_zeroed),
    ("page_mapped_twice_is_refused", mapped_twice),
    ("page_unmapped_frame_can_be_mapped_elsewhere", map_elsewhere),
    ("page_revoked_frame_is_unmapped_everywhere", revoke_unmaps),
    ("page_table_missing_is_named", missing_table),
    ("page_address_is_told", address),
    ("page_misaligned_address_is_refused", misaligned),
];

fn too_small(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 12);
    let first = env.slots(2);
    let answer = env.retype(untyped, ObjectType::SmallPage, 0, first, 2);
    same!(answer.label, Error::NotEnoughMemory.word());
    same!(
        env.retype(untyped, ObjectType::SmallPage, 0, first, 1)
            .label,
        0
    );
    same!(
        env.retype(untyped, ObjectType::Endpoint, 0, first + 1, 1)
            .label,
        Error::NotEnoughMemory.word()
    );
    Ok(())
}

fn fan_out(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 14);
    let first = env.slots(257);
    for count in [0, 257] {
        let answer = env.retype(untyped, ObjectType::Endpoint, 0, first, count);
        same!(answer.label, Error::RangeError.word());
    }
    Ok(())
}

fn occupied(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 12);
    let first = env.slots(2);
    same!(
        env.retype(untyped, ObjectType::Endpoint, 0, first + 1, 1)
            .label,
        0
    );
    same!(
        env.retype(untyped, ObjectType::Endpoint, 0, first, 2).label,
        Error::DeleteFirst.word()
    );
    same!(
        env.retype(untyped, ObjectType::Endpoint, 0, first, 1).label,
        0
    );
    Ok(())
}

fn copy_with_children(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 12);
    let first = env.slots(2);
    same!(
        env.retype(untyped, ObjectType::Endpoint, 0, first, 1).label,
        0
    );
    same!(
        env.copy_to(first + 1, untyped, CapRights::ALL).label,
        Error::RevokeFirst.word()
    );
    same!(env.delete(first).label, 0);
    same!(env.copy_to(first + 1, untyped, CapRights::ALL).label, 0);
    Ok(())
}

fn many_frames(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 20);
    let first = env.slots(256);
    for _ in 0..3 {
        same!(
            env.retype(untyped, ObjectType::SmallPage, 0, first, 256)
                .label,
            0
        );
        same!(env.revoke(untyped).label, 0);
    }
    same!(
        env.retype(untyped, ObjectType::Untyped, 19, first, 2).label,
        0
    );
    Ok(())
}

/// The word at an address that the test has mapped readable.
pub fn peek(vaddr: u64) -> u64 {
    // SAFETY: the tests pass addresses that they have mapped readable.
    unsafe { core::ptr::read_volatile(vaddr as *const u64) }
}

fn poke(vaddr: u64, value: u64) {
    // SAFETY: the tests pass addresses that they have mapped writable, and nothing of Rust lives there.
    unsafe { core::ptr::write_volatile(vaddr as *mut u64, value) }
}

fn zeroed_again(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 14);
    let first = env.slots(4);
    same!(
        env.retype(untyped, ObjectType::SmallPage, 0, first, 4)
            .label,
        0
    );
    let vaddr = env.map_here(first + 3);
    poke(vaddr + 4088, 0xdead_beef);
    same!(env.revoke(untyped).label, 0);
    same!(
        env.retype(untyped, ObjectType::SmallPage, 0, first, 4)
            .label,
        0
    );
    let again = env.map_here(first + 3);
    same!(peek(again + 4088), 0);
    Ok(())
}

fn large_zeroed(env: &mut Env) -> Result<(), Failure> {
    const SIZE: u64 = 2 << 20;
    let untyped = env.object(ObjectType::Untyped, 21);
    let frame = env.slot();
    let attributes = vm_attributes::DEFAULT | vm_attributes::EXECUTE_NEVER;
    // A 1 GiB-aligned address of its own: its level-2 table alone is needed.
    let vaddr = 0x20_0000_0000;
    let table = env.object(ObjectType::PageTable, 0);
    same!(
        env.invoke(
            table,
            Invocation::ArmPageTableMap,
            &[vaddr, attributes],
            &[init_slot::VSPACE]
        )
        .label,
        0
    );
    for _ in 0..2 {
        same!(
            env.retype(untyped, ObjectType::LargePage, 0, frame, 1)
                .label,
            0
        );
        same!(
            env.map(
                frame,
                init_slot::VSPACE,
                vaddr,
                CapRights::READ_WRITE,
                attributes
            )
            .label,
            0
        );
        for at in (0..SIZE).step_by(4096) {
            same!(peek(vaddr + at), 0);
            poke(vaddr + at, at | 1);
            poke(vaddr + at + 4088, at | 1);
        }
        same!(env.revoke(untyped).label, 0);
    }
    Ok(())
}

fn mapped_twice(env: &mut Env) -> Result<(), Failure> {
    let frame = env.object(ObjectType::SmallPage, 0);
    let vaddr = env.map_here(frame);
    let other = env.window(4096);
    let attributes = vm_attributes::DEFAULT;
    // The same frame at another address through the same capability.
    let answer = env.map(
        frame,
        init_slot::VSPACE,
        other,
        CapRights::READ_WRITE,
        attributes,
    );
    same!(answer.label, Error::InvalidArgument.word());
    // At the same address it is a change of rights.
    same!(
        env.map(frame, init_slot::VSPACE, vaddr, CapRights::READ, attributes)
            .label,
        0
    );
    same!(peek(vaddr), 0);
    Ok(())
}

fn map_elsewhere(env: &mut Env) -> Result<(), Failure> {
    let frame = env.object(ObjectType::SmallPage, 0);
    let vaddr = env.map_here(frame);
    poke(vaddr, 0x1234);
    same!(
        env.invoke(frame, Invocation::ArmPageUnmap, &[], &[]).label,
        0
    );
    let again = env.map_here(frame);
    same!(peek(again), 0x1234);
    Ok(())
}

fn revoke_unmaps(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 12);
    let frame = env.slot();
    same!(
        env.retype(untyped, ObjectType::SmallPage, 0, frame, 1)
            .label,
        0
    );
    let vaddr = env.map_here(frame);
    let copy = env.copy(frame, CapRights::READ_WRITE);
    let second = env.map_here(copy);
    poke(vaddr, 7);
    same!(peek(second), 7);
    same!(env.revoke(untyped).label, 0);
    // Both addresses are free for another frame, which shows through both.
    for address in [vaddr, second] {
        let other = env.object(ObjectType::SmallPage, 0);
        same!(
            env.map(
                other,
                init_slot::VSPACE,
                address,
                CapRights::READ_WRITE,
                vm_attributes::DEFAULT
            )
            .label,
            0
        );
        same!(peek(address), 0);
    }
    Ok(())
}

fn missing_table(env: &mut Env) -> Result<(), Failure> {
    let frame = env.object(ObjectType::SmallPage, 0);
    let answer = env.map(
        frame,
        init_slot::VSPACE,
        0x30_0000_0000,
        CapRights::READ_WRITE,
        vm_attributes::DEFAULT,
    );
    same!(answer.label, Error::FailedLookup.word());
    Ok(())
}

fn address(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 13);
    let first = env.slots(2);
    same!(
        env.retype(untyped, ObjectType::SmallPage, 0, first, 2)
            .label,
        0
    );
    let told = |env: &Env, slot| {
        env.invoke(slot, Invocation::ArmPageGetAddress, &[], &[])
            .words[0]
    };
    same!(told(env, first + 1), told(env, first) + 4096);
    Ok(())
}

fn misaligned(env: &mut Env) -> Result<(), Failure> {
    let frame = env.object(ObjectType::SmallPage, 0);
    let vaddr = env.window(4096);
    let answer = env.map(
        frame,
        init_slot::VSPACE,
        vaddr + 8,
        CapRights::READ_WRITE,
        vm_attributes::DEFAULT,
    );
    same!(answer.label, Error::AlignmentError.word());
    let outside = env.map(
        frame,
        init_slot::VSPACE,
        1 << 41,
        CapRights::READ_WRITE,
        vm_attributes::DEFAULT,
    );
    same!(u64::from(outside.label != 0), 1);
    Ok(())
}
