//! What a co-operative reclaim leaves alone.

use protocol::units::Pieces;

/// The least minimum of a Linux guest: 64 MiB. A guest whose description allows less is a unikernel, which has no floor of
/// its own.
const LINUX_MINIMUM: Pieces = Pieces(32);

/// The floor that Linux's hv_balloon keeps for a guest of `total_mib`, in MiB: inflating below it makes a Linux guest
/// kill its own processes.
pub(crate) const fn linux_floor_mib(total_mib: u64) -> u64 {
    match total_mib {
        0..128 => 8 + total_mib / 2,
        128..512 => 40 + total_mib / 4,
        512..2048 => 104 + total_mib / 8,
        2048..8192 => 232 + total_mib / 16,
        _ => 488 + total_mib / 32,
    }
}

/// The floor of a guest in visible memory: its minimum, its operating system's own floor, and what it uses. What it could
/// still swap out is not taken off: the balloon's statistics do not say how much swap a guest has left.
pub(crate) fn floor(minimum: Pieces, total_kib: u64, demand_kib: u64) -> Pieces {
    let own_mib = if minimum >= LINUX_MINIMUM {
        linux_floor_mib(total_kib / 1024)
    } else {
        0
    };
    let used_mib = demand_kib.div_ceil(1024);
    minimum
        .max(Pieces::from_mib_ceil(own_mib))
        .max(Pieces::from_mib_ceil(used_mib))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linux_floor_at_each_break() {
        let cases = [
            (64, 40),
            (127, 71),
            (128, 72),
            (511, 167),
            (512, 168),
            (2047, 359),
            (2048, 360),
            (8191, 743),
            (8192, 744),
            (65_536, 2536),
        ];
        for (total, floor) in cases {
            assert_eq!(linux_floor_mib(total), floor, "of {total} MiB");
        }
        for total in 0..10_000 {
            assert!(
                linux_floor_mib(total + 1) >= linux_floor_mib(total),
                "at {total} MiB"
            );
        }
    }

    #[test]
    fn the_highest_of_the_three_holds() {
        let mib = 1024;
        assert_eq!(floor(Pieces(256), 1024 * mib, 100 * mib), Pieces(256));
        assert_eq!(floor(Pieces(32), 1024 * mib, 100 * mib), Pieces(116));
        assert_eq!(floor(Pieces(32), 1024 * mib, 700 * mib), Pieces(350));
        assert_eq!(floor(Pieces(1), 1024 * mib, 10 * mib), Pieces(5));
    }
}
