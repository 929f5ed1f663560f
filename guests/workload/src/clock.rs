//! Time, and the longest gap in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the heartbeat beats.
const BEAT: Duration = Duration::from_millis(10);

/// Time as the workload sees it, so that ramps can be tested without waiting.
pub trait Clock {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn sleep(&mut self, time: Duration);
}

/// The system's monotonic clock.
#[derive(Debug)]
pub struct System(Instant);

impl Default for System {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for System {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// The longest time that something which should have gone on did not, since it was last asked for.
#[derive(Clone, Debug, Default)]
pub struct LongestGap(Arc<AtomicU64>);

impl LongestGap {
    /// Notes a gap.
    pub fn note(&self, gap: Duration) {
        let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_max(micros, Ordering::Relaxed);
    }

    /// The longest gap since the last call.
    #[must_use]
    pub fn take(&self) -> Duration {
        Duration::from_micros(self.0.swap(0, Ordering::Relaxed))
    }
}

/// Starts a thread that wakes every 10 ms and notes how much later than planned it woke: while it does not run, nothing in
/// this guest does (a guest has one CPU, and the thread asks for less than any other).
///
/// # Errors
/// When the thread cannot be started.
pub fn start_heartbeat(longest: LongestGap) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("heartbeat".into())
        .stack_size(64 * 1024)
        .spawn(move || {
            let mut last = Instant::now();
            loop {
                std::thread::sleep(BEAT);
                let now = Instant::now();
                longest.note(now.duration_since(last).saturating_sub(BEAT));
                last = now;
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_kept_until_it_is_taken() {
        let longest = LongestGap::default();
        longest.note(Duration::from_millis(5));
        longest.note(Duration::from_millis(70));
        longest.note(Duration::from_millis(6));
        assert_eq!(longest.take(), Duration::from_millis(70));
        assert_eq!(longest.take(), Duration::ZERO);
    }
}
