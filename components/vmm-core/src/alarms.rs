//! Which alarms the VMM has at the timer.
//!
//! An alarm that comes too early costs a wake-up, a new one costs a call: so one that is set for earlier stays.

use protocol::timer::Alarm;

/// No alarm is set.
const NEVER: u64 = u64::MAX;

/// The alarms that are set.
#[derive(Clone, Copy, Debug)]
pub struct Alarms {
    work_ticks: u64,
    guest_ticks: u64,
}

impl Default for Alarms {
    fn default() -> Self {
        Self::new()
    }
}

impl Alarms {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            work_ticks: NEVER,
            guest_ticks: NEVER,
        }
    }

    /// Whether an alarm has to be set so that one comes at this count at the latest.
    #[must_use]
    pub const fn is_needed(&self, alarm: Alarm, at_ticks: u64) -> bool {
        let set_ticks = match alarm {
            Alarm::Work => self.work_ticks,
            Alarm::Guest => self.guest_ticks,
        };
        at_ticks < set_ticks
    }

    /// It is set.
    pub const fn set(&mut self, alarm: Alarm, at_ticks: u64) {
        match alarm {
            Alarm::Work => self.work_ticks = at_ticks,
            Alarm::Guest => self.guest_ticks = at_ticks,
        }
    }

    /// The timer has signalled. It does so never before an alarm's time, and forgets the alarm: those whose time has come by
    /// `now_ticks` may be gone, the others are not.
    pub const fn fired(&mut self, now_ticks: u64) {
        if self.work_ticks <= now_ticks {
            self.work_ticks = NEVER;
        }
        if self.guest_ticks <= now_ticks {
            self.guest_ticks = NEVER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_earlier_one_stays_and_a_later_one_is_not_asked_for() {
        let mut alarms = Alarms::new();
        assert!(alarms.is_needed(Alarm::Work, 1000));
        alarms.set(Alarm::Work, 1000);
        assert!(!alarms.is_needed(Alarm::Work, 1000));
        assert!(!alarms.is_needed(Alarm::Work, 2000));
        assert!(alarms.is_needed(Alarm::Work, 999));
        assert!(alarms.is_needed(Alarm::Guest, 1000), "each for itself");
        alarms.set(Alarm::Guest, 10);
        alarms.fired(10);
        assert!(alarms.is_needed(Alarm::Guest, 1000));
        assert!(!alarms.is_needed(Alarm::Work, 1000));
        assert!(!alarms.is_needed(Alarm::Work, NEVER), "never is no alarm");
    }

    /// The timer: one alarm of each kind, and one signal that may still be on its way.
    #[derive(Default)]
    struct Timer {
        at: [Option<u64>; 2],
        signal: bool,
    }

    impl Timer {
        fn pass(&mut self, now: u64) {
            for alarm in &mut self.at {
                if alarm.is_some_and(|at| at <= now) {
                    *alarm = None;
                    self.signal = true;
                }
            }
        }
    }

    proptest! {
        /// However signals and new alarms cross: when the VMM waits, an alarm or a signal is on its way for all that it waits
        /// for.
        #[test]
        fn nothing_is_waited_for_in_vain(
            steps in proptest::collection::vec((0u64..50, 0usize..2, 0u64..80, any::<bool>()), 1..60),
        ) {
            let (mut alarms, mut timer, mut now) = (Alarms::new(), Timer::default(), 0);
            for (pause, which, delta, takes_signal) in steps {
                now += pause;
                timer.pass(now);
                if takes_signal && core::mem::take(&mut timer.signal) {
                    alarms.fired(now);
                }
                let alarm = [Alarm::Work, Alarm::Guest][which];
                let wanted = now + delta;
                if alarms.is_needed(alarm, wanted) {
                    timer.at[which] = Some(wanted);
                    alarms.set(alarm, wanted);
                }
                let comes = timer.signal || timer.at[which].is_some_and(|at| at <= wanted);
                prop_assert!(comes, "at {now} for {wanted}: {:?}", timer.at);
            }
        }
    }
}
