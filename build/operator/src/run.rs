//! One run from connect to report.

use crate::board::Board;
use crate::checks::{Evidence, evaluate};
use crate::live::Live;
use crate::logs::Logs;
use crate::plain::Plain;
use crate::play::play;
use crate::plot::to_svg;
use crate::record::Recording;
use crate::report::{Check, to_json};
use crate::scenario::Scenario;
use crate::session::{Interrupted, Session, View};
use crate::snapshot::Snapshot;
use crate::transcript::Transcript;
use anyhow::Context as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The live table, on a terminal.
    Live,
    /// Lines on standard output.
    Plain,
}

/// What happens when the scenario has ended (or there is none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// The operator goes on until they quit.
    StayInteractive,
    /// The run ends.
    End,
}

/// What a run needs.
pub struct RunOptions {
    /// Bytes from the board. A thread reads them until they end.
    pub input: Box<dyn Read + Send>,
    /// Bytes to the board.
    pub output: Box<dyn Write + Send>,
    /// What is played.
    pub scenario: Option<Scenario>,
    /// Who watches.
    pub show: Show,
    /// What follows.
    pub afterwards: Afterwards,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// Where the plot goes.
    pub plot: Option<PathBuf>,
    /// Where the recording of demand and assigned memory goes, when the run has ended.
    pub record: Option<PathBuf>,
    /// Where everything that came over the line goes, as text.
    pub transcript: Option<PathBuf>,
    /// The components' ELF files by crate name, for the format strings of their logs.
    pub programs: Vec<(String, PathBuf)>,
    /// How long the board may take until it answers.
    pub boot_timeout: Duration,
    /// What somebody has to say who watched from elsewhere; asked when the scenario is over.
    pub more_checks: Option<MoreChecks>,
    /// Set from outside to end the run.
    pub stop: Arc<AtomicBool>,
}

/// Checks that are made elsewhere.
pub type MoreChecks = Box<dyn FnOnce() -> Vec<Check>>;

/// How a run came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The scenario's checks; none without a scenario.
    pub checks: Vec<Check>,
    /// Why the run ended before its end, if it did. An operator who quits after the scenario is no interruption.
    pub interrupted: Option<String>,
}

impl Outcome {
    /// Whether the run went to its end and every check held.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.interrupted.is_none() && self.checks.iter().all(|check| check.ok)
    }
}

/// Carries out a run. The checks' results are part of the [`Outcome`], not errors.
///
/// # Errors
/// When a file cannot be read or written, or standard output is no terminal for [`Show::Live`].
pub fn run(options: RunOptions) -> anyhow::Result<Outcome> {
    let mut logs = Logs::default();
    for (program, path) in &options.programs {
        let elf = std::fs::read(path).with_context(|| path.display().to_string())?;
        logs.add_program(program, &elf)
            .with_context(|| format!("{}: log format strings", path.display()))?;
    }
    let transcript: Option<Box<dyn Write + Send>> = match &options.transcript {
        Some(path) => Some(Box::new(
            std::fs::File::create(path).with_context(|| path.display().to_string())?,
        )),
        None => None,
    };
    let board = Board::new(
        options.input,
        options.output,
        logs,
        Transcript::new(transcript),
    );
    let mut view: Box<dyn View> = match options.show {
        Show::Live => {
            Box::new(Live::new().context("no terminal for the live table; use --headless")?)
        }
        Show::Plain => Box::new(Plain::new(std::io::stdout())),
    };
    let mut session = Session::new(board, view.as_mut(), options.stop);
    session.recording = options.record.is_some().then(Recording::default);
    let mut outcome = Outcome::default();
    let ended = conduct(
        &mut session,
        options.boot_timeout,
        options.scenario.as_ref(),
        options.more_checks,
        &mut outcome,
        |outcome, session| {
            write_files(
                options.report.as_deref(),
                options.plot.as_deref(),
                options.scenario.as_ref(),
                &outcome.checks,
                session,
            )
        },
        options.afterwards,
    );
    let recorded = match (&options.record, session.recording.take()) {
        (Some(path), Some(recording)) => {
            std::fs::write(path, recording.to_csv()).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    };
    drop(view);
    ended.and(recorded).map(|()| outcome)
}

fn conduct(
    session: &mut Session<'_>,
    boot_timeout: Duration,
    scenario: Option<&Scenario>,
    more_checks: Option<MoreChecks>,
    outcome: &mut Outcome,
    write: impl Fn(&Outcome, &Session<'_>) -> anyhow::Result<()>,
    afterwards: Afterwards,
) -> anyhow::Result<()> {
    let mut result = session.connect(boot_timeout);
    if let (Ok(()), Some(scenario)) = (&result, scenario) {
        let evidence = match play(session, scenario) {
            Ok(evidence) => evidence,
            Err(why) => {
                result = Err(why);
                Evidence::default()
            }
        };
        outcome.checks = evaluate(&evidence, &session.history);
        outcome
            .checks
            .extend(more_checks.into_iter().flat_map(|more| more()));
        for check in &outcome.checks {
            let verdict = if check.ok { "ok  " } else { "FAIL" };
            session.say(&format!("{verdict} {}: {}", check.name, check.detail));
        }
    }
    write(outcome, session)?;
    if result.is_ok() && afterwards == Afterwards::StayInteractive {
        result = loop {
            match session.tick() {
                Ok(()) => session.forget_beyond(HISTORY_SAMPLES),
                // That is how such a run ends.
                Err(Interrupted::Quit) => break Ok(()),
                Err(why) => break Err(why),
            }
        };
    }
    match result {
        Ok(()) => Ok(()),
        Err(Interrupted::View(error)) => Err(error.context("terminal")),
        Err(why) => {
            session.say(&format!("the run ends: {why}"));
            outcome.interrupted = Some(why.to_string());
            Ok(())
        }
    }
}

/// Samples kept while the operator goes on after the scenario: nobody plots them, and a day would fill memory.
const HISTORY_SAMPLES: usize = 4096;

fn write_files(
    report: Option<&Path>,
    plot: Option<&Path>,
    scenario: Option<&Scenario>,
    checks: &[Check],
    session: &Session<'_>,
) -> anyhow::Result<()> {
    let history: &[Snapshot] = &session.history;
    if let Some(path) = report {
        let text = to_json(history, checks).context("report")?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = plot {
        let title = match scenario {
            Some(scenario) => format!("Memory of the guests over time: scenario {}", scenario.name),
            None => "Memory of the guests over time".into(),
        };
        std::fs::write(path, to_svg(&title, history, &session.marks))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}
