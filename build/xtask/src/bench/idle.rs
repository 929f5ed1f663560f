//! What a guest costs that does nothing, and the host below it, for 10 seconds: Debian with a shell that waits, with and without the
//! workload's heartbeat (a thread that wakes every 10 ms).
//!
//! Xen's figure beside it is without a heartbeat, on a Cortex-A57.

use super::{LIMIT, counted, rows::Row};
use crate::cargo::Cargo;
use crate::paths::Paths;
use crate::progress;
use anyhow::{Result, bail, ensure};
use protocol::management::{Answer, HostBody};
use protocol::watch::{Counters, Instructions, Watch, Watched};
use qemu_machine::Cpu;
use std::time::{Duration, Instant};
use system_tests::{Rig, Setting};

/// The guest's name in both descriptions.
const GUEST: &str = "linux";
/// What the figures are for.
const SPAN_US: u64 = 10_000_000;
/// How long the guest is left alone before.
const CALM_MS: u64 = 20_000;
/// More memory than any guest has: the watch goes on.
const NEVER_KIB: u64 = u64::MAX;
/// What /init says when it has begun.
const INIT_LINE: &str = "init: /init began at ";

/// The rows about an idle guest.
///
/// # Errors
/// When a system does not boot.
pub fn rows(paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<Vec<Row>> {
    let setting = counted::setting(paths, cargo, mirror, "bench")?;
    let mut rows = progress::step("leave a Linux guest with its heartbeat alone", || {
        let mut rig = Rig::boot(&setting, &paths.logs().join("bench-idle.log"))?;
        rig.wait_agent(GUEST)?;
        measure(&mut rig, "idle_guest_10s")
    })?;
    let mut quiet = counted::setting(paths, cargo, mirror, "idle")?;
    // As the peers were measured.
    quiet.machine.cpu = Cpu::CortexA57;
    rows.extend(progress::step("leave a Linux guest alone", || {
        let mut rig = boot_quiet(&quiet, paths)?;
        measure(&mut rig, "idle_guest_quiet_10s")
    })?);
    Ok(rows)
}

/// Boots a guest without an agent, up to its shell.
fn boot_quiet(setting: &Setting, paths: &Paths) -> Result<Rig> {
    let mut rig = Rig::boot(setting, &paths.logs().join("bench-idle-quiet.log"))?;
    let until = Instant::now() + LIMIT;
    while !rig.console(GUEST)?.contains(INIT_LINE) {
        ensure!(Instant::now() < until, "Linux does not reach /init");
        rig.board.pump(Duration::from_millis(500));
    }
    Ok(rig)
}

/// Leaves the guest alone and counts.
fn measure(rig: &mut Rig, name: &str) -> Result<Vec<Row>> {
    let calm_ms = rig.look()?.t_ms + CALM_MS;
    while rig.look()?.t_ms < calm_ms {
        rig.board.pump(Duration::from_secs(1));
    }
    let guest = rig.id(GUEST)?;
    rig.board.command(HostBody::Watch(Watch {
        guest,
        total_kib: NEVER_KIB,
        counters: Counters::Exported,
    }))?;
    let (span_us, used) = watched(rig)?;
    let share = SPAN_US as f64 / span_us as f64;
    let row = |part: &str, value: f64| {
        Row::new(
            &format!("{name}{part}"),
            (value * share).round(),
            "instructions",
        )
    };
    Ok(vec![
        row("", counted::all(used)),
        row("_ours", counted::ours(used)),
        row("_kernel", f64::from(used.el2)),
    ])
}

/// What was counted, and in how many microseconds.
fn watched(rig: &mut Rig) -> Result<(u64, Instructions)> {
    let until = Instant::now() + LIMIT;
    loop {
        // Nobody asks the board anything meanwhile.
        rig.board.pump(Duration::from_micros(SPAN_US));
        match rig.board.request(HostBody::Watched)? {
            Answer::Watched(Some(Watched { from, now, .. })) if now.us - from.us >= SPAN_US => {
                return Ok((now.us - from.us, now.instructions.since(from.instructions)));
            }
            Answer::Watched(Some(_)) => {}
            other => bail!("the board answered {other:?}"),
        }
        ensure!(Instant::now() < until, "time does not pass on the board");
    }
}
