//! The timer's protocol: alarms, which signal the client's notification.

use serde::{Deserialize, Serialize};

/// Which of a client's alarms. Both signal the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Alarm {
    /// For its own work.
    Work,
    /// For its guest's timer; VMMs only. Apart, because it is set much more often.
    Guest,
}

/// What is asked of the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Signal me once CNTVCT reaches this count. Replaces an earlier alarm of the same kind.
    SetAlarm {
        /// Which.
        alarm: Alarm,
        /// Absolute count of CNTVCT_EL0.
        at_ticks: u64,
    },
}

/// The timer's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// The badge has no alarm, or the words were no request.
    Refused,
}
