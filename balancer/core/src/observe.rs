//! From a guest's reports to its demand.

use protocol::balancer::{Counters, Report, Urgency};

/// Seconds of swap-ins that count into the demand of a saturated guest.
const SWAP_WINDOW_S: usize = 10;
/// Seconds of demand that are remembered: two whole ones beside the running one.
pub(crate) const REMEMBERED_S: usize = 3;

/// A guest with less than this left starves: one granule.
const STARVING_KIB: u64 = 2048;

/// How far ahead a rising demand is followed, in milliseconds: about what a guest needs to take memory into use once its
/// target is raised.
const AHEAD_MS: u64 = 500;
/// A rise below this within [`AHEAD_MS`] is noise: one granule.
const RISE_KIB: u64 = 2048;

/// Whether a guest is short of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// It is not.
    #[default]
    None,
    /// It is: less than its low mark is left, or less than its buffer and it strains. Its demand counts as all that it sees.
    Low,
    /// Next to nothing is left: what it would use if it had it is not to be seen.
    Starving,
}

/// What one report says, judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// What it believes it has.
    pub(crate) visible_kib: u64,
    /// Free or file cache.
    pub(crate) available_kib: u64,
    /// What it needs.
    pub(crate) demand_kib: u64,
    /// How fast that rises, in KiB per second; 0 when it does not.
    pub(crate) rise_kib_s: u64,
    /// By how much it rose in the last [`AHEAD_MS`].
    pub(crate) lately_kib: u64,
    /// What it will use of that before it could have back what it gave: [`AHEAD_MS`] of its rise, at most half its buffer.
    pub(crate) soon_kib: u64,
    /// Whether it is short.
    pub(crate) shortage: Shortage,
}

impl Observed {
    /// What is not available, whatever it is needed for.
    pub(crate) const fn used_kib(&self) -> u64 {
        self.visible_kib - self.available_kib
    }

    /// What a target is made of: what it uses, and of a guest that starves its demand, which is more.
    pub(crate) const fn basis_kib(&self) -> u64 {
        match self.shortage {
            // In whole pieces: between this and what a starving guest shows there is no step.
            Shortage::None | Shortage::Low => {
                let used_kib = self.used_kib();
                match used_kib.checked_next_multiple_of(STARVING_KIB) {
                    Some(whole) if whole <= self.visible_kib => whole,
                    _ => used_kib,
                }
            }
            Shortage::Starving => self.demand_kib,
        }
    }
}

/// The memory of one guest's reports.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observer {
    counters: Counters,
    swapped_kib: Seconds<SWAP_WINDOW_S>,
    demand_kib: Seconds<REMEMBERED_S>,
    last: Observed,
    /// What was used as of the report before the last.
    before_last_kib: u64,
    /// By how much that rose in the last [`AHEAD_MS`].
    rise_kib: u64,
    last_ms: u64,
    oom_kills: u32,
}

