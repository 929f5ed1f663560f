//! Capabilities, memory and mappings.

use crate::measure::{Clock, copy, delete, invoke, map, revoke, row, rows, unmap};
use sel4_sys::{CapRights, Invocation, ObjectType, init_slot, vm_attributes};
use testbed::{Answer, Env};

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
    let means = clock.by_turns(|| copy(a, endpoint), || delete(a));
    rows(["cnode_copy", "cnode_delete"], means);
    let mint = || {
        let words = [a, 64, endpoint, 64, CapRights::ALL.0, 7];
        invoke(root, Invocation::CNodeMint, words, [root])
    };
    let [minted, _] = clock.by_turns(mint, || delete(a));
    row("cnode_mint", minted);
    copy(a, endpoint);
    let go = |from: u64, to: u64| invoke(root, Invocation::CNodeMove, [to, 64, from, 64], [root]);
    let [moved, _] = clock.by_turns(|| go(a, b), || go(b, a));
    row("cnode_move", moved);
    delete(a);
    row("cnode_revoke_none", clock.mean(|| revoke(endpoint)));

    let badged = env.mint(endpoint, CapRights::ALL, 7);
    row(
        "cnode_cancel_badged_sends_none",
        clock.mean(|| invoke(root, Invocation::CNodeCancelBadgedSends, [badged, 64], [])),
    );
    let node = env.object(ObjectType::CapTable, 4);
    let slots = [node, env.slot()];
    let mutate = |from: u64, to: u64| {
        let words = [to, 64, from, 64, 0];
        invoke(root, Invocation::CNodeMutate, words, [root])
    };
    let [mutated, _] = clock.by_turns(|| mutate(slots[0], slots[1]), || mutate(slots[1], slots[0]));
    row("cnode_mutate", mutated);
    // Two capabilities go round in three slots: the empty one is where the first goes next.
    let mut turn = [env.slot(), env.object(ObjectType::CapTable, 4), node];
    row(
        "cnode_rotate",
        clock.mean(|| {
            let [to, pivot, from] = turn;
            turn = [from, to, pivot];
            let words = [to, 64, 0, pivot, 64, 0, from, 64];
            invoke(root, Invocation::CNodeRotate, words, [root, root])
        }),
    );

    let frame = env.object(ObjectType::SmallPage, 0);
    let first = env.slots(FRAMES);
    for slot in first..first + FRAMES {
        env.copy_to(slot, frame, CapRights::READ);
    }
    row("revoke_512_copies", clock.once(|| revoke(frame)));
}

/// Maps and unmaps by turns; the two means.
fn map_and_unmap(clock: Clock, frame: u64, vspace: u64, vaddr: u64) -> [u64; 2] {
    clock.by_turns(|| map(frame, vspace, vaddr), || unmap(frame))
}

/// Mappings in this address space and in a guest's, whose table of level 3 covers `guest_vaddr`.
pub fn mappings(env: &mut Env, clock: Clock, guest_vspace: u64, guest_vaddr: u64) {
    let small = env.object(ObjectType::SmallPage, 0);
    let room = env.window(4096);
    rows(
        ["map_4kib", "unmap_4kib"],
        map_and_unmap(clock, small, init_slot::VSPACE, room),
    );
    rows(
        ["map_4kib_guest", "unmap_4kib_guest"],
        map_and_unmap(clock, small, guest_vspace, guest_vaddr),
    );
    let large = env.object(ObjectType::LargePage, 0);
    rows(
        ["map_2mib", "unmap_2mib"],
        map_and_unmap(clock, large, init_slot::VSPACE, BLOCKS),
    );
    let table = env.object(ObjectType::PageTable, 0);
    let means = clock.by_turns(
        || {
            let words = [TABLES, vm_attributes::DEFAULT];
            invoke(
                table,
                Invocation::ArmPageTableMap,
                words,
                [init_slot::VSPACE],
            )
        },
        || invoke(table, Invocation::ArmPageTableUnmap, [], []),
    );
    rows(["map_table", "unmap_table"], means);
}

#[inline(always)]
fn retype(untyped: u64, kind: ObjectType, first: u64, count: u64) -> Answer {
    invoke(
        untyped,
        Invocation::UntypedRetype,
        [kind.word(), 0, 0, 0, first, count],
        [init_slot::CNODE],
    )
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
