//! The rounds that the guests of a host play, and what each of them does and uses in them.

use super::mix::Mix;
use anyhow::Result;
use operator::agent::field;
use operator::session::Mark;
use operator::snapshot::Snapshot;
use std::time::Duration;
use system_tests::Rig;

/// Who peaks in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Every other round, all of them: each has memory of its own.
    All,
    /// In every round, every other one.
    Halves,
}

impl Turn {
    fn peaks(self, round: u32, index: usize) -> bool {
        match self {
            Self::All => round.is_multiple_of(2),
            Self::Halves => round as usize % 2 == index % 2,
        }
    }
}

/// A guest of the play.
#[derive(Clone, Debug)]
struct Player {
    name: String,
    /// Bytes that it has read.
    worked: u64,
    /// Processor time that it had used when the first round began, and in the end.
    from_us: u64,
    until_us: u64,
    /// Why it does not take part any more.
    lost: Option<String>,
}

/// How a play went.
#[derive(Debug, Default)]
pub struct Play {
    players: Vec<Player>,
    /// Samples.
    pub history: Vec<Snapshot>,
    /// When rounds began.
    pub marks: Vec<Mark>,
}

impl Play {
    /// MiB of work in a second of the guest's own processor time, of each guest; `None` for one that was lost.
    pub fn rates(&self) -> Vec<Option<f64>> {
        self.players.iter().map(Player::rate).collect()
    }

    /// Gives each guest that still takes part a command, and waits for all answers.
    fn ask(&mut self, rig: &mut Rig, command: impl Fn(usize) -> Option<String>) -> Result<()> {
        let mut commands = Vec::new();
        let mut asked = Vec::new();
        for (index, player) in self.players.iter().enumerate() {
            if player.lost.is_none()
                && let Some(command) = command(index)
            {
                commands.push((player.name.clone(), command));
                asked.push(index);
            }
        }
        let history = &mut self.history;
        let answers = rig.ask_all(&commands, |snapshot| history.push(snapshot.clone()))?;
        for (index, answer) in asked.into_iter().zip(answers) {
            let Some(player) = self.players.get_mut(index) else {
                continue;
            };
            match answer {
                Ok(text) => player.worked += field(&text, "worked").unwrap_or(0),
                Err(why) => {
                    println!("  {}: {why}", player.name);
                    player.lost = Some(why);
                }
            }
        }
        Ok(())
    }

    fn look(&mut self, rig: &mut Rig) -> Result<Snapshot> {
        let snapshot = rig.look()?;
        self.history.push(snapshot.clone());
        Ok(snapshot)
    }

    fn pause(&mut self, rig: &mut Rig, seconds: u64) -> Result<()> {
        let until_ms = self.look(rig)?.t_ms + seconds * 1000;
        while self.look(rig)?.t_ms < until_ms {
            rig.board.pump(Duration::from_millis(200));
        }
        Ok(())
    }
}

impl Player {
    fn rate(&self) -> Option<f64> {
        let used_s = self.until_us.checked_sub(self.from_us)? as f64 / 1e6;
        if self.lost.is_some() || used_s <= 0.0 {
            return None;
        }
        Some((self.worked >> 20) as f64 / used_s)
    }
}

/// Plays the rounds with all guests of a host.
pub fn play(rig: &mut Rig, mix: &Mix, turn: Turn) -> Result<Play> {
    let mut play = Play::default();
    let names: Vec<String> = rig
        .look()?
        .guests
        .iter()
        .map(|guest| guest.name.clone())
        .collect();
    for name in names {
        rig.wait_agent(&name)?;
        play.players.push(Player {
            name,
            worked: 0,
            from_us: 0,
            until_us: 0,
            lost: None,
        });
    }
    let touch = |mib: u64, ramp_s: u64| format!("touch {} {}", mib << 20, ramp_s * 1000);
    play.ask(rig, |_| Some(touch(mix.base_mib, 1)))?;
    play.pause(rig, mix.pause_s)?;
    let first = play.look(rig)?;
    for player in &mut play.players {
        player.from_us = first.guest(&player.name).map_or(0, |guest| guest.used_us);
    }
    for round in 0..mix.rounds {
        let t_ms = play.look(rig)?.t_ms;
        let title = format!("round {}", round + 1);
        play.marks.push(Mark { t_ms, title });
        let peaks = |index| turn.peaks(round, index);
        play.ask(rig, |index| {
            peaks(index).then(|| touch(mix.peak_mib, mix.ramp_s))
        })?;
        // Each does the same work: who holds less reads it more often.
        play.ask(rig, |_| Some(format!("work {}", mix.work_mib << 20)))?;
        play.ask(rig, |index| peaks(index).then(|| touch(mix.base_mib, 0)))?;
        play.pause(rig, mix.pause_s)?;
    }
    let last = play.look(rig)?;
    for player in &mut play.players {
        let guest = last.guest(&player.name);
        player.until_us = guest.map_or(0, |guest| guest.used_us);
        let kills = guest
            .and_then(|guest| guest.row)
            .map_or(0, |row| row.oom_kills);
        if kills > 0 && player.lost.is_none() {
            player.lost = Some(format!("its kernel killed {kills}"));
        }
    }
    Ok(play)
}
