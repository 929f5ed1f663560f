//! What is played.

use super::scene::{Scene, Took};
use anyhow::{Context as _, Result};
use operator::Check;
use protocol::management::HostBody;
use system::Scale;

/// A scene.
pub struct Description {
    /// Its name.
    pub name: &'static str,
    /// Its system, below `systems/`.
    pub system: &'static str,
    /// How large that is made.
    pub scale: Scale,
    /// Whether the suite of tests plays it.
    pub share: Share,
    /// How it is played, each load so many times.
    pub play: fn(&mut Scene, u32) -> Result<()>,
}

/// Who plays a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The suite of tests, too.
    Suite,
    /// Only who asks for the scenario: a race between a burst and the memory that is on its way to it, which the burst can
    /// win.
    Race,
}

/// All scenes.
pub const ALL: [Description; 5] = [
    Description {
        name: "plenty",
        system: "burst/plenty.toml",
        scale: Scale::Full,
        share: Share::Suite,
        play: plenty,
    },
    Description {
        name: "contended",
        system: "burst/contended.toml",
        scale: Scale::Full,
        share: Share::Suite,
        play: contended,
    },
    Description {
        name: "handover",
        system: "burst/handover.toml",
        scale: Scale::Full,
        share: Share::Suite,
        play: handover,
    },
    Description {
        name: "race",
        system: "burst/contended.toml",
        scale: Scale::Full,
        share: Share::Race,
        play: race,
    },
    Description {
        name: "seeds",
        system: "seeds.toml",
        scale: Scale::Quarter,
        share: Share::Race,
        play: seeds,
    },
];

const MIB: u64 = 1 << 20;
/// What is played by bytes.
const ALL_LOADS: [&str; 3] = ["fault", "tmpfs", "cache"];
/// How much later than in a guest that had its memory from the start the first 2 MiB may be there, in microseconds.
const FIRST_EXTRA_US: u64 = 10_000;
/// The same for 256 MiB.
const ALL_EXTRA_US: u64 = 100_000;
/// Guest time between two bursts: what was used is reported free after 2 s at the latest.
const REST_MS: u64 = 2500;
/// Processes of a fork storm.
const FORKS: u32 = 500;

/// A pool that is not empty: what growing costs, and every load from the startup size to the maximum.
fn plenty(scene: &mut Scene, times: u32) -> Result<()> {
    scene.meet(&["small", "large", "whole"])?;
    latency(scene, times)?;
    loads(scene, times, &ALL_LOADS, 800)
}

/// Touches beyond what the guest had at its start, beside the same in a guest that had it all.
fn latency(scene: &mut Scene, times: u32) -> Result<()> {
    // 256 MiB less what an idle guest uses.
    let load = format!("fault {} {}", 256 * MIB, 192 * MIB);
    let mut measure = |guest: &str| -> Result<Vec<Took>> {
        let mut all = Vec::new();
        for _ in 0..times {
            let took = scene.burst(guest, &load)?;
            all.push(took.with_context(|| format!("{guest} did not get its memory"))?);
            scene.rest(REST_MS)?;
        }
        Ok(all)
    };
    let (grown, whole) = (measure("large")?, measure("whole")?);
    let first = |took: &Took| took.first_us;
    let all = |took: &Took| took.all_us;
    let slowest = |of: fn(&Took) -> u64| grown.iter().map(of).max().unwrap_or(u64::MAX);
    let best = |of: fn(&Took) -> u64| whole.iter().map(of).min().unwrap_or(0);
    for (part, slowest, best, most_us) in [
        ("2 MiB", slowest(first), best(first), FIRST_EXTRA_US),
        ("256 MiB", slowest(all), best(all), ALL_EXTRA_US),
    ] {
        let extra_us = slowest.saturating_sub(best);
        scene.note(Check {
            name: format!("{part} beyond what the guest had"),
            ok: extra_us <= most_us,
            detail: format!(
                "{slowest} us in a guest that grows, {best} us in one that had it from the start: {extra_us} us more, at most {most_us}"
            ),
        });
    }
    Ok(())
}

