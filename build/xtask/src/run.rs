//! `cargo xtask run`: a system in QEMU, with the operator at its line.

use crate::cargo::Cargo;
use crate::image::{self, Flavour, Kernel};
use crate::paths::{Paths, write_if_changed};
use crate::watching::Watching;
use anyhow::{Context, Result};
use operator::{Afterwards, MoreChecks, Outcome, RunOptions, Scenario, Show};
use qemu_machine::{Board, Count, LineReader, LineWriter, Machine, Qemu};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use system::Scale;

/// How long the board may take from power-on until it answers, by the host's clock: only a board that hangs takes so long.
const BOOT_TIMEOUT: Duration = Duration::from_secs(600);

/// The system and the scenario of a run that names neither.
const WORKED_EXAMPLE: &str = "seeds";

/// Set by the first interrupt while a run is under way: it then ends in good order, reports written.
static STOP: AtomicBool = AtomicBool::new(false);
/// Whether a run is under way.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// What an interrupt (Ctrl-C, a termination signal) does: the first asks a run to end; the second, or one outside of a
/// run, ends everything.
pub fn interrupted() {
    if RUNNING.load(Ordering::SeqCst) && !STOP.swap(true, Ordering::SeqCst) {
        return;
    }
    qemu_machine::stop_all();
    // What a shell reports for a program that an interrupt ended.
    std::process::exit(130);
}

/// What is run.
#[derive(Debug)]
pub struct Run {
    /// The description; `None` is that of the scenario's name, or the worked example, at quarter scale and with its scenario.
    pub system: Option<PathBuf>,
    /// The board, instead of the one that the description names.
    pub board: Option<String>,
    /// A scenario's name or file.
    pub scenario: Option<String>,
    /// How large.
    pub scale: Option<Scale>,
    /// Who watches.
    pub show: Show,
    /// What follows the scenario.
    pub afterwards: Afterwards,
    /// How time passes.
    pub count: Count,
    /// Which kernel.
    pub kernel: Kernel,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// Where the plot goes.
    pub plot: Option<PathBuf>,
    /// Where the recording of demand and assigned memory goes.
    pub record: Option<PathBuf>,
    /// How often the machine is looked at from outside (`system_tests::Watch`), if it is; the first thing that is wrong ends the
    /// looking and fails a check.
    pub watch: Option<Duration>,
    /// Name of the image and of the log under `out/`.
    pub name: String,
}

impl Run {
    /// The worked example.
    #[must_use]
    pub fn seeds() -> Self {
        Self {
            system: None,
            board: None,
            scenario: None,
            scale: None,
            show: Show::Plain,
            afterwards: Afterwards::End,
            // The scenario's times are guest time: a stall or a ramp must not depend on what else the host does.
            count: Count::Paced,
            kernel: Flavour::Release.into(),
            report: None,
            plot: None,
            record: None,
            watch: None,
            name: "run".to_owned(),
        }
    }

    /// Builds the image, starts the machine, and lets the operator at it.
    ///
    /// # Errors
    /// When something cannot be built or started. What the checks say is in the outcome.
    pub fn run(self, paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<Outcome> {
        let Played {
            system,
            scenario,
            scale,
        } = played(
            paths,
            self.system.clone(),
            self.scenario.as_deref(),
            self.scale,
        )?;
        let description = image::describe(&system, self.board.as_deref(), scale)?;
        let built = image::build(paths, cargo, &description, self.kernel.clone(), mirror)?;
        let file = paths.out().join(format!("{}.img", self.name));
        write_if_changed(&file, &built.image)?;
        std::fs::create_dir_all(paths.logs())?;

        let board = Board::named(description.board).context("the board has vanished")?;
        let mut machine = board.machine(description.memory_mib);
        machine.count = self.count;
        let (mut qemu, more_checks, input, output) = start(&machine, &file, self.watch)?;
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = watch_for_interrupts(&stop);
        let outcome = operator::run(RunOptions {
            input: Box::new(input),
            output: Box::new(output),
            scenario: scenario.map(|scenario| scenario.scaled(scale)),
            show: self.show,
            afterwards: self.afterwards,
            report: self.report,
            plot: self.plot,
            record: self.record,
            transcript: Some(paths.logs().join(format!("{}.log", self.name))),
            programs: built.programs,
            boot_timeout: BOOT_TIMEOUT,
            more_checks,
            stop,
        });
        RUNNING.store(false, Ordering::SeqCst);
        let _ = watcher.join();
        let complaints = qemu.stop();
        if !complaints.is_empty() {
            eprint!("{complaints}");
        }
        outcome
    }
}

/// What a run is made of.
struct Played {
    system: PathBuf,
    scenario: Option<Scenario>,
    scale: Scale,
}

/// Without a description a scenario that comes with the tool is played in the system of its name; without either it is the worked
/// example, which is small enough for a development machine at quarter scale.
fn played(
    paths: &Paths,
    system: Option<PathBuf>,
    scenario: Option<&str>,
    scale: Option<Scale>,
) -> Result<Played> {
    let described = system.is_some();
    let name = match scenario {
        None if !described => Some(WORKED_EXAMPLE),
        name => name,
    };
    let own = name.filter(|name| Scenario::BUILTIN.contains(name));
    let system = system.unwrap_or_else(|| {
        let file = format!("{}.toml", own.unwrap_or(WORKED_EXAMPLE));
        paths.systems().join(file)
    });
    let quarter = !described && own.is_none_or(|name| name == WORKED_EXAMPLE);
    let usual = if quarter { Scale::Quarter } else { Scale::Full };
    Ok(Played {
        system,
        scenario: name.map(load_scenario).transpose()?,
        scale: scale.unwrap_or(usual),
    })
}

/// Starts the machine, watched or not.
fn start(
    machine: &Machine,
    image: &Path,
    watch: Option<Duration>,
) -> Result<(Qemu, Option<MoreChecks>, LineReader, LineWriter)> {
    let Some(pause) = watch else {
        let (qemu, input, output) = Qemu::start(machine, image)?;
        return Ok((qemu, None, input, output));
    };
    let (qemu, probe, input, output) = Qemu::start_with_probe(machine, image)?;
    let watching = Watching::begin(probe, pause);
    let more: MoreChecks = Box::new(|| vec![watching.end()]);
    Ok((qemu, Some(more), input, output))
}

/// Passes an interrupt on to the run while it is under way.
fn watch_for_interrupts(stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    STOP.store(false, Ordering::SeqCst);
    RUNNING.store(true, Ordering::SeqCst);
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        while RUNNING.load(Ordering::SeqCst) {
            if STOP.load(Ordering::SeqCst) {
                stop.store(true, Ordering::SeqCst);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    })
}

/// A scenario that comes with the tool, or a file.
fn load_scenario(name: &str) -> Result<Scenario> {
    match Scenario::builtin(name) {
        Some(scenario) => Ok(scenario),
        None => Scenario::load(Path::new(name)).with_context(|| {
            format!(
                "`{name}` is no scenario that comes with the tool ({}), so it was read as a file",
                Scenario::BUILTIN.join(", ")
            )
        }),
    }
}

/// Who watches by default: the live table where there is a terminal.
#[must_use]
pub fn default_show() -> Show {
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        Show::Live
    } else {
        Show::Plain
    }
}
