//! Which of a Linux guest's memory has frames.
//!
//! What is plugged has no frame before its first touch, and Linux uses plugged memory before its startup memory, which it
//! keeps for the kernel where it can. So a guest whose use rises has frames for what it uses and for startup memory that is
//! free. Linux reports each free block once: what its VMM wanted kept then is not reported again until somebody has used it.
//! Where so much stays that it is worth the work, the VMM unplugs it and plugs it again, without frames.

use protocol::memory::Account;

/// Linux looks for free pages to report every so often.
const REPORTING_MS: u64 = 2000;
/// What is free beyond what the policy wants kept, in pieces, is unplugged when it was not reported for so long. These two are
/// the VMM's.
const TRIM_PIECES: u32 = 16;
const TRIM_MS: u64 = 20_000;

/// What is known of a guest's free memory beside its account; all amounts in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    startup: u32,
    /// Whether nothing is known of it yet.
    is_new: bool,
    /// Whether Linux has looked for free pages to report.
    has_looked: bool,
    /// Free startup memory with frames that Linux has reported already, and uses last.
    settled: u32,
    /// What is promised and was never touched: growth when it comes.
    fresh: u32,
    /// The least that was free since Linux last looked for free pages to report.
    idle: u32,
    /// Since when so much is free that trimming is worth the work.
    surplus_since_ms: Option<u64>,
}

/// What a touch brought, in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// What the guest had before and had reported free.
    pub again: u32,
    /// What it never had.
    pub grown: u32,
}

impl Frames {
    /// A guest that has its startup memory.
    #[must_use]
    pub const fn new(startup: u32) -> Self {
        Self {
            startup,
            has_looked: false,
            settled: 0,
            is_new: true,
            fresh: 0,
            idle: u32::MAX,
            surplus_since_ms: None,
        }
    }

    /// So many pieces were promised as growth.
    pub const fn promised(&mut self, pieces: u32) {
        self.fresh += pieces;
    }

    /// It gave so many pieces for good: what it never touched first.
    pub const fn gave(&mut self, pieces: u32) {
        self.fresh = self.fresh.saturating_sub(pieces);
    }

    /// How many pieces without a frame are touched now by a guest that uses `used` and is to have `keep` ready.
    #[must_use]
    pub fn missing(&self, account: &Account, used: u32, keep: u32) -> u32 {
        let ready = (used + self.settled).max(keep.min(account.target.0));
        ready
            .saturating_sub(account.assigned.0)
            .min(account.earmarked.0)
    }

    /// Of pieces that were touched, `came` have their frames. `account` is as it was before.
    pub const fn came(&mut self, account: &Account, came: u32) -> Came {
        // What it had before is nearer at hand than what it never touched.
        let again = account.earmarked.0.saturating_sub(self.fresh);
        let grown = came.saturating_sub(again);
        self.fresh = self.fresh.saturating_sub(grown);
        Came {
            again: came - grown,
            grown,
        }
    }

    /// How many pieces with frames go back now, and stay promised. `spread_ms` sets this guest's moments apart from others'.
    pub fn goes_back(
        &mut self,
        now_ms: u64,
        spread_ms: u64,
        account: &Account,
        used: u32,
        keep: u32,
    ) -> u32 {
        let free = account.assigned.0.saturating_sub(used);
        let beyond = account.assigned.0.saturating_sub(keep);
        self.settled = if self.is_new {
            free
        } else {
            self.settled.min(free)
        };
        self.is_new = false;
        self.idle = self.idle.min(free - self.settled);
        let mut back = 0;
        if (now_ms + spread_ms).is_multiple_of(REPORTING_MS) {
            let unreported = if self.has_looked { self.idle } else { free };
            back = unreported.min(beyond);
            self.idle = u32::MAX;
            if !self.has_looked || account.assigned.0 + account.earmarked.0 <= self.startup {
                // All that has frames is startup memory.
                self.settled = free - back;
            }
            self.has_looked = true;
        }
        let surplus = free.min(beyond) - back.min(free);
        if surplus < TRIM_PIECES || account.assigned.0 + account.earmarked.0 <= self.startup {
            self.surplus_since_ms = None;
        } else if now_ms >= *self.surplus_since_ms.get_or_insert(now_ms) + TRIM_MS {
            self.surplus_since_ms = None;
            self.idle = u32::MAX;
            back += surplus / TRIM_PIECES * TRIM_PIECES;
        }
        self.settled = self.settled.min(free - back);
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::units::Pieces;

    /// A guest of 128 pieces that is promised 256 more, at each tick of 10 ms.
    struct Guest {
        frames: Frames,
        account: Account,
        now_ms: u64,
    }

    impl Guest {
        fn new() -> Self {
            let mut frames = Frames::new(128);
            frames.promised(256);
            Self {
                frames,
                account: Account {
                    assigned: Pieces(128),
                    earmarked: Pieces(256),
                    target: Pieces(384),
                    ..Account::default()
                },
                now_ms: 0,
            }
        }

        fn live(&mut self, used: u32, keep: u32, ms: u64) -> Came {
            let mut all = Came::default();
            for _ in 0..ms / 10 {
                self.now_ms += 10;
                let missing = self.frames.missing(&self.account, used, keep);
                let came = self.frames.came(&self.account, missing);
                self.account.assigned.0 += missing;
                self.account.earmarked.0 -= missing;
                all.again += came.again;
                all.grown += came.grown;
                let back = self
                    .frames
                    .goes_back(self.now_ms, 0, &self.account, used, keep);
                self.account.assigned.0 -= back;
                self.account.earmarked.0 += back;
            }
            all
        }
    }

    #[test]
    fn startup_memory_that_is_not_to_be_kept_goes_back_when_linux_looks_first() {
        let mut guest = Guest::new();
        guest.live(40, 50, 2000);
        assert_eq!(guest.account.assigned, Pieces(50));
        let came = guest.live(60, 70, 4000);
        assert_eq!((came.again, came.grown), (20, 0));
    }

    #[test]
    fn plugged_memory_is_used_before_startup_memory_and_trimmed_after_20_s() {
        let mut guest = Guest::new();
        guest.live(40, 128, 2000);
        let came = guest.live(100, 128, 10_000);
        assert_eq!((came.again, came.grown), (0, 60));
        assert_eq!(guest.account.assigned, Pieces(188));
        guest.live(100, 128, 25_000);
        // 60 pieces beyond what is kept; 16 at a time.
        assert_eq!(guest.account.assigned, Pieces(188 - 48));
        assert_eq!(guest.account.earmarked, Pieces(256 - 60 + 48));
    }

    #[test]
    fn what_is_used_no_longer_goes_back_within_4_s_and_is_no_growth_when_it_comes_again() {
        let mut guest = Guest::new();
        guest.live(128, 128, 2000);
        guest.live(300, 320, 1000);
        assert_eq!(guest.account.assigned, Pieces(320));
        guest.live(150, 180, 4500);
        assert_eq!(guest.account.assigned, Pieces(180));
        let came = guest.live(310, 320, 10);
        assert_eq!((came.again, came.grown), (140, 0));
    }

    #[test]
    fn startup_memory_is_used_when_there_is_no_other() {
        let mut guest = Guest::new();
        guest.live(40, 50, 1000);
        guest.live(384, 384, 1000);
        assert_eq!(guest.account.assigned, Pieces(384));
        assert_eq!(guest.account.earmarked, Pieces(0));
    }
}