/// Every load, from the startup size of the small guest to about its maximum, and up to `large_mib` in the large one.
fn loads(scene: &mut Scene, times: u32, large: &[&str], large_mib: u64) -> Result<()> {
    for (guest, mib, loads) in [("small", 160, &ALL_LOADS[..]), ("large", large_mib, large)] {
        for load in loads {
            for _ in 0..times {
                scene.burst(guest, &format!("{load} {}", mib * MIB))?;
                scene.rest(REST_MS)?;
            }
        }
    }
    // Kernel stacks and page tables need ordinary memory, of which a guest has its startup memory.
    for _ in 0..times {
        scene.burst("large", &format!("forks {FORKS}"))?;
        scene.rest(REST_MS)?;
    }
    Ok(())
}

/// The same while the others use so much that what a burst needs is in their buffers. (Huge pages fault in at 4 GiB/s and more:
/// see [`race`].)
fn contended(scene: &mut Scene, times: u32) -> Result<()> {
    others_work(scene)?;
    // The others use about 500 MiB of the 1440 that targets may have, and hold a buffer on top.
    loads(scene, times, &["tmpfs", "cache"], 600)?;
    others_verify(scene)
}

/// A burst at the speed of huge pages that needs more than it has ahead while the rest is the others'.
fn race(scene: &mut Scene, times: u32) -> Result<()> {
    others_work(scene)?;
    for _ in 0..times {
        scene.burst("large", &format!("fault {}", 600 * MIB))?;
        scene.rest(REST_MS)?;
    }
    others_verify(scene)
}

fn others_work(scene: &mut Scene) -> Result<()> {
    scene.meet(&["small", "large", "neighbour", "other"])?;
    // 64 MiB each of their own, and a buffer of a fifth.
    for (guest, mib) in [("neighbour", 224), ("other", 96)] {
        scene.ask(guest, &format!("touch {} 500", mib * MIB))?;
    }
    scene.rest(REST_MS)
}

fn others_verify(scene: &mut Scene) -> Result<()> {
    for guest in ["neighbour", "other"] {
        let said = scene.ask(guest, "verify")?;
        scene.note(Check {
            name: format!("{guest} kept its memory"),
            ok: true,
            detail: said,
        });
    }
    Ok(())
}

/// Two guests that need nearly everything in turn.
fn handover(scene: &mut Scene, times: u32) -> Result<()> {
    scene.meet(&["alpha", "beta"])?;
    for turn in 0..times.max(2) {
        let guest = if turn % 2 == 0 { "beta" } else { "alpha" };
        for load in ["tmpfs", "fault"] {
            scene.burst(guest, &format!("{load} {}", 500 * MIB))?;
            scene.rest(if load == "tmpfs" { REST_MS } else { 10_000 })?;
        }
    }
    Ok(())
}

/// The worked example just after its minute 30: everything is given out, and a heavy guest needs 300 MiB at once.
fn seeds(scene: &mut Scene, _: u32) -> Result<()> {
    scene.meet(&["Finance", "Sales", "Engineering"])?;
    let weight = protocol::balancer::Change::Weight(10_000);
    scene.rig.set("Sales", weight)?;
    let touch = |scene: &mut Scene, guest: &str, mib: u64| {
        scene.ask(guest, &format!("touch {} 1000", mib * MIB))
    };
    touch(scene, "Finance", 550)?;
    touch(scene, "Engineering", 340)?;
    touch(scene, "Sales", 140)?;
    scene.rig.command("Service", HostBody::Start)?;
    touch(scene, "Finance", 340)?;
    touch(scene, "Engineering", 640)?;
    scene.rig.wait_agent("Service")?;
    touch(scene, "Service", 140)?;
    scene.rest(REST_MS)?;
    scene.burst("Sales", &format!("fault {}", 300 * MIB))?;
    for guest in ["Finance", "Engineering", "Service"] {
        let said = scene.ask(guest, "verify")?;
        scene.note(Check {
            name: format!("{guest} kept its memory"),
            ok: true,
            detail: said,
        });
    }
    Ok(())
}
