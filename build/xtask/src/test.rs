//! `cargo xtask test`: every rung of the ladder, each with its own log, counted together.
//!
//! A suite that says nothing, or dies, is a failed test: silence never counts as success.

use crate::cargo::{Cargo, Target};
use crate::image::{self, Flavour, Kernel};
use crate::laboratory::{self, LAB_SUITE};
use crate::linux_tests::{self, LISA_SUITE, MOVES_SUITE};
use crate::paths::{Paths, write_if_changed};
use crate::qemu_suites::{QEMU_SUITES, QemuSuite};
use crate::run::Run;
use crate::verdict::{Counts, ends, host_result, judge};
use crate::{bench, boot, burst, elf, progress};
use anyhow::{Context, Result, bail};
use qemu_machine::{Ending, Gic, Machine, run_to_verdict};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use system::Scale;

/// Where tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Where {
    /// On this machine.
    Host,
    /// In QEMU.
    Qemu,
}

/// Everything that a run of tests needs.
pub struct Tests<'a> {
    /// The workspace.
    pub paths: &'a Paths,
    /// Cargo.
    pub cargo: &'a Cargo,
    /// A suite's name or a part of it; otherwise a part of the names of host tests and of whole-system cases.
    pub filter: Option<&'a str>,
    /// Whether the filter is the whole name of one test, case or suite.
    pub exact: bool,
    /// Where; `None` is everywhere.
    pub place: Option<Where>,
    /// Another kernel for one suite of the kernel: seL4's own, for example.
    pub kernel: Option<&'a Path>,
    /// A Debian mirror to use instead of the machine's own.
    pub mirror: Option<&'a str>,
}

