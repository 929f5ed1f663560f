//! Settings: what is allowed, and how one is changed while a guest runs.

use crate::refusal::Refusal;
use protocol::balancer::{Change, Settings};

/// Least and most buffer, in percent.
pub(crate) const BUFFER: core::ops::RangeInclusive<u8> = 5..=95;
/// Least and most weight.
pub(crate) const WEIGHT: core::ops::RangeInclusive<u16> = 1..=10_000;

/// Settings with one change made, when the result is allowed.
pub(crate) fn change(settings: &Settings, change: Change) -> Result<Settings, Refusal> {
    let mut new = *settings;
    match change {
        Change::Mode(mode) => new.mode = mode,
        Change::Minimum(pieces) => new.bounds.minimum = pieces,
        Change::Startup(pieces) => new.bounds.startup = pieces,
        Change::Maximum(pieces) => new.bounds.maximum = pieces,
        Change::Buffer(percent) => new.buffer_percent = percent,
        Change::Weight(weight) => new.weight = weight,
        Change::OnRefusal(action) => new.on_refusal = action,
        Change::OnSilence(action) => new.on_silence = action,
    }
    check(&new)?;
    Ok(new)
}

/// Checks settings from outside.
pub(crate) fn check(settings: &Settings) -> Result<(), Refusal> {
    let bounds = settings.bounds;
    if bounds.minimum.0 == 0 || bounds.minimum > bounds.startup {
        return Err(Refusal::Minimum {
            asked: bounds.minimum,
            startup: bounds.startup,
        });
    }
    if bounds.maximum < bounds.startup {
        return Err(Refusal::Maximum {
            asked: bounds.maximum,
            startup: bounds.startup,
        });
    }
    if !BUFFER.contains(&settings.buffer_percent) {
        return Err(Refusal::Buffer(settings.buffer_percent));
    }
    if !WEIGHT.contains(&settings.weight) {
        return Err(Refusal::Weight(settings.weight));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::balancer::{Mode, OnRefusal, OnSilence};
    use protocol::memory::Bounds;
    use protocol::units::Pieces;

    #[test]
    fn each_limit_is_refused_with_the_right_value() {
        let settings = Settings {
            mode: Mode::Dynamic,
            bounds: Bounds {
                minimum: Pieces(64),
                startup: Pieces(128),
                maximum: Pieces(512),
            },
            buffer_percent: 20,
            weight: 5000,
            on_refusal: OnRefusal::Mark,
            deadline_ms: 2000,
            on_silence: OnSilence::Keep,
        };
        let cases = [
            (Change::Minimum(Pieces(129)), "2 to 256 MiB"),
            (Change::Minimum(Pieces(0)), "2 to 256 MiB"),
            (Change::Maximum(Pieces(127)), "256 MiB"),
            (Change::Startup(Pieces(63)), "2 to 126 MiB"),
            (Change::Buffer(4), "5 to 95"),
            (Change::Buffer(96), "5 to 95"),
            (Change::Weight(0), "1 to 10000"),
            (Change::Weight(10_001), "1 to 10000"),
        ];
        for (bad, right) in cases {
            let reason = change(&settings, bad).unwrap_err().to_string();
            assert!(reason.contains(right), "{bad:?}: {reason}");
        }
        let changed = change(&settings, Change::Minimum(Pieces(128))).unwrap();
        assert_eq!(changed.bounds.minimum, Pieces(128));
    }
}
