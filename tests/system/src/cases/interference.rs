//! What a guest gets of the processor while another one makes the host work as hard as a device allows.
//!
//! All times are of the board's clock, which counts instructions: a busy host changes nothing.

use super::{MIB, all_answer, case};
use crate::{Case, Rig};
use anyhow::{Context as _, Result, ensure};
use operator::agent::field;
use protocol::management::HostBody;
use protocol::units::GuestId;
use qemu_machine::Count;
use std::time::Duration;

/// The cases.
pub const CASES: &[Case] = &[Case {
    count: Count::Paced,
    ..case("a-storm-takes-its-own-share", a_storm_takes_its_own_share)
}];

/// What is read back, in MiB.
const SET_MIB: u64 = 16;
/// Longer than everything that is measured during a storm.
const STORM_MS: u64 = 300;
/// Two guests: each has half of the processor. In tenths: how many times its share's time a guest may take.
const AT_MOST_TENTHS: u64 = 13;
const GUESTS: u64 = 2;
/// A request of the operator's is answered within this time, whatever guests do.
const SOON_US: u64 = 100_000;

const STORMS: [&str; 6] = ["mmio", "wfi", "timer", "console", "chain", "balloon"];

fn verify_us(rig: &mut Rig, who: &str) -> Result<u64> {
    let answer = rig.ask(who, "verify")?;
    ensure!(
        field(&answer, "verified") == Some(SET_MIB * MIB),
        "{answer}"
    );
    field(&answer, "took_us").with_context(|| answer.clone())
}

fn a_storm_takes_its_own_share(rig: &mut Rig) -> Result<()> {
    all_answer(rig)?;
    rig.ask("ben", &format!("touch {}", SET_MIB * MIB))?;
    let alone = verify_us(rig, "ben")?;
    for storm in STORMS {
        let command = format!("storm {storm} {STORM_MS}");
        // It answers when it is over.
        rig.try_ask("ada", &command, Duration::ZERO)?;
        let took = verify_us(rig, "ben").with_context(|| format!("during the storm {storm}"))?;
        let answered = rig.median_us(&HostBody::Guest(GuestId(0)))?;
        let bound = alone * GUESTS * AT_MOST_TENTHS / 10;
        rig.board.note(&format!(
            "{storm}: 16 MiB verified in {took} us, alone {alone}; the operator is answered in {answered} us"
        ));
        ensure!(took <= bound, "{storm}: {took} us, of {bound} at most");
        ensure!(
            answered <= SOON_US,
            "{storm}: an answer takes {answered} us"
        );
        rig.wait_agent("ada")
            .with_context(|| format!("after the storm {storm}"))?;
    }
    Ok(())
}
