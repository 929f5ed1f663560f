//! What is written: one 64-bit word per place, cheap enough for an emulated guest (an addition and an exclusive-or).

/// Odd, so that `index * STEP` takes every value once: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The pattern of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    key: u64,
}

/// A word that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Its index from the start of the slice that was checked.
    pub index: usize,
    /// What was read.
    pub found: u64,
    /// What had been written.
    pub expected: u64,
}

impl Pattern {
    /// The pattern of a seed and a generation.
    #[must_use]
    pub fn new(seed: u64, generation: u64) -> Self {
        Self {
            key: mix(seed ^ mix(generation)),
        }
    }

    /// The word for a place, counted in words from the start of the set. Never zero at the places a set can have, except
    /// with a probability of 2^-64 each.
    #[must_use]
    pub fn word(self, place: u64) -> u64 {
        place.wrapping_mul(STEP) ^ self.key
    }

    /// Appends the words of `count` places from `place` on.
    pub fn append(self, place: u64, count: usize, words: &mut Vec<u64>) {
        let end = place.wrapping_add(count as u64);
        words.extend((place..end).map(|place| self.word(place)));
        // The words are read again only when somebody asks for a check; the compiler must not think them unused.
        std::hint::black_box(words.as_slice());
    }

    /// Checks `words`, the first of which is at `place`.
    ///
    /// # Errors
    /// The first [`Mismatch`].
    pub fn check(self, place: u64, words: &[u64]) -> Result<(), Mismatch> {
        // Memory may change behind the program's back (that is what is looked for), so nothing known about it is used.
        let words = std::hint::black_box(words);
        let mut value = place.wrapping_mul(STEP);
        // One branch for a page instead of one for a word.
        for (number, page) in words.chunks(512).enumerate() {
            let before = value;
            let mut difference = 0;
            for word in page {
                difference |= *word ^ value ^ self.key;
                value = value.wrapping_add(STEP);
            }
            if difference != 0 {
                return self.locate(before, number * 512, page);
            }
        }
        Ok(())
    }

    fn locate(self, mut value: u64, first: usize, page: &[u64]) -> Result<(), Mismatch> {
        for (offset, word) in page.iter().enumerate() {
            let expected = value ^ self.key;
            if *word != expected {
                return Err(Mismatch {
                    index: first + offset,
                    found: *word,
                    expected,
                });
            }
            value = value.wrapping_add(STEP);
        }
        Ok(())
    }
}

/// Spreads every input bit over the whole word (the finaliser of splitmix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(STEP);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_filled_checks(seed in any::<u64>(), generation in 0u64..99, place in 0u64..1 << 40, len in 0usize..3000) {
            let pattern = Pattern::new(seed, generation);
            let mut words = Vec::new();
            pattern.append(place, len, &mut words);
            prop_assert_eq!(pattern.check(place, &words), Ok(()));
            for (offset, word) in words.iter().enumerate() {
                prop_assert_eq!(*word, pattern.word(place + offset as u64));
            }
        }

        #[test]
        fn one_changed_bit_is_found_where_it_is(
            len in 1usize..3000, at in any::<prop::sample::Index>(), bit in 0u32..64, place in 0u64..1 << 40,
        ) {
            let pattern = Pattern::new(1, 2);
            let mut words = Vec::new();
            pattern.append(place, len, &mut words);
            let index = at.index(len);
            let expected = words[index];
            words[index] ^= 1 << bit;
            prop_assert_eq!(
                pattern.check(place, &words),
                Err(Mismatch { index, found: expected ^ 1 << bit, expected })
            );
        }

        #[test]
        fn foreign_pages_are_noticed(seed in any::<u64>(), other in any::<u64>(), page in 1u64..1 << 20, from in 0u64..1 << 20) {
            prop_assume!(seed != other && page != from);
            let words = |pattern: Pattern, page: u64| {
                let mut words = Vec::new();
                pattern.append(page * 512, 512, &mut words);
                words
            };
            let own = Pattern::new(seed, 7);
            prop_assert!(own.check(page * 512, &words(own, page)).is_ok());
            prop_assert!(own.check(page * 512, &[0; 512]).is_err(), "zeros");
            prop_assert!(own.check(page * 512, &words(own, from)).is_err(), "another page of the same set");
            prop_assert!(own.check(page * 512, &words(Pattern::new(other, 7), page)).is_err(), "another guest's page");
            prop_assert!(own.check(page * 512, &words(Pattern::new(seed, 6), page)).is_err(), "an earlier state");
        }
    }
}
