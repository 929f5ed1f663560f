//! What `cargo xtask` is asked for: the arguments of its larger commands, and what each does with them.

use crate::cargo::Cargo;
use crate::image::{self, Flavour, Format};
use crate::paths::{self, Paths};
use crate::setup::{self, Need};
use crate::{bench, burst, density, progress, run, test};
use anyhow::{Context, Result, ensure};
use operator::{Afterwards, Show};
use qemu_machine::Board;
use std::path::PathBuf;
use std::process::ExitCode;
use system::Scale;

/// How large everything is made.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum ScaleArgument {
    /// As written.
    #[default]
    Full,
    /// Every size divided by four.
    Quarter,
}

impl From<ScaleArgument> for Scale {
    fn from(argument: ScaleArgument) -> Self {
        match argument {
            ScaleArgument::Full => Self::Full,
            ScaleArgument::Quarter => Self::Quarter,
        }
    }
}

/// A system in QEMU, and who watches it.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The system description.
    system: Option<PathBuf>,
    /// What is played: a scenario that comes with the tool (seeds, bootstorm), in the system of its name unless another is
    /// given, or a file; or `burst`, which brings systems of its own, is played without the table and exits with 0 only if
    /// every check held (`burst:NAME` is one of its scenes: plenty, contended, handover, race, seeds).
    /// `density` boots several hosts and tells how many guests fit.
    #[arg(long, value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// The board, instead of the one that the description names.
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Full size, or everything divided by four. A description is run at full size unless this is given.
    #[arg(long, value_enum)]
    scale: Option<ScaleArgument>,
    /// How often the scenario `burst` plays each load in each guest.
    #[arg(long, value_name = "N", default_value_t = burst::TIMES)]
    times: u32,
    /// No live table: play the scenario, write the files, and exit with 0 only if every check held.
    #[arg(long)]
    headless: bool,
    /// Where the report goes (JSON).
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Where the plot goes (SVG).
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Where a recording of each guest's demand and assigned memory goes (CSV).
    #[arg(long, value_name = "FILE.csv")]
    record: Option<PathBuf>,
    /// The kernel with debug system calls.
    #[arg(long)]
    debug: bool,
    /// Another kernel than ours: an ELF file that takes the hand-over of seL4's loader, as seL4's own.
    #[arg(long, value_name = "ELF", conflicts_with = "debug")]
    kernel: Option<PathBuf>,
    /// A Debian mirror to use instead of the machine's own.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

