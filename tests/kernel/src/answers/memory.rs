//! What untyped memory, address spaces, tables and frames answer.

use super::*;
use crate::same;
use crate::suite::Test;
use sel4_sys::ObjectType;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("answers_of_untyped_memory", untyped),
    ("answers_of_address_spaces", spaces),
    ("answers_of_address_space_identifiers", asids),
    ("answers_when_identifiers_run_out", asids_run_out),
    ("answers_of_a_frame_whose_address_space_is_gone", stale),
    ("answers_of_frames", frames),
];

fn untyped(env: &mut Env) -> Result<(), Failure> {
    let object = env.object(ObjectType::Untyped, 12);
    let node = env.object(ObjectType::CapTable, 4);
    let endpoints = &[env.object(ObjectType::Endpoint, 0)][..];
    let node = &[node][..];
    let retype = Invocation::UntypedRetype;
    let endpoint = ObjectType::Endpoint.word();
    let sized = |kind: ObjectType, bits: u64| [kind.word(), bits, 0, 0, 0, 1];
    let at = |offset: u64, count: u64| [endpoint, 0, 0, 0, offset, count];
    let inside = |depth: u64| [endpoint, 0, 3, depth, 0, 1];
    check(
        env,
        object,
        &[
            (retype, &at(0, 1)[..5], node, TRUNCATED, &[]),
            (retype, &at(0, 1), &[], TRUNCATED, &[]),
            (
                retype,
                &at(0, 1),
                endpoints,
                LOOKUP,
                &[DESTINATION, MISSING, 0],
            ),
            (retype, &inside(4), endpoints, LOOKUP, &[DESTINATION, ROOT]),
            (retype, &inside(65), node, RANGE, &[1, 64]),
            (retype, &[13, 0, 0, 0, 0, 1], node, ARGUMENT, &[0]),
            (retype, &sized(ObjectType::Untyped, 3), node, ARGUMENT, &[1]),
            (
                retype,
                &sized(ObjectType::CapTable, 0),
                node,
                ARGUMENT,
                &[1],
            ),
            (
                retype,
                &sized(ObjectType::SchedContext, 6),
                node,
                ARGUMENT,
                &[1],
            ),
            (
                retype,
                &sized(ObjectType::Untyped, 64),
                node,
                RANGE,
                &[0, 47],
            ),
            (retype, &inside(4), node, LOOKUP, &[DESTINATION, MISSING, 4]),
            (
                retype,
                &inside(2),
                node,
                LOOKUP,
                &[DESTINATION, DEPTH, 2, 4],
            ),
            (retype, &at(16, 1), node, RANGE, &[0, 15]),
            (retype, &at(0, 0), node, RANGE, &[1, 256]),
            (retype, &at(0, 257), node, RANGE, &[1, 256]),
            (retype, &at(10, 7), node, RANGE, &[1, 6]),
            (
                retype,
                &sized(ObjectType::LargePage, 0),
                node,
                MEMORY,
                &[4096],
            ),
            (retype, &at(3, 1), node, OK, &[]),
            (retype, &at(3, 1), node, DELETE, &[]),
        ],
    )
}

fn spaces(env: &mut Env) -> Result<(), Failure> {
    let unassigned = env.object(ObjectType::VSpace, 0);
    let table = env.object(ObjectType::PageTable, 0);
    let node = env.object(ObjectType::CapTable, 4);
    let frame = env.object(ObjectType::SmallPage, 0);
    let mapped = env.map_here(frame);
    for label in [
        Invocation::ArmVSpaceCleanData,
        Invocation::ArmVSpaceInvalidateData,
        Invocation::ArmVSpaceCleanInvalidateData,
        Invocation::ArmVSpaceUnifyInstruction,
    ] {
        let rows: [Row<'_>; 2] = [
            (label, &[0], &[], TRUNCATED, &[]),
            (label, &[0x1000, 0x1000], &[], ARGUMENT, &[1]),
        ];
        check(env, unassigned, &rows)?;
        check(env, SPACE, &rows)?;
        check(
            env,
            SPACE,
            &[
                (label, &[mapped, mapped + 64], &[], OK, &[]),
                (
                    label,
                    &[mapped, mapped + 4097],
                    &[],
                    RANGE,
                    &[mapped, mapped + 4095],
                ),
                (label, &[MAX - 64, MAX], &[], ILLEGAL, &[]),
                (label, &[1 << 40, (1 << 40) + 64], &[], ILLEGAL, &[]),
                (label, &[(1 << 40) - 64, 1 << 40], &[], ILLEGAL, &[]),
                // Where nothing is mapped there is nothing to do.
                (label, &[0x21_0000_0000, 0x21_0000_0040], &[], OK, &[]),
            ],
        )?;
        check(
            env,
            unassigned,
            &[
                (label, &[0, 1], &[], CAPABILITY, &[0]),
                (label, &[0, MAX], &[], ILLEGAL, &[]),
            ],
        )?;
    }
    let (map, unmap) = (Invocation::ArmPageTableMap, Invocation::ArmPageTableUnmap);
    check(
        env,
        table,
        &[
            (map, &[0], &[SPACE], TRUNCATED, &[]),
            (map, &[0, 0], &[], TRUNCATED, &[]),
            (map, &[0, 0], &[node], CAPABILITY, &[1]),
            (map, &[0, 0], &[unassigned], CAPABILITY, &[1]),
            (map, &[1 << 40, 0], &[unassigned], CAPABILITY, &[1]),
            (map, &[1 << 40, 0], &[SPACE], ARGUMENT, &[0]),
            (map, &[MAX, 0], &[SPACE], ARGUMENT, &[0]),
            // Tables of all levels are there.
            (map, &[mapped, 0], &[SPACE], DELETE, &[]),
            (unmap, &[], &[], OK, &[]),
            (map, &[0x11_0000_0000, 0], &[SPACE], OK, &[]),
            (map, &[0x12_0000_0000, 0], &[SPACE], CAPABILITY, &[0]),
            (unmap, &[], &[], OK, &[]),
        ],
    )
}

