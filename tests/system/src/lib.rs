//! Whole-system tests: a system in QEMU, driven over its serial line as an operator would, and looked at from outside.
//!
//! Each [`Case`] gets a machine of its own, freshly booted from its [`System`]'s image. A case says
//! what went wrong by returning an error; whatever it does, conservation of memory and an answering board are checked
//! once more after it. At every look at the system, its memory is looked at from outside as well ([`Watch`]): who maps what
//! must be what the system promises. Adding a case: a function in [`cases`] and a line in its `ALL`.
//!
//! Linux guests at work are the scenarios' (their checks); what is theirs alone is in [`lisa`], [`moves`] and the cases for Linux.
//!
//! Not for: what can be seen from inside one component (its own tests).
#![forbid(unsafe_code)]

pub mod cases;
pub mod lisa;
pub mod moves;
mod rig;
mod watch;

pub use rig::Rig;
pub use watch::{Tally, Watch};

use anyhow::{Context as _, Result};
use qemu_machine::{Count, Machine};
use std::path::{Path, PathBuf};

/// What a case is played in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Four unikernels (`systems/tests/unikernels.toml`).
    Unikernels,
    /// Three Linux guests (`systems/tests/linux.toml`).
    Linux,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Unikernels, Self::Linux];

    /// The name of its description.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unikernels => "unikernels",
            Self::Linux => "linux",
        }
    }
}

/// A test.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&mut Rig) -> Result<()>,
    /// How time passes on its machine.
    pub count: Count,
    /// In what.
    pub system: System,
}

/// What all cases need.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The image.
    pub image: PathBuf,
    /// The machine.
    pub machine: Machine,
    /// Where logs go.
    pub logs: PathBuf,
    /// Programs of the image by name, for their log format strings.
    pub programs: Vec<(String, PathBuf)>,
}

/// Nothing was wrong, but what a case is about did not come about, which is up to chance: it is tried again.
#[derive(Debug)]
pub struct Missed(pub &'static str);

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Missed {}

/// How often a case that [`Missed`] is tried: what comes about every other time comes about in one of so many.
const TRIES: usize = 10;

/// Runs one case on a machine of its own; its log is the returned file.
///
/// # Errors
/// What the case found.
pub fn run(case: &Case, setting: &Setting) -> (PathBuf, Result<()>) {
    let log = setting.logs.join(format!("system-{}.log", case.name));
    let result = try_again(|| conduct(case, setting, &log));
    (log, result)
}

fn try_again(mut conduct: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 1..TRIES {
        match conduct() {
            Err(error) if error.is::<Missed>() => {}
            result => return result,
        }
    }
    conduct()
}

fn conduct(case: &Case, setting: &Setting, log: &Path) -> Result<()> {
    let setting = Setting {
        machine: Machine {
            count: case.count,
            ..setting.machine.clone()
        },
        ..setting.clone()
    };
    let mut rig = Rig::boot(&setting, log)?;
    (case.run)(&mut rig)?;
    rig.settle().context("after the test")?;
    rig.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn only_what_was_missed_is_tried_again() {
        let tries = |results: &mut dyn FnMut(usize) -> Result<()>| {
            let mut tries = 0;
            let result = try_again(|| {
                tries += 1;
                results(tries)
            });
            (tries, result.is_ok())
        };
        let missed = || Err(Missed("the chance").into());
        assert_eq!(tries(&mut |_| Ok(())), (1, true));
        assert_eq!(tries(&mut |_| Err(anyhow!("wrong"))), (1, false));
        assert_eq!(
            tries(&mut |n| if n < 3 { missed() } else { Ok(()) }),
            (3, true)
        );
        assert_eq!(tries(&mut |_| missed()), (TRIES, false));
    }
}
