//! Unplugging where reporting does not deliver.
//!
//! Linux reports free memory in blocks of its page-block order: 2 MiB with 4 KiB pages, 32 MiB with 16 KiB pages. Free memory
//! in smaller parts is never reported, and its frames would stay with a guest that has no use for them until somebody is
//! short. They come back by unplugging, for which the driver gathers free memory. What was unplugged stays promised: it is
//! plugged again at once, without frames.

/// So much that is free and not reported is worth the work: a driver with 16 KiB pages moves 32 MiB at a time.
const LEAST_PIECES: u32 = 16;
/// Reporting has so much time, in milliseconds: Linux begins 2 s after memory became free, and goes on for as long as
/// there is more.
const PATIENCE_MS: u64 = 20_000;
/// An unplugging has so much time: what a driver can give it gives within that.
const UNPLUG_MS: u64 = 5000;
/// Time until the next one, in milliseconds; doubles up to [`REST_MAX_MS`] while they yield little.
const REST_MIN_MS: u64 = 20_000;
/// Greatest such time.
const REST_MAX_MS: u64 = 3_600_000;

/// What a guest has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Has {
    /// Free by its own count, in pieces.
    pub(super) free: u32,
    /// With a frame.
    pub(super) granted: u32,
    /// Promised, without one.
    pub(super) promised: u32,
    /// What it needs with its buffer.
    pub(super) keep: u32,
    /// Plugged.
    pub(super) plugged: u32,
}

impl Has {
    /// What is free, has frames, and is not needed.
    fn surplus(self) -> u32 {
        let unreported = self.free.saturating_sub(self.promised);
        unreported.min(self.granted.saturating_sub(self.keep))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There is a surplus since then.
    Watch { since_ms: Option<u64> },
    /// No more than `to` are to be plugged.
    Unplug {
        to: u32,
        until_ms: u64,
        granted: u32,
        surplus: u32,
        keep: u32,
    },
    /// Nothing until then.
    Rest { until_ms: u64 },
}

/// What is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trim {
    step: Step,
    rest_ms: u64,
}

impl Trim {
    pub(super) const fn new() -> Self {
        Self {
            step: Step::Watch { since_ms: None },
            rest_ms: REST_MIN_MS,
        }
    }

    /// Looks at the guest's own figures.
    pub(super) fn look(&mut self, now_ms: u64, has: Has) {
        match self.step {
            Step::Watch { since_ms } => {
                if has.keep == 0 || has.surplus() < LEAST_PIECES || has.plugged == 0 {
                    self.step = Step::Watch { since_ms: None };
                    return;
                }
                let since_ms = since_ms.unwrap_or(now_ms);
                self.step = Step::Watch {
                    since_ms: Some(since_ms),
                };
                if now_ms.saturating_sub(since_ms) >= PATIENCE_MS {
                    self.begin(now_ms, has);
                }
            }
            Step::Unplug {
                to,
                until_ms,
                granted,
                surplus,
                keep,
            } => {
                // What is moved out of the way is touched elsewhere: only what it needs says that it needs more.
                let needs_more = has.keep >= keep + LEAST_PIECES;
                // A driver moves in steps of its own.
                let is_done = has.plugged < to + LEAST_PIECES;
                if !is_done && now_ms < until_ms && !needs_more {
                    return;
                }
                let came = granted.saturating_sub(has.granted);
                self.rest_ms = if came >= surplus / 2 {
                    REST_MIN_MS
                } else {
                    (self.rest_ms * 2).min(REST_MAX_MS)
                };
                self.step = Step::Rest {
                    until_ms: now_ms + self.rest_ms,
                };
            }
            Step::Rest { until_ms } => {
                if now_ms >= until_ms {
                    self.step = Step::Watch { since_ms: None };
                }
            }
        }
    }

    /// What has no frame may go first, so it is asked for as well.
    fn begin(&mut self, now_ms: u64, has: Has) {
        let surplus = has.surplus() / LEAST_PIECES * LEAST_PIECES;
        self.step = Step::Unplug {
            to: has.plugged.saturating_sub(surplus + has.promised),
            until_ms: now_ms + UNPLUG_MS,
            granted: has.granted,
            surplus,
            keep: has.keep,
        };
    }

    /// Somebody needs the guest's memory: its balloon sees to that.
    pub(super) const fn interrupt(&mut self, now_ms: u64) {
        if matches!(self.step, Step::Unplug { .. }) {
            self.step = Step::Rest {
                until_ms: now_ms + self.rest_ms,
            };
        }
    }

