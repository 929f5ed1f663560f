//! A figure over time: straight lines between points.

/// A point of a [`Curve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When, in milliseconds since the start of the trace.
    pub at_ms: u64,
    /// How much, in KiB.
    pub kib: u64,
}

/// A figure over time, in KiB. Between two points it runs straight; before the first and after the last it is level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Curve {
    points: Vec<Point>,
}

impl Curve {
    /// A curve that begins with a value.
    #[must_use]
    pub fn starting_with(kib: u64) -> Self {
        Self {
            points: vec![Point { at_ms: 0, kib }],
        }
    }

    /// A curve through points, which are brought into the order of time.
    #[must_use]
    pub fn through(mut points: Vec<Point>) -> Self {
        points.sort_by_key(|point| point.at_ms);
        Self { points }
    }

    /// The points, in the order of time.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The last value; 0 for a curve without points.
    #[must_use]
    pub fn last_kib(&self) -> u64 {
        self.points.last().map_or(0, |point| point.kib)
    }

    /// The highest value.
    #[must_use]
    pub fn peak_kib(&self) -> u64 {
        self.points.iter().map(|point| point.kib).max().unwrap_or(0)
    }

    /// Moves to a value: level until `at_ms`, then at `kib_per_s`. What was planned for later than `at_ms` is dropped. Returns
    /// when it is there.
    pub fn ramp(&mut self, at_ms: u64, kib: u64, kib_per_s: u64) -> u64 {
        let from = self.at(at_ms);
        self.points.retain(|point| point.at_ms < at_ms);
        self.points.push(Point { at_ms, kib: from });
        let ms = (from.abs_diff(kib) * 1000).div_ceil(kib_per_s.max(1));
        if ms > 0 {
            self.points.push(Point {
                at_ms: at_ms + ms,
                kib,
            });
        }
        at_ms + ms
    }

    /// The value at a moment, in KiB.
    #[must_use]
    pub fn at(&self, at_ms: u64) -> u64 {
        Cursor::default().at(self, at_ms)
    }
}

/// Where a reader of a curve is; reading on is cheap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// The last point that is not later than what was read last.
    index: usize,
}

impl Cursor {
    /// The value at a moment, which must not be earlier than the one before.
    pub fn at(&mut self, curve: &Curve, at_ms: u64) -> u64 {
        while let Some(next) = curve.points.get(self.index + 1)
            && next.at_ms <= at_ms
        {
            self.index += 1;
        }
        let Some(from) = curve.points.get(self.index) else {
            return 0;
        };
        match curve.points.get(self.index + 1) {
            Some(to) if at_ms > from.at_ms => {
                let passed = (at_ms - from.at_ms) as i128;
                let span = (to.at_ms - from.at_ms).max(1) as i128;
                let change = to.kib as i128 - from.kib as i128;
                (from.kib as i128 + change * passed / span) as u64
            }
            _ => from.kib,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_on_straight_lines_between_the_points() {
        let mut curve = Curve::starting_with(1000);
        let there = curve.ramp(500, 3000, 1000);
        assert_eq!(there, 2500);
        let seen: Vec<u64> = [0, 500, 1000, 1500, 2500, 9000]
            .iter()
            .map(|at| curve.at(*at))
            .collect();
        assert_eq!(seen, [1000, 1000, 1500, 2000, 3000, 3000]);
        let mut cursor = Cursor::default();
        for at in (0..4000).step_by(10) {
            assert_eq!(cursor.at(&curve, at), curve.at(at));
        }
        assert_eq!((curve.peak_kib(), curve.last_kib()), (3000, 3000));
    }

    #[test]
    fn a_new_plan_replaces_what_was_planned_for_later() {
        let mut curve = Curve::starting_with(0);
        curve.ramp(0, 10_000, 1000);
        // Half-way it turns round.
        let there = curve.ramp(5000, 0, 5000);
        assert_eq!(there, 6000);
        assert_eq!(curve.at(5000), 5000);
        assert_eq!(curve.at(7000), 0);
    }
}
