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
    /// When it starts, in milliseconds.
    pub start_ms: u64,
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
    family("seesaw", "two halves alternate, 5 to 60 s", shapes::seesaw),
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
/// Multiples of this spread evenly between 0 and 1, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;
/// Mean demand is at most this part of what can be given.
const MEAN_PART: f64 = 0.70;
/// All but this part of the time, demand fits.
const FITS_PART: f64 = 0.99;

impl Family {
    /// Makes a trace of a host whose size fits its guests.
    #[must_use]
    pub fn trace(&self, guests: usize, length_ms: u64, seed: u64) -> Trace {
        let mut noise = Noise::new(seed, 1);
        let mut places: Vec<f64> = (0..guests)
            .map(|index| index as f64 / (guests.max(2) - 1) as f64)
            .collect();
        noise.shuffle(&mut places);
        let plan = self.plan(noise, places, length_ms);
        let capacity_kib = capacity_kib(&plan) * self.supply_percent / 100;
        plan.finish(self.name, capacity_kib, seed)
    }

    /// Makes a trace of a host of a given size. With one guest more the others stay as they are, as far as the family is not
    /// about what guests do together.
    #[must_use]
    pub fn trace_in(&self, capacity: Pieces, guests: usize, length_ms: u64, seed: u64) -> Trace {
        let places = (0..guests)
            .map(|index| (index as f64 * GOLDEN).fract())
            .collect();
        let plan = self.plan(Noise::new(seed, 1), places, length_ms);
        plan.finish(self.name, capacity.mib() * 1024, seed)
    }

    /// Guests at these places between the smallest and the largest.
    fn plan(&self, noise: Noise, places: Vec<f64>, length_ms: u64) -> Plan {
        let draft = |place: f64| Draft {
            peak_kib: (SMALL_MIB * 8f64.powf(place) * 1024.0) as u64,
            demand: Curve::default(),
            start_ms: 0,
            manner: Manner::Willing,
            noise_percent: 0,
        };
        let mut plan = Plan {
            noise,
            length_ms,
            guests: places.into_iter().map(draft).collect(),
        };
        (self.make)(&mut plan);
        plan
    }
}

impl Plan {
    fn finish(mut self, name: &str, capacity_kib: u64, seed: u64) -> Trace {
        self.guests.sort_by_key(|draft| draft.start_ms);
        // What all start with fits in any case, as long as the smallest minimums do.
        let peaks: u64 = self.guests.iter().map(|draft| draft.peak_kib).sum();
        let start = (0.75 * capacity_kib as f64 / peaks as f64).min(0.5);
        let guests: Vec<GuestTrace> = self
            .guests
            .into_iter()
            .enumerate()
            .map(|(index, draft)| {
                let startup_mib = (draft.part(start) / 1024).max(64);
                let maximum_mib = (draft.peak_kib * 5 / 4 / 1024).max(startup_mib);
                let settings = settings((startup_mib / 2).max(64), startup_mib, maximum_mib);
                GuestTrace {
                    name: format!("g{index}"),
                    settings,
                    start_ms: draft.start_ms,
                    initial: settings.bounds.startup,
                    manner: draft.manner,
                    noise_percent: draft.noise_percent,
                    demand: draft.demand,
                    assigned: None,
                }
            })
            .collect();
        host(name, self.length_ms, capacity_kib, guests, seed)
    }
}

/// A trace of guests on a host that can give so much, beside a reserve of 1/16 of its pool.
#[must_use]
pub fn host(
    name: &str,
    length_ms: u64,
    capacity_kib: u64,
    guests: Vec<GuestTrace>,
    seed: u64,
) -> Trace {
    let startups: u64 = guests.iter().map(|guest| guest.initial.mib()).sum();
    let capacity_mib = capacity_kib.div_ceil(1024).max(startups);
    let pool = Pieces::from_mib_ceil(capacity_mib * 16 / 15);
    Trace {
        name: name.to_owned(),
        length_ms,
        pool,
        reserve: pool.minus(Pieces::from_mib_ceil(capacity_mib)),
        guests,
        seed,
    }
}

fn capacity_kib(plan: &Plan) -> u64 {
    let curves: Vec<(u64, &Curve)> = plan
        .guests
        .iter()
        .map(|draft| (draft.start_ms, &draft.demand))
        .collect();
    fitting_kib(plan.length_ms, &curves)
}

/// How much a host should be able to give: so much that mean demand is at most 70 % of it, and that demand fits nearly
/// always. A guest counts from its start on.
#[must_use]
pub fn fitting_kib(length_ms: u64, curves: &[(u64, &Curve)]) -> u64 {
    let mut cursors = vec![Cursor::default(); curves.len()];
    let mut totals: Vec<u64> = (0..length_ms / 100)
        .map(|step| {
            cursors
                .iter_mut()
                .zip(curves)
                .filter(|(_, (start_ms, _))| *start_ms <= step * 100)
                .map(|(cursor, (_, curve))| cursor.at(curve, step * 100))
                .sum()
        })
        .collect();
    let mean = totals.iter().sum::<u64>() as f64 / totals.len().max(1) as f64;
    totals.sort_unstable();
    let index = (totals.len() as f64 * FITS_PART) as usize;
    let high = totals.get(index).or(totals.last()).copied().unwrap_or(0);
    high.max((mean / MEAN_PART) as u64)
}
