//! Sharing out what is there: from what each guest needs to what each should have. No time and no history here.

use crate::share::{Part, Parts, Shares, fill, keep};
use crate::why::Reason;
use protocol::units::MAX_GUESTS;

/// What the plan knows of one guest; all amounts in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whether the plan may change what it has.
    pub(crate) standing: Standing,
    /// Granted, and earmarked.
    pub(crate) held: u32,
    /// Promised to it: at least `held`. What of it is more than it wants stays with it until somebody needs it.
    pub(crate) claim: u32,
    /// What it cannot do without at this moment; between `floor` and `demand`.
    pub(crate) need: u32,
    /// What it needs, and needed so lately that it may soon again; between `need` and `want`.
    pub(crate) demand: u32,
    /// What it needs with its buffer, inside its bounds; at least `floor`.
    pub(crate) want: u32,
    /// What it keeps in any case: at least its minimum, at most `held` (or its minimum, when it holds less).
    pub(crate) floor: u32,
    /// Its weight.
    pub(crate) weight: u32,
}

/// Whether the plan may change what a guest has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is no such guest, or it is left as it is.
    #[default]
    Left,
    /// It takes part.
    Shares,
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
pub(crate) struct Plan {
    /// What each guest that takes part should have, in pieces.
    pub(crate) goals: Shares,
    /// Why.
    pub(crate) reasons: [Reason; MAX_GUESTS],
    /// Whether there is what all want.
    pub(crate) supply: Supply,
}

/// Shares `capacity` pieces among the guests that take part.
pub(crate) fn plan(capacity: u32, entries: &[Entry; MAX_GUESTS]) -> Plan {
    let of = |figure: fn(&Entry) -> u32| -> Shares {
        entries.each_ref().map(|entry| match entry.standing {
            Standing::Shares => figure(entry),
            Standing::Left => 0,
        })
    };
    let (wants, demands, floors) = (of(|e| e.want), of(|e| e.demand), of(|e| e.floor));
    let want = total(&wants);
    if want <= u64::from(capacity) {
        let surplus = of(|e| e.claim.saturating_sub(e.want));
        let kept = keep(capacity - want as u32, &surplus);
        let mut result = Plan {
            goals: wants,
            reasons: [Reason::Enough; MAX_GUESTS],
            supply: Supply::Enough,
        };
        for (((goal, reason), kept), surplus) in result
            .goals
            .iter_mut()
            .zip(&mut result.reasons)
            .zip(kept)
            .zip(surplus)
        {
            *goal += kept;
            if kept < surplus {
                *reason = Reason::Gives;
            } else if kept > 0 {
                *reason = Reason::Keeps;
            }
        }
        return result;
    }
    if total(&floors) >= u64::from(capacity) {
        return Plan {
            goals: floors,
            reasons: [Reason::Floors; MAX_GUESTS],
            supply: Supply::Short,
        };
    }
    let part = |want: u32, floor: u32, entry: &Entry| Part {
        want,
        floor,
        weight: entry.weight,
    };
    let demand = total(&demands);
    if demand > u64::from(capacity) {
        // What somebody only remembers comes after what another needs now.
        let needs = of(|e| e.need);
        let need = total(&needs);
        let (goals, k) = if need >= u64::from(capacity) {
            let parts = round(entries, |entry| part(entry.need, entry.floor, entry));
            fill(capacity, &parts)
        } else {
            let parts = round(entries, |entry| part(entry.demand - entry.need, 0, entry));
            let (remembered, k) = fill(capacity - need as u32, &parts);
            (sum(&needs, &remembered), k)
        };
        return Plan {
            goals,
            reasons: [Reason::ShortDemand { k }; MAX_GUESTS],
            supply: Supply::Short,
        };
    }
    let parts = round(entries, |entry| part(entry.want - entry.demand, 0, entry));
    let (buffers, k) = fill(capacity - demand as u32, &parts);
    Plan {
        goals: sum(&demands, &buffers),
        reasons: [Reason::ShortBuffers { k }; MAX_GUESTS],
        supply: Supply::Short,
    }
}