impl Run {
    /// Does it; the exit status that it makes.
    ///
    /// # Errors
    /// When it cannot be done at all.
    pub fn execute(self, paths: &Paths, cargo: &Cargo) -> Result<ExitCode> {
        let Self {
            system,
            scenario,
            board,
            scale,
            times,
            headless,
            report,
            plot,
            record,
            debug,
            kernel,
            mirror,
        } = self;
        setup::ensure(paths, &setup::ALL, mirror.as_deref())?;
        if let Some(which) = scenario.as_deref().and_then(burst::scene_of) {
            let checks = burst::Burst {
                times,
                which,
                report,
                plot,
            }
            .run(paths, cargo, mirror.as_deref())?;
            return Ok(if checks.iter().all(|check| check.ok) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        if scenario.as_deref() == Some(density::NAME) {
            let other = system.is_some() || board.is_some() || scale.is_some();
            ensure!(
                !other && record.is_none() && kernel.is_none() && !debug,
                "`density` makes its own hosts: beside it there can be --report, --plot and --mirror"
            );
            let files = density::Files { report, plot };
            return fits(&density::run(paths, cargo, mirror.as_deref(), &files)?);
        }
        let show = if headless {
            Show::Plain
        } else {
            run::default_show()
        };
        let interactive = show == Show::Live;
        let outcome = run::Run {
            system,
            board,
            scenario,
            scale: scale.map(Into::into),
            show,
            afterwards: if interactive {
                Afterwards::StayInteractive
            } else {
                Afterwards::End
            },
            kernel: kernel_choice(debug, kernel),
            report,
            plot,
            record,
            ..run::Run::seeds()
        }
        .run(paths, cargo, mirror.as_deref())?;
        // Leaving the live table is how such a run ends.
        Ok(if outcome.is_ok() || interactive {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// A system's bootable image.
#[derive(Debug, clap::Args)]
pub struct Image {
    /// The system description.
    system: PathBuf,
    /// The board, instead of the one that the description names.
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Full size, or everything divided by four.
    #[arg(long, value_enum, default_value_t)]
    scale: ScaleArgument,
    /// The file to write; a name ending in `.img` makes an arm64 `Image`.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The form of the file, whatever its name.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Whose loader takes it: the board's, or seL4's (the root task's ELF file alone).
    #[arg(long = "for", value_enum, default_value_t, conflicts_with_all = ["format", "debug", "kernel"])]
    whose: image::For,
    /// The kernel with debug system calls.
    #[arg(long)]
    debug: bool,
    /// Another kernel than ours: an ELF file that takes the hand-over of seL4's loader, as seL4's own.
    #[arg(long, value_name = "ELF", conflicts_with = "debug")]
    kernel: Option<PathBuf>,
    /// A Debian mirror to use instead of the machine's own.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

impl Image {
    /// Does it; the exit status that it makes.
    ///
    /// # Errors
    /// When it cannot be done at all.
    pub fn execute(self, paths: &Paths, cargo: &Cargo) -> Result<ExitCode> {
        let Self {
            system,
            board,
            scale,
            output,
            format,
            whose,
            debug,
            kernel,
            mirror,
        } = self;
        setup::ensure(paths, &[Need::RustTargets], mirror.as_deref())?;
        let description = image::describe(&system, board.as_deref(), scale.into())?;
        if whose == image::For::Sel4 {
            let packed = image::pack(paths, cargo, &description, mirror.as_deref())?;
            paths::write_if_changed(&output, &packed.root_task)?;
            return Ok(ExitCode::SUCCESS);
        }
        let built = image::build(
            paths,
            cargo,
            &description,
            kernel_choice(debug, kernel),
            mirror.as_deref(),
        )?;
        let format = format.unwrap_or_else(|| match output.extension() {
            Some(ext) if ext == "img" => Format::Image,
            _ => Format::Elf,
        });
        let board = Board::named(description.board).context("the board has vanished")?;
        image::write(&built.image, format, board.load_address, &output)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Which tests are run, or named.
#[derive(Debug, clap::Args)]
pub struct Test {
    /// A suite (host, kernel, template, system, ...) or a part of its name; otherwise a part of the names of host tests
    /// and of the cases of whole systems.
    filter: Option<String>,
    /// FILTER is the whole name of one test (on this machine, in the kernel, a case of a whole system) or suite.
    #[arg(long, requires = "filter", conflicts_with = "target")]
    exact: bool,
    /// Name every test and run none.
    #[arg(long, conflicts_with_all = ["filter", "target", "kernel"])]
    list: bool,
    /// Only those on this machine, or only those in QEMU.
    #[arg(long, value_enum)]
    target: Option<test::Where>,
    /// Run one suite of the kernel (kernel-gicv3, kernel-gicv2-lowmem, kernel-debug) on another kernel than ours: an ELF file
    /// that takes the hand-over of seL4's loader, as seL4's own.
    #[arg(
        long,
        value_name = "ELF",
        requires = "filter",
        conflicts_with = "target"
    )]
    kernel: Option<PathBuf>,
    /// A Debian mirror to use instead of the machine's own.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

impl Test {
    /// Does it; the exit status that it makes.
    ///
    /// # Errors
    /// When it cannot be done at all.
    pub fn execute(self, paths: &Paths, cargo: &Cargo) -> Result<ExitCode> {
        let Self {
            filter,
            exact,
            list,
            target,
            kernel,
            mirror,
        } = self;
        let needs: &[Need] = match (target, &kernel) {
            (Some(test::Where::Host), _) => &[],
            (_, Some(_)) => &[Need::RustTargets, Need::Qemu],
            _ => &setup::ALL,
        };
        setup::ensure(paths, needs, mirror.as_deref())?;
        let tests = test::Tests {
            paths,
            cargo,
            filter: filter.as_deref(),
            exact,
            place: target,
            kernel: kernel.as_deref(),
            mirror: mirror.as_deref(),
        };
        if list {
            tests.list()?;
            return Ok(ExitCode::SUCCESS);
        }
        let counts = tests.run()?;
        progress::print_failures();
        println!("{} passed, {} failed", counts.passed, counts.failed);
        Ok(if counts.good() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// Only this part, beside the kernel's own operations.
    #[arg(value_enum)]
    part: Option<bench::Part>,
    /// Measure this kernel's operations instead of ours and nothing else: an ELF file that seL4's loader could start,
    /// built with a cycle counter that user level may read.
    #[arg(long, value_name = "ELF", conflicts_with = "part")]
    kernel: Option<PathBuf>,
    /// The machine's RAM in MiB for the kernel's operations: seL4's own kernel fixes it when it is built.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u64,
    /// Where the figures go as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A Debian mirror to use instead of the machine's own.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

impl Bench {
    /// Does it; the exit status that it makes.
    ///
    /// # Errors
    /// When it cannot be done at all.
    pub fn execute(self, paths: &Paths, cargo: &Cargo) -> Result<ExitCode> {
        let Self {
            part,
            kernel,
            memory,
            json,
            mirror,
        } = self;
        setup::ensure(paths, &setup::ALL, mirror.as_deref())?;
        let what = bench::What {
            part,
            kernel: kernel_choice(false, kernel),
            memory_mib: memory,
        };
        bench::run(paths, cargo, &what, json.as_deref(), mirror.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints checks; the exit status that they make.
fn fits(checks: &[operator::Check]) -> Result<ExitCode> {
    for check in checks {
        let verdict = if check.ok { "ok  " } else { "FAIL" };
        println!("{verdict} {}: {}", check.name, check.detail);
    }
    Ok(if checks.iter().all(|check| check.ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn kernel_choice(debug: bool, kernel: Option<PathBuf>) -> image::Kernel {
    kernel.map_or_else(|| flavour(debug).into(), image::Kernel::File)
}

/// The kernel's flavour.
pub const fn flavour(debug: bool) -> Flavour {
    if debug {
        Flavour::Debug
    } else {
        Flavour::Release
    }
}
