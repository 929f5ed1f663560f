//! Sharing out what is there: from what each guest needs to what each should have. No time and no history here.
//!
//! A guest's memory has six levels, each at least the one before. The plan fills them in this order, everybody's first level
//! before anybody's second. The first level that does not fit is shared by weight, and those above it go empty:
//!
//! | level | what it adds | who may lose it |
//! | --- | --- | --- |
//! | floor | what a co-operative reclaim leaves alone | nobody |
//! | need | what the guest cannot do without at this moment | who holds it, to a heavier one |
//! | soon | what a guest whose use rises will need before more can come | its guest, for another's need |
//! | buffer | its buffer | its guest, for another's need |
//! | remembered | what it used in the last seconds, as far as it has that | its guest, for another's need or buffer |
//! | surplus | what else it has | its guest, for another's need or buffer |
//!
//! What is left then is promised ahead, to guests that can be given memory without a frame (`Report::ahead_kib`): a guest
//! that needs more finds it there, with nobody to ask. A guest whose use rises gets as much again as it rose by lately; the
//! rest is for all alike. Surplus that has become uneven (somebody has less than three quarters of what would be everybody's) is
//! evened out; less than that is not worth the guests' work.

use crate::share::{Part, Shares, fill, keep, raise, total};
use crate::why::Reason;
use protocol::units::Pieces;

/// Levels of a guest's memory.
pub(crate) const LEVELS: usize = 6;
/// Index of the level that nobody goes below.
pub(crate) const FLOOR: usize = 0;
/// Index of the level that a guest needs now.
pub(crate) const NEED: usize = 1;
/// Index of the level that a guest will need before more can come.
pub(crate) const SOON: usize = 2;
/// Index of the level with the buffer.
pub(crate) const BUFFER: usize = 3;
/// Index of the level with what it remembers.
const REMEMBERED: usize = 4;
/// Index of the level with all that a guest has.
const SURPLUS: usize = 5;

/// Surplus that is uneven by less than this is left as it is (16 MiB).
const UNEVEN_PIECES: u32 = 8;

/// What the plan knows of one guest; all amounts in pieces. A guest that takes no part has zero everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The levels, ascending.
    pub(crate) levels: [u32; LEVELS],
    /// What of its need it is given first.
    pub(crate) first: u32,
    /// Up to this it may be promised memory ahead of its need.
    pub(crate) ahead: u32,
    /// What it came to use lately, and may come to use as fast again.
    pub(crate) rise: u32,
    /// Its weight.
    pub(crate) weight: u32,
}

impl Entry {
    /// Levels from the figures that they are made of. `claim` is what is promised to the guest, `want` its need with its
    /// buffer, `remembered` the same for the highest demand of the last seconds.
    pub(crate) fn new(figures: &Figures, weight: u32) -> Self {
        let floor = figures.floor;
        let need = figures.need.max(floor);
        let soon = figures.soon.max(need);
        let buffer = figures.want.max(soon);
        let remembered = figures.remembered.min(figures.claim).max(buffer);
        let surplus = figures.claim.max(remembered);
        Self {
            levels: [floor, need, soon, buffer, remembered, surplus],
            first: figures.first.clamp(floor, need),
            ahead: figures.ahead,
            rise: figures.rise,
            weight,
        }
    }

    /// The same guest without a right to what it has beyond its buffer.
    pub(crate) fn without_surplus(mut self) -> Self {
        let [.., buffer, remembered, surplus] = &mut self.levels;
        *remembered = *buffer;
        *surplus = *buffer;
        self
    }

    /// The same guest with no more ahead than fits its maximum beside what it remembers.
    pub(crate) fn up_to(mut self, maximum: Pieces) -> Self {
        let room = maximum.minus(Pieces(self.level(REMEMBERED)));
        self.rise = self.rise.min(room.0);
        self
    }

    /// A level's figure.
    pub(crate) fn level(&self, level: usize) -> u32 {
        self.levels.get(level).copied().unwrap_or(0)
    }
}

/// See [`Entry::new`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) floor: u32,
    /// See [`Entry::first`].
    pub(crate) first: u32,
    pub(crate) need: u32,
    pub(crate) soon: u32,
    pub(crate) want: u32,
    pub(crate) remembered: u32,
    pub(crate) claim: u32,
    /// See [`Entry::ahead`].
    pub(crate) ahead: u32,
    /// See [`Entry::rise`].
    pub(crate) rise: u32,
}

/// Whether there is what all want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supply {
    /// There is.
    Enough,
    /// There is not.
    Short,
}

/// The result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<const N: usize> {
    /// What each guest that takes part should have, in pieces.
    pub(crate) goals: Shares<N>,
    /// What decided, for all of them.
    pub(crate) reason: Reason,
    /// Whether there is what all want.
    pub(crate) supply: Supply,
}

