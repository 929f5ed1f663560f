//! The cases: here what guests that behave may expect, in [`hostile`] what the others get, in [`refusal`] those that do
//! not give back, in [`truths`] what is true of a guest whatever it says, and in [`planted`] that the look from outside would notice.

mod hostile;
mod interference;
mod linux;
mod planted;
mod refusal;
mod truths;

use crate::{Case, Rig, System};
use anyhow::{Result, ensure};
use operator::agent::field;
use operator::snapshot::Snapshot;
use protocol::management::HostBody;
use protocol::supervisor::{EndReason, GuestState};
use qemu_machine::Count;
use std::time::Duration;

/// All of them.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        ORDINARY,
        hostile::CASES,
        interference::CASES,
        refusal::CASES,
        truths::CASES,
        linux::CASES,
        planted::CASES,
    ]
    .concat()
}

/// A case of this name.
const fn case(name: &'static str, run: fn(&mut Rig) -> Result<()>) -> Case {
    Case {
        name,
        run,
        count: Count::Wall,
        system: System::Unikernels,
    }
}

/// What guests that behave may expect.
const ORDINARY: &[Case] = &[
    case("guests-start-and-answer", guests_start_and_answer),
    case("stopping-returns-everything", stopping_returns_everything),
    case("a-next-owner-reads-zeros", a_next_owner_reads_zeros),
    case("power-off-and-reset", power_off_and_reset),
    case("pause-and-resume", pause_and_resume),
    case(
        "a-start-without-room-is-served-by-others",
        a_start_without_room_is_served_by_others,
    ),
];

/// The guests that start at boot.
const AT_BOOT: [&str; 3] = ["ada", "ben", "cyd"];
/// Their startup memory, in MiB.
const STARTUP_MIB: u64 = 32;
const MIB: u64 = 1 << 20;

fn all_answer(rig: &mut Rig) -> Result<()> {
    for name in AT_BOOT {
        rig.wait_agent(name)?;
    }
    Ok(())
}

fn others_answer(rig: &mut Rig, but: &str) -> Result<()> {
    for name in AT_BOOT.into_iter().filter(|name| *name != but) {
        rig.ask(name, "hello")?;
    }
    Ok(())
}

/// Fills this much of guests' memory, to be read back by [`keep`].
fn fill(rig: &mut Rig, names: &[&str], mib: u64) -> Result<()> {
    for name in names {
        rig.ask(name, &format!("touch {}", mib * MIB))?;
    }
    Ok(())
}

/// These guests still have every byte that [`fill`] wrote, and were never started again.
fn keep(rig: &mut Rig, names: &[&str], mib: u64) -> Result<()> {
    for name in names {
        let answer = rig.ask(name, "verify")?;
        let verified = field(&answer, "verified");
        ensure!(verified == Some(mib * MIB), "{name}: {answer}");
        let guest = rig.guest(name)?;
        ensure!(
            guest.starts == 1 && guest.state == GuestState::Running,
            "{guest:?}"
        );
    }
    Ok(())
}

fn assigned_mib(snapshot: &Snapshot, name: &str) -> u64 {
    snapshot
        .guest(name)
        .and_then(|guest| guest.row)
        .map_or(0, |row| row.assigned.mib())
}

fn guests_start_and_answer(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    // Ben's VMM does all as on seL4; both ways are played on this machine, in every case.
    for (guest, how) in [("ada", "by answers"), ("ben", "in its registers")] {
        let number = rig.id(guest)?.0;
        rig.wait_said(&format!(
            "guest {number}: its instructions are finished {how}"
        ))?;
    }
    let snapshot = rig.look()?;
    for name in AT_BOOT {
        let assigned = assigned_mib(&snapshot, name);
        ensure!(assigned == STARTUP_MIB, "{name} has {assigned} MiB");
    }
    ensure!(
        snapshot.counted.granted.mib() == 3 * STARTUP_MIB,
        "granted: {:?}",
        snapshot.counted
    );
    let service = rig.guest("dan")?;
    ensure!(
        service.state == GuestState::Stopped && service.starts == 0,
        "{service:?}"
    );
    Ok(())
}

fn stopping_returns_everything(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    rig.ask("ada", &format!("touch {}", 16 * MIB))?;
    rig.command("ada", HostBody::Stop)?;
    rig.wait_state("ada", GuestState::Stopped)?;
    let snapshot = rig.settle()?;
    ensure!(
        snapshot.counted.granted.mib() <= 2 * STARTUP_MIB,
        "granted after the stop: {:?}",
        snapshot.counted
    );
    ensure!(
        rig.guest("ada")?.last_end == Some(EndReason::Stopped),
        "{:?}",
        rig.guest("ada")?
    );
    others_answer(rig, "ada")
}

/// A guest's `touch` is refused when memory that was never used there does not read as zero, and `verify` finds every
/// foreign byte.
fn a_next_owner_reads_zeros(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    for round in 0..3 {
        for name in AT_BOOT {
            rig.ask(name, &format!("touch {}", 24 * MIB))?;
        }
        for name in AT_BOOT {
            let answer = rig.ask(name, "verify")?;
            let verified = field(&answer, "verified");
            ensure!(
                verified == Some(24 * MIB),
                "round {round}: {name}: {answer}"
            );
        }
        rig.command("ben", HostBody::Stop)?;
        rig.wait_state("ben", GuestState::Stopped)?;
        rig.command("ben", HostBody::Start)?;
        rig.wait_agent("ben")?;
    }
    ensure!(rig.guest("ben")?.starts == 4, "{:?}", rig.guest("ben")?);
    Ok(())
}

fn power_off_and_reset(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    rig.try_ask("ada", "exit", Duration::from_secs(1))?;
    rig.wait_state("ada", GuestState::Stopped)?;
    let ada = rig.guest("ada")?;
    ensure!(ada.last_end == Some(EndReason::PoweredOff), "{ada:?}");

    rig.try_ask("ben", "reset", Duration::from_secs(1))?;
    rig.wait_for("ben to be started again", |snapshot| {
        snapshot
            .guest("ben")
            .is_some_and(|ben| ben.starts == 2 && ben.state == GuestState::Running)
    })?;
    rig.wait_agent("ben")?;
    let ben = rig.guest("ben")?;
    ensure!(ben.last_end == Some(EndReason::Reset), "{ben:?}");
    others_answer(rig, "ada")
}

fn pause_and_resume(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    rig.command("cyd", HostBody::Pause)?;
    rig.wait_state("cyd", GuestState::Paused)?;
    let answer = rig.try_ask("cyd", "hello", Duration::from_secs(2))?;
    ensure!(answer.is_none(), "a paused guest answered: {answer:?}");
    others_answer(rig, "cyd")?;
    rig.command("cyd", HostBody::Resume)?;
    rig.wait_agent("cyd")
}

/// The pool is too small for the fourth guest until the others' idle memory has come back.
fn a_start_without_room_is_served_by_others(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    let before = rig.look()?;
    ensure!(
        before.counted.pool.mib() + before.counted.cleaning.mib() < 48,
        "there is room already: {:?}",
        before.counted
    );
    rig.command("dan", HostBody::Start)?;
    rig.wait_agent("dan")?;
    // The balancer's row follows its next look at the memory server.
    let after = rig.wait_for("dan's startup memory to show", |snapshot| {
        assigned_mib(snapshot, "dan") >= 48
    })?;
    for name in AT_BOOT {
        ensure!(
            assigned_mib(&after, name) >= 8,
            "{name} is below its minimum: {after:?}"
        );
    }
    others_answer(rig, "")
}
