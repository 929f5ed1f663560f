//! What to program for the earliest alarm.

/// Shortest period. The kernels' least budget is some tens of microseconds.
const LEAST_PERIOD_US: u64 = 200;
/// Longest period: later alarms are reached in several steps. Far below the bound that kernels put on periods.
const MOST_PERIOD_US: u64 = 10_000_000;

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
    let left_us = rt::time::us_from_ticks(earliest_ticks.saturating_sub(now_ticks), hz);
    // One more: the conversion rounds down, and an alarm may be late but not early.
    let period_us = left_us
        .saturating_add(1)
        .clamp(LEAST_PERIOD_US, MOST_PERIOD_US);
    let period_ticks = rt::time::ticks_from_us(MOST_PERIOD_US, hz);
    Plan {
        budget_us: period_us / 4 * 3,
        period_us,
        wake_ticks: earliest_ticks.min(now_ticks.saturating_add(period_ticks)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HZ: u64 = 62_500_000;

    #[test]
    fn near_and_far_alarms_are_bounded() {
        assert_eq!(plan(0, 1000, HZ).period_us, LEAST_PERIOD_US);
        assert_eq!(plan(1010, 1000, HZ).period_us, LEAST_PERIOD_US);
        let far = plan(u64::MAX, 0, HZ);
        assert_eq!(far.period_us, MOST_PERIOD_US);
        assert_eq!(far.wake_ticks, 10 * HZ);
    }

    proptest! {
        #[test]
        fn the_thread_wakes_at_the_alarm_or_soon_after(
            delta in 0u64..20 * HZ, now in 0u64..1 << 60, hz in 1_000_000u64..2_000_000_000,
        ) {
            let plan = plan(now + delta, now, hz);
            let woken = now + rt::time::ticks_from_us(plan.period_us, hz);
            prop_assert!(plan.budget_us >= 100 && plan.budget_us < plan.period_us, "it would never wait");
            prop_assert!(plan.budget_us * 2 > plan.period_us, "an overrun would cost more than twice itself");
            prop_assert!(woken >= plan.wake_ticks, "woken before there is anything to signal");
            let late = rt::time::us_from_ticks(woken - plan.wake_ticks, hz);
            prop_assert!(late <= LEAST_PERIOD_US + 1, "late by {late} us");
        }
    }
}
