//! Linux guests that are not as they should be: what was done for them is observed, not assumed.

use super::assigned_mib;
use crate::{Case, Rig, System};
use anyhow::{Result, ensure};
use operator::snapshot::Snapshot;
use protocol::management::HostBody;
use protocol::supervisor::{EndReason, GuestState};
use protocol::units::Pieces;
use qemu_machine::Count;
use std::time::Duration;

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "linux-guests-that-are-not-as-they-should-be",
    run: not_as_they_should_be,
    count: Count::Wall,
    system: System::Linux,
}];

const STARTUP_MIB: u64 = 128;
/// What the third one starts with.
const MORTAL_MIB: u64 = 192;
/// With what an idle guest uses, so much leaves less than its buffer.
const NEARLY_ALL: &str = "touch 54525952";
/// The balloon's driver in sysfs, and its device.
const DRIVER: &str = "cd /sys/bus/virtio/drivers/virtio_balloon; d=$(ls -d virtio* || echo $d)";

fn row(snapshot: &Snapshot, name: &str) -> Option<protocol::balancer::Row> {
    snapshot.guest(name)?.row
}

/// One machine for all: each of its guests takes a while to boot.
fn not_as_they_should_be(rig: &mut Rig) -> Result<()> {
    for name in ["shelf", "bare", "mortal", "spinner"] {
        rig.wait_agent(name)?;
    }
    a_driver_that_goes_and_comes(rig)?;
    // Silent from here on; what becomes of them is looked at below.
    rig.type_line("mortal", "echo c > /proc/sysrq-trigger")?;
    rig.try_ask("spinner", "spin", Duration::from_secs(1))?;
    growth_that_is_not_taken(rig)?;
    a_panic_is_silence(rig)?;
    a_loop_is_silence(rig)
}

/// A reserve that is too large makes all of them give what they do not use; a driver that is taken from its device has it
/// back before it goes.
fn a_driver_that_goes_and_comes(rig: &mut Rig) -> Result<()> {
    let reserve = rig.look()?.host.reserve;
    rig.board
        .command(HostBody::SetReserve(Pieces::from_mib_ceil(300)))?;
    rig.wait_for("something to be in the balloon", |snapshot| {
        row(snapshot, "mortal").is_some_and(|row| row.ballooned_mib >= 16)
    })?;
    rig.board.command(HostBody::SetReserve(reserve))?;
    rig.type_line(
        "mortal",
        &format!("{DRIVER}; echo $d > unbind && echo went aw\"\"ay"),
    )?;
    rig.wait_console("mortal", "went away")?;
    rig.wait_for("its memory to be back", |snapshot| {
        row(snapshot, "mortal").is_some_and(|row| {
            row.ballooned_mib == 0 && row.assigned.plus(row.reported).mib() >= MORTAL_MIB
        })
    })?;
    rig.type_line("mortal", "echo $d > bind && echo came ba\"\"ck")?;
    rig.wait_console("mortal", "came back")?;
    rig.wait_for("it to be heard", |snapshot| {
        row(snapshot, "mortal").is_some_and(|row| row.age_ms < 3000)
    })?;
    rig.ask("mortal", "touch 33554432")?;
    let answer = rig.ask("mortal", "verify")?;
    ensure!(answer.contains("33554432"), "{answer}");
    Ok(())
}

/// What is plugged and not put online comes back, and nothing more is offered; what cannot be plugged is not promised.
fn growth_that_is_not_taken(rig: &mut Rig) -> Result<()> {
    for name in ["shelf", "bare"] {
        rig.ask(name, NEARLY_ALL)?;
    }
    rig.wait_said("guest \"shelf\" leaves ")?;
    rig.wait_said("boot it with memhp_default_state=online_movable")?;
    rig.wait_for("what was offered to be back", |snapshot| {
        assigned_mib(snapshot, "shelf") <= STARTUP_MIB
    })?;
    let snapshot = rig.look()?;
    let shelf = row(&snapshot, "shelf");
    ensure!(
        shelf.is_some_and(|row| u64::from(row.visible_mib) <= STARTUP_MIB),
        "{shelf:?}"
    );
    let bare = assigned_mib(&snapshot, "bare");
    ensure!(bare <= STARTUP_MIB, "bare has {bare} MiB");
    Ok(())
}

/// A kernel that has panicked takes interrupts for ever.
fn a_panic_is_silence(rig: &mut Rig) -> Result<()> {
    rig.wait_said("guest \"mortal\" has been silent for 30 s: its balloon driver does not answer")?;
    rig.wait_said("guest \"mortal\", its console: ")?;
    rig.wait_said("Kernel panic")?;
    rig.wait_for("it to be started again", |snapshot| {
        snapshot
            .guest("mortal")
            .is_some_and(|guest| guest.starts == 2 && guest.state == GuestState::Running)
    })?;
    let mortal = rig.guest("mortal")?;
    ensure!(mortal.last_end == Some(EndReason::Silent), "{mortal:?}");
    rig.wait_agent("mortal")
}

/// Interrupts off, in a loop: it is stopped.
fn a_loop_is_silence(rig: &mut Rig) -> Result<()> {
    rig.wait_said("guest \"spinner\" has been silent for 30 s: ")?;
    rig.wait_said("at EL1, interrupts masked")?;
    rig.wait_state("spinner", GuestState::Stopped)?;
    let spinner = rig.guest("spinner")?;
    ensure!(spinner.last_end == Some(EndReason::Silent), "{spinner:?}");
    for name in ["shelf", "bare"] {
        rig.ask(name, "verify")?;
    }
    Ok(())
}
