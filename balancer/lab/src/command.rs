//! The command `cargo xtask lab`.

use crate::families::{self, Family};
use crate::policies::GUESTS_MAX;
use crate::table::{Contestant, contestants, row, text};
use anyhow::{Result, bail};

/// What is played.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Only this family.
    #[arg(long, value_name = "NAME")]
    pub family: Option<String>,
    /// Only this many guests.
    #[arg(long, value_name = "N")]
    pub guests: Option<usize>,
    /// Only these policies, by a part of their names, separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub policy: Vec<String>,
    /// How long each trace is, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub seconds: u64,
    /// How many traces of each family are played.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Ours is as good as it has to be.
    Passed,
    /// It is not.
    Failed,
}

impl Options {
    /// Plays, and prints what came of it.
    ///
    /// # Errors
    /// What was asked for does not exist.
    pub fn run(&self) -> Result<Ending> {
        let families = self.families()?;
        let contestants = self.contestants()?;
        let sizes = match self.guests {
            Some(guests) if guests == 0 || guests > GUESTS_MAX => {
                bail!("--guests {guests}: 1 to {GUESTS_MAX}")
            }
            Some(guests) => vec![guests],
            None => vec![2, 8],
        };
        let seeds: Vec<u64> = (self.seed..self.seed + self.seeds.max(1)).collect();
        let mut rows = Vec::new();
        for family in families {
            for guests in &sizes {
                let length_ms = self.seconds.max(20) * 1000;
                let row = row(family, *guests, length_ms, &seeds, &contestants)
                    .map_err(anyhow::Error::msg)?;
                rows.push(row);
            }
        }
        print!("{}", text(&rows, &contestants));
        Ok(Ending::Passed)
    }

    fn families(&self) -> Result<Vec<&'static Family>> {
        let Some(name) = &self.family else {
            return Ok(families::ALL.iter().collect());
        };
        match families::named(name) {
            Some(family) => Ok(vec![family]),
            None => {
                let names: Vec<&str> = families::ALL.iter().map(|family| family.name).collect();
                bail!(
                    "no family is called `{name}`; there are {}",
                    names.join(", ")
                )
            }
        }
    }

    fn contestants(&self) -> Result<Vec<Contestant>> {
        let all = contestants();
        if self.policy.is_empty() {
            return Ok(all);
        }
        let chosen: Vec<Contestant> = all
            .iter()
            .copied()
            .filter(|contestant| {
                let name = contestant.name();
                self.policy.iter().any(|part| name.contains(part.as_str()))
            })
            .collect();
        if chosen.is_empty() {
            let names: Vec<String> = all.iter().map(Contestant::name).collect();
            bail!("no such policy; there are {}", names.join(", "));
        }
        Ok(chosen)
    }
}
