//! Hyper-V's way: demand and a buffer in proportion to it, once a second; what is too much stays where it is until somebody
//! needs it; what does not fit is shared by weight.
//!
//! Source: Microsoft's description of Dynamic Memory (target = demand x (1 + buffer); demand is what is committed; memory is
//! taken back when another guest needs it; weight decides when there is not enough). How weights enter is not published:
//! here in proportion. A Linux guest's demand is what it reports as used, as it does in `hv_balloon`.

use super::demand::share;
use super::{Entry, Told};
use crate::policy::Pace;
use crate::rival::{Paced, Rival, Room, Seen, pieces};

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "hyperv",
    what: "Hyper-V's way: demand x (1 + buffer), lazily taken back",
    told: Told::Reports,
    paces: &[Pace::Own, Pace::Ours],
    make: |trace, pace| Box::new(Paced::new(HyperV, pace, trace.reserve)),
}];

struct HyperV;

/// What a guest should have, in KiB.
const fn target_kib(demand_kib: u64, buffer_percent: u64) -> u64 {
    demand_kib * (100 + buffer_percent) / 100
}

/// Adds to `wants` the surplus that may stay where it is: each keeps the same part of what it has too much.
fn keep_surplus(capacity: u32, has: &[u32], wants: &mut [u32]) {
    let wanted: u64 = wants.iter().map(|want| u64::from(*want)).sum();
    let Some(left) = u64::from(capacity).checked_sub(wanted) else {
        return;
    };
    let surplus = |has: u32, want: u32| u64::from(has.saturating_sub(want));
    let all: u64 = has
        .iter()
        .zip(wants.iter())
        .map(|(has, want)| surplus(*has, *want))
        .sum();
    for (want, has) in wants.iter_mut().zip(has) {
        let stays = (surplus(*has, *want) * left.min(all))
            .checked_div(all)
            .unwrap_or(0);
        *want += stays as u32;
    }
}

impl Rival for HyperV {
    fn interval_ms(&self) -> u64 {
        1000
    }

    fn goals(&mut self, _: u64, room: &Room, guests: &[Seen], goals: &mut [u32]) {
        for (goal, seen) in goals.iter_mut().zip(guests) {
            let buffer = u64::from(seen.settings.buffer_percent);
            *goal = seen.clamp(pieces(target_kib(seen.used_kib(), buffer)));
        }
        share(room.capacity, guests, goals);
        let has: Vec<u32> = guests.iter().map(Seen::held).collect();
        keep_surplus(room.capacity, &has, goals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Microsoft's documentation: 1,000 MB of demand with a buffer of 20 % makes a target of 1,200 MB.
    #[test]
    fn demand_and_buffer() {
        assert_eq!(target_kib(1000, 20), 1200);
    }

    #[test]
    fn surplus_stays_as_far_as_nobody_needs_it() {
        let mut wants = [100, 300];
        keep_surplus(1000, &[500, 200], &mut wants);
        assert_eq!(wants, [500, 300]);
        // With 600 in all, 200 of the 400 too many can stay.
        let mut wants = [100, 300];
        keep_surplus(600, &[500, 200], &mut wants);
        assert_eq!(wants, [300, 300]);
        let mut wants = [400, 300];
        keep_surplus(600, &[500, 200], &mut wants);
        assert_eq!(wants, [400, 300]);
    }
}
