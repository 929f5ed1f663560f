//! Capability spaces and the derivation tree.

use crate::same;
use crate::suite::{Failure, Test};
use sel4_sys::{
    CNodeCapData, CapRights, Error, Invocation, MessageInfo, ObjectType, init_slot, syscall,
};
use testbed::Env;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("cnode_copy_needs_an_empty_destination", copy_occupied),
    ("cnode_copy_needs_a_source", copy_from_empty),
    ("cnode_mint_gives_a_badge_once", mint_badge),
    ("cnode_move_empties_the_source", move_source),
    ("cnode_rotate_shifts_two", rotate),
    ("cnode_revoke_keeps_itself", revoke_keeps_itself),
    (
        "cnode_revoke_of_a_copy_spares_its_siblings",
        revoke_spares_siblings,
    ),
    (
        "cnode_revoke_reaches_badged_copies_in_other_cnodes",
        revoke_across_cnodes,
    ),
    ("cnode_two_levels_resolve", two_levels),
    ("cnode_holding_itself_can_be_deleted", cnode_in_itself),
    ("cnodes_holding_each_other_can_be_deleted", cnode_ring),
    ("cnode_chain_of_200_is_deleted_whole", cnode_chain),
    ("cnode_depth_out_of_range_is_refused", bad_depth),
];

fn is_empty(env: &mut Env, slot: u64) -> bool {
    let probe = env.slot();
    env.copy_to(probe, slot, CapRights::ALL).label == Error::FailedLookup.word()
}

fn copy_occupied(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let other = env.object(ObjectType::Endpoint, 0);
    same!(
        env.copy_to(other, endpoint, CapRights::ALL).label,
        Error::DeleteFirst.word()
    );
    Ok(())
}

fn copy_from_empty(env: &mut Env) -> Result<(), Failure> {
    let (source, destination) = (env.slot(), env.slot());
    same!(
        env.copy_to(destination, source, CapRights::ALL).label,
        Error::FailedLookup.word()
    );
    Ok(())
}

fn mint_badge(env: &mut Env) -> Result<(), Failure> {
    let notification = env.object(ObjectType::Notification, 0);
    let badged = env.mint(notification, CapRights::ALL, 0x55);
    syscall::signal(badged);
    same!(syscall::nb_wait(notification).badge, 0x55);
    // A badge cannot be changed.
    let slot = env.slot();
    let words = [slot, 64, badged, 64, CapRights::ALL.0, 0x66];
    let again = env.invoke(
        init_slot::CNODE,
        Invocation::CNodeMint,
        &words,
        &[init_slot::CNODE],
    );
    same!(again.label, Error::IllegalOperation.word());
    same!(u64::from(is_empty(env, slot)), 1);
    Ok(())
}

fn move_source(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let slot = env.slot();
    let moved = env.invoke(
        init_slot::CNODE,
        Invocation::CNodeMove,
        &[slot, 64, endpoint, 64],
        &[init_slot::CNODE],
    );
    same!(moved.label, 0);
    same!(u64::from(is_empty(env, endpoint)), 1);
    same!(u64::from(is_empty(env, slot)), 0);
    Ok(())
}

fn rotate(env: &mut Env) -> Result<(), Failure> {
    // Frames tell their address; capabilities with a badge cannot be rotated, since a badge cannot be set again.
    let (a, b) = (
        env.object(ObjectType::SmallPage, 0),
        env.object(ObjectType::SmallPage, 0),
    );
    let c = env.slot();
    let address = |env: &Env, slot| {
        env.invoke(slot, Invocation::ArmPageGetAddress, &[], &[])
            .words[0]
    };
    let (first, second) = (address(env, a), address(env, b));
    // a -> b's place, b -> c: words are destination, depth, badge; pivot, depth, badge; source, depth.
    let words = [c, 64, 0, b, 64, 0, a, 64];
    let caps = [init_slot::CNODE, init_slot::CNODE];
    let answer = env.invoke(init_slot::CNODE, Invocation::CNodeRotate, &words, &caps);
    same!(answer.label, 0);
    same!(address(env, b), first);
    same!(address(env, c), second);
    same!(u64::from(is_empty(env, a)), 1);
    Ok(())
}

fn revoke_keeps_itself(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let copies = [
        env.copy(endpoint, CapRights::ALL),
        env.mint(endpoint, CapRights::ALL, 9),
    ];
    same!(env.revoke(endpoint).label, 0);
    for copy in copies {
        same!(u64::from(is_empty(env, copy)), 1);
    }
    same!(u64::from(is_empty(env, endpoint)), 0);
    Ok(())
}

fn revoke_spares_siblings(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let first = env.copy(endpoint, CapRights::ALL);
    let second = env.copy(first, CapRights::ALL);
    same!(env.revoke(first).label, 0);
    same!(u64::from(is_empty(env, second)), 0);
    // A badged capability is the parent of its copies.
    let badged = env.mint(endpoint, CapRights::ALL, 7);
    let child = env.copy(badged, CapRights::ALL);
    same!(env.revoke(badged).label, 0);
    same!(u64::from(is_empty(env, child)), 1);
    same!(u64::from(is_empty(env, first)), 0);
    Ok(())
}