impl Tests<'_> {
    /// Runs what the filter selects and prints the sum.
    ///
    /// # Errors
    /// When tests cannot be run at all. Tests that fail are counted, not errors.
    pub fn run(&self) -> Result<Counts> {
        if let Some(kernel) = self.kernel {
            let suite = suite_for_any_kernel(self.filter)?;
            return self.in_qemu(suite, &Kernel::File(kernel.to_owned()));
        }
        let names = suite_names();
        if let Some(name) = self.filter.filter(|_| self.exact)
            && !names.contains(&name)
        {
            return self.one(name);
        }
        let matches = |name: &str, filter: &str| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter)
            }
        };
        let names_a_suite = self
            .filter
            .is_some_and(|filter| names.iter().any(|name| matches(name, filter)));
        let wanted = |name: &str| match self.filter {
            Some(filter) if names_a_suite => matches(name, filter),
            Some(_) => name == "host",
            // What takes long, or is not held by every run yet, is run by its name.
            None => ![LISA_SUITE, MOVES_SUITE].contains(&name),
        };
        let cases = self.cases(names_a_suite);
        if !names_a_suite && cases.is_empty() && self.place == Some(Where::Qemu) {
            bail!(
                "no suite in QEMU is called `{}`, and no case of a whole system; there are {}",
                self.filter.unwrap_or_default(),
                names[1..].join(", ")
            );
        }
        let mut sum = Counts::default();
        if self.place != Some(Where::Qemu) && wanted("host") {
            let filter = self.filter.filter(|_| !names_a_suite);
            sum.add(self.host(filter, !names_a_suite && !cases.is_empty())?);
        }
        if self.place != Some(Where::Qemu) && wanted(LAB_SUITE) {
            sum.add(laboratory::short(self.paths)?);
        }
        if self.place != Some(Where::Host) {
            let plays_cases = wanted(SYSTEM_SUITE) || (!names_a_suite && !cases.is_empty());
            sum.add(self.suites_in_qemu(&wanted, plays_cases, &cases)?);
        }
        Ok(sum)
    }

    /// The suites in QEMU that are wanted, and these cases of whole systems.
    fn suites_in_qemu(
        &self,
        wanted: &impl Fn(&str) -> bool,
        plays_cases: bool,
        cases: &[system_tests::Case],
    ) -> Result<Counts> {
        let mut sum = Counts::default();
        for suite in QEMU_SUITES.iter().filter(|suite| wanted(suite.name)) {
            sum.add(self.in_qemu(suite, &suite.flavour.into())?);
        }
        if wanted(COST_SUITE) {
            sum.add(self.costs()?);
        }
        if plays_cases {
            sum.add(self.whole_systems(cases)?);
        }
        if wanted(SEEDS_SUITE) {
            sum.add(self.scenario(SEEDS_SUITE, Run::seeds())?);
        }
        if wanted(PAIR_SUITE) {
            let file = |name| self.paths.systems().join("tests").join(name);
            let pair = Run {
                system: Some(file("pair.toml")),
                scenario: Some(file("pair-scenario.toml").display().to_string()),
                ..Run::seeds()
            };
            sum.add(self.scenario(PAIR_SUITE, pair)?);
        }
        if wanted(BOOTSTORM_SUITE) {
            let storm = Run {
                scenario: Some(BOOTSTORM_SUITE.to_owned()),
                ..Run::seeds()
            };
            sum.add(self.scenario(BOOTSTORM_SUITE, storm)?);
        }
        if wanted(LISA_SUITE) {
            sum.add(linux_tests::lisa(self.paths, self.cargo, self.mirror)?);
        }
        if wanted(burst::SUITE) {
            sum.add(burst::suite(self.paths, self.cargo, self.mirror)?);
        }
        if wanted(MOVES_SUITE) {
            sum.add(linux_tests::moves(self.paths, self.cargo, self.mirror)?);
        }
        Ok(sum)
    }

    /// All crates' tests on the host.
    fn host(&self, filter: Option<&str>, is_optional: bool) -> Result<Counts> {
        let log = self.paths.logs().join("host.log");
        let counts = progress::judged(
            "tests on the host",
            || {
                let mut command = self.cargo.command("test");
                command.args([
                    "--locked",
                    "--workspace",
                    "--no-fail-fast",
                    "--color",
                    "never",
                ]);
                if let Some(filter) = filter {
                    command.args(["--", filter]);
                }
                count(command, &log)
            },
            // A filter that names cases of whole systems may name no test here.
            |counts| counts.good() || (is_optional && counts.failed == 0),
        )?;
        show_host("host", counts, &log);
        Ok(counts)
    }

    /// One root task in QEMU.
    fn in_qemu(&self, suite: &QemuSuite, kernel: &Kernel) -> Result<Counts> {
        let name = match kernel {
            Kernel::Ours(_) => suite.name.to_owned(),
            Kernel::File(_) => format!("{}-other", suite.name),
        };
        let image = self.paths.out().join(format!("{name}.img"));
        let machine = suite.make(self.cargo, kernel, &image)?;
        let log = self.paths.logs().join(format!("{name}.log"));
        let counts = progress::judged(
            &format!("tests in QEMU: {name}"),
            || {
                let debug = suite.flavour == Flavour::Debug;
                let transcript = run_to_verdict(&machine, &image, suite.limit, &log, |line| {
                    ends(line, debug)
                })?;
                let counts = judge(&transcript.lines, debug, &log)?;
                Ok(match &transcript.ending {
                    Ending::Verdict(_) if counts != Counts::default() => counts,
                    _ => Counts::FAILED,
                })
            },
            Counts::good,
        )?;
        show(&name, counts, &log, |text| {
            let mut lines: Vec<String> = text
                .lines()
                .filter(|line| line.contains("FAILED"))
                .map(str::to_owned)
                .collect();
            if lines.is_empty() {
                let all: Vec<&str> = text.lines().collect();
                lines = all[all.len().saturating_sub(15)..]
                    .iter()
                    .map(|line| (*line).to_owned())
                    .collect();
                lines.insert(0, "no verdict; the last lines were:".to_owned());
            }
            lines
        });
        Ok(counts)
    }
}

