//! Time, and the alarms at the timer: one for the VMM's own work; one for the guest's timer, where the kernel does not see to that.

use cap::Endpoint;
use protocol::slots;
use protocol::timer::{Alarm, Reply, Request};
use vmm_core::alarms::Alarms;

/// The clock.
#[derive(Debug)]
pub struct Clock {
    ticks_per_ms: u64,
    alarms: Alarms,
}

impl Clock {
    /// No alarm is set.
    pub fn new() -> Self {
        Self {
            ticks_per_ms: (rt::frequency_hz() / 1000).max(1),
            alarms: Alarms::new(),
        }
    }

    /// Milliseconds since power-on.
    pub fn now_ms(&self) -> u64 {
        rt::ticks() / self.ticks_per_ms
    }

    /// The tick at which a millisecond begins.
    pub const fn ticks_of_ms(&self, ms: u64) -> u64 {
        ms.saturating_mul(self.ticks_per_ms)
    }

    /// The timer has signalled.
    pub fn fired(&mut self) {
        self.alarms.fired(rt::ticks());
    }

    /// Makes sure that an alarm comes at this tick at the latest.
    pub fn wake_by(&mut self, alarm: Alarm, at_ticks: u64) {
        if !self.alarms.is_needed(alarm, at_ticks) {
            return;
        }
        let timer = Endpoint::new(slots::TIMER);
        let request = Request::SetAlarm { alarm, at_ticks };
        let answer: Result<Reply, _> = cap::call_value(timer, &request, None);
        if answer == Ok(Reply::Done) {
            self.alarms.set(alarm, at_ticks);
        }
    }
}
