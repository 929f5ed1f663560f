//! `cargo xtask bench`: what things cost, in instructions, beside seL4 and the peers.
//!
//! Instructions are counted under `-icount shift=0`, by the clock (`sleep=off`: one instruction is one nanosecond, and the
//! figures are the same on any machine) or, where the host takes part ([`moving`], [`idle`]), by the PMU, and then differ a little
//! from run to run. Nothing here is a bound that a test asserts.

mod counted;
mod idle;
mod linux;
mod moving;
mod page;
mod peers;
mod rows;

use crate::cargo::{Cargo, Target};
use crate::image::{self, Flavour, Kernel};
use crate::paths::Paths;
use crate::{boot, elf, progress};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use qemu_machine::{Count, Ending, Machine, run_to_verdict};
use rows::Row;
use std::path::Path;
use std::time::Duration;

/// Wall time after which a measuring run counts as hanging.
const LIMIT: Duration = Duration::from_secs(300);

/// What is measured beside the kernel's operations and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Nothing more.
    Kernel,
    /// Linux's boot.
    Linux,
    /// Memory that moves between two Linux guests.
    Move,
    /// A Linux guest that has nothing to do.
    Idle,
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct What {
    /// One part beside the kernel's operations, or all.
    pub part: Option<Part>,
    /// The kernel; of another than ours its operations alone.
    pub kernel: Kernel,
    /// RAM of the machine on which the kernel's operations are measured.
    pub memory_mib: u64,
}

/// Measures everything (or one part), prints a table, and writes the rows to `json` as `[{"name","value","unit"}]`.
///
/// # Errors
/// When something cannot be built, started or understood. Rows measured before it are printed.
pub fn run(
    paths: &Paths,
    cargo: &Cargo,
    what: &What,
    json: Option<&Path>,
    mirror: Option<&str>,
) -> Result<()> {
    let ours = what.kernel == Flavour::Release.into();
    let wanted = |which| ours && what.part.is_none_or(|part| part == which);
    let mut rows = kernel_rows(paths, cargo, what)?;
    if ours {
        rows.extend(sizes(cargo)?);
    }
    let clean_2mib = rows
        .iter()
        .find(|row| row.name == "clean_2mib")
        .map_or(f64::NAN, |row| row.value);
    let mut outcome = Ok(());
    if wanted(Part::Move) {
        let more = moving::rows(paths, cargo, mirror, clean_2mib);
        outcome = more.map(|more| rows.extend(more));
    }
    if wanted(Part::Idle) {
        let more = idle::rows(paths, cargo, mirror);
        outcome = outcome.and(more.map(|more| rows.extend(more)));
    }
    if wanted(Part::Linux) {
        let more = linux::rows(paths, cargo, mirror);
        outcome = outcome.and(more.map(|more| rows.extend(more)));
    }
    print!("{}", peers::table(&rows));
    if let Some(json) = json {
        std::fs::write(json, serde_json::to_string_pretty(&rows)? + "\n")
            .with_context(|| format!("writing {}", json.display()))?;
    }
    outcome
}

/// Measures the kernel's operations and holds them against the book: how many figures are right, and what is wrong with the others.
///
/// # Errors
/// When they cannot be measured, or the page cannot be read.
pub fn check_book(paths: &Paths, cargo: &Cargo) -> Result<(u64, Vec<String>)> {
    let what = What {
        part: Some(Part::Kernel),
        kernel: Flavour::Release.into(),
        memory_mib: 1024,
    };
    page::check(paths, &kernel_rows(paths, cargo, &what)?)
}

/// The kernel's operations, measured by a root task of their own.
fn kernel_rows(paths: &Paths, cargo: &Cargo, what: &What) -> Result<Vec<Row>> {
    let kernel = what.kernel.read(cargo)?;
    let boot_stage = std::fs::read(cargo.build_one("boot", Target::BareMetal)?)?;
    let root_task = std::fs::read(cargo.build_one("kernel-bench", Target::BareMetal)?)?;
    progress::step("measure the kernel's operations", || {
        let packed = boot::pack(&boot_stage, &kernel, &elf::strip(&root_task)?)?;
        let file = paths.out().join("bench-kernel.img");
        crate::paths::write_if_changed(&file, &packed)?;
        let machine = Machine {
            count: Count::Instructions,
            ..Machine::virt(what.memory_mib)
        };
        let log = paths.logs().join("bench-kernel.log");
        let transcript = run_to_verdict(&machine, &file, LIMIT, &log, |line| line == "bench end")?;
        if !matches!(transcript.ending, Ending::Verdict(_)) {
            bail!(
                "the measuring root task did not end; its output is in {}",
                log.display()
            );
        }
        Ok(transcript
            .lines
            .iter()
            .filter_map(|line| Row::from_line(line))
            .collect())
    })
}

/// What the kernel occupies.
fn sizes(cargo: &Cargo) -> Result<Vec<Row>> {
    let kernel = std::fs::read(image::kernel(cargo, Flavour::Release)?)?;
    Ok(vec![Row::new(
        "kernel_memory_bytes",
        elf::span_bytes(&kernel)? as f64,
        "bytes",
    )])
}
