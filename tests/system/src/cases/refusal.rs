//! Guests that do not give back: marked, or relieved of their surplus by force.

use super::{AT_BOOT, MIB, STARTUP_MIB, all_answer, assigned_mib, case, fill, keep};
use crate::{Case, Missed, Rig};
use anyhow::{Result, bail, ensure};
use operator::agent::field;
use operator::snapshot::Snapshot;
use protocol::balancer::{Change, OnRefusal, Status};
use protocol::management::HostBody;
use protocol::supervisor::{EndReason, GuestState};

/// The cases.
pub const CASES: &[Case] = &[
    case("a-refuser-is-marked-and-others-serve", a_refuser_is_marked),
    case(
        "force-takes-what-was-reported-free-first",
        force_takes_reported_first,
    ),
    case(
        "force-takes-the-stranded-and-the-untouched-next",
        force_takes_stranded_and_untouched,
    ),
    case("force-takes-the-rest", force_takes_the_rest),
    case(
        "memory-vanishes-under-a-virtio-buffer",
        memory_vanishes_under_a_buffer,
    ),
];

/// Every guest's minimum but the fourth's.
const MINIMUM_MIB: u64 = 8;
/// What the fourth guest starts with.
const FOURTH_MIB: u64 = 48;

fn status(snapshot: &Snapshot, name: &str) -> Option<Status> {
    Some(snapshot.guest(name)?.row?.status)
}

/// The fourth guest has its startup memory, all of it clean, and keeps what it writes.
fn the_fourth_is_served(rig: &mut Rig) -> Result<()> {
    rig.wait_agent("dan")?;
    fill(rig, &["dan"], FOURTH_MIB - 4)?;
    keep(rig, &["dan"], FOURTH_MIB - 4)
}

/// `on_refusal = "mark"`, the default: the refuser keeps what it has and is named; the others give.
fn a_refuser_is_marked(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    fill(rig, &AT_BOOT, 4)?;
    rig.ask("ada", "refuse")?;
    rig.command("dan", HostBody::Start)?;
    rig.wait_for("ada to be marked", |snapshot| {
        status(snapshot, "ada") == Some(Status::Unresponsive)
    })?;
    the_fourth_is_served(rig)?;
    let snapshot = rig.look()?;
    ensure!(
        assigned_mib(&snapshot, "ada") == STARTUP_MIB,
        "something was taken from ada: {snapshot:?}"
    );
    for name in ["ben", "cyd"] {
        let assigned = assigned_mib(&snapshot, name);
        ensure!(
            (MINIMUM_MIB..STARTUP_MIB).contains(&assigned),
            "{name} has {assigned} MiB"
        );
        ensure!(
            status(&snapshot, name) != Some(Status::Unresponsive),
            "{name}: {snapshot:?}"
        );
    }
    keep(rig, &AT_BOOT, 4)?;
    // It was told what is wanted, and told again when half of its time was over.
    let answer = rig.ask("ada", "asked")?;
    ensure!(
        field(&answer, "asked").is_some_and(|asked| asked >= 2),
        "{answer}"
    );
    // One that gives back after all is as good as the others.
    rig.ask("ada", "accept")?;
    rig.wait_for("ada to be forgiven", |snapshot| {
        assigned_mib(snapshot, "ada") < STARTUP_MIB
            && status(snapshot, "ada") != Some(Status::Unresponsive)
    })?;
    keep(rig, &AT_BOOT, 4)
}

/// Two guests need all that they have; the third one refuses, and its surplus is revoked.
fn only_ada_has_something(rig: &mut Rig, ada: &[&str]) -> Result<()> {
    all_answer(rig)?;
    fill(rig, &["ben", "cyd"], 26)?;
    rig.set("ada", Change::OnRefusal(OnRefusal::Revoke))?;
    for command in ada {
        rig.ask("ada", command)?;
    }
    Ok(())
}

