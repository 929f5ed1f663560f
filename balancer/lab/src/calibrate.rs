//! A recording of real guests, replayed: how far the simulation's assigned memory is from the real one.

use crate::host::{Moment, watch};
use crate::mechanism::Mechanism;
use crate::policies;
use crate::policy::Pace;
use crate::trace::Trace;
use std::fmt::Write as _;
use std::sync::Arc;

/// The most that a guest's mean absolute difference may be, in percent of its recorded mean.
pub const DIFFERENCE_MAX_PERCENT: f64 = 5.0;

/// One guest, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its name.
    pub guest: String,
    /// The mean of what it was recorded to have, in MiB.
    pub recorded_mib: f64,
    /// The mean of what it had in the simulation at the same moments.
    pub simulated_mib: f64,
    /// The mean absolute difference, in percent of the recorded mean.
    pub percent: f64,
    /// The moments that were compared.
    pub moments: Vec<Compared>,
}

/// One guest at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// What it was recorded to have, in MiB.
    pub recorded_mib: f64,
    /// What it had in the simulation, in MiB.
    pub simulated_mib: f64,
}

/// Replays a recording with our policy.
///
/// # Errors
/// No guest of it has assigned memory, or what guests start with does not fit.
pub fn compare(trace: &Arc<Trace>) -> Result<Vec<Difference>, String> {
    let mut series = vec![Vec::new(); trace.guests.len()];
    let entry = policies::all().next().ok_or("there is no policy")?;
    let mut policy = (entry.make)(trace, Pace::Ours);
    watch(trace, Mechanism::OURS, policy.as_mut(), |moment| {
        note(trace, moment, &mut series);
    })?;
    let differences: Vec<Difference> = trace
        .guests
        .iter()
        .zip(series)
        .filter(|(_, series)| !series.is_empty())
        .map(|(guest, series)| difference(&guest.name, series))
        .collect();
    if differences.is_empty() {
        return Err(
            "no guest has the column `assigned_mib`: record one with `run --record`".into(),
        );
    }
    Ok(differences)
}

fn difference(guest: &str, series: Vec<Compared>) -> Difference {
    let mean = |of: fn(&Compared) -> f64| series.iter().map(of).sum::<f64>() / series.len() as f64;
    let recorded_mib = mean(|compared| compared.recorded_mib);
    let apart_mib = mean(|compared| (compared.recorded_mib - compared.simulated_mib).abs());
    Difference {
        guest: guest.to_owned(),
        recorded_mib,
        simulated_mib: mean(|compared| compared.simulated_mib),
        percent: apart_mib * 100.0 / recorded_mib.max(1.0),
        moments: series,
    }
}

/// Compares what was recorded up to now and not compared yet.
fn note(trace: &Trace, moment: &Moment<'_>, series: &mut [Vec<Compared>]) {
    let accounts = moment.ledger.accounts();
    for ((guest, account), series) in trace.guests.iter().zip(accounts).zip(series) {
        let Some(assigned) = &guest.assigned else {
            continue;
        };
        while let Some(point) = assigned.points().get(series.len())
            && point.at_ms <= moment.now_ms
        {
            series.push(Compared {
                at_ms: point.at_ms,
                recorded_mib: point.kib as f64 / 1024.0,
                simulated_mib: account.assigned.mib() as f64,
            });
        }
    }
}

/// Every moment of every guest as CSV, for plotting.
#[must_use]
pub fn csv(differences: &[Difference]) -> String {
    let mut out = "time_s,guest,recorded_mib,simulated_mib\n".to_owned();
    for difference in differences {
        for compared in &difference.moments {
            let _ = writeln!(
                out,
                "{},{},{},{}",
                compared.at_ms as f64 / 1000.0,
                difference.guest,
                compared.recorded_mib,
                compared.simulated_mib
            );
        }
    }
    out
}

/// The comparison as a table.
#[must_use]
pub fn text(differences: &[Difference]) -> String {
    let mut out = format!(
        "{:<16} {:>8} {:>13} {:>14} {:>12}\n",
        "guest", "moments", "recorded MiB", "simulated MiB", "difference"
    );
    for difference in differences {
        let _ = writeln!(
            out,
            "{:<16} {:>8} {:>13.1} {:>14.1} {:>10.2} %{}",
            difference.guest,
            difference.moments.len(),
            difference.recorded_mib,
            difference.simulated_mib,
            difference.percent,
            if difference.percent > DIFFERENCE_MAX_PERCENT {
                " TOO FAR"
            } else {
                ""
            }
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Curve, Point};
    use crate::families;

    /// What the simulation itself does is recorded and compared with itself, exactly and with a tenth more.
    #[test]
    fn a_recording_of_the_simulation_differs_by_what_was_added() {
        let original = Arc::new(families::named("bursty").unwrap().trace(4, 60_000, 5));
        let mut recorded: Vec<Vec<Point>> = vec![Vec::new(); 4];
        let mut policy = (policies::all().next().unwrap().make)(&original, Pace::Ours);
        watch(&original, Mechanism::OURS, policy.as_mut(), |moment| {
            if moment.now_ms % 1000 == 0 {
                for (points, account) in recorded.iter_mut().zip(moment.ledger.accounts()) {
                    points.push(Point {
                        at_ms: moment.now_ms,
                        kib: account.assigned.mib() * 1024,
                    });
                }
            }
        })
        .unwrap();
        for (factor, percent) in [(10, 0.0), (11, 100.0 / 11.0)] {
            let mut trace = (*original).clone();
            for (guest, points) in trace.guests.iter_mut().zip(&recorded) {
                let points = points
                    .iter()
                    .map(|point| Point {
                        kib: point.kib * factor / 10,
                        ..*point
                    })
                    .collect();
                guest.assigned = Some(Curve::through(points));
            }
            let differences = compare(&Arc::new(trace)).unwrap();
            assert_eq!(differences.len(), 4);
            for difference in &differences {
                assert_eq!(difference.moments.len(), 60);
                assert!((difference.percent - percent).abs() < 0.2, "{difference:?}");
            }
            assert_eq!(text(&differences).contains("TOO FAR"), factor == 11);
        }
    }

    #[test]
    fn a_trace_without_assigned_memory_is_refused() {
        let trace = Arc::new(families::named("steady").unwrap().trace(2, 20_000, 1));
        assert!(compare(&trace).unwrap_err().contains("assigned_mib"));
    }
}
