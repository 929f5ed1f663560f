//! One measured figure.

use serde::Serialize;

/// A figure, as `--json` writes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// The value's unit.
    pub unit: String,
}

impl Row {
    /// A row.
    #[must_use]
    pub fn new(name: &str, value: f64, unit: &str) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
        }
    }

    /// From a measuring program's line: `bench NAME VALUE UNIT`.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("bench ")?.split_whitespace();
        let row = Self::new(words.next()?, words.next()?.parse().ok()?, words.next()?);
        words.next().is_none().then_some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_others_are_not() {
        assert_eq!(
            Row::from_line("bench map_4kib 748 instructions"),
            Some(Row::new("map_4kib", 748.0, "instructions"))
        );
        for line in [
            "bench end",
            "bench map x instructions",
            "map_4kib 748 instructions",
            "bench a 1 b c",
        ] {
            assert_eq!(Row::from_line(line), None, "{line}");
        }
    }
}