impl Tests<'_> {
    /// The figures in the book, each a test.
    fn costs(&self) -> Result<Counts> {
        let (passed, complaints) = bench::check_book(self.paths, self.cargo)?;
        let failed = complaints.len() as u64;
        println!("{COST_SUITE}: {passed} passed, {failed} failed");
        for complaint in complaints {
            progress::failed(&format!("{COST_SUITE}: {complaint}"));
        }
        Ok(Counts { passed, failed })
    }

    /// The whole-system cases that the filter selects, if it is no suite's name.
    fn cases(&self, names_a_suite: bool) -> Vec<system_tests::Case> {
        let mut cases = system_tests::cases::all();
        if let Some(filter) = self.filter.filter(|_| !names_a_suite) {
            cases.retain(|case| case.name.contains(filter));
        }
        cases
    }

    /// Whole systems, each case on a machine of its own.
    pub(crate) fn whole_systems(&self, cases: &[system_tests::Case]) -> Result<Counts> {
        let mut sum = Counts::default();
        for system in system_tests::System::ALL {
            let mut cases = cases.to_vec();
            cases.retain(|case| case.system == system);
            if !cases.is_empty() {
                sum.add(self.whole_system(system, &cases)?);
            }
        }
        Ok(sum)
    }

    /// The cases that are played in one system.
    fn whole_system(
        &self,
        system: system_tests::System,
        cases: &[system_tests::Case],
    ) -> Result<Counts> {
        let source = format!("tests/{}.toml", system.name());
        let source = self.paths.systems().join(source);
        let description = image::describe(&source, None, Scale::Full)?;
        let built = image::build(
            self.paths,
            self.cargo,
            &description,
            Flavour::Release,
            self.mirror,
        )?;
        let file = self.paths.out().join(format!("{}.img", system.name()));
        write_if_changed(&file, &built.image)?;
        let controllers: &[(&str, Gic)] = match system {
            system_tests::System::Unikernels => &[("gicv3", Gic::V3), ("gicv2", Gic::V2)],
            // Linux on the other controller is the scenarios' matter.
            system_tests::System::Linux => &[("gicv3", Gic::V3)],
        };
        let mut sum = Counts::default();
        for (name, gic) in controllers {
            let setting = system_tests::Setting {
                image: file.clone(),
                machine: Machine {
                    gic: *gic,
                    ..Machine::virt(description.memory_mib)
                },
                logs: self.paths.logs().join(name),
                programs: built.programs.clone(),
            };
            sum.add(run_cases(name, cases, &setting)?);
        }
        Ok(sum)
    }

    /// A scenario with Linux guests: each of its checks counts.
    fn scenario(&self, name: &str, run: Run) -> Result<Counts> {
        let recording = self.paths.logs().join(format!("{name}.csv"));
        let outcome = Run {
            report: Some(self.paths.logs().join(format!("{name}.json"))),
            record: Some(recording.clone()),
            plot: Some(self.paths.logs().join(format!("{name}.svg"))),
            watch: Some(BETWEEN_LOOKS),
            name: name.to_owned(),
            ..run
        }
        .run(self.paths, self.cargo, self.mirror)?;
        for check in outcome.checks.iter().filter(|check| !check.ok) {
            progress::failed(&format!("{name}: {}: {}", check.name, check.detail));
        }
        let failed = outcome.checks.iter().filter(|check| !check.ok).count() as u64;
        let mut counts = Counts {
            passed: outcome.checks.len() as u64 - failed,
            failed,
        };
        if let Some(why) = &outcome.interrupted {
            progress::failed(&format!("{name}: {why}"));
            counts.add(Counts::FAILED);
        }
        if counts == Counts::default() {
            counts.add(Counts::FAILED);
        }
        if [SEEDS_SUITE, BOOTSTORM_SUITE].contains(&name) {
            counts.add(laboratory::calibrated(name, &recording)?);
        }
        println!("{name}: {} passed, {} failed", counts.passed, counts.failed);
        Ok(counts)
    }
}

/// Plays cases on one kind of machine.
fn run_cases(
    name: &str,
    cases: &[system_tests::Case],
    setting: &system_tests::Setting,
) -> Result<Counts> {
    let mut counts = Counts::default();
    for case in cases {
        let what = format!("{SYSTEM_SUITE} on {name}: {}", case.name);
        let (log, result) = progress::judged(
            &what,
            || Ok(system_tests::run(case, setting)),
            |(_, result)| result.is_ok(),
        )?;
        match result {
            Ok(()) => counts.passed += 1,
            Err(error) => {
                counts.failed += 1;
                progress::failed(&format!("{what}: {error:#} (log: {})", log.display()));
            }
        }
    }
    println!(
        "{SYSTEM_SUITE} on {name}: {} passed, {} failed",
        counts.passed, counts.failed
    );
    Ok(counts)
}

/// Runs cargo's tests, what they say into a log, and counts them.
///
/// # Errors
/// When cargo cannot be run, or the log not written.
pub fn count(mut command: std::process::Command, log: &Path) -> Result<Counts> {
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = std::fs::File::create(log)?;
    let errors = file.try_clone()?;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("starting cargo")?;
    let output = child.stdout.take().context("cargo without an output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        writeln!(file, "{line}")?;
        if let Some(more) = host_result(&line) {
            counts.add(more);
        }
    }
    if !child.wait()?.success() && counts.failed == 0 {
        counts.add(Counts::FAILED);
    }
    Ok(counts)
}

