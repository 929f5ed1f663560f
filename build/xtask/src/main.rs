//! The tool behind `cargo xtask`: image, run, sel4, test, miri, fuzz, bench, lab, gdb, book, doctor.
#![forbid(unsafe_code)]

mod bench;
#[cfg(test)]
mod book;
mod boot;
mod bundle;
mod burst;
mod cargo;
#[cfg(test)]
mod commits;
mod density;
mod elf;
#[cfg(test)]
mod floors;
mod fuzz;
mod gdb;
mod guests;
mod image;
mod laboratory;
mod linux_tests;
mod mdbook;
mod miri;
mod nightly;
mod one_test;
#[cfg(test)]
mod pages;
mod paths;
mod progress;
mod run;
mod sel4;
mod setup;
mod sizes;
mod test;
mod verdict;
mod watching;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use image::{Flavour, Format};
use operator::{Afterwards, Show};
use qemu_machine::Board;
use setup::Need;
use std::path::PathBuf;
use std::process::ExitCode;
use system::Scale;

/// Builds, runs and tests Ballast.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run a system in QEMU and watch it; without arguments, the worked example and its scenario at quarter scale.
    Run {
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
    },
    /// Make the bootable image of a system.
    Image {
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
    },
    /// Make the kernel alone, as seL4's loader takes it.
    Kernel {
        /// The flavour with debug system calls.
        #[arg(long)]
        debug: bool,
        /// The file to write.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Run any seL4 root task on our kernel in QEMU and show its output.
    Sel4(sel4::Options),
    /// Run the tests: on this machine and in QEMU.
    Test {
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
    },
    /// Run the tests of the crates with `unsafe` under Miri, which notices undefined behaviour. Exit status 3: the nightly
    /// toolchain that it needs cannot be had here, nothing was checked.
    Miri {
        /// A package or a part of its name; otherwise a part of the names of tests.
        filter: Option<String>,
    },
    /// Fuzz what reads bytes from outside. Exit status 3: what it needs (a nightly toolchain, a C++ compiler) cannot be had
    /// here, nothing was checked.
    Fuzz(fuzz::Options),
    /// Measure what things cost, beside seL4 and the peers.
    Bench {
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
    },
    /// Play the balancer's policy and its rivals on the same traces of demand.
    Lab(balancer_lab::Options),
    /// Start a system stopped and say how a debugger attaches to its kernel, a component or a guest, with the right symbols.
    Gdb(gdb::Options),
    /// Build the book, docs/src, as HTML. Exit status 3: mdBook cannot be installed from here, nothing was checked.
    Book,
    /// Say what programs take, how deep their stacks get and where `unsafe` is, against `build/budgets.toml`.
    Sizes,
    /// Say what is missing on this machine, and the command that fixes it.
    Doctor {
        /// Install what is missing, as `run` and `test` do before they begin.
        #[arg(long)]
        fix: bool,
        /// A Debian mirror to use instead of the machine's own.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// Fetch and make the guests' files alone.
    Guests {
        /// A Debian mirror to use instead of the machine's own.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
}

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

fn main() -> ExitCode {
    if let Err(error) = ctrlc::set_handler(run::interrupted) {
        eprintln!("warning: an interrupt may leave a machine running: {error}");
    }
    match dispatch(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<nightly::NotChecked>() {
                ExitCode::from(nightly::NotChecked::EXIT_STATUS)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let paths = paths::Paths::find()?;
    let cargo = cargo::Cargo::new(&paths);
    match command {
        Command::Run {
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
        } => {
            setup::ensure(&paths, &setup::ALL, mirror.as_deref())?;
            if let Some(which) = scenario.as_deref().and_then(burst::scene_of) {
                let checks = burst::Burst {
                    times,
                    which,
                    report,
                    plot,
                }
                .run(&paths, &cargo, mirror.as_deref())?;
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
                return fits(&density::run(&paths, &cargo, mirror.as_deref(), &files)?);
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
            .run(&paths, &cargo, mirror.as_deref())?;
            // Leaving the live table is how such a run ends.
            Ok(if outcome.is_ok() || interactive {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Image {
            system,
            board,
            scale,
            output,
            format,
            whose,
            debug,
            kernel,
            mirror,
        } => {
            setup::ensure(&paths, &[Need::RustTargets], mirror.as_deref())?;
            let description = image::describe(&system, board.as_deref(), scale.into())?;
            if whose == image::For::Sel4 {
                let packed = image::pack(&paths, &cargo, &description, mirror.as_deref())?;
                paths::write_if_changed(&output, &packed.root_task)?;
                return Ok(ExitCode::SUCCESS);
            }
            let built = image::build(
                &paths,
                &cargo,
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
        Command::Sel4(options) => {
            setup::ensure(&paths, &[Need::RustTargets, Need::Qemu], None)?;
            Ok(if options.run(&paths, &cargo)? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Test {
            filter,
            exact,
            list,
            target,
            kernel,
            mirror,
        } => {
            let needs: &[Need] = match (target, &kernel) {
                (Some(test::Where::Host), _) => &[],
                (_, Some(_)) => &[Need::RustTargets, Need::Qemu],
                _ => &setup::ALL,
            };
            setup::ensure(&paths, needs, mirror.as_deref())?;
            let tests = test::Tests {
                paths: &paths,
                cargo: &cargo,
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
        Command::Miri { filter } => {
            let counts = miri::run(&paths, &cargo, filter.as_deref())?;
            println!("{} passed, {} failed", counts.passed, counts.failed);
            Ok(if counts.good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Fuzz(options) => Ok(if options.run(&paths, &cargo)? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }),
        Command::Bench {
            part,
            kernel,
            memory,
            json,
            mirror,
        } => {
            setup::ensure(&paths, &setup::ALL, mirror.as_deref())?;
            let what = bench::What {
                part,
                kernel: kernel_choice(false, kernel),
                memory_mib: memory,
            };
            bench::run(&paths, &cargo, &what, json.as_deref(), mirror.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Lab(options) => Ok(match options.run()? {
            balancer_lab::Ending::Passed => ExitCode::SUCCESS,
            balancer_lab::Ending::Failed => ExitCode::FAILURE,
        }),
        Command::Gdb(options) => {
            setup::ensure(&paths, &setup::ALL, options.mirror())?;
            options.run(&paths, &cargo)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Book => {
            println!("{}", mdbook::build(&paths, &cargo)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Sizes => {
            setup::ensure(&paths, &[Need::RustTargets], None)?;
            Ok(if sizes::run(&paths, &cargo)? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Doctor { fix, mirror } => {
            if fix {
                setup::ensure(&paths, &setup::ALL, mirror.as_deref())?;
            }
            Ok(if setup::doctor(&paths, mirror.as_deref())? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Kernel { debug, output } => {
            setup::ensure(&paths, &[Need::RustTargets], None)?;
            let kernel = image::kernel(&cargo, flavour(debug))?;
            std::fs::copy(&kernel, &output)
                .with_context(|| format!("writing {}", output.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Guests { mirror } => {
            let guest = guests::linux(&paths, &cargo, mirror.as_deref())?;
            println!("{}", guest.kernel.display());
            println!("{}", guest.initrd.display());
            Ok(ExitCode::SUCCESS)
        }
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

fn flavour(debug: bool) -> Flavour {
    if debug {
        Flavour::Debug
    } else {
        Flavour::Release
    }
}
