//! The families of traces: what guests do, in ways that real ones do. Each is a rule and a seed, so that nobody can tune to
//! one trace.

mod shapes;

use crate::curve::{Cursor, Curve};
use crate::noise::Noise;
use crate::trace::{GuestTrace, Manner, Trace, settings};
use protocol::units::Pieces;

/// How fast a program touches memory: 1 GiB a second, in KiB. Every step of demand is a ramp of that speed.
pub const TOUCH_KIB_S: u64 = 1024 * 1024;

/// How demand is made.
pub struct Family {
    /// What `--family` names it by.
    pub name: &'static str,
    /// What it is, in a line.
    pub what: &'static str,
    /// Fills in the guests' demand.
    make: fn(&mut Plan),
    /// What there is to give, in percent of what the family is given otherwise.
    supply_percent: u64,
}

/// A trace while it is made.
pub struct Plan {
    /// Random numbers.
    pub noise: Noise,
    /// How long it is, in milliseconds.
    pub length_ms: u64,
    /// The guests.
    pub guests: Vec<Draft>,
}

/// A guest while its trace is made.
pub struct Draft {
    /// The most that it wants, in KiB.
    pub peak_kib: u64,
    /// What it wants.
    pub demand: Curve,
    /// How it gives back.
    pub manner: Manner,
    /// How wrong its statistics are.
    pub noise_percent: u32,
}

impl Draft {
    /// A part of its peak, in KiB.
    #[must_use]
    pub fn part(&self, part: f64) -> u64 {
        (self.peak_kib as f64 * part) as u64
    }
}

const fn family(name: &'static str, what: &'static str, make: fn(&mut Plan)) -> Family {
    Family {
        name,
        what,
        make,
        supply_percent: 100,
    }
}

/// All families.
pub const ALL: &[Family] = &[
    family("steady", "levels that hardly change", shapes::steady),
    family("diurnal", "slow waves", shapes::diurnal),
    family("bursty", "Pareto on and off", shapes::bursty),
    family("batch", "jobs, one after another", shapes::batch),
    family("leak", "slow growth, then a restart", shapes::leak),
    family(
        "pingpong",
        "two halves alternate, 0.2 to 60 s",
        shapes::pingpong,
    ),
    family("handover", "one ends as another begins", shapes::handover),
    family("surge", "all rise together", shapes::surge),
    family("bootstorm", "all start at once", shapes::bootstorm),
    family("noisy", "statistics that are wrong", shapes::noisy),
    family(
        "lossy",
        "some give back late, in part or never",
        shapes::lossy,
    ),
    Family {
        name: "overcommit",
        what: "bursty, with too little for all",
        make: shapes::bursty,
        supply_percent: 80,
    },
];

/// The family of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Family> {
    ALL.iter().find(|family| family.name == name)
}

/// The smallest guest's peak, in MiB; the largest one's is eight times that.
const SMALL_MIB: f64 = 256.0;
/// Mean demand is at most this part of what can be given.
const MEAN_PART: f64 = 0.70;
/// All but this part of the time, demand fits.
const FITS_PART: f64 = 0.99;

impl Family {
    /// Makes a trace.
    #[must_use]
    pub fn trace(&self, guests: usize, length_ms: u64, seed: u64) -> Trace {
        let mut noise = Noise::new(seed, 1);
        let mut sizes: Vec<f64> = (0..guests)
            .map(|index| {
                let part = index as f64 / (guests.max(2) - 1) as f64;
                SMALL_MIB * 8f64.powf(part)
            })
            .collect();
        noise.shuffle(&mut sizes);
        let mut plan = Plan {
            noise,
            length_ms,
            guests: sizes
                .into_iter()
                .map(|mib| Draft {
                    peak_kib: (mib * 1024.0) as u64,
                    demand: Curve::default(),
                    manner: Manner::Willing,
                    noise_percent: 0,
                })
                .collect(),
        };
        (self.make)(&mut plan);
        plan.finish(self.name, self.supply_percent, seed)
    }
}

impl Plan {
    fn finish(self, name: &str, supply_percent: u64, seed: u64) -> Trace {
        let capacity_kib = self.capacity_kib() * supply_percent / 100;
        // What all start with, and the minimums, fit in any case.
        let peaks: u64 = self.guests.iter().map(|draft| draft.peak_kib).sum();
        let start = (0.75 * capacity_kib as f64 / peaks as f64).min(0.5);
        let guests: Vec<GuestTrace> = self
            .guests
            .into_iter()
            .enumerate()
            .map(|(index, draft)| {
                let startup_mib = (draft.part(start) / 1024).max(64);
                let maximum_mib = (draft.peak_kib * 5 / 4 / 1024).max(startup_mib);
                GuestTrace {
                    name: format!("g{index}"),
                    settings: settings((startup_mib / 2).max(64), startup_mib, maximum_mib),
                    manner: draft.manner,
                    noise_percent: draft.noise_percent,
                    demand: draft.demand,
                    assigned: None,
                }
            })
            .collect();
        let startups: u64 = guests
            .iter()
            .map(|guest| guest.settings.bounds.startup.mib())
            .sum();
        let capacity_mib = (capacity_kib / 1024).max(startups);
        // The reserve is 1/16 of the pool.
        let pool = Pieces::from_mib_ceil(capacity_mib * 16 / 15);
        Trace {
            name: name.to_owned(),
            length_ms: self.length_ms,
            pool,
            reserve: pool.minus(Pieces::from_mib_ceil(capacity_mib)),
            guests,
            seed,
        }
    }

    /// What is there to be given: so much that mean demand is at most 70 % of it, and that demand fits nearly always.
    fn capacity_kib(&self) -> u64 {
        let mut cursors = vec![Cursor::default(); self.guests.len()];
        let mut totals: Vec<u64> = (0..self.length_ms / 100)
            .map(|step| {
                cursors
                    .iter_mut()
                    .zip(&self.guests)
                    .map(|(cursor, draft)| cursor.at(&draft.demand, step * 100))
                    .sum()
            })
            .collect();
        let mean = totals.iter().sum::<u64>() as f64 / totals.len().max(1) as f64;
        totals.sort_unstable();
        let index = (totals.len() as f64 * FITS_PART) as usize;
        let high = totals.get(index).or(totals.last()).copied().unwrap_or(0);
        high.max((mean / MEAN_PART) as u64)
    }
}
