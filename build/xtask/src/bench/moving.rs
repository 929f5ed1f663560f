//! 256 MiB from one running Linux guest to another: what it costs, with everything and without the guests' kernels.
//!
//! Both guests are asked for memory by their buffer: 95 % of it kept free makes a guest's target its maximum. The
//! instructions are those that the PMU counts (INST_RETIRED by exception level), so time in which nothing runs is not in
//! them. A measurement ends when the guest's own kernel reports the memory as its own.
//!
//! `grant_2mib` is a piece's share of growing from a clean pool, the plug request included; `take_back_2mib` is what is left of
//! a moved piece without its grant and its cleaning.

use super::{LIMIT, counted, rows::Row};
use crate::cargo::Cargo;
use crate::paths::Paths;
use crate::progress;
use anyhow::{Context, Result, bail, ensure};
use protocol::balancer::Change;
use protocol::management::{Answer, HostBody};
use protocol::watch::{Counters, Instructions, Watch, Watched};
use std::time::{Duration, Instant};
use system_tests::Rig;

/// What is moved.
const MOVED_MIB: u64 = 256;
/// The same in 4 KiB pages, which the peers' figures are for.
const MOVED_PAGES: f64 = (MOVED_MIB * 256) as f64;
/// The same in 2 MiB pieces.
const MOVED_PIECES: f64 = (MOVED_MIB / 2) as f64;
/// What the giver's workload writes before, so that what moves has been used.
const TOUCHED_MIB: u64 = 256;
/// After this much time a past demand counts for nothing any more: the balancer looks back 16 s at most.
const FORGOTTEN_MS: u64 = 17_000;
/// A buffer with which a guest wants all it may have, and one with which it wants next to nothing beside what it uses.
const GREEDY_PERCENT: u8 = 95;
const MODEST_PERCENT: u8 = 5;

/// The rows about a move. `clean_2mib` is what cleaning a piece costs, by the kernel's own row.
///
/// # Errors
/// When the system does not boot, or the memory does not move.
pub fn rows(
    paths: &Paths,
    cargo: &Cargo,
    mirror: Option<&str>,
    clean_2mib: f64,
) -> Result<Vec<Row>> {
    let setting = counted::setting(paths, cargo, mirror, "move")?;
    progress::step("move memory between two Linux guests", || {
        let mut rig = Rig::boot(&setting, &paths.logs().join("bench-move.log"))?;
        for name in ["giver", "taker"] {
            rig.wait_agent(name)?;
        }
        // Growing takes pieces that are clean already; cleaning is a row of its own.
        rig.settle()?;
        let grown = watch(&mut rig, "giver", |rig| {
            set_buffer(rig, "giver", GREEDY_PERCENT)
        })
        .context("growing from the pool")?;
        rig.ask("giver", &format!("touch {}", TOUCHED_MIB << 20))?;
        // What it frees it keeps as its buffer, so nothing has moved before the decision; and by then the balancer has
        // forgotten that it was needed.
        rig.ask("giver", "free")?;
        let freed_ms = rig.look()?.t_ms;
        while rig.look()?.t_ms < freed_ms + FORGOTTEN_MS {
            rig.board.pump(Duration::from_millis(500));
        }
        let moved = watch(&mut rig, "taker", |rig| {
            set_buffer(rig, "taker", GREEDY_PERCENT)?;
            set_buffer(rig, "giver", MODEST_PERCENT)
        })
        .context("moving")?;
        rig.look()?;
        let ours = counted::ours(moved) / MOVED_PAGES;
        let grant = counted::ours(grown) / MOVED_PIECES;
        let row = |name, value: f64| Row::new(name, value.round(), "instructions");
        Ok(vec![
            row("move_256mib_per_page", counted::all(moved) / MOVED_PAGES),
            row("move_256mib_per_page_ours", ours),
            row("grant_2mib", grant),
            row("take_back_2mib", ours * 512.0 - grant - clean_2mib),
        ])
    })
}

fn set_buffer(rig: &mut Rig, name: &str, percent: u8) -> Result<()> {
    let guest = rig.id(name)?;
    let change = Change::Buffer(percent);
    Ok(rig.board.command(HostBody::Set { guest, change })?)
}

/// The instructions from a decision until the guest's kernel has [`MOVED_MIB`] more than it has now.
fn watch(
    rig: &mut Rig,
    name: &str,
    decide: impl FnOnce(&mut Rig) -> Result<()>,
) -> Result<Instructions> {
    let guest = rig.id(name)?;
    let said = rig.ask(name, "meminfo")?;
    let total_kib = operator::agent::field(&said, "total_kib")
        .with_context(|| format!("{name} said {said:?}"))?;
    rig.board.command(HostBody::Watch(Watch {
        guest,
        total_kib: total_kib + (MOVED_MIB << 10),
        counters: Counters::Exported,
    }))?;
    decide(rig)?;
    let until = Instant::now() + LIMIT;
    loop {
        match rig.board.request(HostBody::Watched)? {
            Answer::Watched(Some(Watched {
                from,
                until: Some(until),
                ..
            })) => return Ok(until.instructions.since(from.instructions)),
            Answer::Watched(Some(_)) => {}
            other => bail!("the board answered {other:?}"),
        }
        ensure!(
            Instant::now() < until,
            "{name} does not get {MOVED_MIB} MiB more than {total_kib} KiB: {:?}",
            rig.look()?
        );
        rig.board.pump(Duration::from_millis(500));
    }
}
