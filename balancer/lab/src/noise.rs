//! Random numbers: the same from the same seed, on every machine and in every version.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Noise(ChaCha8Rng);

impl Noise {
    /// The stream of that number from a seed.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Evenly from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Evenly from `least` to below `most`.
    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    /// A whole number below `most`; 0 if that is 0.
    pub fn below(&mut self, most: usize) -> usize {
        ((self.unit() * most as f64) as usize).min(most.saturating_sub(1))
    }

    /// A value that is off by up to `error`, never below 0.
    pub fn around(&mut self, value: u64, error: u64) -> u64 {
        if error == 0 {
            return value;
        }
        let off = (self.unit() * (2 * error + 1) as f64) as u64;
        (value + off).saturating_sub(error)
    }

    /// Pareto-distributed with that shape, from `least`, cut at `most`.
    pub fn pareto(&mut self, least: f64, most: f64, shape: f64) -> f64 {
        (least / (1.0 - self.unit()).powf(1.0 / shape)).min(most)
    }

    /// Brings a list into a random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for index in (1..list.len()).rev() {
            list.swap(index, self.below(index + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_stream_give_the_same_numbers_and_others_do_not() {
        let numbers = |seed, stream| {
            let mut noise = Noise::new(seed, stream);
            [noise.unit(), noise.unit()]
        };
        assert_eq!(numbers(1, 2), numbers(1, 2));
        assert_ne!(numbers(1, 2), numbers(1, 3));
        assert_ne!(numbers(1, 2), numbers(2, 2));
    }

    #[test]
    fn what_is_drawn_stays_within_its_bounds() {
        let mut noise = Noise::new(7, 0);
        for _ in 0..10_000 {
            assert!((3.0..=40.0).contains(&noise.pareto(3.0, 40.0, 1.2)));
            assert!((90..=110).contains(&noise.around(100, 10)));
            assert!(noise.around(3, 10) <= 13);
            assert!(noise.below(5) < 5);
        }
        assert_eq!(noise.below(0), 0);
    }
}
