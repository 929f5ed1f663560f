//! What it takes until a guest has memory: the machine's instructions between a request and a guest's own report.

use crate::units::GuestId;
use serde::{Deserialize, Serialize};

/// Instructions executed at each exception level since the counters were started; each wraps at 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    /// Components, and the programs inside guests.
    pub el0: u32,
    /// The guests' kernels.
    pub el1: u32,
    /// Our kernel.
    pub el2: u32,
}

impl Instructions {
    /// What was executed from `earlier` to here.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            el0: self.el0.wrapping_sub(earlier.el0),
            el1: self.el1.wrapping_sub(earlier.el1),
            el2: self.el2.wrapping_sub(earlier.el2),
        }
    }
}

/// Whether the performance counters may be used. A kernel that does not export them to EL0 (seL4 without
/// `KernelArmExportPMUUser`) answers their use with a fault, so the one who asks has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counters {
    /// They may not; all counts are zero.
    #[default]
    Absent,
    /// The kernel exports them.
    Exported,
}

/// What to wait for: that a guest's operating system says that it has at least so much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Whose.
    pub guest: GuestId,
    /// In KiB, by the guest's own count of its total.
    pub total_kib: u64,
    /// Whether to count.
    pub counters: Counters,
}

/// A moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Microseconds since power-on.
    pub us: u64,
    /// Instructions so far.
    pub instructions: Instructions,
}

/// What has come of a [`Watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// What was asked.
    pub watch: Watch,
    /// When it was asked.
    pub from: Moment,
    /// When the guest first reported it; none so far.
    pub until: Option<Moment>,
    /// When this was answered.
    pub now: Moment,
}