impl Observer {
    /// Judges a report that carries statistics. `buffer_percent` is the guest's setting; `owed_kib` is what it sees beyond
    /// its target.
    pub(crate) fn observe(
        &mut self,
        now_ms: u64,
        report: &Report,
        available_kib: u64,
        buffer_percent: u8,
        owed_kib: u64,
    ) -> Observed {
        let visible_kib = report.visible_kib;
        let available_kib = available_kib.min(visible_kib);
        let events = self.events(&report.counters);
        let second = now_ms / 1000;
        self.swapped_kib.add(second, events.swapped_in_kib);
        self.oom_kills = self.oom_kills.saturating_add(events.oom_kills);
        // Stalls, scans, swap-ins and kills can be driven by one process inside (in a control group of its own, say): they
        // count only while less than the buffer is left. A guest that cannot run on says nothing new about its memory, so
        // what it said last does not count.
        let inside_buffer = available_kib < buffer_kib(visible_kib, buffer_percent);
        let asked = report.urgent == Urgency::Event || events.strain > 0 || events.oom_kills > 0;
        let low_kib = low_mark_kib(visible_kib);
        let is_low = available_kib < low_kib || (inside_buffer && asked);
        let used_kib = visible_kib - available_kib;
        let moves_kib = if is_low || report.urgent == Urgency::Starved {
            0
        } else {
            visible_kib
                .saturating_sub(self.last.visible_kib)
                .max(owed_kib)
        };
        self.follow_rise(now_ms, used_kib, moves_kib);
        let rise_kib = match self.rise_kib {
            ..RISE_KIB => 0,
            rise_kib => rise_kib,
        };
        let shortage = if report.urgent == Urgency::Starved
            || available_kib < STARVING_KIB
            || (available_kib < low_kib && (asked || rise_kib > available_kib))
        {
            Shortage::Starving
        } else if is_low {
            Shortage::Low
        } else {
            Shortage::None
        };
        let demand_kib = match shortage {
            Shortage::None => used_kib,
            Shortage::Low | Shortage::Starving => {
                let swapped = self.swapped_kib.sum(second, SWAP_WINDOW_S);
                visible_kib.saturating_add(swapped)
            }
        };
        let rise_kib_s = rise_kib.saturating_mul(1000) / AHEAD_MS;
        // At most half a buffer: what is given too much stays with the guest until somebody needs it.
        let soon_kib = rise_kib.min((buffer_kib(visible_kib, buffer_percent) / 2).max(48 * 1024));
        self.last_ms = now_ms.max(1);
        self.before_last_kib = self.last.used_kib();
        self.last = Observed {
            visible_kib,
            available_kib,
            demand_kib,
            rise_kib_s,
            lately_kib: rise_kib,
            soon_kib,
            shortage,
        };
        self.demand_kib.raise(second, self.last.basis_kib());
        self.last
    }

    /// By how much the used memory rises beyond what the last two reports said (a dip between two equal reports is no
    /// rise), added up with what is left of earlier rises: a single step is not taken for the beginning of many.
    /// What moves in that time (`moves_kib`) is left out unless the guest is short. Linux keeps memory that just came back
    /// to it on its per-CPU lists for some seconds, up to an eighth of a zone, where it counts as used; and it takes what it
    /// is asked for out of its free memory, 128 MiB at a time where it can, before it gives that back. Taken for a rise, it
    /// would bring more memory, and that another rise.
    fn follow_rise(&mut self, now_ms: u64, used_kib: u64, moves_kib: u64) {
        if self.last_ms == 0 {
            return;
        }
        let before_kib = self.last.used_kib().max(self.before_last_kib);
        let rise_kib = used_kib.saturating_sub(before_kib.saturating_add(moves_kib));
        let ms = now_ms.saturating_sub(self.last_ms);
        let old_kib = self.rise_kib.saturating_mul(AHEAD_MS.saturating_sub(ms)) / AHEAD_MS;
        let new_kib = rise_kib.saturating_mul(AHEAD_MS) / ms.max(AHEAD_MS);
        self.rise_kib = old_kib.saturating_add(new_kib);
    }

    /// The last report, judged.
    pub(crate) const fn last(&self) -> Observed {
        self.last
    }

    /// The highest demand of the last [`REMEMBERED_S`] seconds, the running one included.
    pub(crate) fn remembered_kib(&self, now_ms: u64) -> u64 {
        self.demand_kib
            .max(now_ms / 1000, REMEMBERED_S)
            .max(self.last.basis_kib())
    }

    /// When the guest last gave fresh figures, in milliseconds; `None` before the first.
    pub(crate) fn seen_ms(&self) -> Option<u64> {
        (self.last_ms != 0).then_some(self.last_ms)
    }

    /// Kills seen since the guest started.
    pub(crate) const fn oom_kills(&self) -> u32 {
        self.oom_kills
    }

    fn events(&mut self, new: &Counters) -> Events {
        let old = core::mem::replace(&mut self.counters, *new);
        let strain = [
            rose(old.alloc_stalls, new.alloc_stalls),
            rose(old.direct_scans, new.direct_scans),
            rose(old.swap_in_bytes, new.swap_in_bytes),
        ];
        Events {
            swapped_in_kib: rose(old.swap_in_bytes, new.swap_in_bytes) / 1024,
            oom_kills: rose(old.oom_kills, new.oom_kills).min(u64::from(u32::MAX)) as u32,
            strain: strain.into_iter().fold(0, u64::saturating_add),
        }
    }
}

