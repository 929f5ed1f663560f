//! The simplest rival: target = demand / (1 - buffer), shared in proportion to weight when it does not fit.

use super::{Entry, Told};
use crate::curve::Cursor;
use crate::policy::Pace;
use crate::rival::{Paced, Rival, Room, Seen, pieces};
use crate::trace::Trace;
use std::sync::Arc;

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "demand",
        what: "target = demand / (1 - buffer)",
        told: Told::Reports,
        paces: &[Pace::Ours],
        make: |trace, pace| Box::new(Paced::new(Demand { truth: None }, pace, trace.reserve)),
    },
    Entry {
        name: "demand-true",
        what: "the same, told what guests want and cannot say",
        told: Told::Demand,
        paces: &[Pace::Ours],
        make: |trace, pace| {
            let truth = Some(Truth::new(trace));
            Box::new(Paced::new(Demand { truth }, pace, trace.reserve))
        },
    },
];

struct Demand {
    truth: Option<Truth>,
}

/// What the guests really want.
struct Truth {
    trace: Arc<Trace>,
    cursors: Vec<Cursor>,
    now_ms: u64,
}

impl Truth {
    fn new(trace: &Arc<Trace>) -> Self {
        Self {
            trace: Arc::clone(trace),
            cursors: vec![Cursor::default(); trace.guests.len()],
            now_ms: 0,
        }
    }

    fn of(&mut self, guest: usize) -> u64 {
        self.cursors[guest].at(&self.trace.guests[guest].demand, self.now_ms)
    }
}

impl Rival for Demand {
    fn interval_ms(&self) -> u64 {
        1000
    }

    fn goals(&mut self, apart_ms: u64, room: &Room, guests: &[Seen], goals: &mut [u32]) {
        if let Some(truth) = &mut self.truth {
            truth.now_ms += apart_ms;
        }
        for (index, (goal, seen)) in goals.iter_mut().zip(guests).enumerate() {
            let demand_kib = match &mut self.truth {
                Some(truth) => truth.of(index),
                None => seen.used_kib(),
            };
            *goal = seen.clamp(pieces(seen.with_buffer_kib(demand_kib)));
        }
        share(room.capacity, guests, goals);
    }
}

/// Cuts goals that do not fit to `weight x k` of themselves, one `k` for all, between the guest's minimum and its goal.
pub fn share(capacity: u32, guests: &[Seen], goals: &mut [u32]) {
    let total: u64 = goals.iter().map(|goal| u64::from(*goal)).sum();
    if total <= u64::from(capacity) {
        return;
    }
    let cut = |k: f64, goal: u32, seen: &Seen| {
        let weight = f64::from(seen.settings.weight) / 10_000.0;
        let part = f64::from(goal) * (k * weight).min(1.0);
        (part as u32).max(seen.minimum()).min(goal)
    };
    let (mut low, mut high) = (0.0, 10_000.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        let sum: u64 = goals
            .iter()
            .zip(guests)
            .map(|(goal, seen)| u64::from(cut(middle, *goal, seen)))
            .sum();
        if sum > u64::from(capacity) {
            high = middle;
        } else {
            low = middle;
        }
    }
    for (goal, seen) in goals.iter_mut().zip(guests) {
        *goal = cut(low, *goal, seen);
    }
}
