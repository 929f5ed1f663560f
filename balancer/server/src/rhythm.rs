//! When to decide: often while memory moves or a guest is short of it, seldom while nobody wants anything.
//!
//! A report and a change of settings are decided on within [`BUSY_MS`] of the decision before.
//! What no message tells of (a deadline that passes, a guest that falls silent) is found by the decision that comes by the
//! clock: [`BUSY_MS`] after the last one until [`STILL_BUSY_MS`] after the last event, and [`CALM_MS`] after it otherwise.

/// Between two decisions while something happens, in milliseconds.
const BUSY_MS: u64 = 50;
/// Something happens for so long after an event, in milliseconds: longer than a reclaim's usual deadline.
const STILL_BUSY_MS: u64 = 3000;
/// Between two decisions while nothing happens, in milliseconds.
const CALM_MS: u64 = 1000;
/// A guest that may take so long until its next report needs nothing, in milliseconds.
const CALM_REPORT_MS: u32 = 1000;

/// What a message says about how much goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A question: nothing depends on it.
    Nothing,
    /// News that nobody waits for.
    News,
    /// Somebody needs memory, gives some, or has other settings than before.
    Event,
}

impl Sign {
    /// Of a guest that was told to report again within `in_ms`.
    #[must_use]
    pub const fn of_report(in_ms: u32) -> Self {
        if in_ms < CALM_REPORT_MS {
            Self::Event
        } else {
            Self::News
        }
    }
}

/// The rhythm of decisions.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    decided_ms: u64,
    busy_until_ms: u64,
    due_ms: u64,
}

impl Rhythm {
    /// The first decision is due [`CALM_MS`] after power-on.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            decided_ms: 0,
            busy_until_ms: 0,
            due_ms: CALM_MS,
        }
    }

    /// A message was carried out.
    pub fn note(&mut self, sign: Sign, now_ms: u64) {
        match sign {
            Sign::Nothing => return,
            Sign::News => {}
            Sign::Event => self.busy_until_ms = now_ms + STILL_BUSY_MS,
        }
        self.due_ms = self.due_ms.min(self.decided_ms + BUSY_MS);
    }

    /// Whether it is time to decide.
    #[must_use]
    pub const fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.due_ms
    }

    /// It was decided.
    pub const fn decided(&mut self, now_ms: u64) {
        let distance_ms = if now_ms < self.busy_until_ms {
            BUSY_MS
        } else {
            CALM_MS
        };
        self.decided_ms = now_ms;
        self.due_ms = now_ms + distance_ms;
    }

    /// When the next decision is due, in milliseconds since power-on.
    #[must_use]
    pub const fn due_ms(&self) -> u64 {
        self.due_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decisions in `span_ms` with a message of this kind every `every_ms`, and the greatest distance of two.
    fn decisions(sign: Sign, every_ms: u64, span_ms: u64) -> (u32, u64) {
        let mut rhythm = Rhythm::new();
        rhythm.decided(0);
        let (mut count, mut last_ms, mut most_ms) = (0, 0, 0);
        for now_ms in 1..=span_ms {
            if now_ms.is_multiple_of(every_ms) {
                rhythm.note(sign, now_ms);
            }
            if rhythm.is_due(now_ms) {
                rhythm.decided(now_ms);
                count += 1;
                most_ms = most_ms.max(now_ms - last_ms);
                last_ms = now_ms;
            }
        }
        (count, most_ms)
    }

    #[test]
    fn calm_reports_are_decided_on_at_once_and_nothing_else_is() {
        // With each report, and not in between.
        assert_eq!(decisions(Sign::News, 700, 7000), (10, 700));
        // Questions change nothing.
        assert_eq!(decisions(Sign::Nothing, 1, 7000), (7, 1000));
    }

    #[test]
    fn an_event_is_decided_on_within_the_busy_distance_and_keeps_it_up() {
        let mut rhythm = Rhythm::new();
        rhythm.decided(10_000);
        rhythm.note(Sign::Event, 10_010);
        assert_eq!(rhythm.due_ms(), 10_050);
        rhythm.decided(10_050);
        assert_eq!(rhythm.due_ms(), 10_100);
        rhythm.note(Sign::Event, 10_400);
        assert!(rhythm.is_due(10_400), "the last decision was long ago");
        rhythm.decided(13_399);
        assert_eq!(rhythm.due_ms(), 13_449);
        rhythm.decided(13_400);
        assert_eq!(rhythm.due_ms(), 14_400);
    }

    #[test]
    fn a_flood_of_events_is_decided_on_twenty_times_a_second() {
        assert_eq!(decisions(Sign::Event, 1, 10_000), (200, 50));
    }

    #[test]
    fn a_guest_that_may_take_its_time_is_no_event() {
        assert_eq!(Sign::of_report(1000), Sign::News);
        assert_eq!(Sign::of_report(60_000), Sign::News);
        assert_eq!(Sign::of_report(999), Sign::Event);
    }
}
