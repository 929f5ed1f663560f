//! The command `cargo xtask lab`.

use crate::families::{self, Family};
use crate::policies::GUESTS_MAX;
use crate::table::{self, Contestant, Row, contestants};
use crate::trace::Trace;
use crate::verdict::{self, Judgement};
use crate::{advise, calibrate, csv, density, fleet, json, plot, recordings};
use anyhow::{Context as _, Result, bail};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The stack of each thread that plays: the tables of 1,024 guests are made on it.
const STACK_BYTES: usize = 64 << 20;

/// What is played. Without anything: every family with 2 and 8 guests, every policy, and the verdict, which is the exit
/// status: whether our policy is as good as it has to be.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    /// What else is done with a trace.
    #[command(subcommand)]
    pub what: Option<What>,
    /// Only this family.
    #[arg(long, value_name = "NAME")]
    pub family: Option<String>,
    /// Only this many guests, instead of 2 and 8.
    #[arg(long, value_name = "N")]
    pub guests: Option<usize>,
    /// Only these policies, by name, separated by commas: `qubes` is at both paces, `qubes@own` at its own alone.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub policy: Vec<String>,
    /// Play this trace instead of the families: CSV with the columns time_s, guest, demand_mib.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["family", "guests", "hosts", "density", "long"])]
    pub trace: Option<PathBuf>,
    /// Draw unmet demand over moved memory into this directory, an SVG for each family and size.
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// Write all figures into this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Play a fleet of this many hosts, each with 2 to 16 guests and a family and a seed of its own.
    #[arg(long, value_name = "N", conflicts_with_all = ["family", "guests"])]
    pub hosts: Option<usize>,
    /// How many guests fit 24 GiB before a thousandth of their demand is unmet, for each family and policy.
    #[arg(long)]
    pub density: bool,
    /// Traces of two minutes.
    #[arg(long, conflicts_with = "long")]
    pub short: bool,
    /// 64 and 1,000 guests as well.
    #[arg(long, conflicts_with = "guests")]
    pub long: bool,
    /// Print what every policy leaves unmet and moves, not only the best rival.
    #[arg(long)]
    pub table: bool,
    /// Let all memory move so many times slower: who wins must not hang on one machine's speed.
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub slower: u64,
    /// How long each trace is, in seconds: 300, or 120 with --short or more than 64 guests, or 60 with --hosts.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(20..=86_400))]
    pub seconds: Option<u64>,
    /// How many traces of each family are played: 3, or 1 with more than 16 guests.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: Option<u64>,
    /// The first one's seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// What else is done with a trace.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum What {
    /// Advise settings for the guests of a trace, and say what they would have given.
    Advise {
        /// The trace: CSV with the columns time_s, guest, demand_mib.
        #[arg(long, value_name = "FILE")]
        trace: PathBuf,
    },
    /// Replay a recording of real guests, and say how far the simulation's assigned memory is from theirs. Fails above 5 %.
    Calibrate {
        /// The recording: CSV with the columns time_s, guest, demand_mib, assigned_mib.
        #[arg(long, value_name = "FILE")]
        trace: PathBuf,
        /// Write what was recorded and what was simulated, moment by moment, as CSV.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List the families and policies.
    List,
    /// Write a trace of a family as a file.
    Write {
        /// The family.
        #[arg(long, value_name = "NAME")]
        family: String,
        /// How many guests.
        #[arg(long, value_name = "N", default_value_t = 8)]
        guests: usize,
        /// How long, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        seconds: u64,
        /// The seed.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// The file.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// The threads that play.
fn pool() -> Result<rayon::ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new()
        .stack_size(STACK_BYTES)
        .build()?)
}

/// The short form, judged: for tests.
///
/// # Errors
/// A trace's guests do not fit its pool.
pub fn short() -> Result<Vec<Judgement>> {
    let options = Options {
        short: true,
        seed: 1,
        slower: 1,
        ..Options::default()
    };
    let contestants = contestants();
    let rows = pool()?.install(|| options.rows(&contestants))?;
    Ok(rows
        .iter()
        .filter_map(|row| Judgement::of(row, &contestants))
        .collect())
}

