//! Qubes' qmemman: everybody gets 1.3 times what it uses, at least 200 MiB; the rest is shared in proportion to that.
//!
//! Source: QubesOS/qubes-core-admin, `qubes/qmemman/algo.py` (the factor, the two ways of balancing) and `systemstate.py`
//! (what change is worth a balance); a domain tells what it uses when that changed by 30,000 kB, looked at every 0.1 s
//! (qubes-linux-utils, `qmemman/meminfo-writer.c` and its service).

use super::{Entry, Told};
use crate::policy::Pace;
use crate::rival::{Paced, Rival, Room, Seen};

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "qubes",
    what: "Qubes' qmemman: 1.3 x used, the rest in proportion",
    told: Told::Reports,
    paces: &[Pace::Own, Pace::Ours],
    make: |trace, pace| Box::new(Paced::new(Qubes::default(), pace, trace.reserve)),
}];

/// `CACHE_FACTOR`, in tenths.
const CACHE_TENTHS: u64 = 13;
/// `MIN_PREFMEM`, in KiB.
const PREFERRED_MIN_KIB: u64 = 200 * 1024;
/// What a domain's use has to change by before it says so, in KiB.
const TOLD_CHANGE_KIB: u64 = 30_000;
/// A donor with less to give than this is left alone, in KiB.
const DONATION_MIN_KIB: i64 = 10 * 1024;
/// Under its preference a domain is served when it gets more than this, in KiB.
const CHANGE_UNDER_PREFERRED_KIB: i64 = 15 * 1024;
/// Otherwise a balance has to move more than this, in KiB.
const TRANSFER_MIN_KIB: i64 = 150 * 1024;

#[derive(Default)]
struct Qubes {
    /// What each domain said last that it uses, in KiB.
    used_kib: Vec<u64>,
}

/// A domain as the formula sees it, in KiB.
#[derive(Clone, Copy, Debug)]
struct Domain {
    preferred: i64,
    /// The most of what it has and what it was promised.
    actual: i64,
    maximum: i64,
}

fn preferred_kib(used_kib: u64, maximum_kib: u64) -> i64 {
    (used_kib * CACHE_TENTHS / 10)
        .min(maximum_kib)
        .max(PREFERRED_MIN_KIB) as i64
}

/// What each domain should have, in KiB, with `free` to give.
fn balance(free: i64, domains: &[Domain]) -> Vec<i64> {
    let needed: i64 = domains.iter().map(|dom| dom.preferred - dom.actual).sum();
    let available = free - needed;
    if available > 0 {
        enough(available, domains)
    } else {
        low(free, domains)
    }
}

/// Everybody at its preference, and what is available beyond that in proportion to it.
fn enough(available: i64, domains: &[Domain]) -> Vec<i64> {
    let all: i64 = domains.iter().map(|dom| dom.preferred).sum();
    let mut left = 0;
    let mut takers = 0;
    let mut targets: Vec<i64> = domains
        .iter()
        .map(|dom| {
            let part = dom.preferred as i128 * i128::from(available) / i128::from(all.max(1));
            let target = (dom.preferred + part as i64) * 999 / 1000;
            if target > dom.maximum {
                left += target - dom.maximum;
                dom.maximum
            } else {
                takers += 1;
                target
            }
        })
        .collect();
    while left > 0 && takers > 0 {
        let bonus = left / takers * 999 / 1000;
        left = 0;
        if bonus == 0 {
            break;
        }
        for (target, dom) in targets.iter_mut().zip(domains) {
            if *target >= dom.maximum {
                continue;
            }
            *target += bonus;
            if *target >= dom.maximum {
                left += *target - dom.maximum;
                *target = dom.maximum;
                takers -= 1;
            }
        }
    }
    targets
}

/// Donors go down to their preference; what that and the free memory give is shared by the others in proportion to theirs.
fn low(free: i64, domains: &[Domain]) -> Vec<i64> {
    let is_donor = |dom: &Domain| dom.preferred < dom.actual || dom.actual >= dom.maximum;
    let mut targets: Vec<i64> = domains.iter().map(|dom| dom.actual).collect();
    // As published: what a donor gives is taken off what there is to share, and comes with a later balance, as free memory.
    let mut squeezed = free;
    for (target, dom) in targets.iter_mut().zip(domains) {
        let spare = dom.actual - dom.preferred;
        if is_donor(dom) && spare >= DONATION_MIN_KIB {
            squeezed -= spare;
            *target = dom.preferred;
        }
    }
    if squeezed < 0 {
        return targets;
    }
    let all: i64 = domains
        .iter()
        .filter(|dom| !is_donor(dom))
        .map(|dom| dom.preferred)
        .sum();
    for (target, dom) in targets.iter_mut().zip(domains) {
        if !is_donor(dom) {
            let part = dom.preferred as i128 * i128::from(squeezed) / i128::from(all.max(1));
            *target = ((dom.actual + part as i64) * 999 / 1000).min(dom.maximum);
        }
    }
    targets
}

