//! How many guests of a family fit a host of 24 GiB before a thousandth of their demand is unmet.

use crate::families::Family;
use crate::table::{Contestant, is_rival};
use protocol::units::Pieces;
use rayon::prelude::*;
use std::fmt::Write as _;
use std::sync::Arc;

/// The host: 24 GiB for guests, 1/16 of which is its reserve.
const POOL: Pieces = Pieces(24 * 512);
/// The most unmet demand, in percent.
const UNMET_MAX_PERCENT: f64 = 0.1;
/// The most guests that are tried.
const GUESTS_MAX: usize = 96;

/// One family's densities, in the contestants' order.
pub struct Density {
    /// The family.
    pub family: &'static str,
    /// How many guests fit under each contestant.
    pub guests: Vec<usize>,
}

/// How many guests fit under a contestant, all seeds taken together.
#[must_use]
pub fn fits(family: &Family, contestant: &Contestant, length_ms: u64, seeds: &[u64]) -> usize {
    let enough = |guests: usize| {
        let capacity = Pieces(POOL.0 / 16 * 15);
        let mut sum = crate::host::Outcome::default();
        for seed in seeds {
            let trace = family.trace_in(capacity, guests, length_ms, *seed);
            if trace.pool > POOL {
                return false;
            }
            match contestant.play(&Arc::new(trace)) {
                Ok(outcome) => sum = sum.plus(&outcome),
                Err(_) => return false,
            }
        }
        sum.unmet_percent() <= UNMET_MAX_PERCENT
    };
    // The greatest number up to which all fit, tried in steps that halve: more guests need more.
    let (mut fit, mut step) = (0, GUESTS_MAX.next_power_of_two() / 2);
    while step > 0 {
        if fit + step <= GUESTS_MAX && enough(fit + step) {
            fit += step;
        }
        step /= 2;
    }
    fit
}

/// Densities of families under contestants.
#[must_use]
pub fn measure(
    families: &[&'static Family],
    contestants: &[Contestant],
    length_ms: u64,
    seeds: &[u64],
) -> Vec<Density> {
    families
        .par_iter()
        .map(|family| Density {
            family: family.name,
            guests: contestants
                .par_iter()
                .map(|contestant| fits(family, contestant, length_ms, seeds))
                .collect(),
        })
        .collect()
}

impl Density {
    /// How many fit under ours, and the most that fit under a rival.
    #[must_use]
    pub fn ours_and_best(&self, contestants: &[Contestant]) -> Option<(usize, usize, String)> {
        let ours = contestants
            .iter()
            .zip(&self.guests)
            .find(|(contestant, _)| contestant.entry.name == "ours")?;
        let best = contestants
            .iter()
            .zip(&self.guests)
            .filter(|(contestant, _)| is_rival(contestant))
            .max_by_key(|(_, guests)| **guests)?;
        Some((*ours.1, *best.1, best.0.name()))
    }
}

/// Densities as a table.
#[must_use]
pub fn text(densities: &[Density], contestants: &[Contestant]) -> String {
    let names: Vec<String> = contestants.iter().map(Contestant::name).collect();
    let mut out = format!(
        "guests in 24 GiB before {UNMET_MAX_PERCENT} % is unmet\n{:<11}",
        "family"
    );
    for name in &names {
        let _ = write!(out, " {name:>0$}", name.len().max(5));
    }
    out.push('\n');
    for density in densities {
        let _ = write!(out, "{:<11}", density.family);
        for (name, guests) in names.iter().zip(&density.guests) {
            let _ = write!(out, " {guests:>0$}", name.len().max(5));
        }
        match density.ours_and_best(contestants) {
            Some((ours, best, name)) if ours < best => {
                let _ = writeln!(out, "  FAILS: {name} fits {best}, ours {ours}");
            }
            _ => out.push('\n'),
        }
    }
    out
}
