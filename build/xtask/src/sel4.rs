//! `cargo xtask sel4`: any seL4 root task on our kernel, in QEMU, with its output.

use crate::cargo::Cargo;
use crate::image::Flavour;
use crate::paths::{Paths, write_if_changed};
use crate::{progress, test};
use anyhow::{Context, Result};
use qemu_machine::{Count, Cpu, Ending, Gic, Highmem, Machine, run_to_verdict};
use regex::Regex;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is run, and on what: the machine's options are named as QEMU names them.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The root task: a static AArch64 ELF file for seL4 16 with EL2, MCS and 40 bits.
    root_task: PathBuf,
    /// Ends the run with success when a line of the output matches this regular expression; otherwise the run ends with
    /// the machine or with the time, and only a machine that ends by itself with status 0 is a success.
    #[arg(long, value_name = "REGEX")]
    until: Option<Regex>,
    /// The longest wall time, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// The kernel with debug system calls.
    #[arg(long)]
    debug: bool,
    /// RAM in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u64,
    /// Version of the interrupt controller.
    #[arg(long, default_value = "3", value_parser = gic)]
    gic: Gic,
    /// CPU model: cortex-a53, cortex-a57 or cortex-a72.
    #[arg(long, default_value = "cortex-a53", value_parser = cpu)]
    cpu: Cpu,
    /// Everything below 4 GiB (`highmem=off`): what seL4's own trees for QEMU describe.
    #[arg(long)]
    lowmem: bool,
    /// One nanosecond an instruction instead of the host's clock (`-icount shift=0,sleep=off`): repeatable on any host.
    #[arg(long)]
    icount: bool,
}

fn gic(text: &str) -> Result<Gic, String> {
    match text {
        "2" => Ok(Gic::V2),
        "3" => Ok(Gic::V3),
        _ => Err("2 and 3 are possible".to_owned()),
    }
}

fn cpu(text: &str) -> Result<Cpu, String> {
    [Cpu::CortexA53, Cpu::CortexA57, Cpu::CortexA72]
        .into_iter()
        .find(|cpu| cpu.name() == text)
        .ok_or_else(|| "cortex-a53, cortex-a57 and cortex-a72 are possible".to_owned())
}

impl Options {
    fn machine(&self) -> Machine {
        Machine {
            gic: self.gic,
            cpu: self.cpu,
            highmem: if self.lowmem {
                Highmem::Off
            } else {
                Highmem::On
            },
            count: if self.icount {
                Count::Instructions
            } else {
                Count::Wall
            },
            ..Machine::virt(self.memory)
        }
    }

    /// Packs, boots, shows, judges. The output is kept in `out/logs/sel4.log` too.
    ///
    /// # Errors
    /// When the root task is no such ELF file, or QEMU cannot be started. A run that fails is `false`, not an error.
    pub fn run(&self, paths: &Paths, cargo: &Cargo) -> Result<bool> {
        let root_task = std::fs::read(&self.root_task)
            .with_context(|| format!("the root task {}", self.root_task.display()))?;
        let flavour = if self.debug {
            Flavour::Debug
        } else {
            Flavour::Release
        };
        let image = test::pack_elf(cargo, &root_task, &flavour.into())
            .with_context(|| self.root_task.display().to_string())?;
        let file = paths.out().join("sel4.img");
        progress::step("pack the image", || write_if_changed(&file, &image))?;
        self.boot(&file, &paths.logs().join("sel4.log"))
    }

    fn boot(&self, image: &Path, log: &Path) -> Result<bool> {
        let limit = Duration::from_secs(self.timeout);
        let transcript = run_to_verdict(&self.machine(), image, limit, log, |line| {
            // Who closed our output loses the text, not the verdict.
            let _ = writeln!(std::io::stdout(), "{line}");
            self.until
                .as_ref()
                .is_some_and(|until| until.is_match(line))
        })?;
        if !transcript.complaints.is_empty() {
            eprintln!("{}", transcript.complaints.trim_end());
        }
        let (good, what) = judge(&transcript.ending, self.until.is_some(), self.timeout);
        eprintln!("  {what} (log: {})", log.display());
        Ok(good)
    }
}

/// Whether a run was a success, and what is said about its end.
fn judge(ending: &Ending, had_pattern: bool, timeout: u64) -> (bool, String) {
    match ending {
        Ending::Verdict(_) => (true, "matched".to_owned()),
        Ending::Exited(Some(0)) if !had_pattern => (true, "the machine ended".to_owned()),
        Ending::Exited(_) => (false, "the machine ended before a line matched".to_owned()),
        Ending::TimedOut => (false, format!("no end within {timeout} s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Line::try_parse_from(["sel4"].iter().chain(arguments)).map(|line| line.options)
    }

    #[test]
    fn the_machine_is_the_one_asked_for() {
        let machine = parse(&["root.elf"]).unwrap().machine();
        assert_eq!(machine, Machine::virt(1024));
        let line = [
            "root.elf",
            "--gic",
            "2",
            "--memory",
            "2048",
            "--lowmem",
            "--icount",
            "--cpu",
            "cortex-a72",
        ];
        let expected = Machine {
            gic: Gic::V2,
            cpu: Cpu::CortexA72,
            highmem: Highmem::Off,
            count: Count::Instructions,
            ..Machine::virt(2048)
        };
        assert_eq!(parse(&line).unwrap().machine(), expected);
    }

    #[test]
    fn mistakes_are_told_before_anything_is_built() {
        for line in [
            &["root.elf", "--gic", "4"][..],
            &["root.elf", "--cpu", "max"],
            &["root.elf", "--until", "("],
            &[],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn only_a_match_is_a_success_when_one_is_asked_for() {
        let judged = |ending, had| judge(&ending, had, 5).0;
        assert!(judged(Ending::Verdict("All is well".to_owned()), true));
        assert!(!judged(Ending::Exited(Some(0)), true));
        assert!(judged(Ending::Exited(Some(0)), false));
        assert!(!judged(Ending::Exited(None), false));
        assert!(!judged(Ending::TimedOut, false));
        assert!(!judged(Ending::TimedOut, true));
    }
}
