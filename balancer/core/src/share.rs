//! Sharing an amount that is too small by weight: `clamp(want / (1 + k / weight), floor, want)`, one `k` for all.
//!
//! Every function is linear in the guests.

/// One guest's part of a round, in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// What it gets when there is enough.
    pub(crate) want: u32,
    /// What it keeps in any case; at most `want`.
    pub(crate) floor: u32,
    /// Relative importance, 1..=10000.
    pub(crate) weight: u32,
    /// Who is served first of those with one weight when single pieces are left: the highest.
    pub(crate) rank: u32,
}

/// Shares by guest, in pieces.
pub(crate) type Shares<const N: usize> = [u32; N];

/// `k` is counted in 1/65536 of a weight: one step of it then changes no share by a whole piece.
const SCALE: u64 = 1 << 16;
/// Wants are cut here (2 TiB), so that no product overflows 64 bits.
const WANT_MAX: u32 = 1 << 20;
/// Beyond this every share is at its floor: WANT_MAX x 10000 x SCALE, rounded up.
const K_MAX: u64 = 1 << 50;
/// Ranks that can be told apart.
const RANKS: u64 = WANT_MAX as u64 + 2;
/// Highest weight.
const WEIGHT_MAX: u32 = 10_000;

fn share(part: Part, k: u64) -> u32 {
    let want = part.want.min(WANT_MAX);
    let weight = u64::from(part.weight.clamp(1, WEIGHT_MAX)) * SCALE;
    let cut = u64::from(want) * weight / (weight + k);
    (cut as u32).max(part.floor.min(want))
}

fn sum<const N: usize>(parts: &[Part; N], k: u64) -> u64 {
    parts.iter().map(|part| u64::from(share(*part, k))).sum()
}

/// The sum of all shares.
pub(crate) fn total<const N: usize>(shares: &Shares<N>) -> u64 {
    shares.iter().map(|share| u64::from(*share)).sum()
}

