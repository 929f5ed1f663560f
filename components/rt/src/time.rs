//! Time: the virtual counter CNTVCT_EL0, which starts near zero at power-on and never stops.

use crate::arch;

/// The counter.
#[must_use]
pub fn ticks() -> u64 {
    arch::counter()
}

/// Ticks per second. Never 0: a machine whose firmware left CNTFRQ unset counts as 1 GHz.
#[must_use]
pub fn frequency_hz() -> u64 {
    match arch::counter_frequency_hz() {
        0 => 1_000_000_000,
        hz => hz,
    }
}

/// Microseconds that `ticks` are at `hz`, rounded down. Saturates.
#[must_use]
pub const fn us_from_ticks(ticks: u64, hz: u64) -> u64 {
    if hz == 0 {
        return 0;
    }
    let seconds = ticks / hz;
    // The remainder is below hz; split the multiplication so that it cannot overflow for any hz below 2^44.
    let rest = (ticks % hz).saturating_mul(1_000_000) / hz;
    seconds.saturating_mul(1_000_000).saturating_add(rest)
}

/// Ticks in `us` microseconds at `hz`, rounded up. Saturates.
#[must_use]
pub const fn ticks_from_us(us: u64, hz: u64) -> u64 {
    let seconds = us / 1_000_000;
    let rest = (us % 1_000_000).saturating_mul(hz).div_ceil(1_000_000);
    seconds.saturating_mul(hz).saturating_add(rest)
}

/// Microseconds since power-on.
#[must_use]
pub fn now_us() -> u64 {
    us_from_ticks(ticks(), frequency_hz())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_keep_to_their_rounding() {
        assert_eq!(us_from_ticks(62, 62_500_000), 0);
        assert_eq!(us_from_ticks(63, 62_500_000), 1);
        assert_eq!(ticks_from_us(1, 62_500_000), 63);
        assert_eq!(ticks_from_us(1_000_000, 62_500_000), 62_500_000);
        assert_eq!(us_from_ticks(u64::MAX, 1), u64::MAX);
        assert_eq!(us_from_ticks(1, 0), 0);
        for us in [0, 1, 999_999, 1_000_000, 86_400_000_000 * 365] {
            assert_eq!(us_from_ticks(ticks_from_us(us, 62_500_000), 62_500_000), us);
        }
    }
}
