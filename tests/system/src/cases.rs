//! The cases.

use crate::{Case, Rig};
use anyhow::{Result, ensure};
use operator::agent::field;
use operator::snapshot::Snapshot;
use protocol::management::HostBody;
use protocol::supervisor::{EndReason, GuestState};
use std::time::Duration;

/// All of them.
pub const ALL: [Case; 11] = [
    Case {
        name: "guests-start-and-answer",
        run: guests_start_and_answer,
    },
    Case {
        name: "stopping-returns-everything",
        run: stopping_returns_everything,
    },
    Case {
        name: "a-next-owner-reads-zeros",
        run: a_next_owner_reads_zeros,
    },
    Case {
        name: "power-off-and-reset",
        run: power_off_and_reset,
    },
    Case {
        name: "pause-and-resume",
        run: pause_and_resume,
    },
    Case {
        name: "a-start-without-room-is-served-by-others",
        run: a_start_without_room_is_served_by_others,
    },
    Case {
        name: "garbage-in-a-ring",
        run: garbage_in_a_ring,
    },
    Case {
        name: "foreign-pages-in-the-balloon",
        run: foreign_pages_in_the_balloon,
    },
    Case {
        name: "touching-what-was-given-back",
        run: touching_what_was_given_back,
    },
    Case {
        name: "a-crash-ends-one-guest",
        run: a_crash_ends_one_guest,
    },
    Case {
        name: "everybody-spins",
        run: everybody_spins,
    },
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

fn assigned_mib(snapshot: &Snapshot, name: &str) -> u64 {
    snapshot
        .guest(name)
        .and_then(|guest| guest.row)
        .map_or(0, |row| row.assigned.mib())
}

fn guests_start_and_answer(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
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
        snapshot.counted.granted.mib() == 2 * STARTUP_MIB,
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

/// A guest's `touch` fills memory that must read as zero before, and `verify` finds every foreign byte.
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

/// What a guest that misbehaves may have become: it goes on, or it was ended; nobody else noticed.
fn copes(rig: &mut Rig, who: &str, command: &str) -> Result<()> {
    all_answer(rig)?;
    // Whether it answers is its own affair.
    let _ = rig.try_ask(who, command, Duration::from_secs(3));
    others_answer(rig, who)?;
    let snapshot = rig.settle()?;
    if let Some(guest) = snapshot.guest(who)
        && guest.state == GuestState::Stopped
    {
        ensure!(
            guest.last_end == Some(EndReason::Misbehaved),
            "it ended as {:?}",
            guest.last_end
        );
        ensure!(
            snapshot.counted.granted.mib() <= 2 * STARTUP_MIB,
            "its memory is not back: {:?}",
            snapshot.counted
        );
        ensure!(!rig.said().is_empty(), "nobody said why it was ended");
    }
    Ok(())
}

fn garbage_in_a_ring(rig: &mut Rig) -> Result<()> {
    copes(rig, "ada", "garbage-ring")
}

fn foreign_pages_in_the_balloon(rig: &mut Rig) -> Result<()> {
    let before = {
        all_answer(rig)?;
        rig.look()?
    };
    copes(rig, "ada", "foreign-balloon")?;
    // Nothing of anybody else was taken for it.
    let after = rig.look()?;
    for name in ["ben", "cyd"] {
        ensure!(
            assigned_mib(&after, name) == assigned_mib(&before, name),
            "{name} lost memory: {after:?}"
        );
    }
    Ok(())
}

fn touching_what_was_given_back(rig: &mut Rig) -> Result<()> {
    copes(rig, "ben", "touch-ballooned")
}

fn a_crash_ends_one_guest(rig: &mut Rig) -> Result<()> {
    copes(rig, "cyd", "crash")
}

fn everybody_spins(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    for name in AT_BOOT {
        rig.try_ask(name, "spin", Duration::from_secs(1))?;
    }
    // Memory server, balancer and supervisor still answer, and still do what they are told.
    for _ in 0..10 {
        rig.look()?;
    }
    for name in AT_BOOT {
        rig.command(name, HostBody::Stop)?;
        rig.wait_state(name, GuestState::Stopped)?;
    }
    let snapshot = rig.settle()?;
    ensure!(snapshot.counted.granted.0 == 0, "{:?}", snapshot.counted);
    Ok(())
}