/// What the guest reported free is taken first: it does not notice, and has it again when there is room.
fn force_takes_reported_first(rig: &mut Rig) -> Result<()> {
    let touch = format!("touch {}", 4 * MIB);
    only_ada_has_something(rig, &[&touch, "report", "refuse"])?;
    rig.command("dan", HostBody::Start)?;
    the_fourth_is_served(rig)?;
    keep(rig, &["ada"], 4)?;
    keep(rig, &["ben", "cyd"], 26)?;
    let snapshot = rig.look()?;
    let row = snapshot.guest("ada").and_then(|ada| ada.row);
    ensure!(
        row.is_some_and(|row| row.assigned.plus(row.reported).mib() >= MINIMUM_MIB),
        "ada is below its minimum: {row:?}"
    );
    // All that it sees is its own again once there is room.
    rig.command("dan", HostBody::Stop)?;
    rig.wait_state("dan", GuestState::Stopped)?;
    fill(rig, &["ada"], 28)?;
    keep(rig, &["ada"], 28)?;
    keep(rig, &["ben", "cyd"], 26)
}

/// Without anything reported free: pieces that are stranded go, then those that the guest never touched. It lives on with
/// all that it uses, which is both older and newer than those, and has the untouched ones again when there is room.
fn force_takes_stranded_and_untouched(rig: &mut Rig) -> Result<()> {
    let touch = format!("touch {}", 6 * MIB);
    only_ada_has_something(rig, &["refuse", "strand", "strand", &touch])?;
    rig.command("dan", HostBody::Start)?;
    the_fourth_is_served(rig)?;
    keep(rig, &["ada"], 6)?;
    keep(rig, &["ben", "cyd"], 26)?;
    rig.command("dan", HostBody::Stop)?;
    rig.wait_state("dan", GuestState::Stopped)?;
    fill(rig, &["ada"], 24)?;
    keep(rig, &["ada"], 24)?;
    keep(rig, &["ben", "cyd"], 26)
}

/// A guest that says that it needs nothing, uses everything, and refuses: what it uses is taken. It gets an external
/// abort at the first access, or is stopped if it does not heed that.
fn force_takes_the_rest(rig: &mut Rig) -> Result<()> {
    let touch = format!("touch {}", 30 * MIB);
    only_ada_has_something(rig, &["lie", &touch, "refuse"])?;
    rig.command("dan", HostBody::Start)?;
    the_fourth_is_served(rig)?;
    keep(rig, &["ben", "cyd"], 26)?;
    let snapshot = rig.look()?;
    let assigned = assigned_mib(&snapshot, "ada");
    ensure!(
        (MINIMUM_MIB..STARTUP_MIB).contains(&assigned),
        "ada has {assigned} MiB"
    );
    // It still runs; it has not looked yet.
    rig.ask("ada", "hello")?;
    rig.ask("ada", "stubborn")?;
    rig.try_ask("ada", "verify", std::time::Duration::from_secs(3))?;
    rig.wait_state("ada", GuestState::Stopped)?;
    let ada = rig.guest("ada")?;
    ensure!(ada.last_end == Some(EndReason::Revoked), "{ada:?}");
    rig.wait_said("guest \"ada\" ended: Revoked no memory at 0x")?;
    keep(rig, &["ben", "cyd"], 26)?;
    keep(rig, &["dan"], FOURTH_MIB - 4)
}

/// The guest keeps its VMM copying from a virtio buffer until the memory of the buffer is revoked. The VMM learns of it in the middle of
/// a copy or, by chance, between two of them.
fn memory_vanishes_under_a_buffer(rig: &mut Rig) -> Result<()> {
    // All but the highest piece were in use, so that it is the first to go: what was granted last.
    let (most, little) = (28 * MIB, 4 * MIB);
    let most = format!("touch {most}");
    let little = format!("touch {little}");
    only_ada_has_something(rig, &[&most, "free", &little, "refuse"])?;
    rig.command("dan", HostBody::Start)?;
    let answer = rig.ask("ada", "flood 1000000")?;
    // The copy, or the next look, ended where the memory did: the device failed, and worked again after a reset.
    ensure!(
        field(&answer, "status") == Some(79) && field(&answer, "healed") == Some(15),
        "{answer}"
    );
    the_fourth_is_served(rig)?;
    keep(rig, &["ada"], 4)?;
    keep(rig, &["ben", "cyd"], 26)?;
    // The next copies of the same VMM work, through the device that had failed too.
    rig.ask("ada", "foreign-balloon")?;
    rig.ask("ada", "accept")?;
    keep(rig, &["ada"], 4)?;
    let cut = |line: &String| line.contains("was taken under a copy");
    if !rig.said().iter().any(cut) {
        bail!(Missed("nothing was taken under a copy"));
    }
    Ok(())
}
