//! A limit on how many records a thread may log.

/// Records in a burst.
const BURST: u32 = 64;
/// Records per second after it.
const PER_SECOND: u64 = 64;

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    tokens: u32,
    refilled_us: u64,
}

impl Limit {
    /// A full bucket at time 0.
    pub const fn new() -> Self {
        Self {
            tokens: BURST,
            refilled_us: 0,
        }
    }

    /// Takes a token at `now_us`; `false` when there is none: drop the record.
    pub fn take(&mut self, now_us: u64) -> bool {
        let passed_us = now_us.saturating_sub(self.refilled_us);
        let earned = passed_us.saturating_mul(PER_SECOND) / 1_000_000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(BURST);
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.refilled_us = now_us;
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let mut limit = Limit::new();
        let burst = (0..1000).filter(|_| limit.take(1)).count();
        assert_eq!(burst, BURST as usize);
        // One second in steps of 1 ms: no more than the rate, and no less than nearly all of it.
        let later = (1..=1000).filter(|ms| limit.take(1 + ms * 1000)).count() as u64;
        assert!((PER_SECOND - 2..=PER_SECOND).contains(&later), "{later}");
        // A long silence earns one burst, not more.
        let after = (0..1000).filter(|_| limit.take(3_600_000_000)).count();
        assert_eq!(after, BURST as usize);
    }
}