struct Events {
    swapped_in_kib: u64,
    oom_kills: u32,
    strain: u64,
}

/// By how much a counter rose. A counter that was missing before starts here; one that fell has wrapped or started
/// again at zero, and rose by at least what it shows.
fn rose(old: Option<u64>, new: Option<u64>) -> u64 {
    match (old, new) {
        (Some(old), Some(new)) if new >= old => new - old,
        (Some(_), Some(new)) => new,
        _ => 0,
    }
}

/// Below this much available memory a guest is short whatever else it says: 1/32 of what it sees, at least 4 MiB
/// (about the watermarks of a Linux guest of that size).
pub(crate) fn low_mark_kib(visible_kib: u64) -> u64 {
    (visible_kib / 32).max(4096)
}

/// The part of what a guest sees that its buffer is.
pub(crate) fn buffer_kib(visible_kib: u64, buffer_percent: u8) -> u64 {
    visible_kib.saturating_mul(u64::from(buffer_percent.min(95))) / 100
}

/// One figure per second, the last `N` of them.
#[derive(Clone, Copy, Debug)]
struct Seconds<const N: usize> {
    values: [u64; N],
    /// The second that each value is of, plus one.
    stamps: [u64; N],
}

impl<const N: usize> Default for Seconds<N> {
    fn default() -> Self {
        Self {
            values: [0; N],
            stamps: [0; N],
        }
    }
}

impl<const N: usize> Seconds<N> {
    fn slot(&mut self, second: u64) -> Option<&mut u64> {
        let index = (second % N as u64) as usize;
        let stamp = self.stamps.get_mut(index)?;
        let value = self.values.get_mut(index)?;
        if *stamp != second + 1 {
            *stamp = second + 1;
            *value = 0;
        }
        Some(value)
    }

    fn add(&mut self, second: u64, amount: u64) {
        if let Some(value) = self.slot(second) {
            *value = value.saturating_add(amount);
        }
    }

    fn raise(&mut self, second: u64, to: u64) {
        if let Some(value) = self.slot(second) {
            *value = (*value).max(to);
        }
    }

    fn recent(&self, second: u64, window: usize) -> impl Iterator<Item = u64> {
        let newest = second + 1;
        let oldest = newest.saturating_sub(window.min(N) as u64);
        self.values
            .iter()
            .zip(&self.stamps)
            .filter(move |(_, stamp)| **stamp > oldest && **stamp <= newest)
            .map(|(value, _)| *value)
    }

    fn sum(&self, second: u64, window: usize) -> u64 {
        self.recent(second, window).fold(0, u64::saturating_add)
    }

