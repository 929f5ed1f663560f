//! One booted system of the burst scenario, and what it has shown.

use anyhow::{Context as _, Result, bail};
use operator::Check;
use operator::agent::field;
use operator::session::Mark;
use operator::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use system_tests::{Rig, Setting};

/// Wall time after which a command counts as never answered; a burst takes a second or two of a guest's time.
const LIMIT: Duration = Duration::from_secs(240);
/// How often the board is asked for figures while something goes on, by the host's clock. Each time costs it a millisecond or
/// two.
const SAMPLE: Duration = Duration::from_millis(400);
/// How often the machine's memory is looked at from outside: each look takes some tenths of a second of the host's time.
const LOOK: Duration = Duration::from_secs(10);

/// What a load took, by its guest's clock.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Until its first 2 MiB were there.
    pub first_us: u64,
    /// All of it.
    pub all_us: u64,
}

/// A load's plays so far.
#[derive(Clone, Copy, Debug, Default)]
struct Plays {
    played: u32,
    /// Those that did not come to their end.
    cut: u32,
    kills: u64,
    longest_us: u64,
}

/// A booted system.
pub struct Scene {
    name: &'static str,
    /// The hands on it.
    pub rig: Rig,
    history: Vec<Snapshot>,
    marks: Vec<Mark>,
    checks: Vec<Check>,
    loads: BTreeMap<String, Plays>,
}

/// How everybody stands, in MiB.
fn standing(snapshot: &Snapshot) -> String {
    let host = &snapshot.host;
    let mut all = format!("{} ms, host {host:?}", snapshot.t_ms);
    for row in &snapshot.guests {
        all.push_str(&format!("; {row:?}"));
    }
    all
}

impl Scene {
    /// Boots a system.
    ///
    /// # Errors
    /// When the board does not answer.
    pub fn boot(name: &'static str, setting: &Setting, log: &Path) -> Result<Self> {
        let mut rig = Rig::boot(setting, log)?;
        rig.look_every(LOOK);
        Ok(Self {
            name,
            rig,
            history: Vec::new(),
            marks: Vec::new(),
            checks: Vec::new(),
            loads: BTreeMap::new(),
        })
    }

    /// Waits until the agents of these guests answer and they have come to rest.
    ///
    /// # Errors
    /// When one does not answer.
    pub fn meet(&mut self, guests: &[&str]) -> Result<()> {
        for guest in guests {
            self.rig.wait_agent(guest)?;
        }
        self.rest(3000)
    }

    /// Lets so much of the board's time pass.
    ///
    /// # Errors
    /// When the board is silent, or a promise is broken.
    pub fn rest(&mut self, ms: u64) -> Result<()> {
        let from_ms = self.sample()?;
        while self.sample()? < from_ms + ms {
            self.rig.board.pump(SAMPLE);
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<u64> {
        let snapshot = self.rig.look()?;
        let t_ms = snapshot.t_ms;
        self.history.push(snapshot);
        Ok(t_ms)
    }

    /// Marks this moment in the plot.
    pub fn mark(&mut self, title: &str) {
        let t_ms = self.history.last().map_or(0, |snapshot| snapshot.t_ms);
        self.marks.push(Mark {
            t_ms,
            title: title.to_owned(),
        });
    }

    /// Gives a command to a guest's agent.
    ///
    /// # Errors
    /// When there is no answer, or it is an error.
    pub fn ask(&mut self, guest: &str, command: &str) -> Result<String> {
        let history = &mut self.history;
        let mut sampled = Instant::now();
        let answer = self
            .rig
            .try_ask_watching(guest, command, LIMIT, &mut |rig| {
                if sampled.elapsed() >= SAMPLE {
                    history.push(rig.look()?);
                    sampled = Instant::now();
                }
                Ok(())
            })?;
        answer.with_context(|| {
            let standing = self.history.last().map(standing).unwrap_or_default();
            format!("{guest} does not answer `{command}`: {standing}")
        })
    }

    /// Plays a load (`fault 4096`) in a guest. A kill is counted, and is no error.
    ///
    /// # Errors
    /// When there is no answer at all.
    pub fn burst(&mut self, guest: &str, load: &str) -> Result<Option<Took>> {
        self.mark(&format!("{guest}: {load}"));
        let answer = self.ask(guest, &format!("burst {load}"))?;
        let Some(kills) = field(&answer, "kills") else {
            bail!("{guest} answered `burst {load}` with {answer:?}");
        };
        let took = match (field(&answer, "first_us"), field(&answer, "took_us")) {
            (Some(first_us), Some(all_us)) => Some(Took { first_us, all_us }),
            _ => None,
        };
        let kind = load.split(' ').next().unwrap_or(load);
        let plays = self.loads.entry(format!("{guest} {kind}")).or_default();
        plays.played += 1;
        plays.kills += kills;
        match took {
            Some(took) => plays.longest_us = plays.longest_us.max(took.all_us),
            None => {
                plays.cut += 1;
                self.rig.board.note(&format!("cut short: {answer}"));
            }
        }
        Ok(took)
    }

    /// Notes a check, under the scene's name.
    pub fn note(&mut self, check: Check) {
        self.checks.push(Check {
            name: format!("{}: {}", self.name, check.name),
            ..check
        });
    }

    /// Makes a check of each load that was played.
    pub fn finish(&mut self) {
        for (load, plays) in std::mem::take(&mut self.loads) {
            let Plays {
                played,
                cut,
                kills,
                longest_us,
            } = plays;
            let detail = format!(
                "{} of {played} bursts came to their end, {kills} OOM kills, at most {} ms",
                played - cut,
                longest_us / 1000
            );
            self.note(Check {
                name: load,
                ok: cut == 0 && kills == 0 && played > 0,
                detail,
            });
        }
    }

    /// The checks as lines.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.checks.iter().map(|check| {
            let verdict = if check.ok { "ok  " } else { "FAIL" };
            format!("{verdict} {}: {}", check.name, check.detail)
        })
    }

    /// The memory of the guests over time, as SVG.
    pub fn plot(&self) -> String {
        let title = format!("Memory of the guests over time: bursts, {}", self.name);
        operator::plot::to_svg(&title, &self.history, &self.marks)
    }

    /// The checks, and what was seen.
    pub fn into_results(self) -> (Vec<Check>, Vec<Snapshot>) {
        (self.checks, self.history)
    }
}
