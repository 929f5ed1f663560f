//! ChromeOS: a guest and its host are to have the same amount above what is critical to each.
//!
//! Source: chromiumos/platform2, `vm_tools/concierge/balloon_policy.cc` (`BalanceAvailableBalloonPolicy`): delta =
//! ((guest available - guest critical) - (host available - host critical)) / 2, once a second; a guest's critical amount
//! begins at 400 MiB and goes down when the guest lives with less. There is one guest of a kind there; here the guests are
//! gone through in turn, each with what those before left. The host's critical amount is its reserve.

use super::{Entry, Told};
use crate::policy::Pace;
use crate::rival::{Paced, Rival, Room, Seen};

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "chromeos",
    what: "ChromeOS: as much available in the guest as on the host",
    told: Told::Reports,
    paces: &[Pace::Own, Pace::Ours],
    make: |trace, pace| Box::new(Paced::new(ChromeOs::default(), pace, trace.reserve)),
}];

const MIB: i64 = 1024;
/// What a guest is to have available at first, in KiB.
const CRITICAL_KIB: i64 = 400 * MIB;
/// By how much a step may go below what is critical, in KiB.
const BELOW_CRITICAL_KIB: i64 = 10 * MIB;

/// What is remembered of a guest.
#[derive(Clone, Copy, Debug)]
struct Memory {
    critical_kib: i64,
    available_before_kib: i64,
    full_before: i64,
    balloon_max_kib: i64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            critical_kib: CRITICAL_KIB,
            available_before_kib: i64::MAX,
            full_before: 100,
            balloon_max_kib: 0,
        }
    }
}

impl Memory {
    /// By how much the balloon should grow, in KiB.
    fn delta(&mut self, balloon_kib: i64, available_kib: i64, total_kib: i64, host_kib: i64) -> i64 {
        if self.balloon_max_kib == 0 {
            self.balloon_max_kib = total_kib * 3 / 4;
        }
        self.balloon_max_kib = self.balloon_max_kib.max(balloon_kib);
        let full = balloon_kib * 100 / self.balloon_max_kib.max(1);
        let below = available_kib < self.critical_kib && full < 95;
        if below && self.available_before_kib < self.critical_kib && self.full_before < 95 {
            self.critical_kib = self.available_before_kib;
        }
        self.available_before_kib = available_kib;
        self.full_before = full;
        let guest_above = available_kib - self.critical_kib;
        let delta = (guest_above - host_kib) / 2;
        let least = -(host_kib + BELOW_CRITICAL_KIB);
        let capped = delta.max(least.min(0)).min(guest_above + BELOW_CRITICAL_KIB);
        let matters = guest_above < MIB
            || host_kib < MIB
            || delta.abs() * 100 / guest_above > 1
            || delta.abs() * 100 / host_kib > 1;
        if matters { capped.max(-balloon_kib) } else { 0 }
    }
}

#[derive(Default)]
struct ChromeOs {
    guests: Vec<Memory>,
}

impl Rival for ChromeOs {
    fn interval_ms(&self) -> u64 {
        1000
    }

    fn goals(&mut self, _: u64, room: &Room, guests: &[Seen], goals: &mut [u32]) {
        self.guests.resize(guests.len(), Memory::default());
        let reserve = room.total - room.capacity;
        let mut host_kib = (i64::from(room.free) - i64::from(reserve)) * 2048;
        for ((goal, seen), memory) in goals.iter_mut().zip(guests).zip(&mut self.guests) {
            let (held, maximum) = (i64::from(seen.held()), i64::from(seen.maximum()));
            let balloon_kib = (maximum - held) * 2048;
            let available_kib = seen.available_kib() as i64;
            let delta = memory.delta(balloon_kib, available_kib, maximum * 2048, host_kib);
            *goal = ((held * 2048 - delta) / 2048).max(0) as u32;
            host_kib += delta;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much above what is critical on both sides: guest 1,000 available, 400 critical; host 200 above its own: the
    /// balloon grows by (600 - 200) / 2.
    #[test]
    fn the_middle_between_guest_and_host() {
        let mut memory = Memory::default();
        let delta = memory.delta(1000 * MIB, 1000 * MIB, 4000 * MIB, 200 * MIB);
        assert_eq!(delta, 200 * MIB);
        // The other way: guest 500, host 900 above: it shrinks by (900 - 100) / 2.
        let mut memory = Memory::default();
        let delta = memory.delta(1000 * MIB, 500 * MIB, 4000 * MIB, 900 * MIB);
        assert_eq!(delta, -400 * MIB);
        // Never below an empty balloon.
        let mut memory = Memory::default();
        let delta = memory.delta(100 * MIB, 500 * MIB, 4000 * MIB, 900 * MIB);
        assert_eq!(delta, -100 * MIB);
    }

    /// A guest that lives with less than what was thought critical, twice in a row, moves that mark.
    #[test]
    fn what_is_critical_is_learnt() {
        let mut memory = Memory::default();
        memory.delta(100 * MIB, 300 * MIB, 4000 * MIB, 100 * MIB);
        assert_eq!(memory.critical_kib, 400 * MIB);
        memory.delta(100 * MIB, 250 * MIB, 4000 * MIB, 100 * MIB);
        assert_eq!(memory.critical_kib, 300 * MIB);
    }
}
