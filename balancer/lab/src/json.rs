//! The figures as JSON.

use crate::density::Density;
use crate::policies::Told;
use crate::policy::Pace;
use crate::table::{Contestant, Row};
use crate::verdict::Judgement;
use serde::Serialize;

#[derive(Serialize)]
struct Lab<'a> {
    rows: Vec<JsonRow<'a>>,
    verdicts: Vec<Verdict<'a>>,
    densities: Vec<JsonDensity<'a>>,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    family: &'a str,
    guests: usize,
    pool_mib: u64,
    traces: u64,
    unavoidable_percent: f64,
    policies: Vec<Figures>,
}

#[derive(Serialize)]
struct Figures {
    policy: &'static str,
    pace: &'static str,
    told: &'static str,
    unmet_percent: f64,
    moved_gib: f64,
    touched_gib: f64,
    reports: u64,
    decisions: u64,
    refused_targets: u64,
}

#[derive(Serialize)]
struct Verdict<'a> {
    family: &'a str,
    guests: usize,
    unmet_ok: bool,
    moved_ok: bool,
    unmet_percent: f64,
    unmet_bound_percent: f64,
    moved_gib: f64,
    moved_bound_gib: f64,
    best_rival: &'a str,
    oracle_percent: Option<f64>,
    near_oracle: Option<bool>,
}

#[derive(Serialize)]
struct JsonDensity<'a> {
    family: &'a str,
    guests: Vec<(String, usize)>,
}

const fn pace(pace: Pace) -> &'static str {
    match pace {
        Pace::Own => "own",
        Pace::Ours => "ours",
    }
}

const fn told(told: Told) -> &'static str {
    match told {
        Told::Reports => "reports",
        Told::Demand => "demand",
        Told::Future => "future",
    }
}

/// Everything that was measured, as text.
///
/// # Errors
/// Never with these figures; the error is the serialiser's.
pub fn text(
    contestants: &[Contestant],
    rows: &[Row],
    judgements: &[Judgement],
    densities: &[Density],
) -> serde_json::Result<String> {
    let lab = Lab {
        rows: rows.iter().map(|row| json_row(row, contestants)).collect(),
        verdicts: judgements.iter().map(verdict).collect(),
        densities: densities
            .iter()
            .map(|density| JsonDensity {
                family: density.family,
                guests: contestants
                    .iter()
                    .map(Contestant::name)
                    .zip(density.guests.iter().copied())
                    .collect(),
            })
            .collect(),
    };
    serde_json::to_string_pretty(&lab)
}

fn json_row<'a>(row: &'a Row, contestants: &[Contestant]) -> JsonRow<'a> {
    JsonRow {
        family: &row.family,
        guests: row.guests,
        pool_mib: row.pool * 2,
        traces: row.traces,
        unavoidable_percent: row.unavoidable_percent,
        policies: contestants
            .iter()
            .zip(&row.outcomes)
            .map(|(contestant, outcome)| Figures {
                policy: contestant.entry.name,
                pace: pace(contestant.pace),
                told: told(contestant.entry.told),
                unmet_percent: outcome.unmet_percent(),
                moved_gib: outcome.moved_gib(),
                touched_gib: outcome.touched as f64 / 512.0,
                reports: outcome.reports,
                decisions: outcome.decisions,
                refused_targets: outcome.refused,
            })
            .collect(),
    }
}

fn verdict(judged: &Judgement) -> Verdict<'_> {
    Verdict {
        family: &judged.family,
        guests: judged.guests,
        unmet_ok: judged.unmet_ok(),
        moved_ok: judged.moved_ok(),
        unmet_percent: judged.ours.unmet_percent(),
        unmet_bound_percent: judged.unmet_bound,
        moved_gib: judged.ours.moved_gib(),
        moved_bound_gib: judged.moved_bound / 512.0,
        best_rival: &judged.best,
        oracle_percent: judged.oracle.map(|oracle| oracle.unmet_percent()),
        near_oracle: judged.near_oracle().map(|(_, near)| near),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;
    use crate::table::{contestants, row};

    #[test]
    fn the_figures_are_those_of_the_table() {
        let contestants = contestants();
        let family = families::named("surge").unwrap();
        let row = row(family, 2, 40_000, &[1], &contestants).unwrap();
        let judged = Judgement::of(&row, &contestants).unwrap();
        let text = text(&contestants, std::slice::from_ref(&row), &[judged], &[]).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let policies = read["rows"][0]["policies"].as_array().unwrap();
        assert_eq!(policies.len(), contestants.len());
        for ((figures, outcome), contestant) in policies.iter().zip(&row.outcomes).zip(&contestants)
        {
            assert_eq!(figures["policy"], contestant.entry.name);
            let percent = figures["unmet_percent"].as_f64().unwrap();
            assert!((percent - outcome.unmet_percent()).abs() < 1e-9);
        }
        assert_eq!(read["verdicts"][0]["family"], "surge");
    }
}
