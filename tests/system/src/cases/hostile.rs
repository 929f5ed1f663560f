//! Guests that do what they must not. Each case says what becomes of the guest; that memory is accounted for, that the
//! others keep every byte and run on, and that an ended guest's memory comes back clean is checked after each.

use super::{AT_BOOT, MIB, STARTUP_MIB, all_answer, assigned_mib, case, fill, keep};
use crate::{Case, Rig};
use anyhow::{Context as _, Result, ensure};
use operator::agent::field;
use protocol::management::HostBody;
use protocol::supervisor::{EndReason, GuestState};
use protocol::units::GuestId;
use qemu_machine::Count;
use std::time::Duration;

/// The cases.
pub const CASES: &[Case] = &[
    case("garbage-in-a-ring", garbage_in_a_ring),
    case("foreign-pages-in-the-balloon", foreign_pages_in_the_balloon),
    case("a-driver-breaks-every-rule", a_driver_breaks_every_rule),
    case("touching-what-was-given-back", touching_what_was_given_back),
    case("touching-what-is-not-there", touching_what_is_not_there),
    case("a-crash-ends-one-guest", a_crash_ends_one_guest),
    // In time that is counted in instructions: a busy host makes no answer late.
    Case {
        count: Count::Paced,
        ..case("everybody-spins", everybody_spins)
    },
];

/// What the guests that behave fill before another one misbehaves, in MiB.
const SET_MIB: u64 = 16;
/// ACKNOWLEDGE, DRIVER, DRIVER_OK and FEATURES_OK in a device's status (virtio 1.3, 2.1).
const LIVE: u64 = 15;
/// The same with DEVICE_NEEDS_RESET.
const FAILED: u64 = LIVE | 64;
/// ESR_EL1 of a synchronous external data abort without a valid address, taken without a change of level (Arm ARM,
/// D24.2.40).
const EXTERNAL_ABORT: &str = "exception: syndrome 0x96000410";

/// A request of the operator's is answered within this time although all guests spin: a guest's vCPU runs for a
/// millisecond at most before a server, and each request takes a few of their steps.
const SOON_US: u64 = 10_000;

/// The guests that start at boot, but one.
fn others(who: &str) -> Vec<&'static str> {
    AT_BOOT.into_iter().filter(|name| *name != who).collect()
}

/// All fill memory, one does something, and the others have not noticed.
fn beside_others(
    rig: &mut Rig,
    who: &'static str,
    misbehave: impl FnOnce(&mut Rig) -> Result<()>,
) -> Result<()> {
    all_answer(rig)?;
    fill(rig, &AT_BOOT, SET_MIB)?;
    misbehave(rig)?;
    keep(rig, &others(who), SET_MIB)
}

/// The guest goes on, with every byte that it had.
fn goes_on(rig: &mut Rig, who: &'static str) -> Result<()> {
    keep(rig, &[who], SET_MIB).context("the guest that misbehaved")
}

/// The guest ended, the operator can read why, its memory is back and clean: it starts again and finds nothing but
/// zeros.
fn ends(rig: &mut Rig, who: &str, reason: EndReason, why: &str) -> Result<()> {
    rig.wait_state(who, GuestState::Stopped)?;
    let guest = rig.guest(who)?;
    ensure!(guest.last_end == Some(reason), "{guest:?}");
    rig.wait_said(&format!("guest \"{who}\" ended: {reason:?} {why}"))?;
    let snapshot = rig.settle()?;
    // Of the others somebody may just have given back what it does not use.
    ensure!(
        snapshot.counted.granted.mib() <= 2 * STARTUP_MIB,
        "its memory is not back: {:?}",
        snapshot.counted
    );
    rig.command(who, HostBody::Start)?;
    rig.wait_agent(who)?;
    rig.ask(who, &format!("touch {}", 28 * MIB))?;
    Ok(())
}

fn garbage_in_a_ring(rig: &mut Rig) -> Result<()> {
    beside_others(rig, "ada", |rig| {
        let answer = rig.ask("ada", "garbage-ring")?;
        ensure!(field(&answer, "status") == Some(FAILED), "{answer}");
        goes_on(rig, "ada")
    })
}

fn foreign_pages_in_the_balloon(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    let before = rig.look()?;
    beside_others(rig, "ada", |rig| {
        rig.ask("ada", "foreign-balloon")?;
        goes_on(rig, "ada")
    })?;
    // Nothing of anybody was taken for it.
    let after = rig.look()?;
    for name in AT_BOOT {
        ensure!(
            assigned_mib(&after, name) == assigned_mib(&before, name),
            "{name} lost memory: {after:?}"
        );
    }
    Ok(())
}

/// What the driver does, and what the device's status is before it is reset (`None` where it does not fail).
const BREAKS: [(&str, Option<u64>); 10] = [
    ("loop", Some(FAILED)),
    ("long", Some(FAILED)),
    ("indirect", Some(FAILED)),
    ("order", Some(FAILED)),
    ("index", Some(FAILED)),
    ("outside", Some(FAILED)),
    ("list", Some(FAILED)),
    ("registers", None),
    ("reset", None),
    ("balloon", None),
];