/// Shares `capacity` pieces: with the smallest `k` that fits, then the few pieces that rounding left, one each, to the
/// heaviest first. When not even the floors fit, everybody gets its floor. Returns the shares and `k` in weights.
pub(crate) fn fill<const N: usize>(capacity: u32, parts: &[Part; N]) -> (Shares<N>, u64) {
    let capacity = u64::from(capacity);
    let (mut low, mut high) = (0, K_MAX);
    if sum(parts, 0) <= capacity {
        high = 0;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if sum(parts, middle) <= capacity {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let mut shares = parts.map(|part| share(part, high));
    let left = capacity.saturating_sub(total(&shares));
    give_rest(left, parts, &mut shares);
    (shares, high / SCALE)
}

/// Gives `left` pieces, fewer than there are guests that lack one: one each, to the heaviest first, among those by rank,
/// and then by number.
fn give_rest<const N: usize>(left: u64, parts: &[Part; N], shares: &mut Shares<N>) {
    let urgency = |part: &Part, share: u32| {
        if share >= part.want.min(WANT_MAX) {
            return 0;
        }
        let weight = u64::from(part.weight.min(WEIGHT_MAX));
        weight * RANKS + u64::from(part.rank.min(WANT_MAX)) + 1
    };
    let count = |from: u64, shares: &Shares<N>| {
        let all = parts.iter().zip(shares);
        all.filter(|(part, share)| urgency(part, **share) >= from)
            .count() as u64
    };
    // The least urgency of which all can be served.
    let (mut low, mut high) = (1, u64::from(WEIGHT_MAX + 1) * RANKS);
    while low < high {
        let middle = low + (high - low) / 2;
        if count(middle, shares) <= left {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let mut rest = left - count(low, shares).min(left);
    for (part, share) in parts.iter().zip(shares) {
        match urgency(part, *share) {
            0 => {}
            urgency if urgency >= low => *share += 1,
            urgency if urgency + 1 == low && rest > 0 => {
                *share += 1;
                rest -= 1;
            }
            _ => {}
        }
    }
}

/// How much of its surplus each guest keeps when `capacity` pieces of surplus may stay: from those with most to spare
/// the most is taken, so all keep the same amount or all they have.
pub(crate) fn keep<const N: usize>(capacity: u32, surplus: &Shares<N>) -> Shares<N> {
    if total(surplus) <= u64::from(capacity) {
        return *surplus;
    }
    let (mut low, mut high) = (0u32, surplus.iter().copied().max().unwrap_or(0));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let kept: u64 = surplus
            .iter()
            .map(|pieces| u64::from((*pieces).min(middle)))
            .sum();
        if kept <= u64::from(capacity) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    surplus.map(|pieces| pieces.min(low))
}

/// Raises those that have least, as far as their rooms (at least what they have) go, until they have `capacity` pieces
/// together: all are raised to the same level. What somebody has already stays; it fits.
pub(crate) fn raise<const N: usize>(
    capacity: u32,
    has: &Shares<N>,
    rooms: &Shares<N>,
) -> Shares<N> {
    let at = |level: u32| -> Shares<N> {
        let mut raised = *has;
        for (share, room) in raised.iter_mut().zip(rooms) {
            *share = (*share).max((*room).min(level));
        }
        raised
    };
    let (mut low, mut high) = (0u32, rooms.iter().copied().max().unwrap_or(0));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if total(&at(middle)) <= u64::from(capacity) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    at(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::units::MAX_GUESTS;

    type Parts = [Part; MAX_GUESTS];

    fn part() -> impl Strategy<Value = Part> {
        (0u32..5000, 0u32..=100, 1u32..=10_000).prop_map(|(want, percent, weight)| Part {
            want,
            floor: want * percent / 100,
            weight,
            rank: 0,
        })
    }

    fn parts() -> impl Strategy<Value = Parts> {
        proptest::collection::vec(part(), 0..=MAX_GUESTS).prop_map(|some| {
            let mut parts = Parts::default();
            for (to, from) in parts.iter_mut().zip(some) {
                *to = from;
            }
            parts
        })
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_and_nothing_is_left_over(parts in parts(), capacity in 0u32..40_000) {
            let (shares, _) = fill(capacity, &parts);
            let floors: u64 = parts.iter().map(|part| u64::from(part.floor)).sum();
            let wants: u64 = parts.iter().map(|part| u64::from(part.want)).sum();
            let expected = u64::from(capacity).clamp(floors, wants);
            prop_assert_eq!(total(&shares), expected);
            for (share, part) in shares.iter().zip(&parts) {
                prop_assert!((part.floor..=part.want).contains(share));
            }
        }

        #[test]
        fn a_higher_weight_never_gets_less(parts in parts(), capacity in 0u32..40_000) {
            let mut parts = parts;
            parts[3].want = parts[2].want;
            parts[3].floor = parts[2].floor;
            parts[2].weight = parts[2].weight.clamp(1, 5000);
            parts[3].weight = parts[2].weight * 2;
            let (shares, _) = fill(capacity, &parts);
            prop_assert!(shares[3] >= shares[2]);
        }

        #[test]
        fn raising_a_weight_never_costs_its_guest(parts in parts(), capacity in 0u32..40_000, more in 1u32..5000) {
            let (before, _) = fill(capacity, &parts);
            let mut raised = parts;
            raised[0].weight = (parts[0].weight + more).min(10_000);
            let (after, _) = fill(capacity, &raised);
            prop_assert!(after[0] >= before[0]);
        }

        #[test]
        fn more_to_share_costs_nobody_more_than_the_rounding(parts in parts(), capacity in 0u32..40_000) {
            let (before, _) = fill(capacity, &parts);
            let (after, _) = fill(capacity + 16, &parts);
            for (after, before) in after.iter().zip(&before) {
                prop_assert!(after + 1 >= *before);
            }
        }

        #[test]
        fn surplus_is_taken_from_those_with_most(surplus in proptest::array::uniform16(0u32..4000), capacity in 0u32..60_000) {
            let kept = keep(capacity, &surplus);
            let all = total(&surplus);
            prop_assert!(total(&kept) <= u64::from(capacity).min(all));
            // Less than one piece each is left over.
            prop_assert!(total(&kept) + MAX_GUESTS as u64 > u64::from(capacity).min(all));
            let most = kept.iter().max().copied().unwrap_or(0);
            for (kept, had) in kept.iter().zip(&surplus) {
                prop_assert!(kept == had || *kept == most);
            }
        }
    }

    #[test]
    fn the_formula_by_hand() {
        // 300 wanted, 200 there, equal weights: 1 / (1 + k / w) = 2/3 for both.
        let mut parts = Parts::default();
        parts[0] = Part {
            want: 100,
            floor: 0,
            weight: 5000,
            rank: 0,
        };
        parts[1] = Part {
            want: 200,
            floor: 0,
            weight: 5000,
            rank: 0,
        };
        let (shares, k) = fill(200, &parts);
        assert_eq!(shares[0] + shares[1], 200);
        assert!(k.abs_diff(2500) < 100, "{k}");
        assert!(shares[0].abs_diff(67) <= 1);
        // Twice the weight: 100 / (1 + k/10000) + 100 / (1 + k/5000) = 150 has k = 2287 and the shares 81.4 and 68.6.
        parts[0].weight = 10_000;
        parts[1].want = 100;
        let (shares, k) = fill(150, &parts);
        assert_eq!(shares[0] + shares[1], 150);
        assert!(
            k.abs_diff(2287) < 100 && shares[0].abs_diff(81) <= 1,
            "{shares:?} {k}"
        );
    }
}