    fn max(&self, second: u64, window: usize) -> u64 {
        self.recent(second, window).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1024;

    fn report(visible_mib: u64, counters: Counters) -> Report {
        Report {
            visible_kib: visible_mib * MIB,
            counters,
            ..Report::default()
        }
    }

    fn see(
        observer: &mut Observer,
        now_ms: u64,
        available_mib: u64,
        counters: Counters,
    ) -> Observed {
        observer.observe(now_ms, &report(1000, counters), available_mib * MIB, 20, 0)
    }

    #[test]
    fn demand_is_what_is_not_available() {
        let mut observer = Observer::default();
        let seen = see(&mut observer, 0, 300, Counters::default());
        assert_eq!(
            (seen.demand_kib, seen.shortage),
            (700 * MIB, Shortage::None)
        );
        // More available than visible (a balloon being inflated) is no demand, and no underflow.
        assert_eq!(
            see(&mut observer, 10, 3000, Counters::default()).demand_kib,
            0
        );
    }

    #[test]
    fn below_the_low_mark_demand_is_at_least_what_it_sees() {
        let mut observer = Observer::default();
        let seen = see(&mut observer, 0, 31, Counters::default());
        assert_eq!(
            (seen.demand_kib, seen.basis_kib(), seen.shortage),
            (1000 * MIB, 970 * MIB, Shortage::Low)
        );
        let seen = see(&mut observer, 0, 1, Counters::default());
        assert_eq!(
            (seen.basis_kib(), seen.shortage),
            (1000 * MIB, Shortage::Starving)
        );
        assert_eq!(
            see(&mut observer, 0, 32, Counters::default()).shortage,
            Shortage::None
        );
    }

    #[test]
    fn stalls_and_kills_count_inside_the_buffer_only() {
        let stalls = |n| Counters {
            alloc_stalls: Some(n),
            ..Counters::default()
        };
        let mut observer = Observer::default();
        see(&mut observer, 0, 150, stalls(5));
        assert_eq!(
            see(&mut observer, 1, 250, stalls(6)).shortage,
            Shortage::None
        );
        assert_eq!(
            see(&mut observer, 2, 150, stalls(6)).shortage,
            Shortage::None
        );
        assert_eq!(
            see(&mut observer, 3, 150, stalls(7)).shortage,
            Shortage::Low
        );
        assert_eq!(
            see(&mut observer, 3, 31, stalls(8)).shortage,
            Shortage::Starving
        );
        let kills = |n| Counters {
            oom_kills: Some(n),
            ..Counters::default()
        };
        see(&mut observer, 4, 500, kills(2));
        // Two processes of a control group of their own, say.
        assert_eq!(
            see(&mut observer, 5, 500, kills(4)).shortage,
            Shortage::None
        );
        assert_eq!(see(&mut observer, 6, 150, kills(5)).shortage, Shortage::Low);
        assert_eq!(observer.oom_kills(), 3);
    }

    #[test]
    fn a_guest_that_cannot_run_on_is_short_whatever_it_said_last() {
        let mut observer = Observer::default();
        let mut report = report(1000, Counters::default());
        report.urgent = Urgency::Event;
        let seen = observer.observe(0, &report, 900 * MIB, 20, 0);
        assert_eq!(seen.shortage, Shortage::None);
        report.urgent = Urgency::Starved;
        let seen = observer.observe(1, &report, 900 * MIB, 20, 0);
        assert_eq!(
            (seen.demand_kib, seen.shortage),
            (1000 * MIB, Shortage::Starving)
        );
    }

    #[test]
    fn counters_may_appear_vanish_and_start_again() {
        let swaps = |bytes| Counters {
            swap_in_bytes: bytes,
            ..Counters::default()
        };
        let mut observer = Observer::default();
        see(&mut observer, 0, 100, swaps(None));
        assert_eq!(
            see(&mut observer, 1, 100, swaps(Some(1 << 30))).shortage,
            Shortage::None
        );
        // Started again: it rose by at least what it shows.
        let seen = see(&mut observer, 2, 100, swaps(Some(8 << 20)));
        assert_eq!(seen.demand_kib, 1008 * MIB);
        assert_eq!(
            see(&mut observer, 3, 100, swaps(None)).shortage,
            Shortage::None
        );
        // Ten seconds later the swap-ins of then are forgotten.
        let seen = see(&mut observer, 11_000, 10, swaps(None));
        assert_eq!(seen.demand_kib, 1000 * MIB);
    }

    #[test]
    fn a_rise_is_followed_half_a_second_ahead() {
        let mut observer = Observer::default();
        see(&mut observer, 1000, 700, Counters::default());
        let seen = see(&mut observer, 1500, 600, Counters::default());
        assert_eq!((seen.demand_kib, seen.rise_kib_s), (400 * MIB, 200 * MIB));
        assert_eq!(seen.soon_kib, 100 * MIB);
        // It ends: what it really uses counts again.
        let seen = see(&mut observer, 3000, 600, Counters::default());
        assert_eq!((seen.rise_kib_s, seen.soon_kib), (0, 0));
    }

    #[test]
    fn memory_that_just_came_is_no_rise() {
        let mut observer = Observer::default();
        see(&mut observer, 1000, 100, Counters::default());
        let grown = Report {
            visible_kib: 1034 * MIB,
            ..Report::default()
        };
        let seen = observer.observe(1050, &grown, 100 * MIB, 20, 0);
        assert_eq!((seen.demand_kib, seen.rise_kib_s), (934 * MIB, 0));
        // What it takes beyond that is one.
        let seen = observer.observe(1100, &grown, 90 * MIB, 20, 0);
        assert_eq!(seen.rise_kib_s, 20 * MIB);
    }

    #[test]
    fn a_steady_rise_is_seen_whatever_the_distance_of_reports() {
        for step_ms in [10, 50, 200, 1000] {
            let mut observer = Observer::default();
            let mut rise_mib_s = 0;
            for now_ms in (1000..=3000).step_by(step_ms) {
                let available_mib = 800 - (now_ms - 1000) / 10;
                let seen = see(&mut observer, now_ms, available_mib, Counters::default());
                rise_mib_s = seen.rise_kib_s / MIB;
            }
            assert!(
                (95..=105).contains(&rise_mib_s),
                "{rise_mib_s} MiB/s each {step_ms} ms"
            );
        }
    }

    /// A guest that uses about 630 MiB while 88 MiB of it are unplugged, as one report after the other said it.
    #[test]
    fn a_demand_that_swings_is_no_rise() {
        let mut observer = Observer::default();
        let mut peak_kib = 0;
        for (now_ms, visible_mib, demand_mib, target_mib) in [
            (40_600, 836, 636, 836),
            (40_900, 784, 584, 774),
            (41_000, 748, 628, 748),
            (41_200, 790, 652, 790),
            (41_300, 790, 634, 790),
            (41_400, 778, 632, 778),
        ] {
            let report = Report {
                visible_kib: visible_mib * MIB,
                ..Report::default()
            };
            let available_kib = (visible_mib - demand_mib) * MIB;
            let owed_kib = (visible_mib - target_mib) * MIB;
            let seen = observer.observe(now_ms, &report, available_kib, 20, owed_kib);
            assert_eq!(seen.rise_kib_s, 0, "at {now_ms} ms");
            peak_kib = observer.remembered_kib(now_ms).max(peak_kib);
        }
        assert_eq!(peak_kib, 652 * MIB);
    }

    #[test]
    fn what_a_guest_is_giving_back_is_no_rise_but_what_it_uses_beyond_is() {
        let mut observer = Observer::default();
        see(&mut observer, 1000, 500, Counters::default());
        let owing = |observer: &mut Observer, now_ms, available_mib: u64| {
            let report = report(1000, Counters::default());
            observer.observe(now_ms, &report, available_mib * MIB, 20, 128 * MIB)
        };
        assert_eq!(owing(&mut observer, 1500, 372).rise_kib_s, 0);
        assert_eq!(owing(&mut observer, 2000, 234).rise_kib_s, 20 * MIB);
    }

    #[test]
    fn the_peak_of_the_window_is_remembered() {
        let mut observer = Observer::default();
        see(&mut observer, 500, 300, Counters::default());
        see(&mut observer, 1200, 600, Counters::default());
        assert_eq!(observer.remembered_kib(2900), 700 * MIB);
        assert_eq!(observer.remembered_kib(3000), 400 * MIB);
    }

    proptest! {
        #[test]
        fn no_report_panics_and_demand_is_below_visible_unless_short(
            reports in proptest::collection::vec(
                (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<u8>(), any::<u64>()), 1..20),
        ) {
            let mut observer = Observer::default();
            for (index, (visible_kib, available, swap, kills, buffer, owed)) in reports.into_iter().enumerate() {
                let counters = Counters { swap_in_bytes: swap, oom_kills: kills, ..Counters::default() };
                let report = Report { visible_kib, counters, ..Report::default() };
                let seen = observer.observe(index as u64 * 400, &report, available, buffer, owed);
                match seen.shortage {
                    Shortage::None => prop_assert!(seen.demand_kib <= visible_kib),
                    Shortage::Low | Shortage::Starving => prop_assert!(seen.demand_kib >= visible_kib),
                }
                prop_assert!(observer.remembered_kib(index as u64 * 400) >= seen.basis_kib());
                prop_assert!(seen.available_kib <= seen.visible_kib);
            }
        }
    }
}
