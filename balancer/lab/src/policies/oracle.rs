//! The oracle with our speed limits: it knows what every guest will want, and moves memory as ours does.
//!
//! There are two, and the better one counts. `oracle` serves what a guest wants now first, then what it will want within
//! 100 ms, then within 200 ms, and so on. `oracle-far` serves first what a guest wants for all of the next 30 s, then what it
//! wants for seven eighths of them, and so on: where memory cannot follow demand this is better. Where a step does not fit for
//! all, it is shared in proportion; what is left stays where it is. Both are bounds that can be reached, not the least that is
//! possible.

use super::{Entry, Told};
use crate::policy::{Answer, Pace, Policy, Room, Target, Urgent, View};
use crate::trace::Trace;
use protocol::balancer::{Report, Settings};
use protocol::memory::Account;
use protocol::units::Pieces;
use std::collections::VecDeque;
use std::sync::Arc;

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "oracle",
        what: "knows the future, moves memory as ours does",
        told: Told::Future,
        paces: &[Pace::Ours],
        make: |trace, _| Box::new(Oracle::new(trace, near)),
    },
    Entry {
        name: "oracle-far",
        what: "the same, with the next 30 s in mind rather than the next moment",
        told: Told::Future,
        paces: &[Pace::Ours],
        make: |trace, _| Box::new(Oracle::new(trace, far)),
    },
];

/// It looks at demand on a grid of so many milliseconds.
const GRID_MS: u64 = 50;
/// How far it looks ahead, in steps of the grid.
const AHEAD: [usize; LEVELS] = [1, 2, 4, 10, 20, 40, 100, 200];
/// Steps in which a guest is served.
const LEVELS: usize = 8;
/// How far the far one looks, and how often, in steps of the grid.
const FAR: usize = 600;
const FAR_EVERY: usize = 20;

/// For each grid step: pieces for each level.
type Wants = Vec<[u32; LEVELS]>;

struct Oracle {
    trace: Arc<Trace>,
    /// For each guest what it is served in which order.
    wants: Vec<Wants>,
    started: usize,
    /// What a guest waits for that is about to start.
    waiting: u32,
}

impl Oracle {
    fn new(trace: &Arc<Trace>, sight: fn(&[u32]) -> Wants) -> Self {
        let steps = (trace.length_ms / GRID_MS + 2) as usize;
        let wants = trace
            .guests
            .iter()
            .map(|guest| {
                let bounds = guest.settings.bounds;
                let mut cursor = crate::curve::Cursor::default();
                let levels: Vec<u32> = (0..steps)
                    .map(|step| {
                        let kib = cursor.at(&guest.demand, step as u64 * GRID_MS);
                        let pieces = kib.div_ceil(2048) as u32;
                        pieces.clamp(bounds.minimum.0, bounds.maximum.0)
                    })
                    .collect();
                sight(&levels)
            })
            .collect();
        Self {
            trace: Arc::clone(trace),
            wants,
            started: 0,
            waiting: 0,
        }
    }

    /// What each guest is to have.
    fn goals(&self, now_ms: u64, held: impl Iterator<Item = u32>) -> Vec<u32> {
        let step = (now_ms / GRID_MS) as usize;
        let rows: Vec<&[u32; LEVELS]> = self
            .wants
            .iter()
            .take(self.started)
            .map(|rows| &rows[step.min(rows.len() - 1)])
            .collect();
        let mut goals: Vec<u32> = self
            .trace
            .guests
            .iter()
            .take(self.started)
            .map(|guest| guest.settings.bounds.minimum.0)
            .collect();
        let taken = goals.iter().sum::<u32>() + self.waiting;
        let mut left = self.trace.capacity().0.saturating_sub(taken);
        for column in 0..LEVELS {
            raise(&mut goals, rows.iter().map(|row| row[column]), &mut left);
        }
        // Surplus stays.
        raise(&mut goals, held, &mut left);
        goals
    }
}

/// The most that is wanted within each look ahead.
fn near(levels: &[u32]) -> Wants {
    let mut wants = vec![[0; LEVELS]; levels.len()];
    for (column, ahead) in AHEAD.iter().enumerate() {
        for (row, highest) in wants.iter_mut().zip(highest_ahead(levels, *ahead)) {
            row[column] = highest;
        }
    }
    wants
}

/// What is wanted for eight eighths of the next 30 s, for seven, and so on.
fn far(levels: &[u32]) -> Wants {
    let mut wants = Vec::with_capacity(levels.len());
    let mut row = [0; LEVELS];
    for step in 0..levels.len() {
        if step % FAR_EVERY == 0 {
            let until = (step + FAR).min(levels.len());
            let mut ahead: Vec<u32> = levels[step..until].iter().copied().step_by(4).collect();
            ahead.sort_unstable();
            for (column, level) in row.iter_mut().enumerate() {
                *level = ahead[(ahead.len() * (column + 1) / LEVELS).max(1) - 1];
            }
        }
        wants.push(row);
    }
    wants
}

/// Raises goals towards `to`, in proportion when `left` is not enough.
fn raise(goals: &mut [u32], to: impl Iterator<Item = u32>, left: &mut u32) {
    let steps: Vec<u32> = to
        .zip(goals.iter())
        .map(|(to, goal)| to.saturating_sub(*goal))
        .collect();
    let sum: u64 = steps.iter().map(|step| u64::from(*step)).sum();
    let budget = *left;
    for (goal, step) in goals.iter_mut().zip(steps) {
        let part = if sum <= u64::from(budget) {
            step
        } else {
            ((u64::from(step) * u64::from(budget)).div_ceil(sum) as u32).min(*left)
        };
        *goal += part;
        *left -= part;
    }
}