/// Shares `capacity` pieces among the guests that take part. `headroom` pieces of it are for needs and buffers only.
pub(crate) fn plan<const N: usize>(capacity: u32, headroom: u32, entries: &[Entry; N]) -> Plan<N> {
    let level = |index: usize| -> Shares<N> { entries.each_ref().map(|entry| entry.level(index)) };
    let mut below = level(FLOOR);
    let full = |goals: Shares<N>, reason: Reason, supply: Supply| Plan {
        goals,
        reason,
        supply,
    };
    if total(&below) >= u64::from(capacity) {
        return full(below, Reason::Floors, Supply::Short);
    }
    for index in NEED..SURPLUS {
        let above = level(index);
        let capacity = match index {
            REMEMBERED => capacity.saturating_sub(headroom).max(total(&below) as u32),
            _ => capacity,
        };
        if total(&above) <= u64::from(capacity) {
            below = above;
            continue;
        }
        let left = capacity - total(&below) as u32;
        let (goals, k) = match index {
            NEED => fill(capacity, &parts(entries, &above, &below)),
            _ => {
                let lacking = difference(&above, &below);
                let (shares, k) = fill(left, &parts(entries, &lacking, &[0; N]));
                (sum(&below, &shares), k)
            }
        };
        return match index {
            NEED => full(goals, Reason::ShortDemand { k }, Supply::Short),
            SOON | BUFFER => full(goals, Reason::ShortBuffers { k }, Supply::Short),
            _ => full(goals, Reason::Enough, Supply::Enough),
        };
    }
    let capacity = capacity.saturating_sub(headroom).max(total(&below) as u32);
    full(ahead(capacity, entries), Reason::Enough, Supply::Enough)
}

/// All that anybody needs or remembers fits. What is left stays where it is, as surplus. What nobody has is promised ahead,
/// to those with least beyond what they will need soon.
fn ahead<const N: usize>(capacity: u32, entries: &[Entry; N]) -> Shares<N> {
    let kept = entries.each_ref().map(|entry| entry.level(REMEMBERED));
    let rises = entries.each_ref().map(|entry| entry.rise);
    let rises = keep(capacity - total(&kept) as u32, &rises);
    let soon = sum(&kept, &rises);
    let left = capacity - total(&soon) as u32;
    let surplus = difference(&entries.each_ref().map(|entry| entry.level(SURPLUS)), &soon);
    let mut rooms = difference(&entries.each_ref().map(|entry| entry.ahead), &soon);
    for (room, surplus) in rooms.iter_mut().zip(&surplus) {
        *room = (*room).max(*surplus);
    }
    let raised = raise(left, &keep(left, &surplus), &rooms);
    let even = keep(left, &rooms);
    let is_uneven = raised
        .iter()
        .zip(&even)
        .any(|(has, share)| has.saturating_add(UNEVEN_PIECES) < share / 4 * 3);
    sum(&soon, if is_uneven { &even } else { &raised })
}

fn parts<const N: usize>(entries: &[Entry; N], wants: &Shares<N>, floors: &Shares<N>) -> [Part; N] {
    let mut parts = [Part::default(); N];
    for (((part, entry), want), floor) in parts.iter_mut().zip(entries).zip(wants).zip(floors) {
        *part = Part {
            want: *want,
            floor: *floor,
            weight: entry.weight,
            // Of equals the one with less: what once came to one by a rounding must not grow.
            rank: (1 << 20) - (*want).min(1 << 20),
        };
    }
    parts
}

fn sum<const N: usize>(a: &Shares<N>, b: &Shares<N>) -> Shares<N> {
    let mut sum = *a;
    for (sum, b) in sum.iter_mut().zip(b) {
        *sum += b;
    }
    sum
}

