//! Microsoft's acceptance cases for Linux guests with Dynamic Memory, by the names that they have in its Linux test suite (LISA):
//! `hot_add`, `hot_add upper limit`, `balloon_up` (the host takes), `balloon_up lower limit`, `balloon_down` (the host gives back),
//! each for a guest that uses small pages and for one that uses huge pages. One boot of `systems/tests/lisa.toml` for all.
//!
//! All times are the board's.

use crate::Rig;
use anyhow::{Context as _, Result, bail, ensure};
use operator::agent::field;
use operator::snapshot::Snapshot;
use protocol::balancer::{Flag, Row};

/// The guests that are tested, and whether programs in them use huge pages.
const TESTED: [(&str, Pages); 2] = [("small", Pages::Small), ("huge", Pages::Huge)];
/// The guest for which they give.
const OTHER: &str = "other";
/// What a workload takes to change its size, in milliseconds: where memory comes from the pool, and where another guest has to give
/// it up first. (How fast a guest may grow is another test's matter.)
const RAMP_MS: u64 = 4000;
const SLOW_RAMP_MS: u64 = 12_000;
/// How long anything may take, in milliseconds.
const PATIENCE_MS: u64 = 60_000;
/// How long a limit is watched, in milliseconds.
const WATCHED_MS: u64 = 5000;
/// A target is pursued up to its last piece or two.
const GRAIN_MIB: u64 = 6;
/// What the huge guest has set aside by its command line.
const HUGETLB_KIB: u64 = 8 * 2048;
/// What a workload beside the idle guest (some 60 MiB) needs so that with its buffer it wants more than it started with and less
/// than its maximum; more than its maximum; and, with the buffer, as much as the other two can give when they are at their
/// minimum, and fits in without it.
const GROWS_MIB: u64 = 160;
const BEYOND_MIB: u64 = 260;
const TAKES_MIB: u64 = 390;

/// What pages a guest's programs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    Small,
    Huge,
}

/// What a case does with a guest.
type Case = fn(&mut Rig, &str, Pages) -> Result<()>;
/// A case's name, and how it came out.
pub type Outcome = (String, Result<()>);

/// Runs all cases; `done` hears of each.
///
/// # Errors
/// When the system does not come up.
pub fn run(rig: &mut Rig, mut done: impl FnMut(&Outcome)) -> Result<()> {
    for (name, _) in TESTED {
        rig.wait_agent(name)?;
    }
    rig.wait_agent(OTHER)?;
    const CASES: [(&str, Case); 5] = [
        ("hot_add", hot_add),
        ("hot_add upper limit", hot_add_upper_limit),
        ("balloon_up", balloon_up),
        ("balloon_up lower limit", balloon_up_lower_limit),
        ("balloon_down", balloon_down),
    ];
    for (guest, pages) in TESTED {
        for (case, test) in CASES {
            let with = match pages {
                Pages::Small => "",
                Pages::Huge => " with huge pages",
            };
            let result = test(rig, guest, pages).and_then(|()| alive(rig));
            done(&(format!("{case}{with}"), result));
        }
    }
    rig.finish()
}

/// An agent's answer. One whose kernel has killed a process gives none.
fn ask(rig: &mut Rig, name: &str, command: &str) -> Result<String> {
    let commands = [(name.to_owned(), command.to_owned())];
    match rig.ask_all(&commands, |_| ())?.into_iter().next() {
        Some(Ok(text)) => Ok(text),
        other => bail!("{name} answers `{command}` with: {other:?}"),
    }
}

/// Nobody was killed and nobody started again.
fn alive(rig: &mut Rig) -> Result<()> {
    for guest in rig.look()?.guests {
        let name = &guest.name;
        ensure!(
            guest.starts == 1,
            "{name} was started {} times",
            guest.starts
        );
        let said = ask(rig, name, "oom")?;
        ensure!(
            field(&said, "oom_kills") == Some(0),
            "{name} answers {said:?}"
        );
        let said = ask(rig, name, "verify")?;
        ensure!(
            field(&said, "verified").is_some(),
            "{name} answers {said:?}"
        );
    }
    Ok(())
}

fn row(snapshot: &Snapshot, name: &str) -> Result<Row> {
    snapshot
        .guest(name)
        .and_then(|guest| guest.row)
        .with_context(|| format!("{name} has no row"))
}

/// Looks until something holds of a guest's row.
fn until(rig: &mut Rig, name: &str, what: &str, holds: impl Fn(&Row) -> bool) -> Result<Row> {
    let begin_ms = rig.look()?.t_ms;
    loop {
        let snapshot = rig.look()?;
        let row = row(&snapshot, name)?;
        if holds(&row) {
            return Ok(row);
        }
        if snapshot.t_ms >= begin_ms + PATIENCE_MS {
            bail!("{name}: waited in vain for {what}: {row:?}");
        }
        rig.board.pump(crate::rig::EVERY);
    }
}

/// Something holds of a guest's row for a while.
fn throughout(rig: &mut Rig, name: &str, what: &str, holds: impl Fn(&Row) -> bool) -> Result<()> {
    let begin_ms = rig.look()?.t_ms;
    loop {
        let snapshot = rig.look()?;
        let row = row(&snapshot, name)?;
        ensure!(holds(&row), "{name}: not {what}: {row:?}");
        if snapshot.t_ms >= begin_ms + WATCHED_MS {
            return Ok(());
        }
        rig.board.pump(crate::rig::EVERY);
    }
}

