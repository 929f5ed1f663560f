//! `cargo xtask run --scenario density`: how many Linux guests of a stated mix fit a pool, static against dynamic.
//!
//! The mix is `build/operator/scenarios/density.toml`, which says what is measured and when a guest has lost. All static sizes are
//! measured in one boot: guests that keep what they have do not change each other's memory. Then the dynamic host is booted with
//! more and more guests, until one of them loses.

mod hosts;
mod mix;
mod rounds;

use crate::cargo::Cargo;
use crate::image::{self, Flavour};
use crate::paths::{Paths, write_if_changed};
use crate::progress;
use anyhow::{Context, Result, ensure};
use mix::Mix;
use operator::report::{Check, to_json};
use operator::snapshot::Snapshot;
use protocol::units::MAX_GUESTS;
use qemu_machine::{Count, Machine};
use rounds::{Play, Turn};
use std::path::PathBuf;
use system::Scale;
use system_tests::{Rig, Setting};

/// The scenario's name.
pub const NAME: &str = "density";

/// Where results go.
#[derive(Debug, Default)]
pub struct Files {
    /// JSON, of the last host on which nobody lost.
    pub report: Option<PathBuf>,
    /// SVG, of the same.
    pub plot: Option<PathBuf>,
}

/// What a host showed.
struct Measured {
    /// Work per second of processor time, in MiB, of each guest; `None` for one that was lost.
    rates: Vec<Option<f64>>,
    play: Play,
}

/// Measures, prints the table, and says whether the goal was reached.
///
/// # Errors
/// When a system cannot be built or started.
pub fn run(
    paths: &Paths,
    cargo: &Cargo,
    mirror: Option<&str>,
    files: &Files,
) -> Result<Vec<Check>> {
    let mix = Mix::stated()?;
    println!("{mix}");
    let host = Host {
        paths,
        cargo,
        mirror,
        mix: &mix,
    };
    let sizes = mix.static_sizes();
    let fixed = host.measure("static", &hosts::fixed(&mix, &sizes), Turn::All)?;
    let (ample, shares) = fixed.rates.split_first().context("no guest was measured")?;
    let best =
        ample.context("the guest that has memory to spare does not get through the rounds")?;
    let mut most_static = 0;
    for ((count, size_mib), rate) in sizes.iter().zip(shares) {
        println!(
            "static: {count} guests of {size_mib} MiB: {}",
            said(*rate, best)
        );
        if !mix.is_lost(*rate, best) {
            most_static = most_static.max(*count);
        }
    }
    ensure!(
        most_static > 0,
        "no static guest gets through: the mix does not fit its pool"
    );
    let mut most_dynamic = 0;
    let mut last = None;
    for count in mix.first_dynamic(most_static)..=MAX_GUESTS as u64 {
        let measured = host.measure("dynamic", &hosts::dynamic(&mix, count), Turn::Halves)?;
        for (index, rate) in measured.rates.iter().enumerate() {
            println!(
                "dynamic: {count} guests: guest {}: {}",
                index + 1,
                said(*rate, best)
            );
        }
        if measured.rates.iter().any(|rate| mix.is_lost(*rate, best)) {
            break;
        }
        most_dynamic = count;
        last = Some(measured);
    }
    let checks = checks(&mix, most_static, most_dynamic, last.as_ref());
    write(files, last.as_ref(), &checks)?;
    Ok(checks)
}

fn said(rate: Option<f64>, best: f64) -> String {
    match rate {
        Some(rate) => format!("{:.1} % of the work per instruction", rate / best * 100.0),
        None => "lost".to_owned(),
    }
}

fn checks(mix: &Mix, fixed: u64, dynamic: u64, last: Option<&Measured>) -> Vec<Check> {
    let ratio = dynamic as f64 / fixed.max(1) as f64;
    let history: &[Snapshot] = last.map_or(&[], |measured| &measured.play.history);
    let lost = history.iter().filter(|snapshot| !snapshot.is_conserved());
    vec![
        Check {
            name: format!("dynamic fits {} times as many guests as static", mix.goal),
            ok: ratio >= mix.goal,
            detail: format!(
                "{dynamic} against {fixed} in {} MiB: {ratio:.2}",
                mix.pool_mib
            ),
        },
        Check {
            name: "pool + granted + cleaning = total at every sample".to_owned(),
            ok: !history.is_empty() && lost.clone().count() == 0,
            detail: format!("{} of {} samples not", lost.count(), history.len()),
        },
    ]
}

fn write(files: &Files, last: Option<&Measured>, checks: &[Check]) -> Result<()> {
    let history: &[Snapshot] = last.map_or(&[], |measured| &measured.play.history);
    if let Some(path) = &files.report {
        std::fs::write(path, to_json(history, checks)?)
            .with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &files.plot {
        let marks = last.map_or(&[][..], |measured| &measured.play.marks);
        let title = "Memory of the guests over time: scenario density";
        let svg = operator::plot::to_svg(title, history, marks);
        std::fs::write(path, svg).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

struct Host<'a> {
    paths: &'a Paths,
    cargo: &'a Cargo,
    mirror: Option<&'a str>,
    mix: &'a Mix,
}

impl Host<'_> {
    /// Boots a system and plays the rounds in it.
    fn measure(&self, kind: &str, text: &str, turn: Turn) -> Result<Measured> {
        let name = format!("{NAME}-{kind}");
        let file = self.paths.out().join(format!("{name}.toml"));
        write_if_changed(&file, text.as_bytes())?;
        let description = image::describe(&file, None, Scale::Full)?;
        let built = image::build(
            self.paths,
            self.cargo,
            &description,
            Flavour::Release,
            self.mirror,
        )?;
        let image = self.paths.out().join(format!("{name}.img"));
        write_if_changed(&image, &built.image)?;
        let setting = Setting {
            image,
            machine: Machine {
                count: Count::Paced,
                ..Machine::virt(description.memory_mib)
            },
            logs: self.paths.logs(),
            programs: built.programs,
        };
        progress::step(&format!("play the rounds: {kind}"), || {
            let mut rig = Rig::boot(&setting, &self.paths.logs().join(format!("{name}.log")))?;
            let play = rounds::play(&mut rig, self.mix, turn)?;
            Ok(Measured {
                rates: play.rates(),
                play,
            })
        })
    }
}
