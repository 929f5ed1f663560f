//! What is left of whole pieces after long use: memory goes to and fro between two Linux guests that fill it with what programs hold
//! and with page cache, and then each must still have its memory mapped by frames of 2 MiB, counted from outside.

use crate::Rig;
use anyhow::{Result, bail, ensure};
use operator::agent::field;
use operator::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::time::Duration;

/// The guests of `systems/tests/moves.toml`.
const GUESTS: [&str; 2] = ["left", "right"];
/// What a guest's program holds when it is its turn, and what it reads through its page cache then, in MiB.
const HELD_MIB: u64 = 176;
const CACHED_MIB: u64 = 40;
/// How long a program takes for it, in milliseconds: this is not about how fast memory moves.
const RAMP_MS: u64 = 10_000;
/// How long the other has to be asked for what it gave up, in milliseconds.
const PAUSE_MS: u64 = 4000;
/// Of each guest's memory this much has to be in whole pieces.
const WHOLE_PERCENT: u8 = 95;

/// Counts pieces as they come to guests. What comes and goes between two looks is not counted, so it is never too many.
#[derive(Debug, Default)]
struct Moves {
    assigned: BTreeMap<String, u32>,
    pieces: u64,
}

impl Moves {
    fn look(&mut self, snapshot: &Snapshot) {
        for guest in &snapshot.guests {
            let Some(row) = guest.row else { continue };
            let before = self.assigned.insert(guest.name.clone(), row.assigned.0);
            let more = before.map_or(0, |before| row.assigned.0.saturating_sub(before));
            self.pieces += u64::from(more);
        }
    }
}

/// Lets memory go to and fro until so many pieces have moved; what was seen in the end.
///
/// # Errors
/// When a guest loses something, or memory is not in whole pieces any more.
pub fn run(rig: &mut Rig, pieces: u64) -> Result<String> {
    for name in GUESTS {
        rig.wait_agent(name)?;
    }
    let mut moves = Moves::default();
    let mut turns = 0usize;
    while moves.pieces < pieces {
        let before = moves.pieces;
        let (works, rests) = match turns % 2 {
            0 => (GUESTS[0], GUESTS[1]),
            _ => (GUESTS[1], GUESTS[0]),
        };
        ask(rig, &mut moves, rests, "free")?;
        pause(rig, &mut moves)?;
        ask(
            rig,
            &mut moves,
            works,
            &format!("touch {} {RAMP_MS}", HELD_MIB << 20),
        )?;
        ask(
            rig,
            &mut moves,
            works,
            &format!("burst cache {}", CACHED_MIB << 20),
        )?;
        let kept = ask(rig, &mut moves, works, "verify")?;
        ensure!(
            field(&kept, "verified") == Some(HELD_MIB << 20),
            "{works} answers {kept:?}"
        );
        turns += 1;
        ensure!(
            moves.pieces > before,
            "nothing moved in turn {turns}: {:?}",
            rig.look()?.guests
        );
    }
    let figures = rig.walk()?;
    let whole = figures.least_whole_percent;
    let said = format!(
        "{} pieces moved in {turns} turns; of each guest's memory at least {} % is in whole pieces: {figures}",
        moves.pieces,
        whole.unwrap_or(0)
    );
    ensure!(whole >= Some(WHOLE_PERCENT), "{said}");
    ensure!(
        figures.guests == GUESTS.len() && figures.guest_pieces as u64 * 2 >= HELD_MIB,
        "too little was seen: {figures}"
    );
    rig.finish()?;
    Ok(said)
}

fn ask(rig: &mut Rig, moves: &mut Moves, name: &str, command: &str) -> Result<String> {
    let commands = [(name.to_owned(), command.to_owned())];
    let answers = rig.ask_all(&commands, |snapshot| moves.look(snapshot))?;
    match answers.into_iter().next() {
        // A load that was killed says so, and the agent goes on.
        Some(Ok(text)) if !text.contains("ended by") => Ok(text),
        other => bail!("{name} answers `{command}` with: {other:?}"),
    }
}

fn pause(rig: &mut Rig, moves: &mut Moves) -> Result<()> {
    let until_ms = rig.look()?.t_ms + PAUSE_MS;
    loop {
        let snapshot = rig.look()?;
        moves.look(&snapshot);
        if snapshot.t_ms >= until_ms {
            return Ok(());
        }
        rig.board.pump(Duration::from_millis(100));
    }
}