fn round(entries: &[Entry; MAX_GUESTS], part: impl Fn(&Entry) -> Part) -> Parts {
    entries.each_ref().map(|entry| match entry.standing {
        Standing::Shares => part(entry),
        Standing::Left => Part::default(),
    })
}

fn sum(a: &Shares, b: &Shares) -> Shares {
    let mut sum = *a;
    for (sum, b) in sum.iter_mut().zip(b) {
        *sum += b;
    }
    sum
}

fn total(shares: &Shares) -> u64 {
    shares.iter().map(|share| u64::from(*share)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        (
            0u32..2000,
            1u32..2000,
            0u32..2000,
            0u32..2000,
            1u32..=10_000,
            0..8,
            prop_oneof![Just(0u32), 0u32..2000],
        )
            .prop_map(|(held, minimum, need, buffer, weight, left, remembered)| {
                let floor = minimum.max(need.min(held)).min(held.max(minimum));
                let need = need.max(floor);
                let demand = need + remembered;
                Entry {
                    standing: if left == 0 {
                        Standing::Left
                    } else {
                        Standing::Shares
                    },
                    held,
                    claim: held.max(minimum),
                    need,
                    demand,
                    want: demand + buffer,
                    floor,
                    weight,
                }
            })
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

    proptest! {
        #[test]
        fn a_plan_fits_or_is_made_of_floors(entries in entries(), capacity in 0u32..30_000) {
            let plan = plan(capacity, &entries);
            let floors: u64 = entries.iter().filter(|e| e.standing == Standing::Shares).map(|e| u64::from(e.floor)).sum();
            prop_assert!(total(&plan.goals) <= u64::from(capacity).max(floors));
        }

        #[test]
        fn nobody_goes_below_its_floor_or_above_want_and_surplus(entries in entries(), capacity in 0u32..30_000) {
            let plan = plan(capacity, &entries);
            for (goal, entry) in plan.goals.iter().zip(&entries) {
                match entry.standing {
                    Standing::Left => prop_assert_eq!(*goal, 0),
                    Standing::Shares => {
                        prop_assert!(*goal >= entry.floor);
                        prop_assert!(*goal <= entry.want.max(entry.claim));
                    }
                }
            }
        }

        #[test]
        fn nothing_lies_idle_while_somebody_wants_it(entries in entries(), capacity in 0u32..30_000) {
            let plan = plan(capacity, &entries);
            let short = plan.goals.iter().zip(&entries).any(|(goal, e)| e.standing == Standing::Shares && *goal < e.want);
            if short {
                let floors: u64 = entries.iter().filter(|e| e.standing == Standing::Shares).map(|e| u64::from(e.floor)).sum();
                prop_assert_eq!(total(&plan.goals), u64::from(capacity).max(floors));
            }
        }

        #[test]
        fn buffers_are_cut_before_demand(entries in entries(), capacity in 0u32..30_000) {
            let plan = plan(capacity, &entries);
            let shares = || plan.goals.iter().zip(&entries).filter(|(_, e)| e.standing == Standing::Shares);
            if shares().any(|(goal, e)| *goal < e.demand) {
                prop_assert!(shares().all(|(goal, e)| *goal <= e.demand));
            }
        }

        #[test]
        fn what_is_remembered_is_cut_before_what_is_needed(entries in entries(), capacity in 0u32..30_000) {
            let plan = plan(capacity, &entries);
            let shares = || plan.goals.iter().zip(&entries).filter(|(_, e)| e.standing == Standing::Shares);
            if shares().any(|(goal, e)| *goal < e.need) {
                prop_assert!(shares().all(|(goal, e)| *goal <= e.need));
            }
        }

        #[test]
        fn a_higher_weight_means_no_higher_pressure(entries in entries(), capacity in 0u32..30_000) {
            let mut entries = entries;
            entries[0].weight = entries[0].weight.min(3000);
            entries[1] = Entry { weight: entries[0].weight * 3, ..entries[0] };
            let plan = plan(capacity, &entries);
            prop_assert!(plan.goals[1] >= plan.goals[0]);
        }
    }
}
