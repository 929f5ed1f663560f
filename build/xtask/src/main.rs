//! The front door: image, run, test, bench, doctor.
#![forbid(unsafe_code)]

mod cargo;
mod elf;
mod guests;
mod paths;
mod progress;

use anyhow::Result;
use clap::{Parser, Subcommand};
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
    /// Fetch and make the guests' files alone.
    Guests {
        /// A Debian mirror to use instead of the machine's own.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let paths = paths::Paths::find()?;
    let cargo = cargo::Cargo::new(&paths);
    match command {
        Command::Guests { mirror } => {
            let guest = guests::linux(&paths, &cargo, mirror.as_deref())?;
            println!("{}", guest.kernel.display());
            println!("{}", guest.initrd.display());
            Ok(ExitCode::SUCCESS)
        }
    }
}