fn asids(env: &mut Env) -> Result<(), Failure> {
    let unassigned = env.object(ObjectType::VSpace, 0);
    let node = env.object(ObjectType::CapTable, 4);
    let small = env.object(ObjectType::Untyped, 11);
    let page = env.object(ObjectType::Untyped, 12);
    let (slot, root) = (env.slot(), init_slot::CNODE);
    let make = Invocation::ArmAsidControlMakePool;
    check(
        env,
        init_slot::ASID_CONTROL,
        &[
            (make, &[slot], &[page, root], TRUNCATED, &[]),
            (make, &[slot, 64], &[page], TRUNCATED, &[]),
            (make, &[slot, 64], &[node, root], CAPABILITY, &[1]),
            (make, &[slot, 64], &[small, root], CAPABILITY, &[1]),
            (make, &[root, 64], &[page, root], DELETE, &[]),
            (make, &[slot, 65], &[page, root], RANGE, &[1, 64]),
            (
                make,
                &[slot, 64],
                &[page, page],
                LOOKUP,
                &[DESTINATION, ROOT],
            ),
            (
                make,
                &[slot, 2],
                &[page, root],
                LOOKUP,
                &[DESTINATION, GUARD, 2, 0],
            ),
        ],
    )?;
    let assign = Invocation::ArmAsidPoolAssign;
    check(
        env,
        init_slot::ASID_POOL,
        &[
            (assign, &[], &[], TRUNCATED, &[]),
            (assign, &[], &[node], CAPABILITY, &[1]),
            (assign, &[], &[unassigned], OK, &[]),
            (assign, &[], &[unassigned], CAPABILITY, &[1]),
        ],
    )
}

/// A pool has 512 identifiers, and there are 128 pools, of which the root task has one.
fn asids_run_out(env: &mut Env) -> Result<(), Failure> {
    const POOLS: u64 = 127;
    const OWN_SLOTS: u64 = 512 - (POOLS - 2);
    let make = Invocation::ArmAsidControlMakePool;
    let assign = Invocation::ArmAsidPoolAssign;
    let memory = env.object(ObjectType::Untyped, 23);
    let (pages, pools) = (env.slots(POOLS + 1), env.slots(POOLS + 1));
    same!(
        env.retype(memory, ObjectType::Untyped, 12, pages, POOLS + 1)
            .label,
        OK
    );
    for n in 0..=POOLS {
        let caps = [pages + n, init_slot::CNODE];
        let words = [pools + n, 64];
        let error = if n < POOLS { OK } else { DELETE };
        check(
            env,
            init_slot::ASID_CONTROL,
            &[(make, &words, &caps, error, &[])],
        )?;
    }
    // The slots are used again, so only two pools stay.
    for n in 2..POOLS {
        same!(env.delete(pools + n).label, OK);
    }
    let spaces = env.slots(OWN_SLOTS);
    let space = |n: u64| {
        if n < OWN_SLOTS {
            spaces + n
        } else {
            pools + 2 + n - (OWN_SLOTS)
        }
    };
    let last = env.slot();
    for n in 0..512 {
        same!(
            env.retype(memory, ObjectType::VSpace, 0, space(n), 1).label,
            OK
        );
        check(env, pools, &[(assign, &[], &[space(n)], OK, &[])])?;
    }
    same!(env.retype(memory, ObjectType::VSpace, 0, last, 1).label, OK);
    check(env, pools, &[(assign, &[], &[last], DELETE, &[])])?;
    check(env, pools + 1, &[(assign, &[], &[last], OK, &[])])?;
    // An identifier comes back with its address space.
    same!(env.delete(space(7)).label, OK);
    same!(env.delete(last).label, OK);
    same!(env.retype(memory, ObjectType::VSpace, 0, last, 1).label, OK);
    check(env, pools, &[(assign, &[], &[last], OK, &[])])?;
    same!(env.revoke(memory).label, OK);
    Ok(())
}

