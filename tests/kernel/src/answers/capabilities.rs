//! What CNodes answer, and everybody to a label that is not theirs.

use super::*;
use crate::same;
use crate::suite::Test;
use sel4_sys::ObjectType;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("answers_to_unknown_labels", unknown_labels),
    ("answers_of_cnodes", cnode),
    ("answers_of_cnodes_with_a_source", cnode_transfer),
];

fn unknown_labels(env: &mut Env) -> Result<(), Failure> {
    for kind in [
        ObjectType::Untyped,
        ObjectType::Tcb,
        ObjectType::CapTable,
        ObjectType::SchedContext,
        ObjectType::VSpace,
        ObjectType::SmallPage,
        ObjectType::PageTable,
        ObjectType::Vcpu,
    ] {
        let object = env.object(kind, 12);
        for label in [0, 43, 62, 63, MAX >> 12] {
            same!(testbed::invoke(object, label, &[0; 8], &[]).label, ILLEGAL);
        }
    }
    Ok(())
}

/// A CNode of 16 slots with a notification in slot 1.
fn node_with_one(env: &mut Env) -> u64 {
    let node = env.object(ObjectType::CapTable, 4);
    let notification = env.object(ObjectType::Notification, 0);
    env.invoke(
        node,
        Invocation::CNodeCopy,
        &[1, 4, notification, 64, 15],
        &[init_slot::CNODE],
    );
    node
}

fn cnode(env: &mut Env) -> Result<(), Failure> {
    let object = node_with_one(env);
    let two = &[object, object][..];
    for label in [
        Invocation::CNodeRevoke,
        Invocation::CNodeDelete,
        Invocation::CNodeCancelBadgedSends,
        Invocation::CNodeCopy,
        Invocation::CNodeMint,
        Invocation::CNodeMove,
        Invocation::CNodeMutate,
        Invocation::CNodeRotate,
    ] {
        check(
            env,
            object,
            &[
                (label, &[1], two, TRUNCATED, &[]),
                (label, &[0, 0], two, RANGE, &[1, 64]),
                (label, &[0, 65], two, RANGE, &[1, 64]),
                (label, &[1, 1], two, LOOKUP, &[DESTINATION, DEPTH, 1, 4]),
            ],
        )?;
    }
    let cancel = Invocation::CNodeCancelBadgedSends;
    check(
        env,
        object,
        &[
            (cancel, &[1, 4], &[], ILLEGAL, &[]),
            (cancel, &[2, 4], &[], ILLEGAL, &[]),
            (Invocation::CNodeRevoke, &[2, 4], &[], OK, &[]),
            (Invocation::CNodeDelete, &[2, 4], &[], OK, &[]),
        ],
    )
}

fn cnode_transfer(env: &mut Env) -> Result<(), Failure> {
    let object = node_with_one(env);
    let other = env.object(ObjectType::Endpoint, 0);
    let node = &[object][..];
    for (label, length) in [
        (Invocation::CNodeCopy, 5),
        (Invocation::CNodeMint, 6),
        (Invocation::CNodeMove, 4),
        (Invocation::CNodeMutate, 5),
    ] {
        let words = |dest: u64, source: u64, depth: u64| [dest, 4, source, depth, 15, 15];
        check(
            env,
            object,
            &[
                (label, &words(2, 1, 4)[..length - 1], node, TRUNCATED, &[]),
                (label, &words(2, 1, 4)[..length], &[], TRUNCATED, &[]),
                (label, &words(1, 2, 4)[..length], node, DELETE, &[]),
                (
                    label,
                    &words(2, 1, 4)[..length],
                    &[other],
                    LOOKUP,
                    &[SOURCE, ROOT],
                ),
                (label, &words(2, 1, 0)[..length], node, RANGE, &[1, 64]),
                (
                    label,
                    &words(2, 1, 2)[..length],
                    node,
                    LOOKUP,
                    &[SOURCE, DEPTH, 2, 4],
                ),
                (
                    label,
                    &words(2, 3, 4)[..length],
                    node,
                    LOOKUP,
                    &[SOURCE, MISSING, 4],
                ),
            ],
        )?;
    }
    let mutate = (
        Invocation::CNodeMutate,
        &[2, 4, 1, 4, 1][..],
        node,
        ILLEGAL,
        &[][..],
    );
    check(env, object, &[mutate])?;
    cnode_rotate(env, object, other)
}

/// Rotations in a CNode that has one capability, beside an object that is none.
fn cnode_rotate(env: &mut Env, object: u64, other: u64) -> Result<(), Failure> {
    let (rotate, mint) = (Invocation::CNodeRotate, Invocation::CNodeMint);
    let node = &[object][..];
    let nodes = &[object, object][..];
    let slots = |dest: u64, pivot: u64, source: u64| [dest, 4, 0, pivot, 4, 0, source, 4];
    check(
        env,
        object,
        &[
            (rotate, &slots(3, 2, 1)[..7], nodes, TRUNCATED, &[]),
            (rotate, &slots(3, 2, 1), node, TRUNCATED, &[]),
            (
                rotate,
                &slots(3, 2, 1),
                &[other, object],
                LOOKUP,
                &[SOURCE, ROOT],
            ),
            (
                rotate,
                &slots(3, 2, 1),
                &[object, other],
                LOOKUP,
                &[SOURCE, ROOT],
            ),
            (rotate, &[3, 4, 0, 2, 0, 0, 1, 4], nodes, RANGE, &[1, 64]),
            (rotate, &[3, 4, 0, 2, 4, 0, 1, 65], nodes, RANGE, &[1, 64]),
            (rotate, &slots(3, 1, 1), nodes, ILLEGAL, &[]),
            (rotate, &slots(3, 3, 1), nodes, ILLEGAL, &[]),
            (
                rotate,
                &slots(3, 1, 2),
                nodes,
                LOOKUP,
                &[SOURCE, MISSING, 4],
            ),
            (
                rotate,
                &slots(3, 2, 1),
                nodes,
                LOOKUP,
                &[DESTINATION, MISSING, 4],
            ),
            (rotate, &slots(1, 2, 3), nodes, DELETE, &[]),
            (mint, &[2, 4, 1, 4, 15, 9], node, OK, &[]),
            // What can carry a badge is not rotated, and has one for ever.
            (rotate, &slots(3, 2, 1), nodes, ILLEGAL, &[]),
            (mint, &[3, 4, 2, 4, 15, 9], node, ILLEGAL, &[]),
        ],
    )
}
