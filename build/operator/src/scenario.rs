//! What a scenario is: rows of a timetable, each with the memory that every guest is to end with.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use system::Scale;

/// A scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Seconds that a minute of the timetable takes. All times are by the board's clock.
    #[serde(default = "one")]
    pub second_per_minute: f64,
    /// Seconds of guest time over which a workload changes its size; at most 5.
    #[serde(default = "five")]
    pub ramp_s: f64,
    /// Seconds that a row may take to settle once the ramps are over.
    #[serde(default = "ninety")]
    pub settle_s: f64,
    /// Seconds that the guests may take until their workload agents answer.
    #[serde(default = "boot")]
    pub boot_s: f64,
    /// Guests whose balloon must give memory back in the course of it.
    #[serde(default)]
    pub balloon: Vec<String>,
    /// The timetable.
    #[serde(rename = "row")]
    pub rows: Vec<Row>,
}

/// A row of the timetable.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// When, in minutes of the timetable. A row also waits until the one before has settled.
    pub minute: f64,
    /// What happens, for the plot.
    #[serde(default)]
    pub title: String,
    /// Guests that are started now.
    #[serde(default)]
    pub start: Vec<String>,
    /// Guests whose workload changes so many minutes later than the row begins.
    #[serde(default)]
    pub delay_minutes: BTreeMap<String, f64>,
    /// The memory each guest is to end the row with, in MiB at full scale.
    pub assigned_mib: BTreeMap<String, u64>,
}

fn one() -> f64 {
    1.0
}

fn five() -> f64 {
    5.0
}

fn ninety() -> f64 {
    90.0
}

fn boot() -> f64 {
    300.0
}

/// The worked example of the Dynamic Memory papers.
const SEEDS: &str = include_str!("../scenarios/seeds.toml");
/// Eight guests at once.
const BOOTSTORM: &str = include_str!("../scenarios/bootstorm.toml");

impl Scenario {
    /// The scenario of a name that comes with the tool.
    #[must_use]
    pub fn builtin(name: &str) -> Option<Self> {
        let text = match name {
            "seeds" => SEEDS,
            "bootstorm" => BOOTSTORM,
            _ => return None,
        };
        // Checked by a test.
        Self::parse(name, text).ok()
    }

    /// Names of the scenarios that come with the tool. Each is for the system description of its name.
    pub const BUILTIN: [&str; 2] = ["seeds", "bootstorm"];

    /// Reads a scenario file.
    ///
    /// # Errors
    /// With file, line and what would be right.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a scenario; `origin` names it in errors.
    ///
    /// # Errors
    /// With line and what would be right.
    pub fn parse(origin: &str, text: &str) -> anyhow::Result<Self> {
        let scenario: Self =
            toml::from_str(text).map_err(|error| anyhow::anyhow!("{origin}: {error}"))?;
        scenario
            .check()
            .map_err(|error| anyhow::anyhow!("{origin}: {error}"))?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        let positive = |name, value: f64, most: f64| {
            if value > 0.0 && value <= most {
                Ok(())
            } else {
                Err(format!(
                    "{name} is {value}; it must be above 0 and at most {most}"
                ))
            }
        };
        positive("second_per_minute", self.second_per_minute, 3600.0)?;
        positive("ramp_s", self.ramp_s, 5.0)?;
        positive("settle_s", self.settle_s, 3600.0)?;
        positive("boot_s", self.boot_s, 3600.0)?;
        if self.rows.is_empty() {
            return Err("a scenario needs at least one [[row]]".into());
        }
        let mut before = -1.0;
        for (number, row) in self.rows.iter().enumerate() {
            if !(row.minute > before && row.minute < 1e6) {
                return Err(format!(
                    "row {number}: minute is {}; it must be later than the row before ({before})",
                    row.minute
                ));
            }
            before = row.minute;
            if let Some(guest) = row
                .start
                .iter()
                .find(|name| !row.assigned_mib.contains_key(*name))
            {
                return Err(format!(
                    "row {number} starts {guest:?} but gives it no assigned_mib"
                ));
            }
            for (name, minutes) in &row.delay_minutes {
                positive("delay_minutes", *minutes, 60.0)
                    .map_err(|why| format!("row {number}: {name}: {why}"))?;
                if row.start.contains(name) || !row.assigned_mib.contains_key(name) {
                    return Err(format!(
                        "row {number} delays {name:?}, which must run already and have an assigned_mib"
                    ));
                }
            }
            if row.assigned_mib.is_empty() {
                return Err(format!("row {number}: assigned_mib names no guest"));
            }
        }
        let named = |name: &str| {
            self.rows
                .iter()
                .any(|row| row.assigned_mib.contains_key(name))
        };
        if let Some(guest) = self.balloon.iter().find(|name| !named(name)) {
            return Err(format!("balloon names {guest:?}, which is in no row"));
        }
        Ok(())
    }

    /// The scenario at another scale.
    #[must_use]
    pub fn scaled(mut self, scale: Scale) -> Self {
        for row in &mut self.rows {
            for figure in row.assigned_mib.values_mut() {
                *figure /= scale.divisor();
            }
        }
        self
    }

    /// How long a minute of the timetable takes.
    #[must_use]
    pub fn time_of(&self, minute: f64) -> Duration {
        Duration::from_secs_f64((minute * self.second_per_minute).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_is_sound_and_quarter_scale_is_a_quarter() {
        for name in Scenario::BUILTIN {
            assert_eq!(
                Scenario::builtin(name).map(|found| found.name).as_deref(),
                Some(name)
            );
        }
        let quarter = Scenario::builtin("seeds").unwrap().scaled(Scale::Quarter);
        let figures: Vec<Vec<u64>> = quarter
            .rows
            .iter()
            .map(|row| row.assigned_mib.values().copied().collect())
            .collect();
        // engineering, finance, sales, service
        assert_eq!(
            figures,
            [
                vec![256, 256, 256],
                vec![512, 768, 256],
                vec![896, 512, 256, 256]
            ]
        );
        assert_eq!(quarter.rows[2].start, ["Service"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let row = "[[row]]\nminute = 0\nassigned_mib = { a = 64 }\n";
        for (text, message) in [
            (
                "name = \"x\"\nrow = []\n".to_owned(),
                "at least one [[row]]",
            ),
            (
                format!("name = \"x\"\nramp_s = 6.0\n{row}"),
                "ramp_s is 6; it must be above 0 and at most 5",
            ),
            (
                format!("name = \"x\"\n{row}{row}"),
                "row 1: minute is 0; it must be later",
            ),
            (
                format!("name = \"x\"\n{row}start = [\"b\"]\n"),
                "row 0 starts \"b\" but gives it no assigned_mib",
            ),
            (
                format!("name = \"x\"\n{row}delay_minutes = {{ b = 1.0 }}\n"),
                "row 0 delays \"b\", which must run already",
            ),
            (
                format!("name = \"x\"\n{row}delay_minutes = {{ a = -1.0 }}\n"),
                "row 0: a: delay_minutes is -1; it must be above 0",
            ),
            (
                format!("name = \"x\"\nballoon = [\"b\"]\n{row}"),
                "balloon names \"b\", which is in no row",
            ),
            (
                format!("name = \"x\"\nspeed = 1\n{row}"),
                "unknown field `speed`",
            ),
        ] {
            let error = Scenario::parse("file.toml", &text).unwrap_err().to_string();
            assert!(
                error.starts_with("file.toml: ") && error.contains(message),
                "{error}"
            );
        }
    }
}
