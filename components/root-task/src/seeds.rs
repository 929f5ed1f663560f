//! Seeds for the guests' random number generators.
//!
//! The machine's boot chain may put a seed into the device tree (`/chosen/rng-seed`, Devicetree chosen schema). A stream
//! cipher keyed with it gives each start of each guest a seed of its own, from which neither the machine's seed nor
//! another guest's follows. Without one, guests get none, and collect entropy as they do on such a machine.

use protocol::startup::{RNG_SEED_BYTES, RngSeed};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The source of seeds.
pub struct Seeds(Option<ChaCha20Rng>);

impl Seeds {
    /// From the machine's seed; one shorter than [`RNG_SEED_BYTES`] is none.
    #[must_use]
    pub fn new(machine: Option<&[u8]>) -> Self {
        let key = machine.and_then(|seed| seed.first_chunk::<RNG_SEED_BYTES>());
        Self(key.map(|key| ChaCha20Rng::from_seed(*key)))
    }

    /// The next one, never given before.
    pub fn draw(&mut self) -> Option<RngSeed> {
        let generator = self.0.as_mut()?;
        let mut seed = [0; RNG_SEED_BYTES];
        generator.fill_bytes(&mut seed);
        Some(RngSeed(seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_has_its_own() {
        let mut seeds = Seeds::new(Some(&[7; 64]));
        let given: Vec<_> = (0..100).map(|_| seeds.draw().unwrap()).collect();
        for (index, seed) in given.iter().enumerate() {
            assert!(!given[..index].contains(seed));
            assert_ne!(seed.0, [7; RNG_SEED_BYTES]);
        }
        let mut others = Seeds::new(Some(&[8; RNG_SEED_BYTES]));
        assert!(!given.contains(&others.draw().unwrap()));
    }

    #[test]
    fn a_machine_without_a_good_seed_gives_none() {
        assert_eq!(Seeds::new(None).draw(), None);
        assert_eq!(Seeds::new(Some(&[1; RNG_SEED_BYTES - 1])).draw(), None);
    }
}