/// Whether a balance is worth its while.
fn significant(domains: &[Domain], targets: &[i64], before: &[i64]) -> bool {
    let mut transfer = 0;
    for ((dom, target), before) in domains.iter().zip(targets).zip(before) {
        let change = target - before;
        if *before < dom.preferred && change > CHANGE_UNDER_PREFERRED_KIB {
            return true;
        }
        transfer += change.abs();
    }
    transfer > TRANSFER_MIN_KIB
}

impl Rival for Qubes {
    fn interval_ms(&self) -> u64 {
        100
    }

    fn goals(&mut self, _: u64, room: &Room, guests: &[Seen], goals: &mut [u32]) {
        self.used_kib.resize(guests.len(), 0);
        let domains: Vec<Domain> = guests
            .iter()
            .zip(&mut self.used_kib)
            .map(|(seen, told)| {
                if seen.used_kib().abs_diff(*told) >= TOLD_CHANGE_KIB {
                    *told = seen.used_kib();
                }
                let maximum = u64::from(seen.maximum()) * 2048;
                Domain {
                    preferred: preferred_kib(*told, maximum),
                    actual: i64::from(seen.held().max(seen.account.target.0)) * 2048,
                    maximum: maximum as i64,
                }
            })
            .collect();
        let given: i64 = domains.iter().map(|dom| dom.actual).sum();
        let free = i64::from(room.capacity) * 2048 - given;
        let targets = balance(free, &domains);
        let before: Vec<i64> = guests
            .iter()
            .map(|seen| i64::from(seen.account.target.0) * 2048)
            .collect();
        if significant(&domains, &targets, &before) {
            for (goal, target) in goals.iter_mut().zip(targets) {
                *goal = (target.max(0) / 2048) as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1024;

    fn domain(used_mib: u64, actual_mib: i64, maximum_mib: i64) -> Domain {
        Domain {
            preferred: preferred_kib(used_mib * 1024, maximum_mib as u64 * 1024),
            actual: actual_mib * MIB,
            maximum: maximum_mib * MIB,
        }
    }

    /// `pref_mem` of algo.py: 1.3 x used, at least 200 MiB, at most the maximum.
    #[test]
    fn the_preference() {
        assert_eq!(preferred_kib(1000 * 1024, 4000 * 1024), 1300 * MIB);
        assert_eq!(preferred_kib(100 * 1024, 4000 * 1024), 200 * MIB);
        assert_eq!(preferred_kib(1000 * 1024, 1200 * 1024), 1200 * MIB);
    }

    /// `balance_when_enough_mem`: preferences 1300 and 650, 4000 MiB in all: 2050 are left and shared 2 to 1, less 1/1000.
    #[test]
    fn with_enough_the_rest_is_shared_in_proportion() {
        let domains = [domain(1000, 2000, 9000), domain(500, 1000, 9000)];
        let targets = balance(1000 * MIB, &domains);
        let of = |pref: f64| (pref + pref / 1950.0 * 2050.0) * 0.999;
        for (target, pref) in targets.iter().zip([1300.0, 650.0]) {
            let mib = *target as f64 / MIB as f64;
            assert!((mib - of(pref)).abs() < 1.0, "{mib}");
        }
        // With a maximum of 2000 the first leaves what is over to the second.
        let domains = [domain(1000, 2000, 2000), domain(500, 1000, 9000)];
        let targets = balance(1000 * MIB, &domains);
        assert_eq!(targets[0], 2000 * MIB);
        assert!(targets[1] > 1980 * MIB, "{targets:?}");
    }

    /// `balance_when_low_on_mem`: the donor goes to its preference, and as long as it has not given, nobody is given more
    /// than is free.
    #[test]
    fn with_too_little_donors_give_first() {
        let domains = [domain(500, 1500, 5000), domain(3000, 2000, 5000)];
        assert_eq!(balance(100 * MIB, &domains), [650 * MIB, 2000 * MIB]);
        // It has given, and 500 MiB are free: they are shared as 650 to 3900, less 1/1000.
        let domains = [domain(500, 650, 5000), domain(3000, 2000, 5000)];
        let targets = balance(500 * MIB, &domains);
        let near = |kib: i64, mib: f64| (kib as f64 / MIB as f64 - mib).abs() < 0.5;
        assert!(near(targets[0], (650.0 + 500.0 / 7.0) * 0.999), "{targets:?}");
        assert!(near(targets[1], (2000.0 + 3000.0 / 7.0) * 0.999), "{targets:?}");
    }

    /// `is_balance_req_significant`.
    #[test]
    fn small_changes_are_left_alone_unless_somebody_lacks() {
        let domains = [domain(1000, 1300, 4000), domain(1000, 1500, 4000)];
        let before = [1400 * MIB, 1500 * MIB];
        assert!(!significant(
            &domains,
            &[1450 * MIB, 1450 * MIB],
            &before
        ));
        assert!(significant(&domains, &[1500 * MIB, 1420 * MIB], &before));
        assert!(significant(
            &domains,
            &[1300 * MIB, 1500 * MIB],
            &[1280 * MIB, 1500 * MIB]
        ));
    }
}
