//! From a guest's reports to its demand.

use protocol::balancer::{Counters, Report, Urgency};

/// Seconds of swap-ins that count into the demand of a saturated guest.
const SWAP_WINDOW_S: usize = 10;
/// Seconds of demand that are remembered; no damping window is longer.
pub(crate) const PEAK_WINDOW_S: usize = 16;

/// How far ahead a rising demand is followed, in milliseconds: about what a guest needs to take memory into use once its
/// target is raised.
const AHEAD_MS: u64 = 500;
/// A rise below this is noise: one granule.
const RISE_KIB: u64 = 2048;

/// Whether a guest is short of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// It is not.
    #[default]
    None,
    /// It is: its demand is at least what it sees.
    Saturated,
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
    /// Whether it is short.
    pub(crate) shortage: Shortage,
}

/// The memory of one guest's reports.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observer {
    counters: Counters,
    swapped_kib: Seconds<SWAP_WINDOW_S>,
    demand_kib: Seconds<PEAK_WINDOW_S>,
    last: Observed,
    last_ms: u64,
    oom_kills: u32,
}

impl Observer {
    /// Judges a report that carries statistics. `buffer_percent` is the guest's setting.
    pub(crate) fn observe(
        &mut self,
        now_ms: u64,
        report: &Report,
        available_kib: u64,
        buffer_percent: u8,
    ) -> Observed {
        let visible_kib = report.visible_kib;
        let available_kib = available_kib.min(visible_kib);
        let events = self.events(&report.counters);
        let second = now_ms / 1000;
        self.swapped_kib.add(second, events.swapped_in_kib);
        self.oom_kills = self.oom_kills.saturating_add(events.oom_kills);
        let low_kib = low_mark_kib(visible_kib);
        // Linux scans and stalls for reasons of its own as well (compaction, memory being unplugged): these count only
        // while less than the buffer is left. A kill always counts.
        let inside_buffer = available_kib < buffer_kib(visible_kib, buffer_percent);
        let asked = report.urgent == Urgency::Event || events.strain > 0;
        // A guest that cannot run on says nothing new about its memory: what it said last does not count.
        let short = available_kib < low_kib
            || events.oom_kills > 0
            || report.urgent == Urgency::Starved
            || (inside_buffer && asked);
        let (demand_kib, shortage) = if short {
            let swapped = self.swapped_kib.sum(second, SWAP_WINDOW_S);
            (visible_kib.saturating_add(swapped), Shortage::Saturated)
        } else {
            (visible_kib - available_kib, Shortage::None)
        };
        let came_kib = match shortage {
            Shortage::None => visible_kib.saturating_sub(self.last.visible_kib),
            Shortage::Saturated => 0,
        };
        let rise_kib_s = self.rise_kib_s(now_ms, visible_kib - available_kib, came_kib);
        // At most half a buffer: what is given too much stays with the guest until somebody needs it.
        let ahead_kib = (rise_kib_s.saturating_mul(AHEAD_MS) / 1000)
            .min(buffer_kib(visible_kib, buffer_percent) / 2);
        let expected_kib = (visible_kib - available_kib).saturating_add(ahead_kib);
        self.demand_kib.raise(second, demand_kib.max(expected_kib));
        self.last_ms = now_ms;
        self.last = Observed {
            visible_kib,
            available_kib,
            demand_kib,
            rise_kib_s,
            shortage,
        };
        self.last
    }

    /// How fast the used memory rises since the last report. What became visible in that time (`came_kib`) is left out
    /// unless the guest is short: Linux keeps memory that just came back to it on its per-CPU lists for some seconds, up
    /// to an eighth of a zone, where it counts as used. Taken for a rise, it would bring more memory, and that another
    /// rise.
    fn rise_kib_s(&self, now_ms: u64, used_kib: u64, came_kib: u64) -> u64 {
        let before_kib = self.last.visible_kib - self.last.available_kib;
        let rise_kib = used_kib.saturating_sub(before_kib.saturating_add(came_kib));
        if self.last_ms == 0 || rise_kib < RISE_KIB {
            return 0;
        }
        rise_kib.saturating_mul(1000) / now_ms.saturating_sub(self.last_ms).max(50)
    }