fn touch(rig: &mut Rig, name: &str, mib: u64, ramp_ms: u64) -> Result<()> {
    let said = ask(rig, name, &format!("touch {} {ramp_ms}", mib << 20))?;
    ensure!(
        field(&said, "touched") == Some(mib << 20),
        "{name} answers {said:?}"
    );
    Ok(())
}

/// A figure of `meminfo` of the guest's own kernel, in KiB.
fn inside(rig: &mut Rig, name: &str, figure: &str) -> Result<u64> {
    let said = ask(rig, name, "meminfo")?;
    field(&said, figure).with_context(|| format!("{name} answers {said:?}"))
}

/// The workload's memory lies in the pages that the case is about.
fn has_its_pages(rig: &mut Rig, name: &str, pages: Pages, mib: u64) -> Result<()> {
    let huge_kib = inside(rig, name, "huge_kib")?;
    let hugetlb_kib = inside(rig, name, "hugetlb_kib")?;
    match pages {
        Pages::Small => ensure!(
            huge_kib == 0 && hugetlb_kib == 0,
            "{name} has {huge_kib} KiB in huge pages"
        ),
        // Linux gives small ones where no huge one is free.
        Pages::Huge => ensure!(
            huge_kib * 2 >= mib << 10 && hugetlb_kib == HUGETLB_KIB,
            "{name} has {huge_kib} of {mib} MiB in huge pages, {hugetlb_kib} KiB set aside"
        ),
    }
    Ok(())
}

/// Memory that the guest never had is added while it runs, and its kernel has it.
fn hot_add(rig: &mut Rig, name: &str, pages: Pages) -> Result<()> {
    let before_kib = inside(rig, name, "total_kib")?;
    touch(rig, name, GROWS_MIB, RAMP_MS)?;
    let grown = until(rig, name, "more than it started with", |row| {
        let startup = row.settings.bounds.startup;
        row.assigned > startup && row.target.mib() <= row.assigned.mib() + GRAIN_MIB
    })?;
    has_its_pages(rig, name, pages, GROWS_MIB)?;
    let after_kib = inside(rig, name, "total_kib")?;
    let added_mib = grown.settings.bounds.startup;
    let added_mib = u64::from(grown.visible_mib).saturating_sub(added_mib.mib());
    ensure!(
        added_mib > 0 && after_kib >= before_kib + (added_mib << 10) - (GRAIN_MIB << 10),
        "MemTotal went from {before_kib} to {after_kib} KiB with {added_mib} MiB added"
    );
    Ok(())
}

/// A guest that needs more than its maximum gets its maximum, and not a page more.
fn hot_add_upper_limit(rig: &mut Rig, name: &str, pages: Pages) -> Result<()> {
    touch(rig, name, BEYOND_MIB, RAMP_MS)?;
    until(rig, name, "its maximum", |row| {
        row.assigned == row.settings.bounds.maximum && row.flag == Flag::AtMaximum
    })?;
    throughout(rig, name, "its maximum at most", |row| {
        let maximum = row.settings.bounds.maximum;
        row.assigned <= maximum
            && row.target <= maximum
            && u64::from(row.visible_mib) <= maximum.mib()
    })?;
    has_its_pages(rig, name, pages, BEYOND_MIB)?;
    ask(rig, name, "free")?;
    Ok(())
}

/// Memory that was there at the start is taken by the balloon when another guest needs it.
fn balloon_up(rig: &mut Rig, name: &str, pages: Pages) -> Result<()> {
    // It holds something that must survive.
    touch(rig, name, 8, 0)?;
    has_its_pages(rig, name, pages, 0)?;
    touch(rig, OTHER, TAKES_MIB, SLOW_RAMP_MS)?;
    let row = until(rig, name, "less than it started with", |row| {
        row.assigned < row.settings.bounds.startup
            && row.ballooned_mib > 0
            && row.assigned.mib() <= row.target.mib() + GRAIN_MIB
    })?;
    let inside_mib = inside(rig, name, "balloon_kib")? >> 10;
    ensure!(
        inside_mib + GRAIN_MIB >= u64::from(row.ballooned_mib),
        "{} MiB in the balloon by the VMM, {inside_mib} by the guest",
        row.ballooned_mib
    );
    Ok(())
}

/// However much another guest wants, the minimum stays.
fn balloon_up_lower_limit(rig: &mut Rig, name: &str, _: Pages) -> Result<()> {
    until(rig, name, "its minimum", |row| {
        row.visible_mib <= row.settings.bounds.minimum.mib() as u32 + GRAIN_MIB as u32
    })?;
    throughout(rig, name, "its minimum at least", |row| {
        let minimum = row.settings.bounds.minimum;
        row.target >= minimum && u64::from(row.visible_mib) >= minimum.mib()
    })?;
    let row = row(&rig.look()?, OTHER)?;
    ensure!(
        row.assigned.mib() >= TAKES_MIB,
        "{OTHER} has not got what it needs: {row:?}"
    );
    Ok(())
}

/// What the balloon took comes back when the guest needs it.
fn balloon_down(rig: &mut Rig, name: &str, pages: Pages) -> Result<()> {
    ask(rig, OTHER, "free")?;
    touch(rig, name, GROWS_MIB, SLOW_RAMP_MS)?;
    until(rig, name, "an empty balloon", |row| {
        row.ballooned_mib == 0
            && row.assigned >= row.settings.bounds.startup
            && u64::from(row.visible_mib) >= row.settings.bounds.startup.mib()
    })?;
    ensure!(
        inside(rig, name, "balloon_kib")? == 0,
        "its kernel still counts some"
    );
    has_its_pages(rig, name, pages, GROWS_MIB)?;
    ask(rig, name, "free")?;
    Ok(())
}