fn difference<const N: usize>(a: &Shares<N>, b: &Shares<N>) -> Shares<N> {
    let mut difference = *a;
    for (difference, b) in difference.iter_mut().zip(b) {
        *difference = difference.saturating_sub(*b);
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::units::MAX_GUESTS;

    fn entry() -> impl Strategy<Value = Entry> {
        (
            (0u32..2000, 0u32..2000, 0u32..2000, 0u32..2000, 0u32..2000),
            1u32..=10_000,
            0..8,
            prop_oneof![
                Just((0u32, 0u32)),
                (0u32..4000, Just(0)),
                (0u32..4000, 0u32..500)
            ],
        )
            .prop_map(
                |((claim, floor, need, buffer, more), weight, absent, (ahead, rise))| {
                    if absent == 0 {
                        return Entry::default();
                    }
                    let figures = Figures {
                        floor,
                        first: need,
                        need,
                        soon: need + buffer / 2,
                        want: need + buffer,
                        remembered: need + buffer + more,
                        claim,
                        ahead,
                        rise,
                    };
                    Entry::new(&figures, weight)
                },
            )
    }

    fn entries() -> impl Strategy<Value = [Entry; MAX_GUESTS]> {
        proptest::collection::vec(entry(), 0..=MAX_GUESTS).prop_map(|some| {
            let mut entries = [Entry::default(); MAX_GUESTS];
            for (to, from) in entries.iter_mut().zip(some) {
                *to = from;
            }
            entries
        })
    }

    fn all(entries: &[Entry; MAX_GUESTS], level: usize) -> u64 {
        entries.iter().map(|e| u64::from(e.level(level))).sum()
    }

    proptest! {
        #[test]
        fn levels_ascend(entry in entry()) {
            prop_assert!(entry.levels.is_sorted());
        }

        #[test]
        fn a_plan_fits_or_is_made_of_floors_and_leaves_nothing_idle(entries in entries(), capacity in 0u32..40_000) {
            let plan = plan(capacity, 0, &entries);
            let most: u64 = entries.iter().map(|e| u64::from(e.level(SURPLUS).max(e.ahead).max(e.level(REMEMBERED) + e.rise))).sum();
            let expected = u64::from(capacity).clamp(all(&entries, FLOOR), most);
            let got = total(&plan.goals);
            prop_assert!(got <= expected);
            // Surplus is kept in equal amounts: less than a piece each may be left.
            prop_assert!(got + MAX_GUESTS as u64 > expected || got == expected, "{got} of {expected}");
            if got < all(&entries, BUFFER) {
                prop_assert_eq!(got, expected);
            }
        }

        #[test]
        fn a_lower_level_is_full_before_a_higher_one_has_anything(entries in entries(), capacity in 0u32..40_000) {
            let plan = plan(capacity, 0, &entries);
            for level in NEED..SURPLUS {
                let lacks = plan.goals.iter().zip(&entries).any(|(goal, e)| *goal < e.level(level));
                if lacks {
                    for (goal, e) in plan.goals.iter().zip(&entries) {
                        prop_assert!(*goal <= e.level(level));
                    }
                }
            }
            for (goal, e) in plan.goals.iter().zip(&entries) {
                prop_assert!(*goal >= e.level(FLOOR));
            }
        }

        #[test]
        fn what_is_promised_ahead_is_as_much_as_may_be_and_not_uneven(entries in entries(), spare in 0u32..40_000) {
            let mut entries = entries;
            let capacity = all(&entries, SURPLUS) as u32 + spare;
            for entry in &mut entries {
                entry.rise = 0;
            }
            let plan = plan(capacity, 0, &entries);
            prop_assert!(total(&plan.goals) <= u64::from(capacity));
            let rooms = entries.each_ref().map(|e| e.level(SURPLUS).max(e.ahead) - e.level(REMEMBERED));
            let even = keep(capacity - all(&entries, REMEMBERED) as u32, &rooms);
            let mut is_full = true;
            for ((goal, e), even) in plan.goals.iter().zip(&entries).zip(even) {
                prop_assert!(*goal >= e.level(REMEMBERED), "it costs nobody's buffer");
                prop_assert!(*goal <= e.level(SURPLUS).max(e.ahead), "nobody gets what it cannot take");
                prop_assert!(goal - e.level(REMEMBERED) + UNEVEN_PIECES >= even / 4 * 3, "nobody is left far behind");
                is_full &= *goal >= e.ahead;
            }
            prop_assert!(is_full || total(&plan.goals) + MAX_GUESTS as u64 > u64::from(capacity), "nothing lies idle");
        }

        #[test]
        fn who_rises_gets_as_much_again_before_anybody_has_surplus(entries in entries(), spare in 0u32..4000, rise in 0u32..3000) {
            let mut entries = entries.map(|entry| Entry { rise: 0, ..entry });
            entries[3].rise = rise;
            let capacity = all(&entries, REMEMBERED) as u32 + spare;
            let plan = plan(capacity, 0, &entries);
            prop_assert!(plan.goals[3] - entries[3].level(REMEMBERED) >= rise.min(spare));
            prop_assert!(total(&plan.goals) <= u64::from(capacity));
        }

        #[test]
        fn a_higher_weight_means_no_higher_pressure(entries in entries(), capacity in 0u32..40_000) {
            let mut entries = entries;
            entries[0].weight = entries[0].weight.min(3000);
            entries[1] = Entry { weight: entries[0].weight * 3, ..entries[0] };
            let plan = plan(capacity, 0, &entries);
            prop_assert!(plan.goals[1] >= plan.goals[0]);
        }

        #[test]
        fn equals_get_the_same_within_a_piece(entries in entries(), capacity in 0u32..40_000) {
            let mut entries = entries;
            entries[7] = entries[2];
            let plan = plan(capacity, 0, &entries);
            prop_assert!(plan.goals[2].abs_diff(plan.goals[7]) <= 1);
        }
    }
}
