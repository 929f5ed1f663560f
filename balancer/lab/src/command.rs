//! The command `cargo xtask lab`.

use crate::families::{self, Family};
use crate::policies::GUESTS_MAX;
use crate::table::{self, Contestant, Row, contestants};
use crate::verdict::{self, Judgement};
use anyhow::{Result, bail};
use rayon::prelude::*;

/// The stack of each thread that plays.
const STACK_BYTES: usize = 64 << 20;

/// What is played. Without anything: every family with 2 and 8 guests, every policy, and the verdict.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Only this family.
    #[arg(long, value_name = "NAME")]
    pub family: Option<String>,
    /// Only this many guests, instead of 2 and 8.
    #[arg(long, value_name = "N")]
    pub guests: Option<usize>,
    /// Only these policies, by name, separated by commas: `demand` is at both paces, `demand@own` at its own alone.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub policy: Vec<String>,
    /// How long each trace is, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub seconds: u64,
    /// How many traces of each family are played.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub seeds: u64,
    /// The first one's seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print what every policy leaves unmet and moves, not only the best rival.
    #[arg(long)]
    pub table: bool,
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
        // The tables of 1,024 guests are made on the stack.
        rayon::ThreadPoolBuilder::new()
            .stack_size(STACK_BYTES)
            .build()?
            .install(|| self.play())
    }

    fn play(&self) -> Result<Ending> {
        let contestants = self.contestants()?;
        let rows = self.rows(&contestants)?;
        let judgements: Vec<Judgement> = rows
            .iter()
            .filter_map(|row| Judgement::of(row, &contestants))
            .collect();
        if self.table || judgements.is_empty() {
            print!("{}", table::text(&rows, &contestants));
        }
        if judgements.is_empty() {
            println!("no verdict: ours or its rivals did not play");
            return Ok(Ending::Passed);
        }
        print!("{}", verdict::text(&judgements));
        print!("{}", verdict::summary(&judgements));
        Ok(if judgements.iter().all(Judgement::ok) {
            Ending::Passed
        } else {
            Ending::Failed
        })
    }

    fn rows(&self, contestants: &[Contestant]) -> Result<Vec<Row>> {
        let sizes = match self.guests {
            Some(guests) if guests == 0 || guests > GUESTS_MAX => {
                bail!("--guests {guests}: 1 to {GUESTS_MAX}")
            }
            Some(guests) => vec![guests],
            None => vec![2, 8],
        };
        let seeds: Vec<u64> = (self.seed..self.seed + self.seeds.max(1)).collect();
        let length_ms = self.seconds.max(20) * 1000;
        let cases: Vec<(&Family, usize)> = self
            .families()?
            .into_iter()
            .flat_map(|family| sizes.iter().map(move |guests| (family, *guests)))
            .collect();
        let rows: Result<Vec<Row>, String> = cases
            .par_iter()
            .map(|(family, guests)| table::row(family, *guests, length_ms, &seeds, contestants))
            .collect();
        rows.map_err(anyhow::Error::msg)
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
        let mut chosen = Vec::new();
        for name in &self.policy {
            let before = chosen.len();
            chosen.extend(
                all.iter().copied().filter(|contestant| {
                    contestant.entry.name == name || contestant.name() == *name
                }),
            );
            if chosen.len() == before {
                let names: Vec<String> = all.iter().map(Contestant::name).collect();
                bail!(
                    "no policy is called `{name}`; there are {}",
                    names.join(", ")
                );
            }
        }
        Ok(chosen)
    }
}