/// Replays a recording of real guests.
///
/// # Errors
/// It cannot be read, or no guest of it has assigned memory.
pub fn calibrate_file(recording: &Path) -> Result<Vec<calibrate::Difference>> {
    let trace = read(recording)?;
    pool()?
        .install(|| calibrate::compare(&trace))
        .map_err(anyhow::Error::msg)
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
    /// What was asked for does not exist, or a file cannot be read or written.
    pub fn run(&self) -> Result<Ending> {
        pool()?.install(|| match &self.what {
            None => self.play(),
            Some(what) => what.run(),
        })
    }

    fn play(&self) -> Result<Ending> {
        if let Some(hosts) = self.hosts {
            return self.fleet(hosts);
        }
        let contestants = self.contestants()?;
        if self.density {
            return self.densities(&contestants);
        }
        let rows = self.rows(&contestants)?;
        let judgements: Vec<Judgement> = rows
            .iter()
            .filter_map(|row| Judgement::of(row, &contestants))
            .collect();
        if self.table || judgements.is_empty() {
            print!("{}", table::text(&rows, &contestants));
        }
        if let Some(directory) = &self.plot {
            let files = plot::draw(directory, &rows, &contestants)?;
            println!("{} plots in {}", files.len(), directory.display());
        }
        if let Some(path) = &self.json {
            write(path, &json::text(&contestants, &rows, &judgements, &[])?)?;
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
        if let Some(path) = &self.trace {
            let row = table::row_of(&name_of(path), &[read(path)?], contestants);
            return Ok(vec![row.map_err(anyhow::Error::msg)?]);
        }
        if let Some(name) = &self.family
            && recordings::names().any(|known| known == name)
        {
            return Ok(vec![recorded(name, contestants)?]);
        }
        let mut sizes = vec![2, 8];
        if self.long {
            sizes.extend([64, 1000]);
        }
        if let Some(guests) = self.guests {
            if !(1..=GUESTS_MAX).contains(&guests) {
                bail!("--guests {guests}: must be 1 to {GUESTS_MAX}");
            }
            sizes = vec![guests];
        }
        let cases: Vec<(&Family, usize)> = self
            .families()?
            .into_iter()
            .flat_map(|family| sizes.iter().map(move |guests| (family, *guests)))
            .collect();
        let rows: Result<Vec<Row>, String> = cases
            .par_iter()
            .map(|(family, guests)| {
                let (length_ms, seeds) = self.extent(*guests);
                table::row(family, *guests, length_ms, &seeds, contestants)
            })
            .collect();
        let mut rows = rows.map_err(anyhow::Error::msg)?;
        if self.family.is_none() && self.guests.is_none() {
            for name in recordings::names() {
                rows.push(recorded(name, contestants)?);
            }
        }
        Ok(rows)
    }

    /// How long traces are, in milliseconds, and their seeds.
    fn extent(&self, guests: usize) -> (u64, Vec<u64>) {
        let short = self.short || guests > 64;
        let seconds = self.seconds.unwrap_or(if short { 120 } else { 300 });
        let seeds = self.seeds.unwrap_or(if guests > 16 { 1 } else { 3 });
        (seconds * 1000, (self.seed..self.seed + seeds).collect())
    }

    fn densities(&self, contestants: &[Contestant]) -> Result<Ending> {
        let (length_ms, seeds) = self.extent(8);
        let densities = density::measure(&self.families()?, contestants, length_ms, &seeds);
        print!("{}", density::text(&densities, contestants));
        if let Some(path) = &self.json {
            write(path, &json::text(contestants, &[], &[], &densities)?)?;
        }
        let good = densities
            .iter()
            .filter_map(|density| density.ours_and_best(contestants))
            .all(|(ours, best, _)| ours >= best);
        Ok(if good { Ending::Passed } else { Ending::Failed })
    }

    fn fleet(&self, hosts: usize) -> Result<Ending> {
        let length_ms = self.seconds.unwrap_or(60) * 1000;
        for contestant in fleet::players() {
            let fleet = fleet::play(&contestant, hosts, length_ms, self.seed)
                .map_err(anyhow::Error::msg)?;
            print!("{}", fleet::text(&contestant.name(), &fleet));
        }
        Ok(Ending::Passed)
    }

    fn families(&self) -> Result<Vec<&'static Family>> {
        match &self.family {
            None => Ok(families::ALL.iter().collect()),
            Some(name) => Ok(vec![named(name)?]),
        }
    }

    fn contestants(&self) -> Result<Vec<Contestant>> {
        let mut all = contestants();
        for contestant in &mut all {
            contestant.slower = self.slower.max(1);
        }
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

impl What {
    fn run(&self) -> Result<Ending> {
        match self {
            Self::Advise { trace } => {
                let trace = read(trace)?;
                let advice = advise::advise(&trace).map_err(anyhow::Error::msg)?;
                print!("{}", advise::text(&trace, &advice));
                Ok(Ending::Passed)
            }
            Self::Calibrate { trace, output } => {
                let differences = calibrate_file(trace)?;
                print!("{}", calibrate::text(&differences));
                if let Some(path) = output {
                    write(path, &calibrate::csv(&differences))?;
                }
                let near = differences
                    .iter()
                    .all(|difference| difference.percent <= calibrate::DIFFERENCE_MAX_PERCENT);
                Ok(if near { Ending::Passed } else { Ending::Failed })
            }
            Self::List => {
                for family in families::ALL {
                    println!("family {:<12} {}", family.name, family.what);
                }
                for name in recordings::names() {
                    println!("family {name:<12} recorded from real guests");
                }
                for contestant in contestants() {
                    println!("policy {:<13} {}", contestant.name(), contestant.entry.what);
                }
                Ok(Ending::Passed)
            }
            Self::Write {
                family,
                guests,
                seconds,
                seed,
                output,
            } => {
                if !(1..=GUESTS_MAX).contains(guests) {
                    bail!("--guests {guests}: must be 1 to {GUESTS_MAX}");
                }
                let trace = named(family)?.trace(*guests, seconds * 1000, *seed);
                write(output, &csv::write(&trace))?;
                Ok(Ending::Passed)
            }
        }
    }
}

/// A recording, played.
fn recorded(name: &str, contestants: &[Contestant]) -> Result<Row> {
    recordings::named(name)
        .and_then(|trace| table::row_of(name, &[trace], contestants))
        .map_err(anyhow::Error::msg)
}

fn named(name: &str) -> Result<&'static Family> {
    families::named(name).with_context(|| {
        let names: Vec<&str> = families::ALL
            .iter()
            .map(|family| family.name)
            .chain(recordings::names())
            .collect();
        format!(
            "no family is called `{name}`; there are {}",
            names.join(", ")
        )
    })
}

fn name_of(path: &Path) -> String {
    path.file_stem()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<Arc<Trace>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    match csv::read(&name_of(path), &text) {
        Ok(trace) => Ok(Arc::new(trace)),
        Err(mistake) => bail!("{}, {mistake}", path.display()),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