    /// The last report, judged.
    pub(crate) const fn last(&self) -> Observed {
        self.last
    }

    /// The highest demand of the last `window_s` seconds, this one included.
    pub(crate) fn peak_kib(&self, now_ms: u64, window_s: usize) -> u64 {
        self.demand_kib
            .max(now_ms / 1000, window_s)
            .max(self.last.demand_kib)
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
fn low_mark_kib(visible_kib: u64) -> u64 {
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
        observer.observe(now_ms, &report(1000, counters), available_mib * MIB, 20)
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
            (seen.demand_kib, seen.shortage),
            (1000 * MIB, Shortage::Saturated)
        );
        assert_eq!(
            see(&mut observer, 0, 32, Counters::default()).shortage,
            Shortage::None
        );
    }

    #[test]
    fn stalls_count_inside_the_buffer_only_and_kills_always() {
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
            Shortage::Saturated
        );
        let kills = |n| Counters {
            oom_kills: Some(n),
            ..Counters::default()
        };
        see(&mut observer, 4, 500, kills(2));
        assert_eq!(
            see(&mut observer, 5, 500, kills(4)).shortage,
            Shortage::Saturated
        );
        assert_eq!(observer.oom_kills(), 2);
    }

    #[test]
    fn a_guest_that_cannot_run_on_is_short_whatever_it_said_last() {
        let mut observer = Observer::default();
        let mut report = report(1000, Counters::default());
        report.urgent = Urgency::Event;
        let seen = observer.observe(0, &report, 900 * MIB, 20);
        assert_eq!(seen.shortage, Shortage::None);
        report.urgent = Urgency::Starved;
        let seen = observer.observe(1, &report, 900 * MIB, 20);
        assert_eq!(
            (seen.demand_kib, seen.shortage),
            (1000 * MIB, Shortage::Saturated)
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
        assert_eq!(observer.peak_kib(1500, 1), 500 * MIB);
        // It ends: what it really uses counts again.
        let seen = see(&mut observer, 3000, 600, Counters::default());
        assert_eq!(seen.rise_kib_s, 0);
        assert_eq!(observer.peak_kib(3000, 1), 400 * MIB);
    }

    #[test]
    fn memory_that_just_came_is_no_rise() {
        let mut observer = Observer::default();
        see(&mut observer, 1000, 100, Counters::default());
        let grown = Report {
            visible_kib: 1034 * MIB,
            ..Report::default()
        };
        let seen = observer.observe(1050, &grown, 100 * MIB, 20);
        assert_eq!((seen.demand_kib, seen.rise_kib_s), (934 * MIB, 0));
        // What it takes beyond that is one.
        let seen = observer.observe(1100, &grown, 90 * MIB, 20);
        assert_eq!(seen.rise_kib_s, 200 * MIB);
    }

    #[test]
    fn the_peak_of_the_window_is_remembered() {
        let mut observer = Observer::default();
        see(&mut observer, 500, 300, Counters::default());
        see(&mut observer, 1200, 600, Counters::default());
        assert_eq!(observer.peak_kib(1900, 2), 700 * MIB);
        assert_eq!(observer.peak_kib(2000, 2), 400 * MIB);
        assert_eq!(observer.peak_kib(9000, 16), 700 * MIB);
    }

    proptest! {
        #[test]
        fn no_report_panics_and_demand_is_below_visible_unless_short(
            reports in proptest::collection::vec(
                (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<u8>()), 1..20),
        ) {
            let mut observer = Observer::default();
            for (index, (visible_kib, available, swap, kills, buffer)) in reports.into_iter().enumerate() {
                let counters = Counters { swap_in_bytes: swap, oom_kills: kills, ..Counters::default() };
                let report = Report { visible_kib, counters, ..Report::default() };
                let seen = observer.observe(index as u64 * 400, &report, available, buffer);
                match seen.shortage {
                    Shortage::None => prop_assert!(seen.demand_kib <= visible_kib),
                    Shortage::Saturated => prop_assert!(seen.demand_kib >= visible_kib),
                }
                prop_assert!(observer.peak_kib(index as u64 * 400, 2) >= seen.demand_kib);
                prop_assert!(seen.available_kib <= seen.visible_kib);
            }
        }
    }
}