    /// Most pieces to ask for.
    pub(super) const fn most_plugged(&self) -> u32 {
        match self.step {
            Step::Unplug { to, .. } => to,
            Step::Watch { .. } | Step::Rest { .. } => u32::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest of 64 pieces and 192 plugged, of which it uses some, and whose driver gives `yields` of what is asked.
    struct Guest {
        trim: Trim,
        has: Has,
        now_ms: u64,
    }

    fn guest(free: u32, promised: u32, keep: u32) -> Guest {
        Guest {
            trim: Trim::new(),
            has: Has {
                free,
                granted: 256 - promised,
                promised,
                keep,
                plugged: 192,
            },
            now_ms: 0,
        }
    }

    impl Guest {
        fn pass(&mut self, ms: u64) {
            for _ in 0..ms / 1000 {
                self.now_ms += 1000;
                self.trim.look(self.now_ms, self.has);
            }
        }

        /// The driver unplugs; then all is plugged again, without frames.
        fn unplug(&mut self) -> u32 {
            let to = self.trim.most_plugged();
            assert_ne!(to, u32::MAX, "nothing is asked");
            let with_frames = 192 - to - self.has.promised;
            self.has.plugged = to;
            self.has.granted -= with_frames;
            self.pass(1000);
            self.has.promised += with_frames;
            self.has.plugged = 192;
            with_frames
        }
    }

    #[test]
    fn what_is_free_and_never_reported_comes_back_and_stays_promised() {
        // Free, promised, needed with its buffer, and what can come: 160 free of 256.
        for (free, promised, keep, comes) in [
            (160, 0, 100, 144),
            (160, 64, 100, 80),
            (160, 0, 200, 48),
            (100, 20, 100, 80),
        ] {
            let mut guest = guest(free, promised, keep);
            guest.pass(20_000);
            assert_eq!(
                guest.trim.most_plugged(),
                u32::MAX,
                "reporting has its time"
            );
            guest.pass(1000);
            assert_eq!(guest.unplug(), comes, "{free} {promised} {keep}");
            assert!(guest.has.granted >= keep);
            guest.pass(100_000);
            assert_eq!(guest.trim.most_plugged(), u32::MAX, "there is no more");
        }
    }

    #[test]
    fn a_driver_that_moves_32_mib_at_a_time_has_done_what_it_can() {
        for plugged in [48, 49, 63] {
            let mut guest = guest(160, 0, 100);
            guest.pass(21_000);
            assert_eq!(guest.trim.most_plugged(), 48);
            guest.has.plugged = 64;
            guest.pass(1000);
            assert_eq!(guest.trim.most_plugged(), 48, "a step is left");
            guest.has.plugged = plugged;
            guest.pass(1000);
            assert_eq!(guest.trim.most_plugged(), u32::MAX);
        }
    }

    #[test]
    fn a_guest_that_reports_or_needs_it_is_left_alone() {
        for (free, promised, keep) in [
            // All that is free is reported.
            (160, 150, 90),
            // It keeps all that it has.
            (100, 0, 250),
            // Nobody has said yet what it needs.
            (200, 0, 0),
        ] {
            let mut guest = guest(free, promised, keep);
            guest.pass(100_000);
            assert_eq!(guest.trim.most_plugged(), u32::MAX);
        }
        // Nothing is plugged.
        let mut guest = guest(160, 0, 90);
        guest.has.plugged = 0;
        guest.pass(100_000);
        assert_eq!(guest.trim.most_plugged(), u32::MAX);
    }

    #[test]
    fn a_driver_that_gives_little_is_asked_more_and_more_rarely() {
        let mut guest = guest(160, 0, 100);
        let mut asked = Vec::new();
        let mut before = u32::MAX;
        for _ in 0..2000 {
            guest.pass(1000);
            let now = guest.trim.most_plugged();
            if now != u32::MAX && before == u32::MAX {
                asked.push(guest.now_ms / 1000);
            }
            before = now;
        }
        assert!((4..8).contains(&asked.len()), "{asked:?}");
        let distances: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(distances.is_sorted(), "{distances:?}");
    }

    #[test]
    fn who_needs_memory_now_is_not_asked_for_it() {
        let balloon: fn(&mut Guest) = |guest| guest.trim.interrupt(guest.now_ms);
        let need: fn(&mut Guest) = |guest| {
            guest.has.keep += LEAST_PIECES;
            guest.pass(1000);
        };
        for interrupt in [balloon, need] {
            let mut guest = guest(160, 0, 100);
            guest.pass(22_000);
            assert_ne!(guest.trim.most_plugged(), u32::MAX);
            interrupt(&mut guest);
            assert_eq!(guest.trim.most_plugged(), u32::MAX);
            guest.pass(19_000);
            assert_eq!(guest.trim.most_plugged(), u32::MAX, "nor a moment later");
        }
    }
}
