//! Settings: what is allowed, and how one is changed while a guest runs.

use core::fmt::Write;
use protocol::balancer::{Change, Settings};
use protocol::units::Line;

/// Least and most buffer, in percent.
const BUFFER: core::ops::RangeInclusive<u8> = 5..=95;
/// Least and most weight.
const WEIGHT: core::ops::RangeInclusive<u16> = 1..=10_000;

/// Settings with one change made, when the result is allowed.
///
/// # Errors
/// The reason, for the operator, with the value that would be right.
pub(crate) fn change(settings: &Settings, change: Change) -> Result<Settings, Line> {
    let mut new = *settings;
    match change {
        Change::Mode(mode) => new.mode = mode,
        Change::Minimum(pieces) => new.bounds.minimum = pieces,
        Change::Startup(pieces) => new.bounds.startup = pieces,
        Change::Maximum(pieces) => new.bounds.maximum = pieces,
        Change::Buffer(percent) => new.buffer_percent = percent,
        Change::Weight(weight) => new.weight = weight,
        Change::OnRefusal(action) => new.on_refusal = action,
    }
    check(&new)?;
    Ok(new)
}

/// Checks settings from outside.
///
/// # Errors
/// As [`change`].
pub(crate) fn check(settings: &Settings) -> Result<(), Line> {
    let bounds = settings.bounds;
    if bounds.minimum.0 == 0 || bounds.minimum > bounds.startup {
        return refuse(format_args!(
            "minimum {} MiB: must be 2 MiB to startup, {} MiB",
            bounds.minimum.mib(),
            bounds.startup.mib()
        ));
    }
    if bounds.maximum < bounds.startup {
        return refuse(format_args!(
            "maximum {} MiB: must be at least startup, {} MiB",
            bounds.maximum.mib(),
            bounds.startup.mib()
        ));
    }
    if !BUFFER.contains(&settings.buffer_percent) {
        return refuse(format_args!(
            "buffer {} %: must be {} to {} %",
            settings.buffer_percent,
            BUFFER.start(),
            BUFFER.end()
        ));
    }
    if !WEIGHT.contains(&settings.weight) {
        return refuse(format_args!(
            "weight {}: must be {} to {}",
            settings.weight,
            WEIGHT.start(),
            WEIGHT.end()
        ));
    }
    Ok(())
}

/// A refusal in words.
pub(crate) fn refuse<T>(reason: core::fmt::Arguments<'_>) -> Result<T, Line> {
    Err(line(reason))
}

/// Text cut to a line.
pub(crate) fn line(text: core::fmt::Arguments<'_>) -> Line {
    let mut line = Line::new();
    // A line that is too long keeps its beginning.
    let _ = line.write_fmt(text);
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::balancer::{Mode, OnRefusal};
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
        };
        let cases = [
            (Change::Minimum(Pieces(129)), "256"),
            (Change::Minimum(Pieces(0)), "2 MiB"),
            (Change::Maximum(Pieces(127)), "256"),
            (Change::Startup(Pieces(63)), "126"),
            (Change::Buffer(4), "5 to 95"),
            (Change::Buffer(96), "5 to 95"),
            (Change::Weight(0), "1 to 10000"),
            (Change::Weight(10_001), "1 to 10000"),
        ];
        for (bad, right) in cases {
            let reason = change(&settings, bad).unwrap_err();
            assert!(reason.contains(right), "{bad:?}: {reason}");
        }
        let changed = change(&settings, Change::Minimum(Pieces(128))).unwrap();
        assert_eq!(changed.bounds.minimum, Pieces(128));
    }
}
