//! What-if: settings for the guests of a trace, and what they would have given.
//!
//! The maximum is what the guest wants at most and its buffer; the minimum what it hardly ever falls below; startup what it
//! wants when it starts, at least a quarter of the maximum. The buffer is the smallest, the same for all at first and then
//! guest by guest, with which no more is left unmet. A guest that is left short for longest is given more weight, as long as
//! that helps.

use crate::curve::Cursor;
use crate::host::{Outcome, WARM_UP_MS, watch};
use crate::mechanism::Mechanism;
use crate::policies;
use crate::policy::Pace;
use crate::trace::{GuestTrace, Trace};
use protocol::balancer::Settings;
use protocol::units::Pieces;
use rayon::prelude::*;
use std::fmt::Write as _;
use std::sync::Arc;

/// Buffers that are tried, in percent, the smallest first.
const BUFFERS: [u8; 7] = [5, 10, 15, 20, 30, 40, 50];
/// Weights that are tried.
const WEIGHTS: [u16; 3] = [5000, 7500, 10_000];
/// More unmet demand than this is worth a larger buffer, in percent.
const WORTH_PERCENT: f64 = 0.005;
/// Part of the time that a guest may want less than its minimum.
const RARELY: f64 = 0.02;
/// Density is counted at this much unmet demand, in percent.
const DENSE_PERCENT: f64 = 0.1;
/// The least minimum of a Linux guest, in MiB.
const LINUX_MIB: u64 = 64;

/// What came of a trace with some settings. Demand beyond a guest's maximum counts as unmet too: the maximum is a setting.
#[derive(Clone, Debug)]
pub struct Played {
    /// Unmet demand of all guests together, in percent.
    pub percent: f64,
    /// Moved memory and the rest.
    pub outcome: Outcome,
    /// Each guest's unmet demand, in percent of its demand.
    pub unmet_percent: Vec<f64>,
}

/// The advice.
#[derive(Clone, Debug)]
pub struct Advice {
    /// The trace with the settings that it came with.
    pub before: Played,
    /// The trace with the settings that are advised.
    pub after: Played,
    /// Those settings, in the guests' order.
    pub settings: Vec<Settings>,
    /// The smallest pool in which no more than a thousandth is unmet, with the settings before and after, in MiB.
    pub pool_mib: (Option<u64>, Option<u64>),
    /// What guests of a fixed size would need, each as much as it wants at most, in MiB.
    pub static_mib: u64,
}

/// Plays a trace with our policy.
///
/// # Errors
/// What guests start with does not fit the pool.
pub fn play(trace: &Arc<Trace>) -> Result<Played, String> {
    let entry = policies::all().next().ok_or("there is no policy")?;
    let mut policy = (entry.make)(trace, Pace::Ours);
    let mut sums = vec![(0u64, 0u64); trace.guests.len()];
    let mut cursors = vec![Cursor::default(); trace.guests.len()];
    let outcome = watch(trace, Mechanism::OURS, policy.as_mut(), |moment| {
        if moment.now_ms <= WARM_UP_MS {
            return;
        }
        let guests = trace.guests.iter().zip(moment.guests);
        for ((sum, cursor), (guest, level)) in sums.iter_mut().zip(&mut cursors).zip(guests) {
            if guest.start_ms <= moment.now_ms {
                let demand_kib = cursor.at(&guest.demand, moment.now_ms);
                sum.0 += demand_kib;
                sum.1 += demand_kib.saturating_sub(level.visible_kib);
            }
        }
    })?;
    let percent = |(demand, unmet): &(u64, u64)| *unmet as f64 * 100.0 / (*demand).max(1) as f64;
    let all = sums
        .iter()
        .fold((0, 0), |all, sum| (all.0 + sum.0, all.1 + sum.1));
    Ok(Played {
        percent: percent(&all),
        outcome,
        unmet_percent: sums.iter().map(percent).collect(),
    })
}

