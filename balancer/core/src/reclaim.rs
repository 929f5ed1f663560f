//! A guest that was asked to give back: its deadline, its reminder, and whether it gives at all.

use protocol::units::Pieces;

/// Time per piece asked that a reclaim may take, in microseconds: 1 s per GiB.
const US_PER_PIECE: u64 = 1_000_000 / 512;
/// A guest that gave nothing for so long is late: until it gives again, others are asked in its place.
const LATE_MS: u64 = 500;

/// What has to be done about a reclaim now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReclaimStep {
    /// Nothing.
    Wait,
    /// Ask again.
    Remind,
    /// It has passed its deadline.
    Passed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Reminded,
    Passed,
}

/// One reclaim, from the first time that its guest was asked until it has given all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reclaim {
    /// When the present term began.
    began_ms: u64,
    /// When it ends.
    deadline_ms: u64,
    /// What the guest held when the term began.
    held: Pieces,
    /// What it is to give in this term.
    asked: Pieces,
    stage: Stage,
    /// The least that it held so far, and since when.
    least: Pieces,
    progress_ms: u64,
}

impl Reclaim {
    /// A guest that holds `held` pieces is asked for `left` of them; it has `base_ms` and 1 s per GiB.
    pub(crate) fn new(now_ms: u64, base_ms: u64, held: Pieces, left: Pieces) -> Self {
        Self {
            began_ms: now_ms,
            deadline_ms: now_ms + base_ms + time_ms(left),
            held,
            asked: left,
            stage: Stage::Asked,
            least: held,
            progress_ms: now_ms,
        }
    }

    /// Looks at what the guest holds now, of which `left` pieces are still asked for.
    pub(crate) fn follow(
        &mut self,
        now_ms: u64,
        base_ms: u64,
        held: Pieces,
        left: Pieces,
    ) -> ReclaimStep {
        if held < self.least {
            self.least = held;
            self.progress_ms = now_ms;
        }
        let given = self.held.minus(held);
        let asked = given.plus(left);
        if asked > self.asked {
            // Asked for more meanwhile: more time.
            self.deadline_ms += time_ms(asked.minus(self.asked));
            self.asked = asked;
        }
        if now_ms < self.deadline_ms {
            let half_ms = self.began_ms + (self.deadline_ms - self.began_ms) / 2;
            match self.stage {
                Stage::Passed if given.0 * 2 >= self.asked.0 => {
                    // It answers after all: half of what was left is back.
                    self.restart(now_ms, base_ms, held, left, Stage::Asked);
                    ReclaimStep::Wait
                }
                Stage::Passed => ReclaimStep::Passed,
                Stage::Asked if now_ms >= half_ms => {
                    self.stage = Stage::Reminded;
                    ReclaimStep::Remind
                }
                Stage::Asked | Stage::Reminded => ReclaimStep::Wait,
            }
        } else if given.0.saturating_mul(4) >= self.asked.0 {
            // A good part of it is back: another term for the rest. A guest that drips does not come this far.
            self.restart(now_ms, base_ms, held, left, Stage::Asked);
            ReclaimStep::Wait
        } else {
            self.restart(now_ms, base_ms, held, left, Stage::Passed);
            ReclaimStep::Passed
        }
    }

    fn restart(&mut self, now_ms: u64, base_ms: u64, held: Pieces, left: Pieces, stage: Stage) {
        let progress_ms = self.progress_ms;
        *self = Self {
            stage,
            progress_ms,
            ..Self::new(now_ms, base_ms, held, left)
        };
    }

    /// Whether it passed its deadline.
    pub(crate) const fn has_passed(&self) -> bool {
        matches!(self.stage, Stage::Passed)
    }

    /// Whether the guest has given nothing for a while.
    pub(crate) const fn is_late(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.progress_ms) >= LATE_MS
    }
}

fn time_ms(pieces: Pieces) -> u64 {
    u64::from(pieces.0) * US_PER_PIECE / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminded_at_half_time_and_passed_at_the_deadline() {
        let held = Pieces(600);
        let mut reclaim = Reclaim::new(0, 2000, held, Pieces(512));
        let step = |reclaim: &mut Reclaim, ms| reclaim.follow(ms, 2000, held, Pieces(512));
        assert_eq!(step(&mut reclaim, 1400), ReclaimStep::Wait);
        assert!(reclaim.is_late(1400));
        assert_eq!(step(&mut reclaim, 1500), ReclaimStep::Remind);
        assert_eq!(step(&mut reclaim, 2990), ReclaimStep::Wait);
        assert_eq!(step(&mut reclaim, 3000), ReclaimStep::Passed);
        assert!(reclaim.has_passed());
        // It answers after all.
        assert_eq!(
            reclaim.follow(3500, 2000, Pieces(300), Pieces(212)),
            ReclaimStep::Wait
        );
        assert!(!reclaim.has_passed() && !reclaim.is_late(3600));
    }

    #[test]
    fn a_guest_that_gives_slowly_is_not_late_and_one_that_drips_passes_its_deadline() {
        let mut reclaim = Reclaim::new(0, 2000, Pieces(600), Pieces(400));
        let mut passed = false;
        for second in 1..=8u32 {
            let held = Pieces(600 - second * 2);
            let left = Pieces(400 - second * 2);
            let ms = u64::from(second) * 400;
            let step = reclaim.follow(ms, 2000, held, left);
            assert!(!reclaim.is_late(ms + 100));
            passed |= step == ReclaimStep::Passed;
        }
        assert!(passed);
    }
}
