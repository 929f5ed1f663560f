//! `cargo xtask run --scenario burst`: guests use memory up at full speed, and none may have to kill a process for want of it.
//!
//! Each scene boots a system of its own (`systems/burst`) on counted instructions and gives commands to the workload
//! agents in its guests; times are the guests' own. What is compared is one run of one machine: a guest that grows, and one
//! that had its memory from the start.

mod scene;
mod scenes;

use crate::cargo::Cargo;
use crate::image::{self, Flavour};
use crate::paths::{Paths, write_if_changed};
use crate::progress;
use crate::verdict::Counts;
use anyhow::{Context as _, Result};
use operator::Check;
use qemu_machine::{Count, Machine};
use scene::Scene;
use scenes::{Description, Share};
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;
use system_tests::Setting;

/// How often each load is played unless it is said.
pub const TIMES: u32 = 2;

/// Whether a scenario's name is this one, and which of its scenes: `burst`, or `burst:NAME`.
#[must_use]
pub fn scene_of(scenario: &str) -> Option<Which> {
    match scenario.split_once(':') {
        None => (scenario == SUITE).then_some(Which::All),
        Some((name, scene)) => (name == SUITE).then(|| Which::Named(scene.to_owned())),
    }
}

/// Which scenes are played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those that are tests.
    Suite,
    /// Those with this in their names.
    Named(String),
}

/// Its name as a scenario, and as a suite of tests.
pub const SUITE: &str = "burst";

/// A share of it as a suite of tests: each load once in each guest.
///
/// # Errors
/// As [`Burst::run`].
pub fn suite(paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<Counts> {
    let burst = Burst {
        times: 1,
        which: Which::Suite,
        report: Some(paths.logs().join("burst.json")),
        plot: Some(paths.logs().join("burst.svg")),
    };
    let checks = burst.run(paths, cargo, mirror)?;
    let failed = checks.iter().filter(|check| !check.ok).count() as u64;
    let passed = checks.len() as u64 - failed;
    for check in checks.iter().filter(|check| !check.ok) {
        progress::note_failure(&format!("{SUITE}: {}: {}", check.name, check.detail));
    }
    println!("{SUITE}: {passed} passed, {failed} failed");
    Ok(Counts { passed, failed })
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Burst {
    /// How often each load is played in each guest.
    pub times: u32,
    /// Which scenes.
    pub which: Which,
    /// Where the report goes (JSON).
    pub report: Option<PathBuf>,
    /// Where the plot goes (SVG), one for each scene: its name is put before the extension.
    pub plot: Option<PathBuf>,
}

impl Burst {
    /// Plays the scenes; the checks of all of them.
    ///
    /// # Errors
    /// When something cannot be built, or a board is silent. What a guest suffers is a check that fails.
    pub fn run(&self, paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<Vec<Check>> {
        let mut checks = Vec::new();
        let mut history = Vec::new();
        for description in scenes::ALL {
            let Description { name, play, .. } = description;
            let is_wanted = match &self.which {
                Which::All => true,
                Which::Suite => description.share == Share::Suite,
                Which::Named(part) => name.contains(part.as_str()),
            };
            if !is_wanted {
                continue;
            }
            let setting = setting(paths, cargo, mirror, &description)?;
            let log = paths.logs().join(format!("burst-{name}.log"));
            let what = format!("bursts: {name}");
            let scene = progress::step(&what, || {
                let mut scene = Scene::boot(name, &setting, &log)?;
                if let Err(error) = play(&mut scene, self.times) {
                    scene.note(Check {
                        name: "goes to its end".to_owned(),
                        ok: false,
                        detail: format!("{error:#}"),
                    });
                }
                scene.finish();
                Ok(scene)
            })?;
            for line in scene.lines() {
                println!("    {line}");
            }
            if let Some(plot) = &self.plot {
                let file = plot.with_extension(format!("{name}.svg"));
                std::fs::write(&file, scene.plot()).with_context(|| file.display().to_string())?;
            }
            let (more, seen) = scene.into_results();
            checks.extend(more);
            history.extend(seen);
        }
        if let Some(report) = &self.report {
            let text = operator::report::to_json(&history, &checks)?;
            std::fs::write(report, text).with_context(|| report.display().to_string())?;
        }
        Ok(checks)
    }
}

/// Builds a scene's system.
fn setting(
    paths: &Paths,
    cargo: &Cargo,
    mirror: Option<&str>,
    scene: &Description,
) -> Result<Setting> {
    let name = scene.name;
    let file = paths.systems().join(scene.system);
    let description = image::describe(&file, None, scene.scale)?;
    let built = image::build(paths, cargo, &description, Flavour::Release, mirror)?;
    let image = paths.out().join(format!("burst-{name}.img"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_and_its_scenes_have_names() {
        assert_eq!(scene_of("burst"), Some(Which::All));
        let named = Some(Which::Named("handover".to_owned()));
        assert_eq!(scene_of("burst:handover"), named);
        assert_eq!(scene_of("seeds"), None);
        assert_eq!(scene_of("bursts:plenty"), None);
    }

    #[test]
    fn every_scene_has_its_system_and_the_suite_has_scenes() {
        let systems = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systems");
        for scene in scenes::ALL {
            assert!(systems.join(scene.system).is_file(), "{}", scene.name);
        }
        let played = scenes::ALL.iter().filter(|s| s.share == Share::Suite);
        assert!(played.count() >= 3);
    }
}