/// For each position the highest value from there to `ahead` positions on.
fn highest_ahead(values: &[u32], ahead: usize) -> Vec<u32> {
    let mut highest = vec![0; values.len()];
    let mut window: VecDeque<usize> = VecDeque::new();
    for index in (0..values.len()).rev() {
        while window
            .back()
            .is_some_and(|last| values[*last] <= values[index])
        {
            window.pop_back();
        }
        window.push_back(index);
        while window.front().is_some_and(|first| *first > index + ahead) {
            window.pop_front();
        }
        highest[index] = window.front().map_or(0, |first| values[*first]);
    }
    highest
}

impl Policy for Oracle {
    fn make_room(&mut self, _: u64, settings: &Settings, view: &View<'_>) -> Room {
        self.waiting = settings.bounds.startup.0;
        if self.waiting + self.trace.reserve.0 <= view.unpromised() {
            Room::Ready
        } else {
            Room::Wait
        }
    }

    fn started(&mut self, _: u64, _: &Settings) {
        self.waiting = 0;
        self.started += 1;
    }

    fn report(&mut self, _: u64, _: usize, _: &Report) -> Answer {
        Answer {
            in_ms: 1000,
            keep: Pieces(u32::MAX),
            urgent: Urgent::No,
        }
    }

    fn decide(&mut self, now_ms: u64, view: &View<'_>, targets: &mut Vec<Target>) {
        let held = |account: &Account| account.assigned.0 + account.earmarked.0;
        let goals = self.goals(now_ms, view.accounts.iter().map(held));
        let mut budget = view
            .unpromised()
            .saturating_sub(self.trace.reserve.0 + self.waiting);
        let mut needs = Vec::new();
        let now = self.trace.guests.iter().zip(&self.wants);
        for (guest, ((account, goal), (_, rows))) in
            view.accounts.iter().zip(&goals).zip(now).enumerate()
        {
            let claim = |target: u32| held(account).max(target).max(account.minimum.0);
            let (before, after) = (claim(account.target.0), claim(*goal));
            if *goal < account.target.0 || before == after {
                budget += before.saturating_sub(after);
                if *goal != account.target.0 {
                    targets.push(Target {
                        guest,
                        pieces: Pieces(*goal),
                    });
                }
            } else {
                let step = ((now_ms / GRID_MS) as usize).min(rows.len() - 1);
                let lack = rows[step][0].saturating_sub(held(account));
                needs.push((guest, before, after - before, lack));
            }
        }
        // Those that lack most for now come first.
        needs.sort_by_key(|(guest, .., lack)| (std::cmp::Reverse(*lack), *guest));
        for (guest, before, need, _) in needs {
            let part = need.min(budget);
            if part > 0 {
                budget -= part;
                targets.push(Target {
                    guest,
                    pieces: Pieces(before + part),
                });
            }
        }
    }
}

/// What no policy can avoid with any speed: demand beyond what there is, in KiB x ms after the warm-up.
#[must_use]
pub fn without_limits(trace: &Trace) -> u128 {
    use crate::host::{TICK_MS, WARM_UP_MS};
    let mut cursors = vec![crate::curve::Cursor::default(); trace.guests.len()];
    let capacity_kib = trace.capacity().mib() * 1024;
    let mut unmet = 0;
    let mut now_ms = 0;
    while now_ms < trace.length_ms {
        now_ms += TICK_MS;
        let mut wanted = 0;
        for (cursor, guest) in cursors.iter_mut().zip(&trace.guests) {
            let bounds = guest.settings.bounds;
            if guest.start_ms > now_ms {
                continue;
            }
            wanted += cursor
                .at(&guest.demand, now_ms)
                .clamp(bounds.minimum.mib() * 1024, bounds.maximum.mib() * 1024);
        }
        if now_ms > WARM_UP_MS {
            unmet += u128::from(wanted.saturating_sub(capacity_kib) * TICK_MS);
        }
    }
    unmet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_value_ahead() {
        let values = [1, 5, 2, 3, 9, 0, 4];
        for ahead in 0..8 {
            let expected: Vec<u32> = (0..values.len())
                .map(|from| {
                    let to = (from + ahead + 1).min(values.len());
                    values[from..to].iter().copied().max().unwrap()
                })
                .collect();
            assert_eq!(highest_ahead(&values, ahead), expected, "{ahead}");
        }
    }

    #[test]
    fn the_far_one_serves_first_what_is_wanted_longest() {
        // A quarter of the time 100, otherwise 10.
        let levels: Vec<u32> = (0..FAR)
            .map(|step| if step < FAR / 4 { 100 } else { 10 })
            .collect();
        assert_eq!(far(&levels)[0], [10, 10, 10, 10, 10, 10, 100, 100]);
        assert_eq!(far(&levels)[FAR - 1], [10; LEVELS]);
    }

    #[test]
    fn what_does_not_fit_is_shared_in_proportion() {
        let mut goals = [10, 10];
        let mut left = 30;
        raise(&mut goals, [30, 50].into_iter(), &mut left);
        assert_eq!((goals, left), ([20, 30], 0));
        raise(&mut goals, [99, 99].into_iter(), &mut left);
        assert_eq!(goals, [20, 30]);
    }
}
