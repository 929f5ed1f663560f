//! When a guest's next report is due.
//!
//! A program touches at most about 1 GiB a second, so a guest that has `available` left cannot be short before
//! `available` / (1 GiB/s) has passed: its next report is due then, within 10 ms to 1 s. A guest that nothing can be given
//! to is asked once a second; one that moves nothing is asked less often than its small headroom alone would say.

use crate::observe::Observed;

/// The rarest reports: of a guest with much headroom, or of one that nothing can be given to.
pub(crate) const CALM_MS: u32 = 1000;
/// The most frequent: of a guest that is short.
pub(crate) const PRESSED_MS: u32 = 10;
/// Of a guest whose use has not moved for [`STEADY_AFTER`] reports, at the most frequent.
const STEADY_MS: u32 = 100;
const STEADY_AFTER: u8 = 8;
/// Use that moves by less than this part of what the guest sees, or by less than a granule, has not moved.
const STEADY_PART: u64 = 128;
const GRANULE_KIB: u64 = 2048;
/// What a program can touch in a millisecond, in KiB: 1 GiB a second.
const TOUCHED_KIB_MS: u64 = 1024;
/// A guest that stays short after so many reports cannot be helped at this moment, and is asked less often.
const PRESSED_REPORTS: u16 = 64;
const STILL_PRESSED_MS: u32 = 100;
/// While somebody lacks memory the others are asked at least this often: what one uses no longer, another waits for.
pub(crate) const SHORT_SUPPLY_MS: u32 = 50;

/// What the rhythm of one guest's reports remembers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cadence {
    pressed_reports: u16,
    steady_reports: u8,
    used_kib: u64,
}

impl Cadence {
    /// Milliseconds until the next report of a guest that just said `seen`; `half_buffer_kib` is half of its buffer.
    pub(crate) fn next_ms(&mut self, seen: &Observed, half_buffer_kib: u64) -> u32 {
        let used_kib = seen.visible_kib.saturating_sub(seen.available_kib);
        let band_kib = (seen.visible_kib / STEADY_PART).max(GRANULE_KIB);
        if used_kib.abs_diff(self.used_kib) < band_kib {
            self.steady_reports = self.steady_reports.saturating_add(1);
        } else {
            self.steady_reports = 0;
            self.used_kib = used_kib;
        }
        if seen.available_kib > half_buffer_kib {
            self.pressed_reports = 0;
        } else {
            self.pressed_reports = self.pressed_reports.saturating_add(1);
        }
        let least_ms = if self.pressed_reports > PRESSED_REPORTS {
            STILL_PRESSED_MS
        } else if self.steady_reports >= STEADY_AFTER && self.pressed_reports == 0 {
            STEADY_MS
        } else {
            PRESSED_MS
        };
        let by_headroom_ms = seen.available_kib / TOUCHED_KIB_MS;
        (by_headroom_ms.min(u64::from(CALM_MS)) as u32).max(least_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(visible_mib: u64, available_mib: u64) -> Observed {
        Observed {
            visible_kib: visible_mib * 1024,
            available_kib: available_mib * 1024,
            ..Observed::default()
        }
    }

    #[test]
    fn a_guest_reports_before_it_can_have_used_up_what_it_has() {
        let mut cadence = Cadence::default();
        for (visible, available, ms) in [
            (4096, 3000, 1000),
            (1024, 400, 400),
            (1024, 150, 150),
            (1024, 30, 30),
            (1024, 2, 10),
            (1024, 0, 10),
        ] {
            assert_eq!(
                cadence.next_ms(&seen(visible, available), 50 * 1024),
                ms,
                "{available} of {visible} MiB"
            );
        }
    }

    #[test]
    fn a_small_guest_that_does_not_move_is_asked_less_often_until_it_moves() {
        let mut cadence = Cadence::default();
        let rhythm: Vec<u32> = (0..12)
            .map(|_| cadence.next_ms(&seen(128, 30), 12 * 1024))
            .collect();
        assert_eq!((rhythm[0], rhythm[11]), (30, STEADY_MS));
        assert_eq!(cadence.next_ms(&seen(128, 25), 12 * 1024), 25);
    }

    #[test]
    fn a_guest_that_stays_short_is_asked_less_often() {
        let mut cadence = Cadence::default();
        for _ in 0..PRESSED_REPORTS {
            assert_eq!(cadence.next_ms(&seen(512, 1), 50 * 1024), PRESSED_MS);
        }
        assert_eq!(cadence.next_ms(&seen(512, 1), 50 * 1024), STILL_PRESSED_MS);
        assert_eq!(cadence.next_ms(&seen(512, 60), 50 * 1024), 60);
    }
}