fn revoke_across_cnodes(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let cnode = env.object(ObjectType::CapTable, 4);
    let words = [3, 4, endpoint, 64, CapRights::ALL.0, 0x77];
    same!(
        env.invoke(cnode, Invocation::CNodeMint, &words, &[init_slot::CNODE])
            .label,
        0
    );
    same!(env.revoke(endpoint).label, 0);
    let probe = env.slot();
    let words = [probe, 64, 3, 4, CapRights::ALL.0];
    let copied = env.invoke(init_slot::CNODE, Invocation::CNodeCopy, &words, &[cnode]);
    same!(copied.label, Error::FailedLookup.word());
    Ok(())
}

fn two_levels(env: &mut Env) -> Result<(), Failure> {
    // A CNode of 16 slots whose guard makes up the rest of a 20-bit address.
    let cnode = env.object(ObjectType::CapTable, 4);
    let guarded = env.slot();
    let words = [
        guarded,
        64,
        cnode,
        64,
        CapRights::ALL.0,
        CNodeCapData::new(0xab, 16).0,
    ];
    same!(
        env.invoke(
            init_slot::CNODE,
            Invocation::CNodeMint,
            &words,
            &[init_slot::CNODE]
        )
        .label,
        0
    );
    let notification = env.object(ObjectType::Notification, 0);
    let into = |index: u64, depth: u64| [index, depth, notification, 64, CapRights::ALL.0];
    same!(
        env.invoke(
            guarded,
            Invocation::CNodeCopy,
            &into(0xab5, 20),
            &[init_slot::CNODE]
        )
        .label,
        0
    );
    let wrong_guard = env.invoke(
        guarded,
        Invocation::CNodeCopy,
        &into(0xac6, 20),
        &[init_slot::CNODE],
    );
    same!(wrong_guard.label, Error::FailedLookup.word());
    let too_short = env.invoke(
        guarded,
        Invocation::CNodeCopy,
        &into(0x6, 4),
        &[init_slot::CNODE],
    );
    same!(too_short.label, Error::FailedLookup.word());
    Ok(())
}

fn cnode_in_itself(env: &mut Env) -> Result<(), Failure> {
    let cnode = env.object(ObjectType::CapTable, 4);
    for index in [0, 7, 15] {
        let words = [index, 4, cnode, 64, CapRights::ALL.0];
        same!(
            env.invoke(cnode, Invocation::CNodeCopy, &words, &[init_slot::CNODE])
                .label,
            0
        );
    }
    same!(env.delete(cnode).label, 0);
    same!(u64::from(is_empty(env, cnode)), 1);
    Ok(())
}

fn cnode_ring(env: &mut Env) -> Result<(), Failure> {
    let untyped = env.object(ObjectType::Untyped, 14);
    let first = env.slots(3);
    same!(
        env.retype(untyped, ObjectType::CapTable, 4, first, 3).label,
        0
    );
    for (holder, held) in [(0, 1), (1, 2), (2, 0)] {
        let words = [5, 4, first + held, 64, CapRights::ALL.0];
        same!(
            env.invoke(
                first + holder,
                Invocation::CNodeCopy,
                &words,
                &[init_slot::CNODE]
            )
            .label,
            0
        );
    }
    for slot in first..first + 3 {
        same!(env.delete(slot).label, 0);
    }
    // The last capabilities are inside the ring: only revoking the untyped reaches them.
    same!(env.revoke(untyped).label, 0);
    same!(
        env.retype(untyped, ObjectType::CapTable, 9, first, 1).label,
        0
    );
    Ok(())
}

fn cnode_chain(env: &mut Env) -> Result<(), Failure> {
    const LENGTH: u64 = 200;
    let untyped = env.object(ObjectType::Untyped, 17);
    let first = env.slots(LENGTH);
    same!(
        env.retype(untyped, ObjectType::CapTable, 1, first, LENGTH)
            .label,
        0
    );
    // Move each CNode into its predecessor: the last capability of each lies in the one before.
    for index in (1..LENGTH).rev() {
        let words = [1, 1, first + index, 64];
        same!(
            env.invoke(
                first + index - 1,
                Invocation::CNodeMove,
                &words,
                &[init_slot::CNODE]
            )
            .label,
            0
        );
    }
    same!(env.delete(first).label, 0);
    // Nothing of the chain is left behind: the untyped can be used from its start.
    same!(env.revoke(untyped).label, 0);
    same!(
        env.retype(untyped, ObjectType::CapTable, 12, first, 1)
            .label,
        0
    );
    Ok(())
}

fn bad_depth(env: &mut Env) -> Result<(), Failure> {
    let slot = env.slot();
    for depth in [0, 65, u64::MAX] {
        let answer = env.invoke(
            init_slot::CNODE,
            Invocation::CNodeDelete,
            &[slot, depth],
            &[],
        );
        same!(answer.label, Error::RangeError.word());
    }
    // No words at all.
    let short = syscall::call(
        init_slot::CNODE,
        MessageInfo::new(Invocation::CNodeDelete.word(), 0, 0, 0),
        [0; 4],
    );
    same!(short.info.label(), Error::TruncatedMessage.word());
    Ok(())
}
