//! Tests with Linux guests that are no scenarios: each boots one system and plays its cases.

use crate::cargo::Cargo;
use crate::image::{self, Flavour};
use crate::paths::{Paths, write_if_changed};
use crate::progress;
use crate::verdict::Counts;
use anyhow::{Context as _, Result};
use qemu_machine::{Count, Machine};
use system::Scale;
use system_tests::{Rig, Setting, lisa, moves};

/// Microsoft's acceptance cases, by their names.
pub const LISA_SUITE: &str = "lisa";

/// What is left of whole pieces after long use.
pub const MOVES_SUITE: &str = "moves";
/// Pieces that move in a usual run.
const USUAL_MOVES: u64 = 300;

/// Builds `systems/tests/NAME.toml` for a machine whose time is the guests' own, however busy the host is.
fn setting(paths: &Paths, cargo: &Cargo, mirror: Option<&str>, name: &str) -> Result<Setting> {
    let file = paths.systems().join(format!("tests/{name}.toml"));
    let description = image::describe(&file, None, Scale::Full)?;
    let built = image::build(paths, cargo, &description, Flavour::Release, mirror)?;
    let image = paths.out().join(format!("{name}.img"));
    write_if_changed(&image, &built.image)?;
    Ok(Setting {
        image,
        machine: Machine {
            count: Count::Paced,
            ..Machine::virt(description.memory_mib)
        },
        logs: paths.logs(),
        programs: built.programs,
    })
}

/// Microsoft's acceptance cases for Linux guests with Dynamic Memory: one boot for all.
///
/// # Errors
/// When the system cannot be built or started. Cases that fail are counted.
pub fn lisa(paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<Counts> {
    let setting = setting(paths, cargo, mirror, LISA_SUITE)?;
    let log = paths.logs().join(format!("{LISA_SUITE}.log"));
    let mut counts = Counts::default();
    let mut rig = Rig::boot(&setting, &log)?;
    let ended = lisa::run(&mut rig, |(case, result)| match result {
        Ok(()) => {
            counts.passed += 1;
            println!("  {LISA_SUITE}: {case}: ok");
        }
        Err(error) => {
            counts.failed += 1;
            progress::failed(&format!(
                "{LISA_SUITE}: {case}: {error:#} (log: {})",
                log.display()
            ));
        }
    });
    if let Err(error) = ended {
        progress::failed(&format!("{LISA_SUITE}: {error:#} (log: {})", log.display()));
        counts.add(Counts::FAILED);
    }
    println!(
        "{LISA_SUITE}: {} passed, {} failed",
        counts.passed, counts.failed
    );
    Ok(counts)
}

/// Lets memory go to and fro between two Linux guests: so many pieces as `MOVES` in the environment says.
///
/// # Errors
/// When the system cannot be built or started, or `MOVES` is no number.
pub fn moves(paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<Counts> {
    let pieces = match std::env::var("MOVES") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("MOVES is {text:?}; it is a number of pieces"))?,
        Err(_) => USUAL_MOVES,
    };
    let setting = setting(paths, cargo, mirror, MOVES_SUITE)?;
    let log = paths.logs().join(format!("{MOVES_SUITE}.log"));
    let result = progress::step(&format!("move {pieces} pieces to and fro"), || {
        Ok(Rig::boot(&setting, &log).and_then(|mut rig| moves::run(&mut rig, pieces)))
    })?;
    let counts = match result {
        Ok(said) => {
            println!("  {MOVES_SUITE}: {said}");
            Counts {
                passed: 1,
                failed: 0,
            }
        }
        Err(error) => {
            progress::failed(&format!(
                "{MOVES_SUITE}: {error:#} (log: {})",
                log.display()
            ));
            Counts::FAILED
        }
    };
    println!(
        "{MOVES_SUITE}: {} passed, {} failed",
        counts.passed, counts.failed
    );
    Ok(counts)
}