fn a_driver_breaks_every_rule(rig: &mut Rig) -> Result<()> {
    beside_others(rig, "ben", |rig| {
        for (what, status) in BREAKS {
            let answer = rig.ask("ben", &format!("break {what}"))?;
            if status.is_some() {
                ensure!(field(&answer, "status") == status, "{what}: {answer}");
            }
            // A device that was reset serves its driver as if nothing had been.
            if let Some(healed) = field(&answer, "healed") {
                ensure!(healed == LIVE, "{what}: {answer}");
            }
        }
        // virtio 1.3, 5.15.6: 1 is NACK, 3 ERROR.
        let answer = rig.ask("ben", "break unplug")?;
        ensure!(answer == "responses 3 3 3 3 1 3 3 3", "{answer}");
        // ALREADY_ON, INVALID_PARAMETERS, DENIED, INVALID_PARAMETERS, NOT_SUPPORTED.
        let answer = rig.ask("ben", "break power")?;
        ensure!(answer == "returned -4 -2 -3 -2 -1", "{answer}");
        let console = rig.console("ben")?;
        ensure!(console.ends_with("once more\r\n"), "{console:?}");
        goes_on(rig, "ben")
    })
}

/// A fourth guest needs what is now in the others' balloons; two of them touch it all the same. For a kernel that never
/// heard of the balloon it is RAM: it is there again.
fn touching_what_was_given_back(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    fill(rig, &["ada"], SET_MIB)?;
    rig.command("dan", HostBody::Start)?;
    rig.wait_agent("dan")?;
    fill(rig, &["dan"], 40)?;
    let before = rig.look()?;
    for name in ["ben", "cyd"] {
        ensure!(
            assigned_mib(&before, name) < STARTUP_MIB,
            "nothing of {name}'s is in the balloon: {before:?}"
        );
    }
    rig.ask("cyd", "stubborn")?;
    for name in ["ben", "cyd", "ben"] {
        let answer = rig.ask(name, "touch-ballooned")?;
        ensure!(answer == "read 0x0", "{name}: {answer}");
    }
    keep(rig, &["ada"], SET_MIB)?;
    keep(rig, &["dan"], 40)?;
    keep(rig, &["ben", "cyd"], 0)
}

fn touching_what_is_not_there(rig: &mut Rig) -> Result<()> {
    beside_others(rig, "cyd", |rig| {
        for place in ["gap", "beyond", "pair"] {
            let answer = rig.try_ask("cyd", &format!("nowhere {place}"), Duration::from_secs(3))?;
            ensure!(answer.is_none(), "{place}: it read something: {answer:?}");
            ends(rig, "cyd", EndReason::PoweredOff, "").context(place)?;
            let console = rig.console("cyd")?;
            ensure!(
                console.matches(EXTERNAL_ABORT).count() >= 1,
                "{place}: {console:?}"
            );
            rig.ask("cyd", "stubborn")?;
            rig.try_ask("cyd", &format!("nowhere {place}"), Duration::from_secs(3))?;
            ends(rig, "cyd", EndReason::Misbehaved, "").context(place)?;
        }
        Ok(())
    })
}

fn a_crash_ends_one_guest(rig: &mut Rig) -> Result<()> {
    beside_others(rig, "cyd", |rig| {
        rig.try_ask("cyd", "crash", Duration::from_secs(1))?;
        ends(rig, "cyd", EndReason::Misbehaved, "no memory at 0x")
    })
}

fn everybody_spins(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    for name in AT_BOOT {
        rig.try_ask(name, "spin", Duration::from_secs(1))?;
    }
    // Memory server, balancer and supervisor answer, and soon.
    let reserve = rig.look()?.host.reserve;
    for (what, body) in [
        ("the pool counted, and the host's row", HostBody::Host),
        ("a guest's state and row", HostBody::Guest(GuestId(0))),
        ("a reason", HostBody::Why(GuestId(0))),
        ("a setting", HostBody::SetReserve(reserve)),
    ] {
        let us = rig.median_us(&body)?;
        rig.board
            .note(&format!("{what}: {us} us of the board's time"));
        ensure!(us < SOON_US, "{what} takes {us} us");
    }
    // The balancer goes on deciding.
    let before = rig.look()?;
    let after = rig.wait_for("two seconds to pass", |snapshot| {
        snapshot.t_ms >= before.t_ms + 2000
    })?;
    let (rounds, ms) = (
        u64::from(after.host.rounds - before.host.rounds),
        after.t_ms - before.t_ms,
    );
    ensure!(rounds * 1500 >= ms, "{rounds} decisions in {ms} ms");
    // And they still do what they are told.
    for name in AT_BOOT {
        rig.command(name, HostBody::Stop)?;
        rig.wait_state(name, GuestState::Stopped)?;
    }
    let snapshot = rig.settle()?;
    ensure!(snapshot.counted.granted.0 == 0, "{:?}", snapshot.counted);
    Ok(())
}
