//! Policies on families, side by side.

use crate::families::Family;
use crate::host::{Outcome, play};
use crate::mechanism::Mechanism;
use crate::policies::{self, Entry, Told, oracle_without_limits};
use crate::policy::Pace;
use crate::trace::Trace;
use rayon::prelude::*;
use std::fmt::Write as _;
use std::sync::Arc;

/// A policy at a pace.
#[derive(Clone, Copy)]
pub struct Contestant {
    /// The policy.
    pub entry: &'static Entry,
    /// The pace.
    pub pace: Pace,
    /// How many times slower than it is memory moves, 1 as a rule.
    pub slower: u64,
}

impl Contestant {
    /// Its name, with `@own` at its own pace.
    #[must_use]
    pub fn name(&self) -> String {
        match self.pace {
            Pace::Own => format!("{}@own", self.entry.name),
            Pace::Ours => self.entry.name.to_owned(),
        }
    }

    /// How its memory moves.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        let mechanism = match self.pace {
            Pace::Own => Mechanism::BALLOON,
            Pace::Ours => Mechanism::OURS,
        };
        mechanism.slower(self.slower)
    }

    /// Plays a trace.
    ///
    /// # Errors
    /// The trace's guests do not fit its pool.
    pub fn play(&self, trace: &Arc<Trace>) -> Result<Outcome, String> {
        let mut policy = (self.entry.make)(trace, self.pace);
        play(trace, self.mechanism(), policy.as_mut())
    }
}

/// Every policy at every pace it is compared at.
#[must_use]
pub fn contestants() -> Vec<Contestant> {
    policies::all()
        .flat_map(|entry| {
            entry.paces.iter().map(move |pace| Contestant {
                entry,
                pace: *pace,
                slower: 1,
            })
        })
        .collect()
}

/// One family at one size: what came of each contestant.
pub struct Row {
    /// The family.
    pub family: String,
    /// How many guests.
    pub guests: usize,
    /// All memory of one host, in pieces.
    pub pool: u64,
    /// How many traces were played.
    pub traces: u64,
    /// Demand that no policy can meet, in percent.
    pub unavoidable_percent: f64,
    /// What came of each, in the contestants' order.
    pub outcomes: Vec<Outcome>,
}

/// Plays a family with several seeds; outcomes are summed up.
///
/// # Errors
/// A trace's guests do not fit its pool.
pub fn row(
    family: &Family,
    guests: usize,
    length_ms: u64,
    seeds: &[u64],
    contestants: &[Contestant],
) -> Result<Row, String> {
    let traces: Vec<Arc<Trace>> = seeds
        .iter()
        .map(|seed| Arc::new(family.trace(guests, length_ms, *seed)))
        .collect();
    row_of(family.name, &traces, contestants)
}

/// Plays traces of one kind; outcomes are summed up.
///
/// # Errors
/// A trace's guests do not fit its pool.
pub fn row_of(
    name: &str,
    traces: &[Arc<Trace>],
    contestants: &[Contestant],
) -> Result<Row, String> {
    let outcomes: Result<Vec<Outcome>, String> = contestants
        .par_iter()
        .map(|contestant| {
            let mut sum = Outcome::default();
            for trace in traces {
                sum = sum.plus(&contestant.play(trace)?);
            }
            Ok(sum)
        })
        .collect();
    let outcomes = outcomes?;
    let demand = outcomes.first().map_or(1, |outcome| outcome.demand.max(1));
    let unavoidable: u128 = traces
        .par_iter()
        .map(|trace| oracle_without_limits(trace))
        .sum();
    Ok(Row {
        family: name.to_owned(),
        guests: traces.first().map_or(0, |trace| trace.guests.len()),
        pool: traces
            .iter()
            .map(|trace| u64::from(trace.pool.0))
            .max()
            .unwrap_or(0),
        traces: traces.len() as u64,
        unavoidable_percent: unavoidable as f64 * 100.0 / demand as f64,
        outcomes,
    })
}

/// Rows as a table: unmet demand in percent of demand, and moved GiB below it.
#[must_use]
pub fn text(rows: &[Row], contestants: &[Contestant]) -> String {
    let mut out = String::new();
    let names: Vec<String> = contestants.iter().map(Contestant::name).collect();
    let width = |index: usize| names[index].len().max(8);
    let _ = write!(
        out,
        "{:<11} {:>6} {:>11}",
        "family", "guests", "unavoidable"
    );
    for (index, name) in names.iter().enumerate() {
        let _ = write!(out, " {name:>0$}", width(index));
    }
    out.push('\n');
    for row in rows {
        let _ = write!(
            out,
            "{:<11} {:>6} {:>11.3}",
            row.family, row.guests, row.unavoidable_percent
        );
        for (index, outcome) in row.outcomes.iter().enumerate() {
            let _ = write!(out, " {:>1$.3}", outcome.unmet_percent(), width(index));
        }
        let _ = write!(out, "\n{:<30}", "            moved GiB");
        for (index, outcome) in row.outcomes.iter().enumerate() {
            let _ = write!(out, " {:>1$.1}", outcome.moved_gib(), width(index));
        }
        out.push('\n');
    }
    out
}

/// Whether a contestant counts for the verdict: it is told what ours is told.
#[must_use]
pub fn is_rival(contestant: &Contestant) -> bool {
    contestant.entry.told == Told::Reports && contestant.entry.name != "ours"
}