/// What was mapped in an address space that was deleted is mapped nowhere, and can be mapped again.
fn stale(env: &mut Env) -> Result<(), Failure> {
    let space = env.object(ObjectType::VSpace, 0);
    let page = env.object(ObjectType::SmallPage, 0);
    let other = env.object(ObjectType::SmallPage, 0);
    let here = env.window(4096);
    let assign = Invocation::ArmAsidPoolAssign;
    check(
        env,
        init_slot::ASID_POOL,
        &[(assign, &[], &[space], OK, &[])],
    )?;
    let tables = [
        env.object(ObjectType::PageTable, 0),
        env.object(ObjectType::PageTable, 0),
    ];
    let map_table = Invocation::ArmPageTableMap;
    for table in tables {
        check(env, table, &[(map_table, &[0x1000, 0], &[space], OK, &[])])?;
    }
    let map = Invocation::ArmPageMap;
    check(
        env,
        page,
        &[
            (map, &[0x1000, 3, 0], &[space], OK, &[]),
            // Not in two address spaces, not at two addresses.
            (map, &[here, 3, 0], &[SPACE], CAPABILITY, &[1]),
            (map, &[0x2000, 3, 0], &[space], ARGUMENT, &[0]),
        ],
    )?;
    // Another frame takes the place.
    check(env, other, &[(map, &[0x1000, 3, 0], &[space], OK, &[])])?;
    same!(env.delete(space).label, OK);
    for label in [
        Invocation::ArmPageCleanData,
        Invocation::ArmPageInvalidateData,
        Invocation::ArmPageCleanInvalidateData,
        Invocation::ArmPageUnifyInstruction,
    ] {
        check(
            env,
            other,
            &[(label, &[0, 64], &[], LOOKUP, &[DESTINATION, ROOT])],
        )?;
    }
    check(
        env,
        other,
        &[
            (map, &[here, 3, 0], &[SPACE], CAPABILITY, &[1]),
            (Invocation::ArmPageUnmap, &[], &[], OK, &[]),
            (map, &[here, 3, 0], &[SPACE], OK, &[]),
        ],
    )
}

fn frames(env: &mut Env) -> Result<(), Failure> {
    let page = env.object(ObjectType::SmallPage, 0);
    let node = env.object(ObjectType::CapTable, 4);
    let unassigned = env.object(ObjectType::VSpace, 0);
    // Where tables are, and where none are.
    let here = env.window(4096);
    let nowhere = 0x20_0000_0000;
    let map = Invocation::ArmPageMap;
    let cache = [
        Invocation::ArmPageCleanData,
        Invocation::ArmPageInvalidateData,
        Invocation::ArmPageCleanInvalidateData,
        Invocation::ArmPageUnifyInstruction,
    ];
    for label in cache {
        let rows: [Row<'_>; 2] = [
            (label, &[0], &[], TRUNCATED, &[]),
            (label, &[0, 1], &[], ILLEGAL, &[]),
        ];
        check(env, page, &rows)?;
    }
    let no_table = &[DESTINATION, MISSING, 30][..];
    check(
        env,
        page,
        &[
            (map, &[here, 3], &[SPACE], TRUNCATED, &[]),
            (map, &[here, 3, 0], &[], TRUNCATED, &[]),
            (map, &[here, 3, 0], &[node], CAPABILITY, &[1]),
            (map, &[here, 3, 0], &[unassigned], CAPABILITY, &[1]),
            (map, &[here + 1, 3, 0], &[SPACE], ALIGNMENT, &[]),
            (map, &[MAX, 3, 0], &[SPACE], ALIGNMENT, &[]),
            (map, &[1 << 40, 3, 0], &[SPACE], ARGUMENT, &[0]),
            (map, &[nowhere, 3, 0], &[SPACE], LOOKUP, no_table),
            (Invocation::ArmPageUnmap, &[], &[], OK, &[]),
            (map, &[here, 3, 0], &[SPACE], OK, &[]),
            (map, &[here, 1, 0], &[SPACE], OK, &[]),
            (map, &[here + 4096, 3, 0], &[SPACE], ARGUMENT, &[0]),
            (map, &[here + 1, 3, 0], &[SPACE], ALIGNMENT, &[]),
            (map, &[here, 3, 0], &[unassigned], CAPABILITY, &[1]),
        ],
    )?;
    for label in cache {
        let rows: [Row<'_>; 3] = [
            (label, &[1, 1], &[], ARGUMENT, &[1]),
            (label, &[0, 4097], &[], ARGUMENT, &[0]),
            (label, &[0, 64], &[], OK, &[]),
        ];
        check(env, page, &rows)?;
    }
    Ok(())
}
