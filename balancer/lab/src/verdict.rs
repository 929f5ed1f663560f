//! Whether ours is as good as it has to be.
//!
//! - Unmet demand: the least, or within 2 % of the least, or within 0.01 % of demand of it, of all rivals that are told what
//!   ours is told, at their own pace and at ours.
//! - Moved memory: at most 1.1 times that of the rival with the least unmet demand (of those within 0.01 % of demand of it,
//!   the one that moves most), plus one pool for each trace.
//! - The goal beyond: at most three times what the oracle with our speeds leaves unmet, or 0.1 % of demand.

use crate::host::Outcome;
use crate::policies::Told;
use crate::table::{Contestant, Row, is_rival};
use std::fmt::Write as _;

/// Ours may leave this many times the least unmet demand.
const UNMET_FACTOR: f64 = 1.02;
/// Or this much more, in percent of demand.
const UNMET_SLACK_PERCENT: f64 = 0.01;
/// It may move this many times what the best rival moves.
const MOVED_FACTOR: f64 = 1.1;
/// The goal: this many times what the oracle leaves, or that much, in percent of demand.
const ORACLE_FACTOR: f64 = 3.0;
const ORACLE_SLACK_PERCENT: f64 = 0.1;

/// Rows that ours is known to fail, with the most that it leaves unmet there, in percent of demand. The tests accept them as
/// they are and no worse; the command's exit status does not. A row that holds again leaves this list.
const KNOWN: &[(&str, usize, f64)] = &[
    // Two guests rise at once as fast as memory can be cleaned, with next to no buffer: a rival that takes all surplus at
    // once has more that is clean.
    ("seesaw", 8, 0.1),
];

/// Judged: one family at one size.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The family.
    pub family: String,
    /// How many guests.
    pub guests: usize,
    /// Ours.
    pub ours: Outcome,
    /// The better oracle with our speeds, if one played.
    pub oracle: Option<Outcome>,
    /// The rival with the least unmet demand.
    pub best: String,
    /// What came of it.
    pub rival: Outcome,
    /// The most that ours may leave unmet, in percent of demand.
    pub unmet_bound: f64,
    /// The most that ours may move, in pieces.
    pub moved_bound: f64,
}

impl Judgement {
    /// Judges a row. `None` when ours or all rivals did not play.
    #[must_use]
    pub fn of(row: &Row, contestants: &[Contestant]) -> Option<Self> {
        let named = |name: &str| {
            let index = contestants
                .iter()
                .position(|contestant| contestant.entry.name == name)?;
            row.outcomes.get(index).copied()
        };
        let ours = named("ours")?;
        let rivals: Vec<(&Contestant, &Outcome)> = contestants
            .iter()
            .zip(&row.outcomes)
            .filter(|(contestant, _)| is_rival(contestant))
            .collect();
        let (best, rival) = rivals
            .iter()
            .min_by(|left, right| left.1.unmet.cmp(&right.1.unmet))?;
        let least = rival.unmet_percent();
        let moved = rivals
            .iter()
            .filter(|(_, outcome)| outcome.unmet_percent() <= least + UNMET_SLACK_PERCENT)
            .map(|(_, outcome)| outcome.moved)
            .max()
            .unwrap_or(0);
        Some(Self {
            family: row.family.clone(),
            guests: row.guests,
            ours,
            oracle: contestants
                .iter()
                .zip(&row.outcomes)
                .filter(|(contestant, _)| contestant.entry.told == Told::Future)
                .map(|(_, outcome)| *outcome)
                .min_by_key(|outcome| outcome.unmet),
            best: best.name(),
            rival: **rival,
            unmet_bound: (least * UNMET_FACTOR).max(least + UNMET_SLACK_PERCENT),
            moved_bound: moved as f64 * MOVED_FACTOR + (row.pool * row.traces) as f64,
        })
    }

    /// Whether it leaves little enough unmet.
    #[must_use]
    pub fn unmet_ok(&self) -> bool {
        self.ours.unmet_percent() <= self.unmet_bound
    }

    /// Whether it moves little enough.
    #[must_use]
    pub fn moved_ok(&self) -> bool {
        self.ours.moved as f64 <= self.moved_bound
    }

    /// Whether it fails in a way that is known, and no worse.
    #[must_use]
    pub fn is_known(&self) -> bool {
        KNOWN.iter().any(|(family, guests, unmet_percent)| {
            self.family == *family
                && self.guests == *guests
                && self.ours.unmet_percent() <= *unmet_percent
        })
    }

    /// Whether both.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.unmet_ok() && self.moved_ok()
    }

    /// How many times what the oracle leaves it leaves, and whether that is near enough. `None` without an oracle.
    #[must_use]
    pub fn near_oracle(&self) -> Option<(f64, bool)> {
        let oracle = self.oracle?.unmet_percent();
        let ours = self.ours.unmet_percent();
        let times = if oracle > 0.0 {
            ours / oracle
        } else if ours > 0.0 {
            f64::INFINITY
        } else {
            1.0
        };
        let near = ours <= oracle * ORACLE_FACTOR || ours <= ORACLE_SLACK_PERCENT;
        Some((times, near))
    }
}

