//! Proxmox VE: guests are brought towards their minimum and a part of the rest by shares, at most 100 MiB at a time, those
//! short of free memory first when there is more to give, those with free memory first when there is less.
//!
//! Source: proxmox/pve-manager, `PVE/AutoBalloon.pm`, and `PVE/Service/pvestatd.pm` (every 10 s; the host's goal is a part of
//! its memory, by default 80 %; here it is what the host's reserve leaves, which an operator would set).

use super::{Entry, Told};
use crate::policy::Pace;
use crate::rival::{Paced, Rival, Room, Seen};

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "proxmox",
    what: "Proxmox VE: by shares, 100 MiB at a time",
    told: Told::Reports,
    paces: &[Pace::Own, Pace::Ours],
    make: |trace, pace| Box::new(Paced::new(Proxmox, pace, trace.reserve)),
}];

/// Most that a guest changes by at a time, in KiB.
const CHANGE_MAX_KIB: i64 = 100 * 1024;
/// A smaller deviation of the host from its goal is left alone, in KiB.
const DEAD_BAND_KIB: i64 = 10 * 1024;

/// A guest as the formula sees it, in one unit.
#[derive(Clone, Copy, Debug)]
struct Machine {
    minimum: i64,
    maximum: i64,
    shares: i64,
    has: i64,
    free: i64,
}

impl Machine {
    /// Whether it is not short of free memory.
    const fn has_enough(&self) -> bool {
        self.free > self.minimum / 4 && self.has >= self.minimum
    }
}

/// The limits of a round, in the machines' unit.
#[derive(Clone, Copy, Debug)]
struct Limits {
    change: i64,
    dead_band: i64,
}

/// What each should have, with `goal` more (or less) on the host.
fn balance(machines: &[Machine], goal: i64, limits: Limits) -> Vec<i64> {
    let mut targets: Vec<i64> = machines.iter().map(|machine| machine.has).collect();
    let all: Vec<usize> = (0..machines.len()).collect();
    let (enough, short): (Vec<usize>, Vec<usize>) =
        all.iter().partition(|index| machines[**index].has_enough());
    if goal > limits.dead_band {
        let rest = change(machines, &mut targets, &short, goal, limits.change);
        if rest >= goal {
            change(machines, &mut targets, &all, rest, limits.change);
        }
    } else if goal < -limits.dead_band {
        let rest = change(machines, &mut targets, &enough, goal, limits.change);
        if rest <= goal {
            change(machines, &mut targets, &all, rest, limits.change);
        }
    }
    targets
}

/// Hands `amount` (which may be negative) out among `list`; returns what is left of it.
fn change(
    machines: &[Machine],
    targets: &mut [i64],
    list: &[usize],
    amount: i64,
    most: i64,
) -> i64 {
    let mut rest = amount;
    let mut done = vec![false; machines.len()];
    loop {
        let open: Vec<usize> = list.iter().copied().filter(|index| !done[*index]).collect();
        let shares: i64 = open.iter().map(|index| machines[*index].shares).sum();
        let above: i64 = open
            .iter()
            .map(|index| targets[*index] - machines[*index].minimum)
            .sum();
        if rest == 0 || shares == 0 {
            return rest;
        }
        let to_share = above + rest;
        let mut moved = 0;
        for index in open {
            let machine = &machines[index];
            let part = (to_share as i128 * i128::from(machine.shares) / i128::from(shares)) as i64;
            let desired = (machine.minimum + part).clamp(machine.minimum, machine.maximum);
            let target = if amount > 0 && desired > machine.has {
                desired.min(machine.has + most)
            } else if desired < machine.has {
                desired.max(machine.has - most)
            } else {
                done[index] = true;
                continue;
            };
            moved += target - targets[index];
            targets[index] = target;
        }
        if moved == 0 {
            return rest;
        }
        rest -= moved;
    }
}

struct Proxmox;

impl Rival for Proxmox {
    fn interval_ms(&self) -> u64 {
        10_000
    }

