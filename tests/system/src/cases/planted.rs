//! That looking from outside finds what it is for: on a system that runs, with faults planted in what is read, not in the
//! machine.

use super::{AT_BOOT, all_answer, case, fill};
use crate::{Case, Rig};
use anyhow::{Context as _, Result, ensure};
use inspect::tables::Leaf;
use inspect::{Anchor, Changed, Findings, NotRam, Picture, Ram, roles};

/// The cases.
pub const CASES: &[Case] = &[case(
    "what-is-planted-is-noticed",
    what_is_planted_is_noticed,
)];

/// A fault: words that are to be other ones than they are.
type Plant = fn(&Picture, &Anchor) -> Option<Vec<(u64, u64)>>;

/// The first large frame of each guest, by the order of their address spaces.
fn guests(picture: &Picture) -> Vec<Leaf> {
    let spaces = picture.spaces.iter().filter(|space| {
        let root = Some(space.root);
        let mut threads = picture.threads.iter();
        threads.any(|thread| thread.vspace == root && thread.vcpu.is_some())
    });
    spaces
        .filter_map(|space| space.walk.leaves.iter().find(|leaf| leaf.bits == 21))
        .copied()
        .collect()
}

fn two_guests(picture: &Picture, _: &Anchor) -> Option<Vec<(u64, u64)>> {
    let guests = guests(picture);
    Some(vec![(guests.first()?.place, guests.get(1)?.descriptor)])
}

/// The address part of a guest's first descriptor is replaced.
fn instead(picture: &Picture, paddr: u64) -> Option<Vec<(u64, u64)>> {
    let leaf = *guests(picture).first()?;
    Some(vec![(leaf.place, leaf.descriptor - leaf.paddr + paddr)])
}

fn free(picture: &Picture, anchor: &Anchor, place: roles::Place) -> Option<u64> {
    let ledger = roles::Ledger::find(picture, anchor)?;
    let mut pieces = ledger.pieces.into_iter();
    pieces.find(|piece| piece.1 == place).map(|piece| piece.0)
}

fn from_the_pool(picture: &Picture, anchor: &Anchor) -> Option<Vec<(u64, u64)>> {
    instead(picture, free(picture, anchor, roles::Place::Pool)?)
}

fn the_kernel(picture: &Picture, anchor: &Anchor) -> Option<Vec<(u64, u64)>> {
    instead(picture, anchor.image_range().start >> 21 << 21)
}

fn a_thread(picture: &Picture, anchor: &Anchor) -> Option<Vec<(u64, u64)>> {
    let image = anchor.image_range().start >> 21;
    let threads = picture.threads.iter();
    let mut places = threads.map(|thread| anchor.physical(thread.address) >> 21);
    instead(picture, places.find(|place| *place != image)? << 21)
}

fn a_byte(picture: &Picture, anchor: &Anchor) -> Option<Vec<(u64, u64)>> {
    let piece = free(picture, anchor, roles::Place::Pool)?;
    Some(vec![(piece + (1 << 20), 1 << 32)])
}

fn what_is_planted_is_noticed(rig: &mut Rig) -> Result<()> {
    const PLANTS: [(&str, Plant, &str); 5] = [
        (
            "a frame in two guests",
            two_guests,
            "memory of several guests",
        ),
        (
            "a free frame in a guest",
            from_the_pool,
            "that is free (Pool)",
        ),
        (
            "the kernel's image in a guest",
            the_kernel,
            "that is the kernel's image",
        ),
        (
            "a kernel object in a guest",
            a_thread,
            "that is a kernel object",
        ),
        ("a byte in the pool", a_byte, "is in the pool and not zero"),
    ];
    all_answer(rig)?;
    fill(rig, &AT_BOOT, 16)?;
    rig.settle()?;
    for (what, plant, complaint) in PLANTS {
        let complaints = rig
            .complaints(|ram, anchor| planted(ram, anchor, plant))
            .context(what)?;
        ensure!(
            complaints.iter().any(|said| said.contains(complaint)),
            "{what}: nothing but {complaints:?}"
        );
    }
    // And without them there is nothing.
    let complaints = rig.complaints(inspect::look)?;
    ensure!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

fn planted(ram: &dyn Ram, anchor: &Anchor, plant: Plant) -> Result<Findings, NotRam> {
    let picture = Picture::take(ram, anchor)?;
    let words = plant(&picture, anchor).unwrap_or_default();
    inspect::look(&Changed { ram, words }, anchor)
}
