//! `cargo xtask miri`: tests on the host once more, in an interpreter that notices undefined behaviour.
//!
//! It sees the `unsafe` code that is compiled for the host. Random tests play few and short cases here, and always the same
//! ones: their number is for the native runs, this looks at what each step does to memory.

use crate::cargo::Cargo;
use crate::nightly::{self, NotChecked};
use crate::paths::Paths;
use crate::progress;
use crate::test;
use crate::verdict::Counts;
use anyhow::{Result, anyhow, bail};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Where pointers may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provenance {
    /// From pointers alone.
    Strict,
    /// From integers, too, if the address was given away before.
    Exposed,
}

impl Provenance {
    const fn flag(self) -> &'static str {
        match self {
            Self::Strict => "-Zmiri-strict-provenance",
            Self::Exposed => "-Zmiri-permissive-provenance",
        }
    }
}

/// The packages, those that take longest first, with the directories of their `unsafe` code that the host compiles. Where
/// there is none, what is watched is the code of others that they use.
const PACKAGES: [(&str, Provenance, &[&str]); 8] = [
    // The kernel finds objects by the integers in capabilities.
    ("kernel-core", Provenance::Exposed, &["hypervisor/core/"]),
    // A window is a range of addresses.
    (
        "guest-window",
        Provenance::Exposed,
        &["components/guest-window/"],
    ),
    (
        "kernel",
        Provenance::Exposed,
        &["hypervisor/kernel/src/fakes.rs"],
    ),
    ("rt", Provenance::Strict, &["components/rt/src/log.rs"]),
    ("protocol", Provenance::Strict, &[]),
    ("pl011", Provenance::Strict, &[]),
    ("cap", Provenance::Strict, &[]),
    ("sel4-sys", Provenance::Strict, &[]),
];

/// Cases of a random test that does not say how many.
const CASES: u32 = 4;

/// Runs the packages whose names contain `filter`, or if there is none, the tests whose names do.
///
/// # Errors
/// [`NotChecked`] without a Miri; others when tests cannot be run. Tests that fail are counted, not errors.
pub fn run(paths: &Paths, cargo: &Cargo, filter: Option<&str>) -> Result<Counts> {
    nightly::ensure(&["miri", "rust-src"])?;
    progress::step("the standard library for Miri", || library(cargo))?;
    let names_a_package =
        filter.filter(|part| PACKAGES.iter().any(|(name, ..)| name.contains(part)));
    let tests = filter.filter(|_| names_a_package.is_none());
    let chosen = PACKAGES
        .iter()
        .filter(|(name, ..)| names_a_package.is_none_or(|part| name.contains(part)));
    let queue = Mutex::new(chosen);
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.next()
    };
    // The interpreter uses one core.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let worker = || {
            let mut sum = Counts::default();
            while let Some(&(name, provenance, _)) = next() {
                sum.add(package(paths, cargo, name, provenance, tests)?);
            }
            anyhow::Ok(sum)
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let mut sum = Counts::default();
        for worker in workers {
            sum.add(worker.join().map_err(|_| anyhow!("a thread died"))??);
        }
        Ok(sum)
    })
}

/// Cargo's own command for Miri. What it builds, the standard library for it too, is apart from other uses of Miri here: two
/// toolchains of the same version take each other's library for their own.
fn miri(cargo: &Cargo, subcommand: &str) -> Command {
    let directory = cargo.target_dir("miri-of-xtask");
    let mut command = cargo.nightly("miri");
    command
        .arg(subcommand)
        .env("MIRI_SYSROOT", directory.join("sysroot"))
        .env("CARGO_TARGET_DIR", directory);
    command
}

/// Builds what Miri needs of the standard library; once, before packages are run beside each other.
fn library(cargo: &Cargo) -> Result<()> {
    let output = miri(cargo, "setup").output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(NotChecked(format!("cargo miri setup: {}", said.trim())));
    }
    Ok(())
}

fn package(
    paths: &Paths,
    cargo: &Cargo,
    name: &str,
    provenance: Provenance,
    tests: Option<&str>,
) -> Result<Counts> {
    let log = paths.logs().join(format!("miri-{name}.log"));
    let mut command = miri(cargo, "test");
    command
        .args(["--locked", "--tests", "--color", "never", "--package", name])
        // Files of proptest are out of reach: Miri keeps the tests from this machine, which also makes them repeatable.
        .env(
            "MIRIFLAGS",
            format!(
                "{} -Zmiri-env-set=PROPTEST_CASES={CASES} \
                 -Zmiri-env-set=PROPTEST_DISABLE_FAILURE_PERSISTENCE=true",
                provenance.flag()
            ),
        );
    // Its threads take turns on one core, and cost more the more there are.
    command.args(["--", "--test-threads=1"]).args(tests);
    let counts = progress::judged(
        &format!("Miri: {name}"),
        || {
            let counts = test::count(command, &log)?;
            // Silence is no success, unless other tests were asked for.
            Ok(if counts == Counts::default() && tests.is_none() {
                Counts::FAILED
            } else {
                counts
            })
        },
        |counts| counts.failed == 0,
    )?;
    if counts != Counts::default() {
        test::show_host(name, counts, &log);
    }
    let text = std::fs::read_to_string(&log)?;
    for line in text.lines().filter(|line| line.contains(" ... ignored")) {
        println!("    {line}");
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes::unsafety;
    use std::path::Path;

    /// `unsafe` that no host compiles: single instructions, registers, the addresses of the machine's memory.
    const MACHINE_ONLY: [&str; 18] = [
        "components/cap/src/thread.rs",
        "components/rt/src/arch.rs",
        "components/rt/src/device.rs",
        "components/rt/src/entry.rs",
        "components/rt/src/lib.rs",
        "components/rt/src/root.rs",
        "components/sel4-sys/src/syscall.rs",
        "guests/",
        "hypervisor/boot/",
        "hypervisor/kernel/src/cell.rs",
        "hypervisor/kernel/src/dump_header.rs",
        "hypervisor/kernel/src/entry.rs",
        "hypervisor/kernel/src/fpu.rs",
        "hypervisor/kernel/src/memory.rs",
        "hypervisor/kernel/src/mmio.rs",
        "hypervisor/kernel/src/regs.rs",
        "hypervisor/kernel/src/start.rs",
        "hypervisor/kernel/src/tables.rs",
    ];

    #[test]
    fn unsafe_code_is_under_miri_or_of_the_machine() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (file, _) in unsafety::count(&root).unwrap() {
            let of_a_package = PACKAGES
                .iter()
                .flat_map(|(.., places)| *places)
                .filter(|place| file.starts_with(*place))
                .count();
            let of_the_machine = MACHINE_ONLY
                .iter()
                .filter(|place| file.starts_with(*place))
                .count();
            assert_eq!(of_a_package + of_the_machine, 1, "{file}");
        }
    }
}
