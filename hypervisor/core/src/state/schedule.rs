//! What the scheduler knows: who is ready, what time it is, whose time it is.

use crate::object::{Link, SchedContext, Tcb};
use crate::state::ready::ReadyQueues;
use crate::state::release::ReleaseQueue;
use core::cell::Cell;
use core::num::NonZeroU64;

/// The scheduler's state.
pub struct Scheduler {
    /// Threads with budget that wait for their turn.
    pub ready: ReadyQueues,
    /// The thread that was made runnable, when it is the only change.
    pub(crate) candidate: Link<Tcb>,
    /// Look at the ready queues.
    pub(crate) reschedule: Cell<bool>,
    /// Threads without budget, and guests that wait for their timer.
    pub release: ReleaseQueue,
    /// The scheduling context that time is charged to.
    pub current_sc: Link<SchedContext>,
    pub(crate) since: Cell<u64>,
    pub(crate) now: Cell<u64>,
    pub(crate) now_known: Cell<bool>,
    pub(crate) deadline: Cell<u64>,
    pub(crate) deadline_stale: Cell<bool>,
    pub(crate) frequency_hz: Cell<NonZeroU64>,
    pub(crate) least_budget: Cell<u64>,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}

impl Scheduler {
    /// Nothing is ready, no time has passed.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ready: ReadyQueues::new(),
            candidate: Cell::new(None),
            reschedule: Cell::new(false),
            release: ReleaseQueue::new(),
            current_sc: Cell::new(None),
            since: Cell::new(0),
            now: Cell::new(0),
            now_known: Cell::new(false),
            deadline: Cell::new(u64::MAX),
            deadline_stale: Cell::new(false),
            frequency_hz: Cell::new(NonZeroU64::MIN),
            least_budget: Cell::new(0),
        }
    }

    /// The budget below which running a thread is not worth it, in ticks.
    #[inline]
    #[must_use]
    pub fn least_budget(&self) -> u64 {
        self.least_budget.get()
    }

    /// Ticks of `us` microseconds.
    #[must_use]
    pub fn ticks(&self, us: u64) -> u64 {
        let hz = self.frequency_hz.get().get();
        let seconds = us / 1_000_000;
        let rest = us % 1_000_000;
        seconds
            .wrapping_mul(hz)
            .wrapping_add(rest.wrapping_mul(hz) / 1_000_000)
    }

    /// Microseconds of `ticks`.
    #[must_use]
    pub fn microseconds(&self, ticks: u64) -> u64 {
        let hz = self.frequency_hz.get();
        let seconds = ticks / hz;
        let rest = ticks % hz;
        seconds
            .wrapping_mul(1_000_000)
            .wrapping_add(rest.wrapping_mul(1_000_000) / hz)
    }

    /// Longest period or budget in µs: so many ticks can be added to any moment of the next centuries.
    #[must_use]
    pub fn longest_us(&self) -> u64 {
        self.microseconds(u64::MAX >> 3)
    }
}
