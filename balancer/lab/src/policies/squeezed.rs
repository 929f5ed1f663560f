//! XAPI's squeezed: all guests stand at the same part of the way from their minimum to their maximum.
//!
//! Source: xapi-project/xen-api, `ocaml/squeezed/lib/squeeze.ml` and the design pages of squeezed: gamma = surplus /
//! sum(maximum - minimum), from 0 to 1; a guest that makes no progress for 5 s counts with what it has; a round each 10 s.

use super::{Entry, Told};
use crate::policy::Pace;
use crate::rival::{Paced, Rival, Room, Seen};

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "squeezed",
    what: "XAPI's squeezed: the same part of the way for all",
    told: Told::Reports,
    paces: &[Pace::Own, Pace::Ours],
    make: |trace, pace| Box::new(Paced::new(Squeezed::default(), pace, trace.reserve)),
}];

/// Without progress for this long a guest counts as inactive, in milliseconds.
const INACTIVE_MS: u64 = 5000;

#[derive(Default)]
struct Squeezed {
    /// What each guest had when it was looked at, and for how long it has not moved although it should.
    progress: Vec<(u32, u64)>,
}

/// A guest as the formula sees it, in pieces.
#[derive(Clone, Copy, Debug)]
struct Range {
    minimum: u32,
    maximum: u32,
    /// What it has, if it does not move.
    stuck: Option<u32>,
}

/// What each should have.
fn squeeze(capacity: u32, ranges: &[Range]) -> Vec<u32> {
    let active = || ranges.iter().filter(|range| range.stuck.is_none());
    let taken: u64 = ranges
        .iter()
        .map(|range| u64::from(range.stuck.unwrap_or(range.minimum)))
        .sum();
    let surplus = u64::from(capacity).saturating_sub(taken);
    let span: u64 = active()
        .map(|range| u64::from(range.maximum - range.minimum))
        .sum();
    ranges
        .iter()
        .map(|range| match range.stuck {
            Some(has) => has,
            None => {
                let own = u64::from(range.maximum - range.minimum);
                let part = (own * surplus.min(span)).checked_div(span).unwrap_or(0);
                range.minimum + part as u32
            }
        })
        .collect()
}

impl Rival for Squeezed {
    fn interval_ms(&self) -> u64 {
        10_000
    }

    fn goals(&mut self, apart_ms: u64, room: &Room, guests: &[Seen], goals: &mut [u32]) {
        self.progress.resize(guests.len(), (0, 0));
        let ranges: Vec<Range> = guests
            .iter()
            .zip(&mut self.progress)
            .map(|(seen, (had, still_ms))| {
                let owes = seen.held() > seen.account.target.0;
                *still_ms = if owes && seen.held() == *had {
                    *still_ms + apart_ms
                } else {
                    0
                };
                *had = seen.held();
                Range {
                    minimum: seen.minimum(),
                    maximum: seen.maximum(),
                    stuck: (*still_ms >= INACTIVE_MS).then_some(seen.held()),
                }
            })
            .collect();
        for (goal, target) in goals.iter_mut().zip(squeeze(room.capacity, &ranges)) {
            *goal = target;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(minimum: u32, maximum: u32) -> Range {
        Range {
            minimum,
            maximum,
            stuck: None,
        }
    }

    /// The formula of the design pages: 1,000 to give, minimums 200 and 100, ranges of 400 and 800: gamma = 700 / 1200.
    #[test]
    fn all_stand_at_the_same_part_of_their_way() {
        let ranges = [range(200, 600), range(100, 900)];
        assert_eq!(squeeze(1000, &ranges), [433, 566]);
        assert_eq!(squeeze(5000, &ranges), [600, 900]);
        assert_eq!(squeeze(300, &ranges), [200, 100]);
    }

    /// One that does not move keeps what it has, and the others share the rest: it is rewarded.
    #[test]
    fn who_does_not_move_keeps_what_it_has() {
        let stuck = Range {
            stuck: Some(600),
            ..range(200, 600)
        };
        assert_eq!(squeeze(1000, &[stuck, range(100, 900)]), [600, 400]);
    }
}
