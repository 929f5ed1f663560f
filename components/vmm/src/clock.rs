//! Time: one alarm at the timer for the guest's own timer and for everything else.

use cap::Endpoint;
use protocol::slots;
use protocol::timer::{Reply, Request};

/// The alarm.
#[derive(Debug)]
pub struct Clock {
    ticks_per_ms: u64,
    /// When the alarm that is set fires.
    armed_ticks: u64,
}

impl Clock {
    /// No alarm is set.
    pub fn new() -> Self {
        Self {
            ticks_per_ms: (rt::frequency_hz() / 1000).max(1),
            armed_ticks: u64::MAX,
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

    /// The alarm has fired.
    pub fn fired(&mut self) {
        self.armed_ticks = u64::MAX;
    }

    /// Makes sure that an alarm fires at this tick at the latest. One that fires earlier stays: it costs a wake-up, a
    /// new one costs a call.
    pub fn wake_by(&mut self, at_ticks: u64) {
        if self.armed_ticks <= at_ticks {
            return;
        }
        let timer = Endpoint::new(slots::TIMER);
        let answer: Result<Reply, _> =
            cap::call_value(timer, &Request::SetAlarm { at_ticks }, None);
        if answer == Ok(Reply::Done) {
            self.armed_ticks = at_ticks;
        }
    }
}
