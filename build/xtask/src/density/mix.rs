//! The mix: what is stated before anything is measured.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::fmt;

/// `build/operator/scenarios/density.toml`.
const STATED: &str = include_str!("../../../operator/scenarios/density.toml");
/// A guest has whole pieces of 2 MiB.
const PIECE_MIB: u64 = 2;
/// Static sizes that are measured, beginning with the fewest guests: those whose share is between the peak alone and twice that
/// and what an idle guest uses.
const IDLE_MIB: u64 = 64;

/// What a guest of the dynamic host is described with.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    pub minimum_mib: u64,
    pub startup_mib: u64,
    pub maximum_mib: u64,
}

/// The mix. Its fields are explained where it is stated.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    pub pool_mib: u64,
    pub reserve_mib: u64,
    pub base_mib: u64,
    pub peak_mib: u64,
    pub ramp_s: u64,
    pub pause_s: u64,
    pub rounds: u32,
    pub work_mib: u64,
    pub loss_percent: f64,
    pub goal: f64,
    pub guest: Guest,
}

impl Mix {
    /// As it is stated.
    ///
    /// # Errors
    /// When the file is not right.
    pub fn stated() -> Result<Self> {
        toml::from_str(STATED).context("density.toml")
    }

    /// Numbers of static guests that may fit, each with the share of the pool that a guest then has in MiB.
    pub fn static_sizes(&self) -> Vec<(u64, u64)> {
        (1..=self.pool_mib)
            .map(|count| (count, self.pool_mib / count / PIECE_MIB * PIECE_MIB))
            .skip_while(|(_, size_mib)| *size_mib > 2 * (self.peak_mib + IDLE_MIB))
            .take_while(|(_, size_mib)| *size_mib >= self.peak_mib)
            .collect()
    }

    /// The least number of guests with which the goal is reached.
    pub fn first_dynamic(&self, fixed: u64) -> u64 {
        (fixed as f64 * self.goal).ceil() as u64
    }

    /// Whether a guest has lost too much, compared with one that has memory to spare.
    pub fn is_lost(&self, rate: Option<f64>, best: f64) -> bool {
        rate.is_none_or(|rate| rate < best * (1.0 - self.loss_percent / 100.0))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "mix: pool {} MiB; each guest {} MiB beside the idle guest, in turn {} MiB, at most half of them together; {} rounds; \
             a guest that loses {} % of its work per instruction has lost",
            self.pool_mib, self.base_mib, self.peak_mib, self.rounds, self.loss_percent
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_sound() {
        let mix = Mix::stated().unwrap();
        assert!(mix.goal >= 1.4 && mix.loss_percent <= 5.0, "{mix}");
        assert!(mix.base_mib < mix.peak_mib && mix.rounds.is_multiple_of(2));
        // Half of them at the peak and half not: more than the pool has room for at some number of guests.
        assert!(mix.peak_mib * 16 / 2 > mix.pool_mib);
    }

    #[test]
    fn static_sizes_are_shares_of_the_pool() {
        let mix = Mix::stated().unwrap();
        let sizes = mix.static_sizes();
        assert!(sizes.len() >= 3, "{sizes:?}");
        for (count, size_mib) in sizes {
            assert!(count * size_mib <= mix.pool_mib && size_mib.is_multiple_of(PIECE_MIB));
            assert!(size_mib >= mix.peak_mib);
        }
    }

    #[test]
    fn the_goal_is_rounded_up_and_a_loss_is_five_percent() {
        let mix = Mix::stated().unwrap();
        assert_eq!(mix.first_dynamic(4), 6);
        assert_eq!(mix.first_dynamic(5), 7);
        assert!(!mix.is_lost(Some(95.1), 100.0));
        assert!(mix.is_lost(Some(94.9), 100.0));
        assert!(mix.is_lost(None, 100.0));
    }
}
