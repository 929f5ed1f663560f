//! The set: the memory that the workload holds, block by block.

use crate::clock::{Clock, LongestGap};
use crate::pattern::Pattern;
use std::time::Duration;

/// Words of a block: 4 MiB, large enough that the C library maps each block by itself and unmaps it when it is freed.
const BLOCK_WORDS: usize = 512 * 1024;
/// Words written between two looks at the clock: 64 KiB.
const STEP_WORDS: usize = 8 * 1024;
/// Bytes of a word.
const WORD_BYTES: u64 = 8;
/// The set grows and shrinks in whole pages.
const PAGE_WORDS: u64 = 512;

/// Contiguous memory that was taken at one time.
struct Block {
    /// What has been written; the capacity beyond it has never been touched.
    words: Vec<u64>,
    pattern: Pattern,
}

/// A byte that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Offset of its word from the start of the set, in bytes.
    pub offset: u64,
    /// What was read.
    pub found: u64,
    /// What had been written.
    pub expected: u64,
}

/// There was no memory for a block; what the set held it holds still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Bytes the set holds now.
    pub held: u64,
}

/// The memory that the workload holds.
pub struct Set {
    seed: u64,
    generation: u64,
    blocks: Vec<Block>,
    /// The longest time between two steps of filling.
    gap: LongestGap,
}

impl Set {
    /// An empty set whose patterns derive from `seed`; times in which filling stood still go to `gap`.
    #[must_use]
    pub fn new(seed: u64, gap: LongestGap) -> Self {
        Self {
            seed,
            generation: 0,
            blocks: Vec::new(),
            gap,
        }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Bytes held, all of them written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.words() * WORD_BYTES
    }

    fn words(&self) -> u64 {
        self.blocks
            .iter()
            .map(|block| block.words.len() as u64)
            .sum()
    }

    /// Grows or shrinks the set to `bytes` (rounded up to pages), evenly over `ramp`.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the system refuses a block; the set keeps what it has.
    pub fn resize(
        &mut self,
        bytes: u64,
        ramp: Duration,
        clock: &mut impl Clock,
    ) -> Result<(), OutOfMemory> {
        let goal = bytes.div_ceil(PAGE_WORDS * WORD_BYTES) * PAGE_WORDS;
        let start_words = self.words();
        let start = clock.now();
        let distance = goal.abs_diff(start_words);
        let mut moved = 0;
        while moved < distance {
            let before = clock.now();
            let due = due_words(distance, before.saturating_sub(start), ramp);
            if due <= moved {
                clock.sleep(Duration::from_millis(5));
                continue;
            }
            // No more than one step at a time, so that the clock is seen often and a stall is measured as one.
            let step = (due - moved).min(STEP_WORDS as u64);
            if goal > start_words {
                self.grow(step)?;
            } else {
                self.shrink_to(start_words - moved - step);
            }
            moved += step;
            self.gap.note(clock.now().saturating_sub(before));
        }
        if goal < start_words {
            self.trim();
        }
        Ok(())
    }

    /// Frees everything.
    pub fn clear(&mut self) {
        self.blocks = Vec::new();
    }

    /// Reads every byte of the set and returns how many.
    ///
    /// # Errors
    /// The first word that is not what was written.
    pub fn verify(&self) -> Result<u64, Lost> {
        let mut place = 0;
        for block in &self.blocks {
            block
                .pattern
                .check(place, &block.words)
                .map_err(|wrong| Lost {
                    offset: (place + wrong.index as u64) * WORD_BYTES,
                    found: wrong.found,
                    expected: wrong.expected,
                })?;
            place += block.words.len() as u64;
        }
        Ok(place * WORD_BYTES)
    }

    fn grow(&mut self, words: u64) -> Result<(), OutOfMemory> {
        let mut left = words as usize;
        let mut place = self.words();
        while left > 0 {
            let room = self
                .blocks
                .last()
                .map_or(0, |block| block.words.capacity() - block.words.len());
            if room == 0 {
                self.add_block()?;
                continue;
            }
            let Some(block) = self.blocks.last_mut() else {
                break;
            };
            let count = left.min(room);
            block.pattern.append(place, count, &mut block.words);
            place += count as u64;
            left -= count;
        }
        Ok(())
    }

    fn add_block(&mut self) -> Result<(), OutOfMemory> {
        let held = self.bytes();
        let mut words: Vec<u64> = Vec::new();
        words
            .try_reserve_exact(BLOCK_WORDS)
            .map_err(|_| OutOfMemory { held })?;
        self.generation += 1;
        self.blocks.push(Block {
            words,
            pattern: Pattern::new(self.seed, self.generation),
        });
        Ok(())
    }

    fn shrink_to(&mut self, words: u64) {
        let mut surplus = self.words().saturating_sub(words) as usize;
        while surplus > 0 {
            let Some(block) = self.blocks.last_mut() else {
                break;
            };
            let len = block.words.len();
            if len <= surplus {
                surplus -= len;
                self.blocks.pop();
            } else {
                block.words.truncate(len - surplus);
                surplus = 0;
            }
        }
    }

