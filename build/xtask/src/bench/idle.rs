//! What a guest costs that does nothing: Debian with the workload's heartbeat (a thread that wakes every 10 ms), and the host
//! below it, for 10 seconds.
//!
//! Xen's figure beside it is without a heartbeat.

use super::{LIMIT, counted, rows::Row};
use crate::cargo::Cargo;
use crate::paths::Paths;
use crate::progress;
use anyhow::{Result, bail, ensure};
use protocol::management::{Answer, HostBody};
use protocol::watch::{Counters, Watch, Watched};
use std::time::{Duration, Instant};
use system_tests::Rig;

/// The guest's name in `bench.toml`.
const GUEST: &str = "linux";
/// What the figures are for.
const SPAN_US: u64 = 10_000_000;
/// How long the guest is left alone before.
const CALM_MS: u64 = 10_000;
/// More memory than any guest has: the watch goes on.
const NEVER_KIB: u64 = u64::MAX;

/// The rows about an idle guest.
///
/// # Errors
/// When the system does not boot.
pub fn rows(paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<Vec<Row>> {
    let setting = counted::setting(paths, cargo, mirror, "bench")?;
    progress::step("leave a Linux guest alone for ten seconds", || {
        let mut rig = Rig::boot(&setting, &paths.logs().join("bench-idle.log"))?;
        rig.wait_agent(GUEST)?;
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
        let until = Instant::now() + LIMIT;
        let (from, now) = loop {
            // Nobody asks the board anything meanwhile.
            rig.board.pump(Duration::from_micros(SPAN_US));
            match rig.board.request(HostBody::Watched)? {
                Answer::Watched(Some(Watched { from, now, .. })) if now.us - from.us >= SPAN_US => {
                    break (from, now);
                }
                Answer::Watched(Some(_)) => {}
                other => bail!("the board answered {other:?}"),
            }
            ensure!(Instant::now() < until, "time does not pass on the board");
        };
        let used = now.instructions.since(from.instructions);
        let share = SPAN_US as f64 / (now.us - from.us) as f64;
        let row = |name, value: f64| Row::new(name, (value * share).round(), "instructions");
        Ok(vec![
            row("idle_guest_10s", counted::all(used)),
            row("idle_guest_10s_ours", counted::ours(used)),
            row("idle_guest_10s_kernel", f64::from(used.el2)),
        ])
    })
}
