//! What the player asks the workload agents and waits for: greetings, commands, and how much an idle guest uses.

use super::{Failure, Idle, Player};
use crate::agent::{AgentAnswer, Ticket};
use crate::board::BoardError;
use crate::session::{Interrupted, Session};
use protocol::supervisor::GuestState;
use protocol::units::GuestId;
use std::time::Duration;

/// How often an agent that does not answer is greeted, in milliseconds.
const GREET_EVERY_MS: u64 = 2000;
/// A guest that does not run so long after it was started was refused, in milliseconds.
const REFUSED_AFTER_MS: u64 = 5000;
/// An idle guest's demand has come to rest when it moved by no more than this over [`IDLE_FOR_MS`].
const IDLE_SPREAD_MIB: u32 = 8;
/// See [`IDLE_SPREAD_MIB`]; in milliseconds.
const IDLE_FOR_MS: u64 = 3000;
/// An idle guest is measured after this long even when it is not at rest.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A command that an agent has not answered yet.
pub(super) struct Asked {
    name: String,
    ticket: Ticket,
    sent_ms: u64,
}

/// An agent that has not answered a greeting yet.
struct Stranger {
    name: String,
    id: GuestId,
    greeted: Option<Asked>,
}

/// An idle guest's demand while it is watched.
struct Resting {
    name: String,
    since_ms: u64,
    least_mib: u32,
    most_mib: u32,
}

impl Resting {
    /// Whether it has come to rest, with what the newest sample says of it.
    fn look(&mut self, session: &Session<'_>) -> bool {
        let row = session
            .latest()
            .and_then(|snapshot| snapshot.guest(&self.name)?.row);
        let Some(demand_mib) = row.map(|row| row.demand_mib).filter(|demand| *demand > 0) else {
            return false;
        };
        self.least_mib = self.least_mib.min(demand_mib);
        self.most_mib = self.most_mib.max(demand_mib);
        if self.most_mib - self.least_mib > IDLE_SPREAD_MIB {
            self.since_ms = session.now_ms();
            (self.least_mib, self.most_mib) = (demand_mib, demand_mib);
        }
        session.now_ms() >= self.since_ms + IDLE_FOR_MS
    }
}

impl Player<'_, '_> {
    /// Waits until all agents answer.
    pub(super) fn greet(&mut self, names: &[String]) -> Result<(), Failure> {
        let mut waiting = Vec::new();
        for name in names {
            waiting.push(Stranger {
                name: name.clone(),
                id: self.guest(name)?.id,
                greeted: None,
            });
        }
        let begin_ms = self.session.now_ms();
        let deadline_ms = begin_ms + (self.scenario.boot_s * 1000.0) as u64;
        while !waiting.is_empty() {
            self.session.tick()?;
            if self.session.now_ms() >= begin_ms + REFUSED_AFTER_MS {
                self.check_none_stopped(&waiting)?;
            }
            let mut still = Vec::new();
            for stranger in waiting {
                still.extend(self.greet_one(stranger)?);
            }
            waiting = still;
            if !waiting.is_empty() && self.session.now_ms() >= deadline_ms {
                let names: Vec<&str> = waiting.iter().map(|one| one.name.as_str()).collect();
                return Err(Failure::Scenario(format!(
                    "the workload of {} did not answer within {} s",
                    names.join(", "),
                    self.scenario.boot_s
                )));
            }
        }
        Ok(())
    }

    /// A guest that was not started will never answer.
    fn check_none_stopped(&self, waiting: &[Stranger]) -> Result<(), Failure> {
        for stranger in waiting {
            let name = &stranger.name;
            let guest = self.guest(name)?;
            if guest.state == GuestState::Stopped {
                let end = guest.last_end;
                return Err(Failure::Scenario(format!(
                    "{name} does not run; its last end: {end:?}"
                )));
            }
        }
        Ok(())
    }

