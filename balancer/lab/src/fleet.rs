//! Many hosts at once: each with guests, a family and a seed of its own.

use crate::families;
use crate::host::Outcome;
use crate::noise::Noise;
use crate::table::{Contestant, contestants};
use rayon::prelude::*;
use std::fmt::Write as _;
use std::sync::Arc;

/// The least and the most guests of a host.
const GUESTS: std::ops::RangeInclusive<usize> = 2..=16;

/// What came of a fleet under one policy.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// All hosts together.
    pub sum: Outcome,
    /// Guests of all hosts.
    pub guests: usize,
    /// Unmet demand of each host, in percent, the least first.
    pub unmet_percent: Vec<f64>,
    /// The host with the most: its number, family and guests.
    pub worst: Option<(usize, &'static str, usize)>,
}

/// The contestants of a fleet: ours, the simplest rival, and the oracle.
#[must_use]
pub fn players() -> Vec<Contestant> {
    contestants()
        .into_iter()
        .filter(|contestant| ["ours", "demand", "oracle"].contains(&contestant.entry.name))
        .collect()
}

/// Plays a fleet.
///
/// # Errors
/// A host's guests do not fit it.
pub fn play(
    contestant: &Contestant,
    hosts: usize,
    length_ms: u64,
    seed: u64,
) -> Result<Fleet, String> {
    let outcomes: Result<Vec<(Outcome, &'static str, usize)>, String> = (0..hosts)
        .into_par_iter()
        .map(|host| {
            let mut noise = Noise::new(seed, host as u64);
            let family = &families::ALL[noise.below(families::ALL.len())];
            let guests = GUESTS.start() + noise.below(GUESTS.end() - GUESTS.start() + 1);
            let trace = Arc::new(family.trace(guests, length_ms, seed ^ (host as u64) << 20));
            Ok((contestant.play(&trace)?, family.name, guests))
        })
        .collect();
    let outcomes = outcomes?;
    let mut fleet = Fleet::default();
    let mut most = -1.0;
    for (host, (outcome, family, guests)) in outcomes.iter().enumerate() {
        fleet.sum = fleet.sum.plus(outcome);
        fleet.guests += guests;
        let percent = outcome.unmet_percent();
        fleet.unmet_percent.push(percent);
        if percent > most {
            most = percent;
            fleet.worst = Some((host, family, *guests));
        }
    }
    fleet.unmet_percent.sort_by(f64::total_cmp);
    Ok(fleet)
}

impl Fleet {
    /// The unmet demand that this part of the hosts does not exceed, in percent.
    #[must_use]
    pub fn quantile(&self, part: f64) -> f64 {
        let last = self.unmet_percent.len().saturating_sub(1);
        let index = (last as f64 * part).round() as usize;
        self.unmet_percent.get(index).copied().unwrap_or(0.0)
    }
}

/// A fleet in a line.
#[must_use]
pub fn text(name: &str, fleet: &Fleet) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "{name:<8} {:>6} hosts {:>7} guests: {:.3} % unmet; of hosts, half up to {:.3} %, 90 % up to {:.3} %, 99 % up to {:.3} %; {:.0} GiB moved",
        fleet.unmet_percent.len(),
        fleet.guests,
        fleet.sum.unmet_percent(),
        fleet.quantile(0.5),
        fleet.quantile(0.9),
        fleet.quantile(0.99),
        fleet.sum.moved_gib(),
    );
    if let Some((host, family, guests)) = fleet.worst {
        let _ = write!(
            out,
            "; worst host {host} ({family}, {guests} guests): {:.1} %",
            fleet.quantile(1.0)
        );
    }
    out.push('\n');
    out
}
