//! Static memory: what a guest starts with is all it ever has.

use super::{Entry, Told};
use crate::policy::Pace;
use crate::rival::{Paced, Rival, Room, Seen};

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "static",
    what: "startup is all it ever has",
    told: Told::Reports,
    paces: &[Pace::Own],
    make: |trace, pace| Box::new(Paced::new(Fixed, pace, trace.reserve)),
}];

struct Fixed;

impl Rival for Fixed {
    fn interval_ms(&self) -> u64 {
        60_000
    }

    fn goals(&mut self, _: u64, _: &Room, guests: &[Seen], goals: &mut [u32]) {
        for (goal, seen) in goals.iter_mut().zip(guests) {
            *goal = seen.settings.bounds.startup.0;
        }
    }
}
