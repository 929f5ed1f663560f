//! What is true of a guest, whatever it says: its memory is there, and it is known when it is not heard.

use super::{STARTUP_MIB, all_answer, case, fill, keep};
use crate::{Case, Rig};
use anyhow::{Result, ensure};
use operator::agent::field;
use operator::snapshot::{Guest, Snapshot};
use protocol::balancer::{Change, OnSilence};
use protocol::management::HostBody;
use protocol::supervisor::{EndReason, GuestState};
use qemu_machine::Count;
use std::time::Duration;

/// The cases.
pub const CASES: &[Case] = &[
    case("a-reset-brings-the-balloon-back", a_reset_brings_everything),
    // Half a minute of the machine's time, in which nothing runs.
    Case {
        count: Count::Instructions,
        ..case("silence-is-named-and-decided", silence_is_decided)
    },
    Case {
        count: Count::Instructions,
        ..case("a-pause-is-no-silence", a_pause_is_no_silence)
    },
];

/// What guests gave to their balloons for a fourth is theirs again as soon as their drivers were reset.
fn a_reset_brings_everything(rig: &mut Rig) -> Result<()> {
    let in_balloon = |snapshot: &Snapshot, name: &str| {
        let row = snapshot.guest(name).and_then(|guest| guest.row);
        row.is_some_and(|row| row.ballooned_mib > 0)
    };
    all_answer(rig)?;
    fill(rig, &["ada"], 26)?;
    rig.command("dan", HostBody::Start)?;
    rig.wait_agent("dan")?;
    // Who gives is the balancer's to decide.
    let given = rig.wait_for("something to be in a balloon", |snapshot| {
        ["ben", "cyd"].iter().any(|name| in_balloon(snapshot, name))
    })?;
    rig.command("dan", HostBody::Stop)?;
    rig.wait_state("dan", GuestState::Stopped)?;
    for name in ["ben", "cyd"] {
        if !in_balloon(&given, name) {
            continue;
        }
        let answer = rig.ask(name, "rebind")?;
        ensure!(
            field(&answer, "back").is_some_and(|pieces| pieces > 0),
            "{name}: {answer}"
        );
        // What it has not touched is promised, without frames.
        rig.wait_for("all of it to show", |snapshot| {
            let row = snapshot.guest(name).and_then(|guest| guest.row);
            row.is_some_and(|row| row.assigned.plus(row.reported).mib() >= STARTUP_MIB)
        })?;
        fill(rig, &[name], 28)?;
        keep(rig, &[name], 28)?;
    }
    keep(rig, &["ada"], 26)
}

fn guest<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Guest> {
    snapshot.guest(name)
}

/// Three ways to fall silent, and the three things that can follow.
fn silence_is_decided(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    rig.set("ben", Change::OnSilence(OnSilence::Restart))?;
    rig.set("cyd", Change::OnSilence(OnSilence::Stop))?;
    rig.ask("ada", "hush")?;
    rig.ask("cyd", "leave")?;
    rig.try_ask("ben", "sleep", Duration::from_secs(1))?;
    rig.wait_for("ben to be started again", |snapshot| {
        guest(snapshot, "ben").is_some_and(|ben| ben.starts >= 2)
    })?;
    rig.wait_state("cyd", GuestState::Stopped)?;
    for (name, what) in [
        ("ada", "its balloon driver does not answer; pc 0x"),
        ("ben", "its balloon driver does not answer; pc 0x"),
        ("cyd", "its balloon driver is gone; pc 0x"),
    ] {
        rig.wait_said(&format!(
            "guest \"{name}\" has been silent for 30 s: {what}"
        ))?;
        rig.wait_said(&format!("guest \"{name}\", its console: unikernel: "))?;
    }
    for name in ["ben", "cyd"] {
        let end = rig.guest(name)?.last_end;
        ensure!(end == Some(EndReason::Silent), "{name}: {end:?}");
        rig.wait_said(&format!("guest \"{name}\" ended: Silent"))?;
    }
    // The one that is kept is as it was, its figures old; then it speaks again.
    let ada = rig.guest("ada")?;
    ensure!(
        ada.state == GuestState::Running && ada.starts == 1,
        "{ada:?}"
    );
    ensure!(ada.row.is_some_and(|row| row.age_ms >= 30_000), "{ada:?}");
    rig.ask("ada", "speak")?;
    rig.wait_said("guest \"ada\" is heard again after ")?;
    rig.wait_for("ada's figures to be fresh", |snapshot| {
        let row = guest(snapshot, "ada").and_then(|ada| ada.row);
        row.is_some_and(|row| row.age_ms < 5000)
    })?;
    rig.wait_agent("ben")
}

/// A guest that is paused for long is not named, nor stopped, and has its time again when it runs.
fn a_pause_is_no_silence(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    rig.set("cyd", Change::OnSilence(OnSilence::Stop))?;
    rig.command("cyd", HostBody::Pause)?;
    let paused = rig.wait_state("cyd", GuestState::Paused)?;
    rig.wait_for("a minute to pass", |snapshot| {
        snapshot.t_ms >= paused.t_ms + 60_000
    })?;
    rig.command("cyd", HostBody::Resume)?;
    rig.wait_agent("cyd")?;
    let row = rig.wait_for("cyd's figures to be fresh", |snapshot| {
        let row = guest(snapshot, "cyd").and_then(|cyd| cyd.row);
        row.is_some_and(|row| row.age_ms < 5000)
    })?;
    ensure!(
        guest(&row, "cyd").is_some_and(|cyd| cyd.starts == 1 && cyd.last_end.is_none()),
        "{row:?}"
    );
    let said = rig.said();
    ensure!(
        !said
            .iter()
            .any(|line| line.contains("\"cyd\" has been silent")),
        "{said:?}"
    );
    Ok(())
}
