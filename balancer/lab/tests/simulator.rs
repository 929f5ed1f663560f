//! What holds in the simulator under every policy, on every family: conservation, bounds and promises after each tick; and
//! that a run is a function of its trace.

use balancer_lab::families::{self, Family};
use balancer_lab::host::{Moment, play, watch};
use balancer_lab::mechanism::Mechanism;
use balancer_lab::policy::Pace;
use balancer_lab::table::{Contestant, contestants, is_rival};
use balancer_lab::trace::{Manner, Trace};
use protocol::memory::Account;
use std::sync::Arc;

const LENGTH_MS: u64 = 40_000;

fn claim(account: &Account) -> u32 {
    (account.assigned.0 + account.earmarked.0)
        .max(account.target.0)
        .max(account.minimum.0)
}

fn check(trace: &Trace, moment: &Moment<'_>, what: &str) {
    let host = moment.ledger.host();
    let accounts = moment.ledger.accounts();
    let assigned: u32 = accounts.iter().map(|account| account.assigned.0).sum();
    let claims: u32 = accounts.iter().map(claim).sum();
    let at = moment.now_ms;
    assert_eq!(host.total, trace.pool, "{what} at {at} ms");
    assert_eq!(host.granted.0, assigned, "{what} at {at} ms");
    assert_eq!(
        host.pool.0 + host.granted.0 + host.cleaning.0,
        trace.pool.0,
        "{what} at {at} ms"
    );
    assert_eq!(host.promised.0, claims - assigned, "{what} at {at} ms");
    assert!(
        claims <= trace.pool.0,
        "{what} at {at} ms: {claims} promised"
    );
    for (account, guest) in accounts.iter().zip(&trace.guests) {
        let bounds = guest.settings.bounds;
        assert!(
            (bounds.minimum..=bounds.maximum).contains(&account.target),
            "{what} at {at} ms: {account:?}"
        );
        assert!(
            account.assigned.0 + account.earmarked.0 <= bounds.maximum.0,
            "{what} at {at} ms: {account:?}"
        );
    }
}

fn watched(contestant: &Contestant, family: &Family, guests: usize) {
    let trace = Arc::new(family.trace(guests, LENGTH_MS, 11));
    let what = format!("{} on {}", contestant.name(), family.name);
    let mut policy = (contestant.entry.make)(&trace, contestant.pace);
    let outcome = watch(&trace, contestant.mechanism(), policy.as_mut(), |moment| {
        check(&trace, moment, &what);
    })
    .unwrap();
    // No policy may ask for what would be promised twice, or out of bounds: then it would be weaker than it is.
    assert_eq!(outcome.refused, 0, "{what}");
    assert!(outcome.unmet <= outcome.demand, "{what}");
}

#[test]
fn what_is_true_after_every_tick_under_every_policy() {
    for family in families::ALL {
        for contestant in contestants() {
            watched(&contestant, family, 5);
        }
    }
}

#[test]
fn a_run_is_a_function_of_its_trace() {
    for family in families::ALL {
        let make = |seed| Arc::new(family.trace(6, LENGTH_MS, seed));
        assert_eq!(make(3), make(3), "{}", family.name);
        assert_ne!(make(3).guests, make(4).guests, "{}", family.name);
        for contestant in contestants() {
            let outcome = || contestant.play(&make(3)).unwrap();
            assert_eq!(outcome(), outcome(), "{}", contestant.name());
        }
    }
}

/// Total demand of every family but the overcommitted one nearly always fits, and is not small beside what can be given.
#[test]
fn hosts_are_as_large_as_the_families_say() {
    for family in families::ALL {
        for guests in [2, 8, 64] {
            let trace = family.trace(guests, 300_000, 2);
            let capacity_kib = trace.capacity().mib() * 1024;
            let (mut over, mut sum, mut steps) = (0, 0.0, 0);
            for at_ms in (0..trace.length_ms).step_by(100) {
                let total: u64 = trace
                    .guests
                    .iter()
                    .filter(|guest| guest.start_ms <= at_ms)
                    .map(|guest| guest.demand.at(at_ms))
                    .sum();
                over += u32::from(total > capacity_kib);
                sum += total as f64;
                steps += 1;
            }
            let mean = sum / f64::from(steps) / capacity_kib as f64;
            let over = f64::from(over) / f64::from(steps);
            let what = format!(
                "{} with {guests}: mean {mean:.2}, over {over:.3}",
                family.name
            );
            if family.name == "overcommit" {
                assert!(over > 0.05, "{what}");
            } else {
                assert!(over <= 0.011 && (0.1..=0.71).contains(&mean), "{what}");
            }
            let peaks = trace
                .guests
                .iter()
                .map(|guest| guest.settings.bounds.maximum.0);
            let (least, most) = (peaks.clone().min().unwrap(), peaks.max().unwrap());
            assert!(most >= 7 * least, "{what}: {least} to {most}");
        }
    }
}

/// Demand never changes faster than a program touches memory.
#[test]
fn demand_moves_at_the_speed_of_programs() {
    for family in families::ALL {
        let trace = family.trace(6, 120_000, 5);
        for guest in &trace.guests {
            let points = guest.demand.points();
            for (from, to) in points.iter().zip(points.iter().skip(1)) {
                let ms = to.at_ms - from.at_ms;
                let most = families::TOUCH_KIB_S * ms / 1000 + families::TOUCH_KIB_S / 1000;
                let change = from.kib.abs_diff(to.kib);
                assert!(change <= most, "{}: {change} KiB in {ms} ms", family.name);
            }
        }
    }
}

/// Guests of the lossy family do not give as they are asked, and that is felt.
#[test]
fn who_refuses_keeps_what_it_has() {
    let mut trace = families::named("pingpong").unwrap().trace(4, 120_000, 1);
    let demand = contestants()
        .into_iter()
        .find(|contestant| contestant.entry.name == "demand")
        .unwrap();
    let willing = demand.play(&Arc::new(trace.clone())).unwrap();
    for guest in &mut trace.guests {
        guest.manner = Manner::Refuses;
    }
    let refusing = demand.play(&Arc::new(trace)).unwrap();
    assert!(
        refusing.unmet > 2 * willing.unmet,
        "{refusing:?} {willing:?}"
    );
    assert!(refusing.moved < willing.moved / 4);
}

/// A slower mechanism leaves more unmet under the same policy.
#[test]
fn speed_matters() {
    let trace = Arc::new(families::named("handover").unwrap().trace(8, 120_000, 1));
    let demand = contestants()
        .into_iter()
        .find(|contestant| contestant.entry.name == "demand")
        .unwrap();
    let unmet = |part: u64| {
        let mut policy = (demand.entry.make)(&trace, Pace::Ours);
        play(&trace, Mechanism::OURS.slower(part), policy.as_mut())
            .unwrap()
            .unmet
    };
    assert!(unmet(5) > 2 * unmet(1));
}

#[test]
fn there_are_rivals_at_both_paces_and_they_are_told_what_ours_is() {
    let rivals: Vec<Contestant> = contestants().into_iter().filter(is_rival).collect();
    for name in [
        "hyperv", "squeezed", "proxmox", "mom", "qubes", "esxi", "chromeos",
    ] {
        for pace in [Pace::Own, Pace::Ours] {
            let plays = |rival: &&Contestant| rival.entry.name == name && rival.pace == pace;
            assert_eq!(rivals.iter().filter(plays).count(), 1, "{name} {pace:?}");
        }
    }
    assert!(
        rivals
            .iter()
            .all(|rival| !["demand-true", "oracle"].contains(&rival.entry.name))
    );
}
