//! Capabilities, memory and mappings.

use crate::measure::{Clock, ROUNDS, copy, delete, invoke, map, revoke, row, unmap};
use sel4_sys::{CapRights, Invocation, ObjectType, init_slot, vm_attributes};
use testbed::Env;

/// Frames of 4 KiB in 2 MiB.
const FRAMES: u64 = 512;
/// The most that one Retype makes.
const FAN_OUT: u64 = 256;
/// Room in the testbed's gibibyte, far from what it uses itself: no tables of level 3 are there.
const TABLES: u64 = 0x10_2000_0000;
const BLOCKS: u64 = 0x10_3000_0000;

/// Operations on slots.
pub fn capabilities(env: &mut Env, clock: Clock) {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let (a, b) = (env.slot(), env.slot());
    let root = init_slot::CNODE;
    let [mut copied, mut minted, mut moved, mut deleted] = [0; 4];
    for _ in 0..ROUNDS {
        copied += clock.once(|| copy(a, endpoint));
        moved += clock.once(|| {
            invoke(root, Invocation::CNodeMove, [b, 64, a, 64], [root]);
        });
        deleted += clock.once(|| delete(b));
        minted += clock.once(|| {
            let words = [a, 64, endpoint, 64, CapRights::ALL.0, 7];
            invoke(root, Invocation::CNodeMint, words, [root]);
        });
        delete(a);
    }
    row("cnode_copy", copied / ROUNDS);
    row("cnode_mint", minted / ROUNDS);
    row("cnode_move", moved / ROUNDS);
    row("cnode_delete", deleted / ROUNDS);
    row("cnode_revoke_none", clock.mean(|| revoke(endpoint)));

    let frame = env.object(ObjectType::SmallPage, 0);
    let first = env.slots(FRAMES);
    for slot in first..first + FRAMES {
        env.copy_to(slot, frame, CapRights::READ);
    }
    row("revoke_512_copies", clock.once(|| revoke(frame)));
}

/// Maps and unmaps by turns; the two means.
fn map_and_unmap(clock: Clock, frame: u64, vspace: u64, vaddr: u64) -> (u64, u64) {
    let (mut mapped, mut unmapped) = (0, 0);
    for _ in 0..ROUNDS {
        mapped += clock.once(|| map(frame, vspace, vaddr));
        unmapped += clock.once(|| unmap(frame));
    }
    (mapped / ROUNDS, unmapped / ROUNDS)
}

/// Mappings in this address space and in a guest's, whose table of level 3 covers `guest_vaddr`.
pub fn mappings(env: &mut Env, clock: Clock, guest_vspace: u64, guest_vaddr: u64) {
    let small = env.object(ObjectType::SmallPage, 0);
    let room = env.window(4096);
    let (mapped, unmapped) = map_and_unmap(clock, small, init_slot::VSPACE, room);
    row("map_4kib", mapped);
    row("unmap_4kib", unmapped);
    let (mapped, unmapped) = map_and_unmap(clock, small, guest_vspace, guest_vaddr);
    row("map_4kib_guest", mapped);
    row("unmap_4kib_guest", unmapped);
    let large = env.object(ObjectType::LargePage, 0);
    let (mapped, unmapped) = map_and_unmap(clock, large, init_slot::VSPACE, BLOCKS);
    row("map_2mib", mapped);
    row("unmap_2mib", unmapped);
    let table = env.object(ObjectType::PageTable, 0);
    let (mut mapped, mut unmapped) = (0, 0);
    for _ in 0..ROUNDS {
        mapped += clock.once(|| {
            let words = [TABLES, vm_attributes::DEFAULT];
            invoke(
                table,
                Invocation::ArmPageTableMap,
                words,
                [init_slot::VSPACE],
            );
        });
        unmapped += clock.once(|| {
            invoke(table, Invocation::ArmPageTableUnmap, [], []);
        });
    }
    row("map_table", mapped / ROUNDS);
    row("unmap_table", unmapped / ROUNDS);
}

#[inline(always)]
fn retype(untyped: u64, kind: ObjectType, first: u64, count: u64) {
    invoke(
        untyped,
        Invocation::UntypedRetype,
        [kind.word(), 0, 0, 0, first, count],
        [init_slot::CNODE],
    );
}

/// Objects made and taken back.
pub fn retypes(env: &mut Env, clock: Clock) {
    let small = ObjectType::SmallPage;
    let untyped = env.object(ObjectType::Untyped, 21);
    let first = env.slots(FRAMES);
    row(
        "retype_4kib_fresh",
        clock.once(|| retype(untyped, small, first, 1)),
    );
    revoke(untyped);
    let fresh = env.object(ObjectType::Untyped, 21);
    row(
        "retype_256x4kib_fresh",
        clock.once(|| retype(fresh, small, first, FAN_OUT)),
    );
    retype(fresh, small, first + FAN_OUT, FAN_OUT);
    row("revoke_512_unmapped", clock.once(|| revoke(fresh)));
    row(
        "retype_256x4kib_cleaning",
        clock.once(|| retype(fresh, small, first, FAN_OUT)),
    );
    retype(fresh, small, first + FAN_OUT, FAN_OUT);
    let room = env.window(FRAMES * 4096);
    map(first, init_slot::VSPACE, room);
    row(
        "map_511x4kib",
        clock.once(|| {
            for n in 1..FRAMES {
                map(first + n, init_slot::VSPACE, room + n * 4096);
            }
        }),
    );
    row("revoke_512_mapped", clock.once(|| revoke(fresh)));

    let large = ObjectType::LargePage;
    let untyped = env.object(ObjectType::Untyped, 21);
    row(
        "retype_2mib_fresh",
        clock.once(|| retype(untyped, large, first, 1)),
    );
    row("revoke_2mib", clock.once(|| revoke(untyped)));
    row(
        "clean_2mib",
        clock.once(|| retype(untyped, large, first, 1)),
    );
}
