//! `cargo xtask fuzz`: what reads bytes from outside gets bytes that nobody thought of, guided by coverage (libFuzzer).
//!
//! Inputs that reached something new stay in `out/fuzz/TARGET/corpus`, and the next run begins with them. An input that broke
//! something is kept in `out/fuzz/TARGET/crashes`.

use crate::cargo::Cargo;
use crate::nightly::{self, NotChecked};
use crate::paths::Paths;
use crate::progress;
use crate::setup::has_program;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What is fuzzed, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only this one; without it each (a file in `tests/fuzz/fuzz_targets`).
    target: Option<String>,
    /// How long each of them gets new inputs, in seconds.
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Instead, give it the input of this file once: one that was kept, to see it break again.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

/// What the compiler adds so that libFuzzer sees which code an input reaches and what it is compared with, and so that an
/// access outside an object ends the run (AddressSanitizer). Arithmetic that overflows is a mistake here as in tests.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1 -Cdebug-assertions -Zsanitizer=address";

impl Options {
    /// Builds and runs; whether nothing broke.
    ///
    /// # Errors
    /// [`NotChecked`] without the toolchain; others when a target does not exist or does not build.
    pub fn run(&self, paths: &Paths, cargo: &Cargo) -> Result<bool> {
        let all = targets(&paths.root().join("tests/fuzz/fuzz_targets"))?;
        let chosen: Vec<&String> = all
            .iter()
            .filter(|name| self.target.as_ref().is_none_or(|target| target == *name))
            .collect();
        ensure!(
            !chosen.is_empty(),
            "nothing to fuzz is called `{}`; there are {}",
            self.target.as_deref().unwrap_or_default(),
            all.join(", ")
        );
        nightly::ensure(&[])?;
        // libFuzzer itself is C++.
        if std::env::var_os("CXX").is_none() && !has_program("c++") {
            let fix = "install a C++ compiler (on Debian: apt-get install g++)";
            bail!(NotChecked(format!("there is no `c++` here: {fix}")));
        }
        let programs = build(cargo)?;
        let mut good = true;
        for name in chosen {
            good &= self.one(paths, name, &programs.join(name))?;
        }
        Ok(good)
    }

    fn one(&self, paths: &Paths, name: &str, program: &Path) -> Result<bool> {
        let home = paths.out().join("fuzz").join(name);
        let (corpus, crashes) = (home.join("corpus"), home.join("crashes"));
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&crashes)?;
        std::fs::create_dir_all(paths.logs())?;
        let log = paths.logs().join(format!("fuzz-{name}.log"));
        let file = std::fs::File::create(&log)?;
        let mut command = std::process::Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        match &self.input {
            Some(input) => command.arg(input),
            None => command
                .arg(&corpus)
                .arg(format!("-max_total_time={}", self.seconds))
                // An input that takes a minute of a machine that is busy with other things hangs.
                .arg("-timeout=60")
                .arg(format!("-artifact_prefix={}/", crashes.display())),
        };
        let status = progress::judged(
            &format!("fuzz {name}"),
            || {
                command
                    .status()
                    .with_context(|| program.display().to_string())
            },
            std::process::ExitStatus::success,
        )?;
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        if status.success() {
            println!("{name}: nothing broke; {}", summary(&text));
            return Ok(true);
        }
        println!("{name}: BROKE");
        for line in text.lines().filter(|line| tells(line)).take(20) {
            println!("    {line}");
        }
        if let Some(input) = kept(&text) {
            println!("    the input is kept: {input}");
            println!("    again: cargo xtask fuzz {name} --input {input}");
        }
        println!("    (all of it: {})", log.display());
        Ok(false)
    }
}

/// The names of the targets: one file each.
fn targets(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem()
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds all of them; the directory with the programs.
fn build(cargo: &Cargo) -> Result<PathBuf> {
    let host = nightly::host()?;
    let target_dir = cargo.target_dir("fuzz");
    progress::step("build the fuzzers", || {
        // With a target named, the flags are not for what runs at build time.
        let output = cargo
            .nightly("build")
            .args([
                "--manifest-path",
                "tests/fuzz/Cargo.toml",
                "--locked",
                "--release",
                "--quiet",
            ])
            .args(["--target", &host, "--target-dir"])
            .arg(&target_dir)
            .env("RUSTFLAGS", FLAGS)
            .output()
            .context("starting cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !said.contains("cannot update the lock file"),
            "a crate that is fuzzed depends on others than before; run: \
             cargo update --workspace --manifest-path tests/fuzz/Cargo.toml"
        );
        ensure!(
            output.status.success(),
            "the fuzzers do not build: {}",
            said.trim()
        );
        Ok(())
    })?;
    Ok(target_dir.join(host).join("release"))
}

/// What libFuzzer says in the end (`Done 12345 runs in 21 second(s)`), and the coverage that it saw last (`cov: 678`).
fn summary(text: &str) -> String {
    let done = text
        .lines()
        .find_map(|line| line.strip_prefix("Done "))
        .unwrap_or("the input was run");
    let words: Vec<&str> = text.split_whitespace().collect();
    let coverage = words
        .windows(2)
        .filter(|pair| pair[0] == "cov:")
        .map(|pair| pair[1])
        .next_back();
    coverage.map_or_else(
        || done.to_owned(),
        |coverage| format!("{done}, {coverage} branches reached"),
    )
}

/// Whether a line of libFuzzer's output says what broke.
fn tells(line: &str) -> bool {
    ["panicked at", "ERROR:", "SUMMARY:"]
        .iter()
        .any(|part| line.contains(part))
}

/// The file of an input that broke something: `artifact_prefix='...'; Test unit written to FILE`.
fn kept(text: &str) -> Option<&str> {
    text.lines()
        .find_map(|line| line.split_once("Test unit written to "))
        .map(|(_, file)| file.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "#2\tINITED cov: 14 ft: 14 corp: 1/1b exec/s: 0 rss: 45Mb\n\
        #8192\tpulse  cov: 678 ft: 1200 corp: 90/4Kb lim: 80 exec/s: 4096 rss: 60Mb\n\
        Done 12345 runs in 21 second(s)\n";
    const BROKEN: &str = "thread '<unnamed>' panicked at fuzz_targets/invocations.rs:60:13:\n\
        after CNodeCopy: a slot is empty\n\
        ==1== ERROR: libFuzzer: deadly signal\n\
        SUMMARY: libFuzzer: deadly signal\n\
        artifact_prefix='/o/'; Test unit written to /o/crash-0abc\n";

    #[test]
    fn the_end_of_a_run_is_read() {
        assert_eq!(
            summary(WHOLE),
            "12345 runs in 21 second(s), 678 branches reached"
        );
        assert_eq!(summary(""), "the input was run");
        assert_eq!(kept(WHOLE), None);
        assert_eq!(kept(BROKEN), Some("/o/crash-0abc"));
        let told: Vec<&str> = BROKEN.lines().filter(|line| tells(line)).collect();
        assert_eq!(told.len(), 3, "{told:?}");
    }

    #[test]
    fn every_target_is_a_program_of_the_fuzzers_crate() {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz");
        let manifest = std::fs::read_to_string(crate_dir.join("Cargo.toml")).unwrap();
        let names = targets(&crate_dir.join("fuzz_targets")).unwrap();
        assert!(!names.is_empty());
        for name in names {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        }
    }
}
