//! What to program for the earliest alarm, and when that need not be done.
//!
//! Giving the alarm thread a new period takes three invocations, so it is done only when the earliest alarm became earlier. An
//! alarm that became later is not worth it: the thread signals too early, and then is given the rest. And since it wakes once
//! a period anyway, a later alarm may first wait for that: most clients set the next one soon after the last.

use rt::time::{ticks_from_us, us_from_ticks};

/// No alarm is set.
pub const NEVER: u64 = u64::MAX;

/// Shortest period. The kernels' least budget is some tens of microseconds.
const LEAST_PERIOD_US: u64 = 200;
/// Longest period: later alarms are reached in several steps. Far below the bound that kernels put on periods.
const MOST_PERIOD_US: u64 = 10_000_000;
/// So much earlier than a period after it last ran counts as the alarm thread's next wake-up: what it reads is a moment after
/// its period began.
const SLACK_US: u64 = LEAST_PERIOD_US / 2;

/// The alarm thread's next wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Budget of it, in microseconds: three quarters of the period. The thread runs some hundred instructions and yields
    /// the rest. A small budget would be a trap: a kernel charges what a thread overran, one period for each budget's
    /// worth, and on an emulator whose host is busy a thread seems to run for milliseconds at any time. With this
    /// budget that costs the alarm about as long as the overrun was, and not a hundred periods.
    pub budget_us: u64,
    /// Period of its scheduling context, in microseconds.
    pub period_us: u64,
    /// It signals the main thread once the counter has reached this.
    pub wake_ticks: u64,
}

/// The plan for the earliest alarm at `earliest_ticks`, at time `now_ticks`, with a counter of `hz`. An alarm nearer than
/// the shortest period is late by at most that period.
#[must_use]
pub fn plan(earliest_ticks: u64, now_ticks: u64, hz: u64) -> Plan {
    let left_us = us_from_ticks(earliest_ticks.saturating_sub(now_ticks), hz);
    // One more: the conversion rounds down, and an alarm may be late but not early.
    let period_us = left_us
        .saturating_add(1)
        .clamp(LEAST_PERIOD_US, MOST_PERIOD_US);
    let period_ticks = ticks_from_us(MOST_PERIOD_US, hz);
    Plan {
        budget_us: period_us / 4 * 3,
        period_us,
        wake_ticks: earliest_ticks.min(now_ticks.saturating_add(period_ticks)),
    }
}

/// What to do about the alarm thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it signals early enough.
    Keep,
    /// It signals when it wakes by itself, from this count on. To be done only if it has not woken meanwhile.
    Signal {
        /// The count.
        wake_ticks: u64,
    },
    /// It is given a new period.
    Program(Plan),
}

/// What the alarm thread was last told.
#[derive(Debug)]
pub struct Schedule {
    hz: u64,
    /// The earliest alarm as it was then; [`NEVER`] once it has signalled.
    planned_ticks: u64,
    period_ticks: u64,
    /// Whether it was told [`Step::Signal`] last: a second time would make it wake in a period that is not the alarms'.
    last: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Programmed,
    LeftAlone,
}

impl Schedule {
    /// Nothing was told.
    #[must_use]
    pub const fn new(hz: u64) -> Self {
        Self {
            hz,
            planned_ticks: NEVER,
            period_ticks: 0,
            last: Last::LeftAlone,
        }
    }

    /// It has signalled, and is told nothing at present.
    pub fn signalled(&mut self) {
        self.planned_ticks = NEVER;
    }

    /// What to do for the earliest alarm. `ran_ticks` is when the alarm thread last ran.
    #[must_use]
    pub fn step(&self, earliest_ticks: u64, now_ticks: u64, ran_ticks: u64) -> Step {
        if self.planned_ticks <= earliest_ticks {
            return Step::Keep;
        }
        let next_ticks = ran_ticks.saturating_add(self.period_ticks);
        let wake_ticks = next_ticks.saturating_sub(ticks_from_us(SLACK_US, self.hz));
        let alone = self.planned_ticks == NEVER && self.last == Last::Programmed;
        if alone && now_ticks < wake_ticks && next_ticks <= earliest_ticks {
            return Step::Signal { wake_ticks };
        }
        Step::Program(plan(earliest_ticks, now_ticks, self.hz))
    }

