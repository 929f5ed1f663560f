//! Tests with Linux guests that are no scenarios: each boots one system and plays its cases.

use crate::cargo::Cargo;
use crate::image::{self, Flavour};
use crate::paths::{Paths, write_if_changed};
use crate::verdict::Counts;
use anyhow::Result;
use qemu_machine::{Count, Machine};
use system::Scale;
use system_tests::{Rig, Setting, lisa};

/// Microsoft's acceptance cases, by their names.
pub const LISA_SUITE: &str = "lisa";

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
            println!(
                "    {LISA_SUITE}: {case}: {error:#} (log: {})",
                log.display()
            );
        }
    });
    if let Err(error) = ended {
        println!("    {LISA_SUITE}: {error:#} (log: {})", log.display());
        counts.add(Counts::FAILED);
    }
    println!(
        "{LISA_SUITE}: {} passed, {} failed",
        counts.passed, counts.failed
    );
    Ok(counts)
}