    /// Gives the untouched or no longer wanted rest of the last block back.
    fn trim(&mut self) {
        if let Some(block) = self.blocks.last_mut() {
            block.words.shrink_to_fit();
        }
    }
}

/// How many of `distance` words must have moved `elapsed` into the ramp.
fn due_words(distance: u64, elapsed: Duration, ramp: Duration) -> u64 {
    if elapsed >= ramp {
        return distance;
    }
    let share = u128::from(distance) * elapsed.as_micros() / ramp.as_micros().max(1);
    u64::try_from(share).unwrap_or(distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Time that passes when it is asked to, and a little with every look.
    #[derive(Default)]
    struct Fake {
        now: std::cell::Cell<Duration>,
    }

    impl Clock for Fake {
        fn now(&self) -> Duration {
            self.now.set(self.now.get() + Duration::from_micros(20));
            self.now.get()
        }

        fn sleep(&mut self, time: Duration) {
            self.now.set(self.now.get() + time);
        }
    }

    const MIB: u64 = 1 << 20;

    fn set() -> Set {
        Set::new(42, LongestGap::default())
    }

    #[test]
    fn growing_takes_the_ramp_and_not_longer() {
        let mut set = set();
        let mut clock = Fake::default();
        set.resize(20 * MIB + 1, Duration::from_secs(3), &mut clock)
            .unwrap();
        assert_eq!(set.bytes(), 20 * MIB + 4096);
        let took = clock.now.get();
        assert!(
            (Duration::from_secs(3)..Duration::from_millis(3200)).contains(&took),
            "{took:?}"
        );
        assert_eq!(set.verify(), Ok(20 * MIB + 4096));
    }

    #[test]
    fn a_changed_word_is_found_with_its_place() {
        let mut set = set();
        set.resize(9 * MIB, Duration::ZERO, &mut Fake::default())
            .unwrap();
        let expected = set.blocks[2].words[17];
        set.blocks[2].words[17] = 0;
        assert_eq!(
            set.verify(),
            Err(Lost {
                offset: 8 * MIB + 17 * 8,
                found: 0,
                expected
            })
        );
    }

    #[test]
    fn memory_taken_anew_has_another_content() {
        let mut set = set();
        let clock = &mut Fake::default();
        set.resize(MIB, Duration::ZERO, clock).unwrap();
        let before = set.blocks[0].words[5];
        set.resize(0, Duration::ZERO, clock).unwrap();
        assert_eq!(set.blocks.len(), 0);
        set.resize(MIB, Duration::ZERO, clock).unwrap();
        assert_ne!(set.blocks[0].words[5], before);
    }

    #[test]
    fn what_is_given_up_is_given_back() {
        let mut set = set();
        let clock = &mut Fake::default();
        set.resize(12 * MIB, Duration::ZERO, clock).unwrap();
        set.resize(5 * MIB, Duration::from_millis(100), clock)
            .unwrap();
        let capacity: usize = set.blocks.iter().map(|block| block.words.capacity()).sum();
        assert_eq!(capacity as u64 * 8, 5 * MIB);
        set.clear();
        assert_eq!((set.bytes(), set.blocks.len()), (0, 0));
    }

    #[test]
    fn a_step_that_stands_still_is_noted_and_sleeping_is_not() {
        /// The step after the tenth look takes a second.
        struct Stalls(Fake, std::cell::Cell<u32>);
        impl Clock for Stalls {
            fn now(&self) -> Duration {
                self.1.set(self.1.get() + 1);
                if self.1.get() == 11 {
                    self.0.now.set(self.0.now.get() + Duration::from_secs(1));
                }
                self.0.now()
            }
            fn sleep(&mut self, time: Duration) {
                self.0.sleep(time);
            }
        }
        for (clock_starts_at, least, most) in [(0, 1000, 1001), (100, 0, 1)] {
            let gap = LongestGap::default();
            let mut set = Set::new(1, gap.clone());
            let mut clock = Stalls(Fake::default(), std::cell::Cell::new(clock_starts_at));
            set.resize(MIB, Duration::from_millis(100), &mut clock)
                .unwrap();
            let gap = gap.take().as_millis();
            assert!((least..=most).contains(&gap), "{gap} ms");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_sequence_of_sizes_verifies(sizes in proptest::collection::vec(0u64..12 * MIB, 1..6), ramp_ms in 0u64..300) {
            let mut set = set();
            let clock = &mut Fake::default();
            for size in sizes {
                set.resize(size, Duration::from_millis(ramp_ms), clock).unwrap();
                let rounded = size.div_ceil(4096) * 4096;
                prop_assert_eq!(set.bytes(), rounded);
                prop_assert_eq!(set.verify(), Ok(rounded));
            }
        }
    }

    #[test]
    fn the_ramp_is_even() {
        let ramp = Duration::from_secs(5);
        assert_eq!(due_words(1000, Duration::ZERO, ramp), 0);
        assert_eq!(due_words(1000, Duration::from_millis(2500), ramp), 500);
        assert_eq!(due_words(1000, ramp, ramp), 1000);
        assert_eq!(due_words(7, Duration::ZERO, Duration::ZERO), 7);
    }
}