/// The judgements as a table, and the rows that fail by name.
#[must_use]
pub fn text(judgements: &[Judgement]) -> String {
    let mut out = format!(
        "{:<11} {:>6} | {:>8} {:>8} {:>7} | {:>8} {:>8} {:<13} | {:>8} {:>9} | verdict\n",
        "family",
        "guests",
        "oracle %",
        "ours %",
        "x",
        "best %",
        "bound %",
        "rival",
        "GiB",
        "bound GiB"
    );
    for judged in judgements {
        let (oracle, times) = match (judged.oracle, judged.near_oracle()) {
            (Some(oracle), Some((times, near))) => (
                format!("{:.3}", oracle.unmet_percent()),
                format!("{times:.1}{}", if near { "" } else { "!" }),
            ),
            _ => ("-".to_owned(), "-".to_owned()),
        };
        let _ = writeln!(
            out,
            "{:<11} {:>6} | {:>8} {:>8.3} {:>7} | {:>8.3} {:>8.3} {:<13} | {:>8.1} {:>9.1} | {}",
            judged.family,
            judged.guests,
            oracle,
            judged.ours.unmet_percent(),
            times,
            judged.rival.unmet_percent(),
            judged.unmet_bound,
            judged.best,
            judged.ours.moved_gib(),
            judged.moved_bound / 512.0,
            verdict(judged),
        );
    }
    out
}

fn verdict(judged: &Judgement) -> &'static str {
    match (judged.unmet_ok(), judged.moved_ok()) {
        (true, true) => "ok",
        (false, true) => "UNMET",
        (true, false) => "MOVED",
        (false, false) => "UNMET, MOVED",
    }
}

/// The lines that end a run: what fails by name, and how many do.
#[must_use]
pub fn summary(judgements: &[Judgement]) -> String {
    let mut out = String::new();
    for judged in judgements.iter().filter(|judged| !judged.ok()) {
        let _ = writeln!(
            out,
            "FAILS: {} with {} guests ({}): {:.3} % unmet, {} leaves {:.3} %; {:.1} GiB moved of at most {:.1}",
            judged.family,
            judged.guests,
            verdict(judged),
            judged.ours.unmet_percent(),
            judged.best,
            judged.rival.unmet_percent(),
            judged.ours.moved_gib(),
            judged.moved_bound / 512.0,
        );
    }
    let failed = judgements.iter().filter(|judged| !judged.ok()).count();
    let far = judgements
        .iter()
        .filter(|judged| matches!(judged.near_oracle(), Some((_, false))))
        .count();
    let _ = writeln!(
        out,
        "{} rows as good as they have to be, {failed} not; {far} further from the oracle than the goal",
        judgements.len() - failed
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::contestants;

    fn outcome(unmet: u128, moved: u64) -> Outcome {
        Outcome {
            demand: 1_000_000,
            unmet,
            moved,
            ..Outcome::default()
        }
    }

    /// A row in which ours leaves `unmet` millionths and moves `moved`; `demand` leaves 1,000 and moves 1,000 pieces, Qubes at
    /// our pace leaves 1,050 and moves 2,000, all others are far off.
    fn judged(unmet: u128, moved: u64) -> Judgement {
        let contestants = contestants();
        let outcomes = contestants
            .iter()
            .map(|contestant| match contestant.name().as_str() {
                "ours" => outcome(unmet, moved),
                "demand" => outcome(1000, 1000),
                "qubes" => outcome(1050, 2000),
                "oracle" => outcome(400, 10),
                // These are told more, and count for nothing.
                "demand-true" => outcome(0, 0),
                _ => outcome(500_000, 90_000),
            })
            .collect();
        let row = Row {
            family: "made".to_owned(),
            guests: 2,
            pool: 100,
            traces: 2,
            unavoidable_percent: 0.0,
            outcomes,
        };
        Judgement::of(&row, &contestants).unwrap()
    }

    #[test]
    fn the_bounds_are_those_of_the_best_rival() {
        let judged = judged(1000, 0);
        assert_eq!(judged.best, "demand");
        // 0.1 % and 0.01 % of demand; 1.1 x 2,000 and two pools of 100.
        assert!((judged.unmet_bound - 0.11).abs() < 1e-9);
        assert!((judged.moved_bound - 2400.0).abs() < 1e-6);
    }

    #[test]
    fn each_bound_is_judged() {
        for (unmet, moved, said) in [
            (1100, 2400, "ok"),
            (1101, 2400, "UNMET"),
            (1100, 2401, "MOVED"),
            (1101, 2401, "UNMET, MOVED"),
        ] {
            assert_eq!(verdict(&judged(unmet, moved)), said);
            let lines = summary(&[judged(unmet, moved)]);
            assert_eq!(lines.contains("FAILS: made with 2 guests"), said != "ok");
        }
    }

    #[test]
    fn the_goal_is_three_times_the_oracle_or_a_thousandth() {
        assert_eq!(judged(1200, 0).near_oracle(), Some((3.0, true)));
        assert!(matches!(judged(1201, 0).near_oracle(), Some((_, false))));
        assert!(matches!(judged(1000, 0).near_oracle(), Some((_, true))));
    }
}