/// Advises.
///
/// # Errors
/// What guests start with does not fit the pool.
pub fn advise(trace: &Arc<Trace>) -> Result<Advice, String> {
    let before = play(trace)?;
    let tried: Result<Vec<(Trace, Played)>, String> = BUFFERS
        .par_iter()
        .map(|buffer| {
            let mut candidate = (**trace).clone();
            for guest in &mut candidate.guests {
                guest.settings = sized(guest, *buffer);
                guest.initial = guest.settings.bounds.startup;
            }
            shrink_starts(&mut candidate);
            let played = play(&Arc::new(candidate.clone()))?;
            Ok((candidate, played))
        })
        .collect();
    let tried = tried?;
    let least = tried
        .iter()
        .map(|(_, played)| played.percent)
        .fold(f64::INFINITY, f64::min);
    let (mut chosen, mut played) = tried
        .into_iter()
        .find(|(_, played)| played.percent <= least + WORTH_PERCENT)
        .ok_or("no buffer was tried")?;
    weigh(&mut chosen, &mut played)?;
    let peaks = trace.guests.iter().map(peak_mib).sum();
    Ok(Advice {
        settings: chosen.guests.iter().map(|guest| guest.settings).collect(),
        pool_mib: (least_pool_mib(trace), least_pool_mib(&chosen)),
        static_mib: peaks,
        before,
        after: played,
    })
}

fn peak_mib(guest: &GuestTrace) -> u64 {
    guest.demand.peak_kib().div_ceil(1024).max(LINUX_MIB)
}

/// A guest's settings by its demand alone.
fn sized(guest: &GuestTrace, buffer: u8) -> Settings {
    let with_buffer = |mib: u64| mib * 100 / (100 - u64::from(buffer));
    let last_ms = guest.demand.points().last().map_or(0, |point| point.at_ms);
    let mut levels: Vec<u64> = (guest.start_ms..=last_ms)
        .step_by(100)
        .map(|at_ms| guest.demand.at(at_ms).div_ceil(1024))
        .collect();
    let first = levels.first().copied().unwrap_or(0);
    levels.sort_unstable();
    let low = levels
        .get((levels.len() as f64 * RARELY) as usize)
        .copied()
        .unwrap_or(0);
    let maximum = with_buffer(peak_mib(guest)).max(LINUX_MIB);
    // A guest that can grow to more than four times its startup has too little ordinary memory for that.
    let startup = with_buffer(first).max(maximum.div_ceil(4)).max(LINUX_MIB);
    let minimum = with_buffer(low).clamp(LINUX_MIB, startup);
    Settings {
        buffer_percent: buffer,
        weight: 5000,
        ..crate::trace::settings(minimum, startup, maximum.max(startup))
    }
}

/// Where guests would start with more than there is, they start with less, at least their minimums, which go down too.
fn shrink_starts(trace: &mut Trace) {
    let capacity = u64::from(trace.capacity().0);
    let wanted: u64 = trace
        .guests
        .iter()
        .map(|guest| u64::from(guest.initial.0))
        .sum();
    if wanted <= capacity {
        return;
    }
    for guest in &mut trace.guests {
        let bounds = &mut guest.settings.bounds;
        let part = (u64::from(guest.initial.0) * capacity / wanted) as u32;
        bounds.startup = Pieces(part.max(1));
        bounds.minimum = bounds.minimum.min(bounds.startup);
        guest.initial = bounds.startup;
    }
}

/// Gives the guest that is short for longest more weight, as long as it and all together are better off.
fn weigh(trace: &mut Trace, played: &mut Played) -> Result<(), String> {
    for _ in 0..trace.guests.len() {
        let worst = (0..trace.guests.len()).max_by(|left, right| {
            played.unmet_percent[*left].total_cmp(&played.unmet_percent[*right])
        });
        let Some(worst) = worst else { return Ok(()) };
        if played.unmet_percent[worst] <= WORTH_PERCENT {
            return Ok(());
        }
        let weight = trace.guests[worst].settings.weight;
        let Some(more) = WEIGHTS.iter().find(|next| **next > weight) else {
            return Ok(());
        };
        let mut heavier = trace.clone();
        heavier.guests[worst].settings.weight = *more;
        let tried = play(&Arc::new(heavier.clone()))?;
        let better = tried.unmet_percent[worst] < played.unmet_percent[worst]
            && tried.percent <= played.percent;
        if !better {
            return Ok(());
        }
        (*trace, *played) = (heavier, tried);
    }
    Ok(())
}

