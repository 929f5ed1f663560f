//! `cargo xtask test --list` and `--exact NAME`: each test by its name, whatever its kind.
//!
//! A kernel test runs alone because its root task is built with its name in `KERNEL_TEST`.

use crate::cargo::Cargo;
use crate::progress;
use crate::qemu_suites::QemuSuite;
use crate::test::{self, Tests, count, kernel_suites, show_host};
use crate::verdict::{Counts, ends};
use anyhow::{Context as _, Result, bail, ensure};
use qemu_machine::run_to_verdict;
use std::collections::BTreeSet;

/// What tells the kernel's root task to run one test, or with [`LIST`] to name all.
const VARIABLE: &str = "KERNEL_TEST";
const LIST: &str = "--list";

impl Tests<'_> {
    /// Prints the name of every test, a line each: its suite and what `--exact` takes.
    ///
    /// # Errors
    /// When tests do not build, or say nothing.
    pub fn list(&self) -> Result<()> {
        for name in host_names(self.cargo)? {
            println!("host {name}");
        }
        let mut known = BTreeSet::new();
        for suite in kernel_suites() {
            for line in self.kernel_lines(suite, LIST)? {
                if let Some(name) = line.strip_prefix("test ")
                    && !name.contains(' ')
                    && known.insert(name.to_owned())
                {
                    println!("{} {name}", suite.name);
                }
            }
        }
        for case in system_tests::cases::all() {
            println!("system {}", case.name);
        }
        for name in test::suite_names() {
            println!("suite {name}");
        }
        Ok(())
    }

    /// Runs the one test of this name that is no suite.
    ///
    /// # Errors
    /// When there is none, or it cannot be run. A test that fails is counted.
    pub(crate) fn one(&self, name: &str) -> Result<Counts> {
        let mut cases = system_tests::cases::all();
        cases.retain(|case| case.name == name);
        if !cases.is_empty() {
            return self.whole_systems(&cases);
        }
        if is_kernel_test(self, name)? {
            return self.kernel_test(name);
        }
        let names = host_names(self.cargo)?;
        ensure!(
            names.contains(name),
            "no test, case or suite is called `{name}`; `cargo xtask test --list` names them all"
        );
        let log = self.paths.logs().join("host.log");
        let counts = progress::judged(
            name,
            || {
                let mut command = self.cargo.command("test");
                command.args(["--locked", "--workspace", "--no-fail-fast"]);
                command.args(["--color", "never", "--", "--exact", name]);
                count(command, &log)
            },
            Counts::good,
        )?;
        show_host("host", counts, &log);
        Ok(counts)
    }

    /// One kernel test, on the first kernel that has it.
    fn kernel_test(&self, name: &str) -> Result<Counts> {
        let begin = format!("test {name} ... ");
        for suite in kernel_suites() {
            let lines = self.kernel_lines(suite, name)?;
            let Some(line) = lines.iter().find(|line| line.starts_with(&begin)) else {
                continue;
            };
            let passed = *line == format!("{begin}ok");
            if passed {
                println!("{}: {line}", suite.name);
            } else {
                progress::failed(&format!("{}: {line}", suite.name));
            }
            return Ok(Counts {
                passed: u64::from(passed),
                failed: u64::from(!passed),
            });
        }
        bail!(
            "no kernel runs `{name}` alone: it sums up other tests, or the machine stopped before it"
        )
    }

    /// What a suite's root task prints when it is built for one test.
    fn kernel_lines(&self, suite: &QemuSuite, only: &str) -> Result<Vec<String>> {
        let image = self.paths.out().join("one-test.img");
        let cargo = self.cargo.with_variable(VARIABLE, only);
        let machine = suite.make(&cargo, &suite.flavour.into(), &image)?;
        let log = self.paths.logs().join("one-test.log");
        let transcript = run_to_verdict(&machine, &image, suite.limit, &log, |line| {
            ends(line, false)
        })?;
        Ok(transcript.lines)
    }
}

/// Whether the kernel's tests have one of this name: their sources name each in quotes.
fn is_kernel_test(tests: &Tests<'_>, name: &str) -> Result<bool> {
    let quoted = format!("\"{name}\"");
    let mut directories = vec![tests.paths.root().join("tests/kernel/src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if std::fs::read_to_string(&path)
                .with_context(|| path.display().to_string())?
                .contains(&quoted)
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The names of the tests on this machine.
fn host_names(cargo: &Cargo) -> Result<BTreeSet<String>> {
    let output = progress::step("build the tests on the host", || {
        let output = cargo
            .command("test")
            .args(["--locked", "--workspace", "--quiet"])
            .args(["--", "--list", "--format", "terse"])
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("starting cargo")?;
        ensure!(output.status.success(), "the tests do not build");
        Ok(output)
    })?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}
