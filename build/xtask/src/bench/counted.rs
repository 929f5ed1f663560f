//! Systems whose instructions the PMU counts (INST_RETIRED by exception level): time in which nothing runs is not in them, so
//! the host can take part without changing much.

use crate::cargo::Cargo;
use crate::image::{self, Flavour};
use crate::paths::Paths;
use anyhow::Result;
use protocol::watch::Instructions;
use qemu_machine::{Count, Machine};
use system::Scale;
use system_tests::Setting;

/// Builds `systems/NAME.toml`, to be booted on a machine that keeps to the host's clock while nothing runs: it does not race
/// ahead of whoever asks it.
///
/// # Errors
/// When something cannot be built.
pub fn setting(paths: &Paths, cargo: &Cargo, mirror: Option<&str>, name: &str) -> Result<Setting> {
    let file = paths.systems().join(format!("{name}.toml"));
    let description = image::describe(&file, None, Scale::Full)?;
    let built = image::build(paths, cargo, &description, Flavour::Release, mirror)?;
    let image = paths.out().join(format!("bench-{name}.img"));
    crate::paths::write_if_changed(&image, &built.image)?;
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

/// All levels together.
pub fn all(instructions: Instructions) -> f64 {
    ours(instructions) + f64::from(instructions.el1)
}

/// Kernel and components; the guests' programs run at EL0 too, and are idle.
pub fn ours(instructions: Instructions) -> f64 {
    f64::from(instructions.el0) + f64::from(instructions.el2)
}
