//! The shapes of demand.

use super::{Plan, TOUCH_KIB_S};
use crate::curve::{Curve, Point};
use crate::trace::Manner;

/// Levels that wander by 2 % and change now and then.
pub fn steady(plan: &mut Plan) {
    let Plan {
        noise,
        length_ms,
        guests,
    } = plan;
    for draft in guests {
        let mut level = noise.between(0.45, 0.85);
        let mut curve = Curve::starting_with(draft.part(level));
        let mut at_ms = 0;
        while at_ms < *length_ms {
            at_ms += noise.between(2000.0, 6000.0) as u64;
            if noise.unit() < 0.03 {
                level = noise.between(0.45, 0.85);
            }
            let part = level * noise.between(0.98, 1.02);
            at_ms = curve.ramp(at_ms, draft.part(part), TOUCH_KIB_S / 4);
        }
        draft.demand = curve;
    }
}

/// Waves of a minute and more, each guest with its own phase.
pub fn diurnal(plan: &mut Plan) {
    let Plan {
        noise,
        length_ms,
        guests,
    } = plan;
    let period_ms = 120_000.0;
    for draft in guests {
        let phase = noise.unit();
        let points = (0..*length_ms / 1000)
            .map(|second| {
                let turn = second as f64 * 1000.0 / period_ms + phase;
                let wave = 0.5 - 0.5 * (turn * std::f64::consts::TAU).cos();
                let part = 0.15 + 0.75 * wave + noise.between(-0.02, 0.02);
                Point {
                    at_ms: second * 1000,
                    kib: draft.part(part),
                }
            })
            .collect();
        draft.demand = Curve::through(points);
    }
}

/// Bursts of 3 to 40 s, and pauses between them, both Pareto-distributed.
pub fn bursty(plan: &mut Plan) {
    let Plan {
        noise,
        length_ms,
        guests,
    } = plan;
    for draft in guests {
        let base = noise.between(0.12, 0.25);
        let mut curve = Curve::starting_with(draft.part(base));
        let mut at_ms = noise.between(0.0, 30_000.0) as u64;
        while at_ms < *length_ms {
            let high = draft.part(noise.between(0.6, 1.0));
            let up_ms = curve.ramp(at_ms, high, TOUCH_KIB_S);
            let on_ms = up_ms + (noise.pareto(3.0, 40.0, 1.2) * 1000.0) as u64;
            let down_ms = curve.ramp(on_ms, draft.part(base), TOUCH_KIB_S);
            at_ms = down_ms + (noise.pareto(5.0, 60.0, 1.1) * 1000.0) as u64;
        }
        draft.demand = curve;
    }
}

/// Jobs: up to a peak of their own, work, and gone.
pub fn batch(plan: &mut Plan) {
    let Plan {
        noise,
        length_ms,
        guests,
    } = plan;
    for draft in guests {
        let idle = draft.part(0.1);
        let mut curve = Curve::starting_with(idle);
        let mut at_ms = noise.between(0.0, 60_000.0) as u64;
        while at_ms < *length_ms {
            let high = noise.between(0.5, 1.0);
            // A job loads its data in steps.
            for step in 1..=3 {
                let level = draft.part(high * f64::from(step) / 3.0).max(idle);
                at_ms = curve.ramp(at_ms, level, TOUCH_KIB_S) + noise.between(500.0, 3000.0) as u64;
            }
            at_ms += noise.between(15_000.0, 45_000.0) as u64;
            at_ms = curve.ramp(at_ms, idle, TOUCH_KIB_S);
            at_ms += noise.between(15_000.0, 75_000.0) as u64;
        }
        draft.demand = curve;
    }
}

/// A slow growth, and the restart that ends it.
pub fn leak(plan: &mut Plan) {
    let Plan {
        noise,
        length_ms,
        guests,
    } = plan;
    for draft in guests {
        let base = draft.part(noise.between(0.15, 0.3));
        let mut curve = Curve::starting_with(base);
        let mut at_ms = 0;
        while at_ms < *length_ms {
            let span_s = noise.between(60.0, 150.0);
            let high = draft.part(noise.between(0.8, 1.0));
            let speed = ((high - base) as f64 / span_s) as u64;
            at_ms = curve.ramp(at_ms, high, speed);
            at_ms = curve.ramp(at_ms + 1000, base, TOUCH_KIB_S);
            at_ms += noise.between(2000.0, 10_000.0) as u64;
        }
        draft.demand = curve;
    }
}

/// Two halves of about the same size: as one needs memory the other does not, at every period from 0.2 to 60 s.
pub fn pingpong(plan: &mut Plan) {
    alternate(plan, &[200, 1000, 5000, 12_000, 25_000, 60_000]);
}

/// As pingpong, at the periods at which memory can follow.
pub fn seesaw(plan: &mut Plan) {
    alternate(plan, &[5000, 12_000, 25_000, 60_000]);
}

fn alternate(plan: &mut Plan, periods_ms: &[u64]) {
    let halves = halves(plan);
    let span_ms = plan.length_ms / periods_ms.len() as u64;
    for (draft, half) in plan.guests.iter_mut().zip(halves) {
        let mut curve = Curve::starting_with(draft.part(0.2));
        for (index, period_ms) in periods_ms.iter().enumerate() {
            let (begin_ms, end_ms) = (index as u64 * span_ms, (index as u64 + 1) * span_ms);
            // No further than a program gets in half of the time that it has.
            let reach_kib = TOUCH_KIB_S * (period_ms / 4) / 1000;
            let base = draft.part(0.2);
            let high = draft.part(0.9).min(base + reach_kib);
            let mut at_ms = begin_ms;
            let mut turn = 0;
            while at_ms < end_ms {
                let level = if turn % 2 == half { high } else { base };
                curve.ramp(at_ms, level, TOUCH_KIB_S);
                at_ms += period_ms / 2;
                turn += 1;
            }
        }
        draft.demand = curve;
    }
}

