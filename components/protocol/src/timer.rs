//! The timer's protocol: one alarm per client, which signals the client's notification.

use serde::{Deserialize, Serialize};

/// What is asked of the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Signal me once CNTVCT reaches this count. Replaces an earlier alarm.
    SetAlarm {
        /// Absolute count of CNTVCT_EL0.
        at_ticks: u64,
    },
    /// Forget my alarm.
    ClearAlarm,
}

/// The timer's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// The badge has no alarm, or the words were no request.
    Refused,
}