    /// Greets an agent anew when it is time for that; none when it has answered.
    fn greet_one(&mut self, mut stranger: Stranger) -> Result<Option<Stranger>, Failure> {
        let answer = stranger
            .greeted
            .as_ref()
            .and_then(|asked| self.session.agents.answer(&asked.ticket));
        if let Some(answer) = answer {
            let hello = answer.unwrap_or_else(|why| why);
            let name = &stranger.name;
            self.session
                .say(&format!("{name}: its workload answers: {hello}"));
            return Ok(None);
        }
        let now_ms = self.session.now_ms();
        let is_due = |asked: &Asked| now_ms >= asked.sent_ms + GREET_EVERY_MS;
        if stranger.greeted.as_ref().is_none_or(is_due) {
            // A guest that does not read yet refuses; it is greeted again.
            match self.send(&stranger.name, stranger.id, "hello") {
                Ok(asked) => stranger.greeted = Some(asked),
                Err(BoardError::Closed) => {
                    return Err(Interrupted::Board(BoardError::Closed).into());
                }
                Err(_) => {}
            }
        }
        Ok(Some(stranger))
    }

    /// Notes what guests use that do nothing.
    pub(super) fn measure_idle(&mut self, names: &[String]) -> Result<(), Failure> {
        let now_ms = self.session.now_ms();
        let mut resting: Vec<Resting> = names
            .iter()
            .map(|name| Resting {
                name: name.clone(),
                since_ms: now_ms,
                least_mib: u32::MAX,
                most_mib: 0,
            })
            .collect();
        self.session.wait_until(IDLE_TIMEOUT, |session| {
            let mut all = true;
            // All of them look, so that each sees every sample.
            for one in &mut resting {
                all &= one.look(session);
            }
            all
        })?;
        for one in resting {
            let name = one.name;
            let guest = self.guest(&name)?;
            let row = guest.row.filter(|_| one.most_mib > 0).ok_or_else(|| {
                Failure::Scenario(format!(
                    "{name} reports no demand: it has no balloon driver, or does not report"
                ))
            })?;
            self.session.say(&format!(
                "{name}: uses {} MiB when idle, of {} MiB visible",
                row.demand_mib, row.visible_mib
            ));
            let demand_mib = u64::from(row.demand_mib);
            let id = guest.id;
            self.idle.insert(name, Idle { id, demand_mib });
        }
        Ok(())
    }

    fn send(&mut self, name: &str, id: GuestId, command: &str) -> Result<Asked, BoardError> {
        let session = &mut *self.session;
        let ticket = session.agents.send(&mut session.board, id, command)?;
        Ok(Asked {
            name: name.to_owned(),
            ticket,
            sent_ms: session.now_ms(),
        })
    }

    /// Sends a command to a guest that has answered before. A board that is too slow to take it is asked again, until the
    /// session gives the board up.
    pub(super) fn order(
        &mut self,
        name: &str,
        id: GuestId,
        command: &str,
    ) -> Result<Asked, Failure> {
        loop {
            match self.send(name, id, command) {
                Ok(asked) => return Ok(asked),
                Err(BoardError::Silent { .. }) => self.session.tick()?,
                Err(why) => return Err(Failure::Scenario(format!("{name}: {why}"))),
            }
        }
    }

    /// Sends a command to each guest and waits for all answers.
    pub(super) fn ask_all(
        &mut self,
        names: &[String],
        command: &str,
        timeout: Duration,
    ) -> Result<Vec<(String, AgentAnswer)>, Failure> {
        let mut asked = Vec::new();
        for name in names {
            let id = self.guest(name)?.id;
            asked.push(self.order(name, id, command)?);
        }
        self.collect(asked, timeout)
    }

    /// Waits for all answers. Who did not answer is part of them.
    pub(super) fn collect(
        &mut self,
        mut asked: Vec<Asked>,
        timeout: Duration,
    ) -> Result<Vec<(String, AgentAnswer)>, Failure> {
        let mut answers = Vec::new();
        self.session.wait_until(timeout, |session| {
            asked.retain(|one| match session.agents.answer(&one.ticket) {
                Some(answer) => {
                    answers.push((one.name.clone(), answer));
                    false
                }
                None => true,
            });
            asked.is_empty()
        })?;
        for one in asked {
            let waited_ms = self.session.now_ms().saturating_sub(one.sent_ms);
            let why = format!("no answer within {} s", waited_ms / 1000);
            answers.push((one.name, Err(why)));
        }
        Ok(answers)
    }
}