/// The smallest pool in which no more than a thousandth is unmet; `None` when none up to 16 times the sum of maximums is.
fn least_pool_mib(trace: &Trace) -> Option<u64> {
    let sum = |of: fn(&GuestTrace) -> u32| trace.guests.iter().map(of).sum::<u32>();
    let mut low = sum(|guest| guest.initial.0).max(sum(|guest| guest.settings.bounds.minimum.0));
    let mut high = sum(|guest| guest.settings.bounds.maximum.0).max(low) + 1;
    let enough = |capacity: u32| {
        let mut tried = trace.clone();
        tried.pool = Pieces(capacity * 16 / 15 + 1);
        tried.reserve = Pieces(tried.pool.0 - capacity);
        play(&Arc::new(tried)).is_ok_and(|played| played.percent <= DENSE_PERCENT)
    };
    if !enough(high) {
        return None;
    }
    while low + 4 < high {
        let middle = low.midpoint(high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(Pieces(high * 16 / 15 + 1).mib())
}

/// The advice as a table.
#[must_use]
pub fn text(trace: &Trace, advice: &Advice) -> String {
    let mut out = format!(
        "{:<16} {:>8} {:>8} {:>8} {:>7} {:>7} {:>9} {:>9}\n",
        "guest", "minimum", "startup", "maximum", "buffer", "weight", "unmet %", "before %"
    );
    let rows = trace.guests.iter().zip(&advice.settings);
    let unmet = advice
        .after
        .unmet_percent
        .iter()
        .zip(&advice.before.unmet_percent);
    for ((guest, settings), (after, before)) in rows.zip(unmet) {
        let bounds = settings.bounds;
        let _ = writeln!(
            out,
            "{:<16} {:>8} {:>8} {:>8} {:>5} % {:>7} {:>9.3} {:>9.3}",
            guest.name,
            bounds.minimum.mib(),
            bounds.startup.mib(),
            bounds.maximum.mib(),
            settings.buffer_percent,
            settings.weight,
            after,
            before
        );
    }
    let _ = writeln!(
        out,
        "in this pool of {} MiB: {:.3} % of demand unmet, {:.1} GiB moved (with the settings it came with: {:.3} %, {:.1} GiB)",
        trace.pool.mib(),
        advice.after.percent,
        advice.after.outcome.moved_gib(),
        advice.before.percent,
        advice.before.outcome.moved_gib(),
    );
    let pool =
        |mib: Option<u64>| mib.map_or_else(|| "no pool".to_owned(), |mib| format!("{mib} MiB"));
    let _ = writeln!(
        out,
        "smallest pool with at most {DENSE_PERCENT} % unmet: {} (with the settings it came with: {}); guests of a fixed size need {} MiB{}",
        pool(advice.pool_mib.1),
        pool(advice.pool_mib.0),
        advice.static_mib,
        advice.pool_mib.1.map_or_else(String::new, |mib| format!(
            ", {:.2} times as much",
            advice.static_mib as f64 / mib as f64
        )),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;

    #[test]
    fn settings_follow_demand_and_are_allowed() {
        let trace = families::named("diurnal").unwrap().trace(6, 120_000, 2);
        for guest in &trace.guests {
            for buffer in BUFFERS {
                let bounds = sized(guest, buffer).bounds;
                assert!(bounds.minimum <= bounds.startup && bounds.startup <= bounds.maximum);
                let peak_kib = guest.demand.peak_kib();
                assert!(bounds.maximum.mib() * 1024 >= peak_kib);
                assert!(bounds.maximum.0 <= 4 * bounds.startup.0);
            }
        }
    }

    #[test]
    fn advice_heals_a_maximum_that_is_too_low_and_a_buffer_that_is_too_high() {
        let mut trace = families::named("diurnal").unwrap().trace(4, 60_000, 4);
        for guest in &mut trace.guests {
            let bounds = &mut guest.settings.bounds;
            bounds.maximum = Pieces(bounds.startup.0 + 2);
            guest.settings.buffer_percent = 80;
        }
        let trace = Arc::new(trace);
        let advice = advise(&trace).unwrap();
        assert!(advice.before.percent > 5.0, "{:?}", advice.before);
        assert!(advice.after.percent < 1.0, "{:?}", advice.after);
        assert_eq!(advice.pool_mib.0, None);
        let pool_mib = advice.pool_mib.1.unwrap();
        assert!(pool_mib < advice.static_mib * 3 / 2, "{pool_mib}");
        assert!(text(&trace, &advice).contains("no pool"));
    }

    #[test]
    fn the_smallest_pool_is_enough_and_a_smaller_one_is_not() {
        let trace = families::named("leak").unwrap().trace(4, 60_000, 4);
        let mib = least_pool_mib(&trace).unwrap();
        let with = |mib: u64| {
            let mut tried = trace.clone();
            tried.pool = Pieces::from_mib_ceil(mib);
            tried.reserve = Pieces(tried.pool.0 / 16);
            play(&Arc::new(tried)).unwrap().percent
        };
        assert!(with(mib + 4) <= DENSE_PERCENT);
        assert!(with(mib * 95 / 100) > DENSE_PERCENT);
    }
}