/// Which half each guest belongs to, so that both are about as large.
fn halves(plan: &Plan) -> Vec<u64> {
    let mut order: Vec<usize> = (0..plan.guests.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(plan.guests[*index].peak_kib));
    let mut halves = vec![0; order.len()];
    let mut sums = [0, 0];
    for index in order {
        let half = usize::from(sums[1] < sums[0]);
        halves[index] = half as u64;
        sums[half] += plan.guests[index].peak_kib;
    }
    halves
}

/// At any moment a third of the guests works; as one ends another begins.
pub fn handover(plan: &mut Plan) {
    let Plan {
        noise,
        length_ms,
        guests,
    } = plan;
    for draft in guests.iter_mut() {
        draft.demand = Curve::starting_with(draft.part(0.12));
    }
    let count = guests.len();
    let mut working: Vec<usize> = (0..count.div_ceil(3)).collect();
    let mut resting: Vec<usize> = (count.div_ceil(3)..count).collect();
    for index in &working {
        let high = guests[*index].part(0.9);
        guests[*index].demand.ramp(0, high, TOUCH_KIB_S);
    }
    let mut at_ms = 5000;
    // In a larger host somebody ends more often.
    let apart_ms = 40_000.0 / working.len() as f64;
    while at_ms < *length_ms && !resting.is_empty() {
        let place = noise.below(working.len());
        let next = resting.remove(noise.below(resting.len()));
        let ends = std::mem::replace(&mut working[place], next);
        resting.push(ends);
        let low = guests[ends].part(0.12);
        guests[ends].demand.ramp(at_ms, low, TOUCH_KIB_S);
        let high = guests[next].part(noise.between(0.75, 0.95));
        guests[next].demand.ramp(at_ms, high, TOUCH_KIB_S);
        at_ms += (apart_ms * noise.between(0.5, 1.5)) as u64 + 2000;
    }
}

/// All rise together, stay high for a while and fall.
pub fn surge(plan: &mut Plan) {
    let Plan {
        noise,
        length_ms,
        guests,
    } = plan;
    let mut surges = Vec::new();
    let mut at_ms = 20_000;
    while at_ms < *length_ms {
        let long_ms = noise.between(10_000.0, 30_000.0) as u64;
        surges.push((at_ms, at_ms + long_ms, noise.between(0.75, 1.0)));
        at_ms += long_ms + noise.between(30_000.0, 60_000.0) as u64;
    }
    for draft in guests {
        let base = noise.between(0.3, 0.45);
        let mut curve = Curve::starting_with(draft.part(base));
        for (begin_ms, end_ms, height) in &surges {
            let late_ms = noise.between(0.0, 3000.0) as u64;
            let high = draft.part(height * noise.between(0.85, 1.0));
            // Requests come in over a second or two.
            let speed = TOUCH_KIB_S / (1 + noise.below(4) as u64);
            let there_ms = curve.ramp(begin_ms + late_ms, high, speed);
            curve.ramp((end_ms + late_ms).max(there_ms), draft.part(base), speed);
        }
        draft.demand = curve;
    }
}

/// Half of the guests run; the others start at once after 15 s, need much for some seconds, and settle. Every 90 s all are
/// started again inside.
pub fn bootstorm(plan: &mut Plan) {
    let Plan {
        noise,
        length_ms,
        guests,
    } = plan;
    let running = guests.len() / 2;
    for (index, draft) in guests.iter_mut().enumerate() {
        let idle = draft.part(0.1);
        let mut curve = Curve::starting_with(idle);
        let mut storm_ms = 15_000;
        if index >= running {
            draft.start_ms = storm_ms;
        }
        while storm_ms < *length_ms {
            let at_ms = storm_ms + noise.between(0.0, 2000.0) as u64;
            let high = draft.part(noise.between(0.6, 1.0));
            let level = draft.part(noise.between(0.25, 0.55));
            let there_ms = curve.ramp(at_ms, high, TOUCH_KIB_S / 2);
            let booted_ms = there_ms + noise.between(3000.0, 10_000.0) as u64;
            let settled_ms = curve.ramp(booted_ms, level, TOUCH_KIB_S);
            // All are shut down before the next storm.
            curve.ramp((storm_ms + 80_000).max(settled_ms), idle, TOUCH_KIB_S);
            storm_ms += 90_000;
        }
        draft.demand = curve;
    }
}

/// As diurnal and bursty, told with errors of up to 3 %.
pub fn noisy(plan: &mut Plan) {
    mixed(plan);
    for draft in &mut plan.guests {
        draft.noise_percent = 3;
    }
}

/// As diurnal and bursty, with guests that do not give back as they are asked.
pub fn lossy(plan: &mut Plan) {
    mixed(plan);
    let manners = [
        Manner::Part { percent: 60 },
        Manner::Willing,
        Manner::Late { ms: 3000 },
        Manner::Willing,
        Manner::Refuses,
        Manner::Willing,
        Manner::Part { percent: 30 },
        Manner::Willing,
    ];
    for (draft, manner) in plan.guests.iter_mut().zip(manners.into_iter().cycle()) {
        draft.manner = manner;
    }
}

/// Every other guest is bursty, the others follow a slow wave.
fn mixed(plan: &mut Plan) {
    bursty(plan);
    let bursts: Vec<Curve> = plan
        .guests
        .iter_mut()
        .map(|draft| std::mem::take(&mut draft.demand))
        .collect();
    diurnal(plan);
    for (index, (draft, burst)) in plan.guests.iter_mut().zip(bursts).enumerate() {
        if index % 2 == 0 {
            draft.demand = burst;
        }
    }
}
