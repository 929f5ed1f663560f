//! oVirt's MOM: while the host has more than 20 % free, guests grow by 5 % or to what they use and 20 %; otherwise they
//! shrink by at most 5 %, towards what they use and a part that goes down with the host's free memory.
//!
//! Source: oVirt/mom, `doc/balloon.rules`, and VDSM's `02-balloon.policy` (where the guest's minimum is the lower bound); a
//! round each 10 s. What MOM averages over several samples is told fresh here.

use super::{Entry, Told};
use crate::policy::Pace;
use crate::rival::{Paced, Rival, Room, Seen};

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "mom",
    what: "oVirt's MOM: 5 % steps by the host's pressure",
    told: Told::Reports,
    paces: &[Pace::Own, Pace::Ours],
    make: |trace, pace| Box::new(Paced::new(Mom, pace, trace.reserve)),
}];

/// The host's free part below which there is pressure, and below which it is critical.
const PRESSURE: f64 = 0.20;
const CRITICAL: f64 = 0.05;
/// What a guest should have free, and by how much it changes at a time.
const GUEST_FREE: f64 = 0.20;
const CHANGE: f64 = 0.05;
/// A smaller change is not made.
const CHANGE_MIN: f64 = 0.0025;

/// A guest as the rules see it, in one unit.
#[derive(Clone, Copy, Debug)]
struct Guest {
    has: f64,
    unused: f64,
    minimum: f64,
    maximum: f64,
}

/// What a guest should have.
fn rule(guest: &Guest, host_free: f64) -> f64 {
    let used = guest.has - guest.unused;
    let size = if host_free < PRESSURE {
        let free = if host_free <= CRITICAL {
            host_free - 0.05
        } else {
            GUEST_FREE * host_free / PRESSURE
        };
        let least = guest.minimum.max(used + free * guest.has);
        let size = (guest.has * (1.0 - CHANGE)).max(least);
        // It shrinks only.
        if size > guest.has { guest.has } else { size }
    } else if guest.has < guest.maximum {
        let least = guest.minimum.max(used + GUEST_FREE * guest.has);
        (guest.has * (1.0 + CHANGE)).min(guest.maximum).max(least)
    } else {
        guest.has
    };
    if (size - guest.has).abs() > CHANGE_MIN * guest.has {
        size
    } else {
        guest.has
    }
}

struct Mom;

impl Rival for Mom {
    fn interval_ms(&self) -> u64 {
        10_000
    }

    fn goals(&mut self, _: u64, room: &Room, guests: &[Seen], goals: &mut [u32]) {
        let host_free = f64::from(room.free) / f64::from(room.total.max(1));
        for (goal, seen) in goals.iter_mut().zip(guests) {
            let guest = Guest {
                has: f64::from(seen.held()) * 2048.0,
                unused: seen.available_kib() as f64,
                minimum: f64::from(seen.minimum()) * 2048.0,
                maximum: f64::from(seen.maximum()) * 2048.0,
            };
            *goal = (rule(&guest, host_free) / 2048.0).round() as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Guest = Guest {
        has: 1000.0,
        unused: 400.0,
        minimum: 500.0,
        maximum: 2000.0,
    };

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    /// `grow_guest`: by 5 %, or at once to what it uses and 20 %.
    #[test]
    fn growing() {
        assert!(near(rule(&GUEST, 0.5), 1050.0));
        let pressed = Guest {
            unused: 50.0,
            ..GUEST
        };
        assert!(near(rule(&pressed, 0.5), 1150.0));
        let at_maximum = Guest {
            maximum: 1000.0,
            ..GUEST
        };
        assert!(near(rule(&at_maximum, 0.5), 1000.0));
    }

    /// `shrink_guest`: by 5 %, not below what it uses and its part of free memory, 10 % of what it has when 10 % of the host
    /// are free.
    #[test]
    fn shrinking() {
        assert!(near(rule(&GUEST, 0.10), 950.0));
        let pressed = Guest {
            unused: 120.0,
            ..GUEST
        };
        assert!(near(rule(&pressed, 0.10), 980.0));
        // Critical: 4 % of the host free make -1 % of the guest.
        let tight = Guest {
            unused: 20.0,
            ..GUEST
        };
        assert!(near(rule(&tight, 0.04), 970.0));
        // A change of less than 0.25 % is not made.
        let nearly = Guest {
            unused: 102.0,
            ..GUEST
        };
        assert!(near(rule(&nearly, 0.10), 1000.0));
    }
}
