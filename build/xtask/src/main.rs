//! The tool behind `cargo xtask`: image, run, sel4, test, miri, fuzz, bench, lab, gdb, book, doctor.
#![forbid(unsafe_code)]

mod bench;
#[cfg(test)]
mod book;
mod boot;
mod bundle;
mod burst;
mod cargo;
mod commands;
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
mod qemu_suites;
mod run;
mod sel4;
mod setup;
mod sizes;
mod test;
mod verdict;
mod watching;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use setup::Need;
use std::path::PathBuf;
use std::process::ExitCode;

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
    Run(commands::Run),
    /// Make the bootable image of a system.
    Image(commands::Image),
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
    Test(commands::Test),
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
    Bench(commands::Bench),
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
        Command::Run(what) => what.execute(&paths, &cargo),
        Command::Image(what) => what.execute(&paths, &cargo),
        Command::Sel4(options) => {
            setup::ensure(&paths, &[Need::RustTargets, Need::Qemu], None)?;
            Ok(if options.run(&paths, &cargo)? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Test(what) => what.execute(&paths, &cargo),
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
        Command::Bench(what) => what.execute(&paths, &cargo),
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
            let kernel = image::kernel(&cargo, commands::flavour(debug))?;
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