/// Prints what [`count`] counted, and from its log what failed.
pub fn show_host(name: &str, counts: Counts, log: &Path) {
    show(name, counts, log, |text| {
        text.lines()
            .filter(|line| {
                line.ends_with("FAILED")
                    || line.contains("panicked at")
                    || line.starts_with("error")
            })
            .map(str::to_owned)
            .collect()
    });
}

/// The figures of the book.
const COST_SUITE: &str = "kernel-cost";
/// Whole systems of unikernels.
const SYSTEM_SUITE: &str = "system";
/// The worked example with Linux.
const SEEDS_SUITE: &str = "seeds";
/// Two Linux guests on the other interrupt controller and RAM layout, one of which gives below its startup.
const PAIR_SUITE: &str = "pair";
/// Eight Linux guests at once; the scenario's name, too.
const BOOTSTORM_SUITE: &str = "bootstorm";

/// How long a scenario's machine is left alone between two looks at who maps what.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// All suites.
pub fn suite_names() -> Vec<&'static str> {
    std::iter::once("host")
        .chain(QEMU_SUITES.iter().map(|suite| suite.name))
        .chain([
            LAB_SUITE,
            COST_SUITE,
            SYSTEM_SUITE,
            SEEDS_SUITE,
            PAIR_SUITE,
            BOOTSTORM_SUITE,
            LISA_SUITE,
            burst::SUITE,
            MOVES_SUITE,
        ])
        .collect()
}

/// The suites whose root task can run one test alone.
pub(crate) fn kernel_suites() -> impl Iterator<Item = &'static QemuSuite> {
    // The other machines run the same tests.
    QEMU_SUITES
        .iter()
        .filter(|suite| suite.package == "kernel-tests" && suite.gic == Gic::V3)
}

/// The suite that a filter names, for a kernel that was built for one machine.
fn suite_for_any_kernel(filter: Option<&str>) -> Result<&'static QemuSuite> {
    let able = |suite: &&QemuSuite| {
        suite.package == "kernel-tests" && suite.flavour != Flavour::MaskedTime
    };
    let filter = filter.unwrap_or_default();
    let mut named = QEMU_SUITES
        .iter()
        .filter(able)
        .filter(|suite| suite.name.contains(filter));
    match (named.next(), named.next()) {
        (Some(suite), None) => Ok(suite),
        _ => bail!(
            "another kernel was built for one machine, so `--kernel` goes with one suite: {}",
            QEMU_SUITES
                .iter()
                .filter(able)
                .map(|suite| suite.name)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// Packs any root task with a kernel.
///
/// # Errors
/// When kernel or boot stage do not build, or something is no ELF file for AArch64.
pub fn pack_elf(cargo: &Cargo, root_task: &[u8], kernel: &Kernel) -> Result<Vec<u8>> {
    let root_task = elf::strip(root_task)?;
    let kernel = kernel.read(cargo)?;
    let stage = read(&cargo.build_one("boot", Target::BareMetal)?)?;
    boot::pack(&stage, &kernel, &root_task)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// `counts`, the tests that were left out (on another kernel than ours, each with the reason) and why others failed.
pub fn show(name: &str, counts: Counts, log: &Path, reasons: impl Fn(&str) -> Vec<String>) {
    println!("{name}: {} passed, {} failed", counts.passed, counts.failed);
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    for line in text.lines().filter(|line| line.contains(" ... skipped")) {
        println!("    {}", line.trim_end());
    }
    if counts.failed > 0 {
        for line in reasons(&text).iter().take(40) {
            println!("    {line}");
            if line.contains("FAILED") || line.starts_with("FAILS") {
                progress::note_failure(&format!("{name}: {}", line.trim()));
            }
        }
        println!("    (all of it: {})", log.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_kernel_has_one_suite() {
        for name in ["kernel-gicv3", "gicv2", "kernel-debug"] {
            assert!(
                suite_for_any_kernel(Some(name))
                    .unwrap()
                    .name
                    .contains(name)
            );
        }
        for name in [None, Some("kernel"), Some("template"), Some("masked")] {
            assert!(suite_for_any_kernel(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn suites_have_names_of_their_own() {
        for (index, suite) in QEMU_SUITES.iter().enumerate() {
            assert!(
                QEMU_SUITES[..index]
                    .iter()
                    .all(|other| other.name != suite.name)
            );
            assert_ne!(suite.name, "host");
        }
    }
}