    /// That was done.
    pub fn done(&mut self, earliest_ticks: u64, step: Step) {
        match step {
            Step::Keep => return,
            Step::Signal { .. } => self.last = Last::LeftAlone,
            Step::Program(plan) => {
                self.last = Last::Programmed;
                self.period_ticks = ticks_from_us(plan.period_us, self.hz);
            }
        }
        self.planned_ticks = earliest_ticks;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HZ: u64 = 62_500_000;
    const MS: u64 = HZ / 1000;

    #[test]
    fn near_and_far_alarms_are_bounded() {
        assert_eq!(plan(0, 1000, HZ).period_us, LEAST_PERIOD_US);
        assert_eq!(plan(1010, 1000, HZ).period_us, LEAST_PERIOD_US);
        let far = plan(u64::MAX, 0, HZ);
        assert_eq!(far.period_us, MOST_PERIOD_US);
        assert_eq!(far.wake_ticks, 10 * HZ);
    }

    /// The alarm thread: woken a period after it was programmed, and then once a period.
    struct Fake {
        schedule: Schedule,
        wake_ticks: u64,
        period_ticks: u64,
        ran_ticks: u64,
        programmed: u32,
    }

    impl Fake {
        fn new() -> Self {
            Self {
                schedule: Schedule::new(HZ),
                wake_ticks: NEVER,
                period_ticks: HZ,
                ran_ticks: 0,
                programmed: 0,
            }
        }

        /// The main thread has looked at its alarms.
        fn arm(&mut self, earliest: u64, now: u64) {
            let step = self.schedule.step(earliest, now, self.ran_ticks);
            match step {
                Step::Keep => {}
                Step::Signal { wake_ticks } => self.wake_ticks = wake_ticks,
                Step::Program(plan) => {
                    self.programmed += 1;
                    self.period_ticks = ticks_from_us(plan.period_us, HZ);
                    self.wake_ticks = plan.wake_ticks;
                    self.ran_ticks = now;
                }
            }
            self.schedule.done(earliest, step);
        }

        /// It wakes by itself; whether it signals.
        fn wake(&mut self) -> (u64, bool) {
            let now = self.ran_ticks + self.period_ticks;
            self.ran_ticks = now;
            let signals = now >= self.wake_ticks;
            if signals {
                self.wake_ticks = NEVER;
                self.schedule.signalled();
            }
            (now, signals)
        }
    }

    #[test]
    fn a_later_alarm_costs_nothing_and_an_earlier_one_a_new_period() {
        let mut fake = Fake::new();
        fake.arm(10 * MS, 0);
        fake.arm(20 * MS, MS);
        assert_eq!(fake.programmed, 1);
        fake.arm(5 * MS, 2 * MS);
        assert_eq!(fake.programmed, 2);
        // Too early for the alarm that has become later: it is given the rest.
        fake.arm(20 * MS, 3 * MS);
        let (now, signals) = fake.wake();
        assert!(signals && now < 6 * MS);
        fake.arm(20 * MS, now);
        while fake.wake_ticks != NEVER {
            let (now, signals) = fake.wake();
            assert!(!signals || now <= 21 * MS);
            fake.arm(20 * MS, now);
            if now >= 20 * MS {
                return;
            }
        }
        panic!("the alarm was forgotten");
    }

    #[test]
    fn a_beat_costs_one_new_period() {
        // Every 10 ms an alarm; beside it one that comes once in a second.
        let mut fake = Fake::new();
        let mut now = 0;
        for beat in 1..50 {
            fake.arm(now + 10 * MS, now + MS / 10);
            let (at, signals) = fake.wake();
            assert!(signals, "in time");
            now = at;
            fake.arm(HZ * 10, now);
            assert_eq!(fake.programmed, beat);
        }
    }

    proptest! {
        #[test]
        fn the_thread_wakes_at_the_alarm_or_soon_after(
            delta in 0u64..20 * HZ, now in 0u64..1 << 60, hz in 1_000_000u64..2_000_000_000,
        ) {
            let plan = plan(now + delta, now, hz);
            let woken = now + ticks_from_us(plan.period_us, hz);
            prop_assert!(plan.budget_us >= 100 && plan.budget_us < plan.period_us, "it would never wait");
            prop_assert!(plan.budget_us * 2 > plan.period_us, "an overrun would cost more than twice itself");
            prop_assert!(woken >= plan.wake_ticks, "woken before there is anything to signal");
            let late = us_from_ticks(woken - plan.wake_ticks, hz);
            prop_assert!(late <= LEAST_PERIOD_US + 1, "late by {late} us");
        }

        /// Alarms come and go at any time; none is missed, and none is later than the shortest period.
        #[test]
        fn no_alarm_is_late(
            changes in proptest::collection::vec((0u64..30 * MS, proptest::option::of(0u64..40 * MS)), 1..40),
        ) {
            let mut fake = Fake::new();
            let (mut now, mut alarm) = (0, None::<u64>);
            for (pause, wanted) in changes {
                let until = now + pause;
                while fake.ran_ticks + fake.period_ticks <= until {
                    let (at, signals) = fake.wake();
                    if let Some(due) = alarm {
                        prop_assert!(signals || at < due + MS / 4, "missed at {due}, it is {at}");
                        if signals && at >= due {
                            let late = us_from_ticks(at - due, HZ);
                            prop_assert!(late <= LEAST_PERIOD_US + SLACK_US + 2, "late by {late} us");
                            alarm = None;
                        }
                    }
                    if signals && let Some(due) = alarm {
                        fake.arm(due, at);
                    }
                }
                now = until;
                alarm = wanted.map(|delta| now + delta);
                if let Some(due) = alarm {
                    fake.arm(due, now);
                }
            }
            // Left alone, the last one still comes.
            let mut wakes = 0;
            while let Some(due) = alarm {
                let (at, signals) = fake.wake();
                wakes += 1;
                prop_assert!(wakes < 300, "the alarm at {due} is forgotten");
                if signals && at >= due {
                    alarm = None;
                } else if signals {
                    fake.arm(due, at);
                }
            }
        }
    }
}