    fn goals(&mut self, _: u64, room: &Room, guests: &[Seen], goals: &mut [u32]) {
        let machines: Vec<Machine> = guests
            .iter()
            .map(|seen| Machine {
                minimum: i64::from(seen.minimum()) * 2048,
                maximum: i64::from(seen.maximum()) * 2048,
                shares: i64::from(seen.settings.weight),
                has: i64::from(seen.held()) * 2048,
                free: seen.available_kib() as i64,
            })
            .collect();
        let given: i64 = machines.iter().map(|machine| machine.has).sum();
        let goal = i64::from(room.capacity) * 2048 - given;
        let limits = Limits {
            change: CHANGE_MAX_KIB,
            dead_band: DEAD_BAND_KIB,
        };
        for (goal, target) in goals.iter_mut().zip(balance(&machines, goal, limits)) {
            *goal = (target / 2048) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        change: 100,
        dead_band: 10,
    };

    const fn machine(shares: i64, has: i64, minimum: i64, free: i64) -> Machine {
        Machine {
            minimum,
            maximum: 2000,
            shares,
            has,
            free,
        }
    }

    /// Plays rounds until nothing changes, as `absim` of the source's own test does.
    fn settle(machines: &mut [Machine], mut goal: i64) -> Vec<i64> {
        loop {
            let targets = balance(machines, goal, LIMITS);
            let mut moved = 0;
            for (machine, target) in machines.iter_mut().zip(&targets) {
                let change = target - machine.has;
                machine.free = (machine.free + change).max(0);
                machine.has = *target;
                goal -= change;
                moved += change.abs();
            }
            if moved == 0 {
                return targets;
            }
        }
    }

    /// The values of pve-manager's `test/balloontest.pl`, first status: two machines of 1,000 MB, shares 2,000 and 1,000.
    #[test]
    fn the_first_table_of_the_published_test() {
        let two = [machine(2000, 1000, 1000, 0), machine(1000, 1000, 1000, 0)];
        assert_eq!(balance(&two, 0, LIMITS), [1000, 1000]);
        assert_eq!(balance(&two, 90, LIMITS), [1060, 1030]);
        assert_eq!(balance(&two, 150, LIMITS), [1100, 1050]);
        assert_eq!(balance(&two, 270, LIMITS), [1100, 1090]);
        assert_eq!(settle(&mut two.clone(), 180), [1120, 1060]);
        assert_eq!(settle(&mut two.clone(), 270), [1180, 1090]);
        assert_eq!(settle(&mut two.clone(), 600), [1300, 1300]);
        assert_eq!(settle(&mut two.clone(), 900), [1600, 1300]);
    }

    /// Its second status: the first is at its maximum.
    #[test]
    fn the_second_table_of_the_published_test() {
        let two = [machine(2000, 2000, 2000, 0), machine(1000, 1000, 1000, 0)];
        assert_eq!(balance(&two, 18, LIMITS), [2000, 1018]);
        assert_eq!(balance(&two, 500, LIMITS), [2000, 1100]);
    }

    /// Its third status: the last has free memory; then less than there was.
    #[test]
    fn the_third_table_of_the_published_test() {
        let mut three = [
            machine(2000, 2000, 2000, 0),
            machine(1000, 1007, 1000, 0),
            machine(1000, 1000, 1000, 512),
        ];
        assert_eq!(balance(&three, 11, LIMITS), [2000, 1018, 1000]);
        assert_eq!(balance(&three, 80, LIMITS), [2000, 1087, 1000]);
        assert_eq!(balance(&three, 200, LIMITS), [2000, 1107, 1000]);
        assert_eq!(settle(&mut three, 593), [2000, 1300, 1300]);
        assert_eq!(settle(&mut three.clone(), -200), [2000, 1200, 1200]);
        assert_eq!(settle(&mut three.clone(), -400), [2000, 1200, 1000]);
        assert_eq!(settle(&mut three.clone(), -593), [2000, 1007, 1000]);
    }
}
