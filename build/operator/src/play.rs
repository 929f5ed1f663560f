//! Plays a scenario: starts guests, drives their workloads, waits until each row has settled, collects what the checks
//! need.

use crate::agent::{AgentAnswer, Ticket, field};
use crate::board::BoardError;
use crate::checks::{Evidence, GuestEnd, Inside, RowEnd, Started, Verified};
use crate::scenario::{Row, Scenario};
use crate::session::{Interrupted, Session};
use crate::snapshot::{Guest, Snapshot};
use protocol::management::HostBody;
use protocol::supervisor::GuestState;
use protocol::units::GuestId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Assigned memory must have stayed within the tolerance for this long, by the board's clock, for a row to have settled.
const SETTLED_FOR_MS: u64 = 3000;
/// A workload that reads everything back may take this long.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(180);
/// Beyond its ramp a workload may take this long: it gets its memory at the guest's pace, and an emulated board on a busy
/// host is slow by the host's clock.
const TOUCH_SLACK: Duration = Duration::from_secs(240);
/// Other commands are answered at once by a guest that runs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// A guest that is refused a start may be starting already; its state shows within this time.
const START_GRACE: Duration = Duration::from_secs(2);
/// A board may be so many times slower than the host's clock; then a row is played although it is not due yet.
const SLOWEST: u32 = 50;
/// How often an agent that does not answer is greeted.
const GREET_EVERY: Duration = Duration::from_secs(2);
/// An idle guest's demand has come to rest when it moved by no more than this over [`IDLE_FOR`].
const IDLE_SPREAD_MIB: u32 = 8;
/// See [`IDLE_SPREAD_MIB`].
const IDLE_FOR: Duration = Duration::from_secs(3);
/// An idle guest is measured after this long even when it is not at rest.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a guest uses when idle.
#[derive(Clone, Copy, Debug)]
struct Idle {
    id: GuestId,
    demand_mib: u64,
}

/// What went wrong with the scenario itself; the checks tell what the board did.
enum Failure {
    Interrupted(Interrupted),
    Scenario(String),
}

impl From<Interrupted> for Failure {
    fn from(why: Interrupted) -> Self {
        Self::Interrupted(why)
    }
}

/// Plays the scenario and returns the evidence for the checks.
///
/// # Errors
/// When the run is interrupted; a scenario that cannot go on is evidence too.
pub fn play(session: &mut Session<'_>, scenario: &Scenario) -> Result<Evidence, Interrupted> {
    let mut player = Player {
        session,
        scenario,
        idle: BTreeMap::new(),
        held: BTreeMap::new(),
        evidence: Evidence {
            balloon: scenario.balloon.clone(),
            ..Evidence::default()
        },
    };
    match player.run() {
        Ok(()) => {}
        Err(Failure::Scenario(why)) => {
            player.session.say(&format!("scenario: {why}"));
            player.evidence.failure = Some(why);
        }
        Err(Failure::Interrupted(why)) => return Err(why),
    }
    Ok(player.evidence)
}

struct Player<'s, 'v> {
    session: &'s mut Session<'v>,
    scenario: &'s Scenario,
    idle: BTreeMap<String, Idle>,
    /// Bytes that each workload holds, by its own last word: a workload that was killed and begun anew holds fewer.
    held: BTreeMap<String, u64>,
    evidence: Evidence,
}

impl Player<'_, '_> {
    fn run(&mut self) -> Result<(), Failure> {
        self.check_names()?;
        let first = self.scenario.rows.first().map(|row| {
            let mut names: Vec<String> = row.assigned_mib.keys().cloned().collect();
            names.retain(|name| !row.start.contains(name));
            names
        });
        self.bring_up(&first.unwrap_or_default())?;
        let begin_ms = self.snapshot()?.t_ms;
        for row in &self.scenario.rows {
            self.wait_for_minute(begin_ms, row.minute)?;
            self.play_row(row)?;
        }
        self.finish()
    }

    /// Waits until so many minutes of the timetable have passed since `begin_ms`, by the board's clock: an emulated board
    /// may be slower than its host's.
    fn wait_for_minute(&mut self, begin_ms: u64, minute: f64) -> Result<(), Failure> {
        let at = self.scenario.time_of(minute);
        let due_ms = begin_ms + at.as_millis() as u64;
        self.session.wait_until(at * SLOWEST, |session| {
            session
                .latest()
                .is_some_and(|snapshot| snapshot.t_ms >= due_ms)
        })?;
        Ok(())
    }

    fn check_names(&mut self) -> Result<(), Failure> {
        self.session
            .wait_until(COMMAND_TIMEOUT, |session| session.latest().is_some())?;
        let snapshot = self.snapshot()?;
        for row in &self.scenario.rows {
            for name in row.assigned_mib.keys() {
                if snapshot.guest(name).is_none() {
                    let names: Vec<&str> = snapshot
                        .guests
                        .iter()
                        .map(|guest| guest.name.as_str())
                        .collect();
                    return Err(Failure::Scenario(format!(
                        "it names a guest {name:?}; the system has {}",
                        names.join(", ")
                    )));
                }
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, Failure> {
        self.session
            .latest()
            .cloned()
            .ok_or_else(|| Failure::Scenario("the board gave no sample".into()))
    }

    fn guest(&self, name: &str) -> Result<Guest, Failure> {
        self.snapshot()?
            .guest(name)
            .cloned()
            .ok_or_else(|| Failure::Scenario(format!("there is no guest {name:?}")))
    }

    /// Starts the guests that do not run, waits for their agents and measures what they use when idle.
    fn bring_up(&mut self, names: &[String]) -> Result<(), Failure> {
        self.start_stopped(names)?;
        self.meet(names)
    }

    fn start_stopped(&mut self, names: &[String]) -> Result<(), Failure> {
        for name in names {
            let guest = self.guest(name)?;
            if guest.state == GuestState::Stopped {
                self.session.say(&format!("{name}: is started"));
                self.start(guest.id, name)?;
            }
        }
        Ok(())
    }

    fn meet(&mut self, names: &[String]) -> Result<(), Failure> {
        self.greet(names)?;
        for name in names {
            self.measure_idle(name)?;
        }
        // What happened while they booted is not part of the scenario.
        for (name, answer) in self.ask_all(names, |_| "stall".into(), COMMAND_TIMEOUT)? {
            answer.map_err(|why| Failure::Scenario(format!("{name}: stall: {why}")))?;
        }
        Ok(())
    }

    fn start(&mut self, id: GuestId, name: &str) -> Result<(), Failure> {
        let Err(why) = self.session.board.command(HostBody::Start(id)) else {
            return Ok(());
        };
        // The sample may have been older than a start that the system itself made.
        let runs = self.session.wait_until(START_GRACE, |session| {
            session
                .latest()
                .and_then(|snapshot| snapshot.guest(name))
                .is_some_and(|guest| guest.state != GuestState::Stopped)
        })?;
        if runs {
            return Ok(());
        }
        Err(Failure::Scenario(format!(
            "{name} could not be started: {why}"
        )))
    }

    /// Waits until all agents answer.
    fn greet(&mut self, names: &[String]) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs_f64(self.scenario.boot_s);
        let mut waiting: Vec<(String, GuestId, Option<Ticket>)> = Vec::new();
        for name in names {
            waiting.push((name.clone(), self.guest(name)?.id, None));
        }
        while !waiting.is_empty() {
            self.session.tick()?;
            let mut still = Vec::new();
            for (name, id, mut ticket) in waiting {
                let answer = ticket
                    .as_ref()
                    .and_then(|ticket| self.session.agents.answer(ticket));
                if let Some(answer) = answer {
                    let hello = answer.unwrap_or_else(|why| why);
                    self.session
                        .say(&format!("{name}: its workload answers: {hello}"));
                    continue;
                }
                if ticket.is_none_or(|ticket| ticket.age() > GREET_EVERY) {
                    // A guest that does not read yet refuses; it is greeted again.
                    let session = &mut *self.session;
                    match session.agents.send(&mut session.board, id, "hello") {
                        Ok(sent) => ticket = Some(sent),
                        Err(BoardError::Closed) => {
                            return Err(Interrupted::Board(BoardError::Closed).into());
                        }
                        Err(_) => {}
                    }
                }
                still.push((name, id, ticket));
            }
            waiting = still;
            if !waiting.is_empty() && Instant::now() >= deadline {
                let names: Vec<&str> = waiting.iter().map(|(name, ..)| name.as_str()).collect();
                return Err(Failure::Scenario(format!(
                    "the workload of {} did not answer within {} s",
                    names.join(", "),
                    self.scenario.boot_s
                )));
            }
        }
        Ok(())
    }

    fn measure_idle(&mut self, name: &str) -> Result<(), Failure> {
        let mut since = Instant::now();
        let mut least = u32::MAX;
        let mut most = 0;
        let mut seen = false;
        self.session.wait_until(IDLE_TIMEOUT, |session| {
            let row = session
                .latest()
                .and_then(|snapshot| snapshot.guest(name)?.row);
            let demand = match row {
                Some(row) if row.demand_mib > 0 => row.demand_mib,
                _ => return false,
            };
            seen = true;
            (least, most) = (least.min(demand), most.max(demand));
            if most - least > IDLE_SPREAD_MIB {
                since = Instant::now();
                (least, most) = (demand, demand);
            }
            since.elapsed() >= IDLE_FOR
        })?;
        let guest = self.guest(name)?;
        let row = guest.row.filter(|_| seen).ok_or_else(|| {
            Failure::Scenario(format!(
                "{name} reports no demand: it has no balloon driver, or does not report"
            ))
        })?;
        self.session.say(&format!(
            "{name}: uses {} MiB when idle, of {} MiB visible",
            row.demand_mib, row.visible_mib
        ));
        self.idle.insert(
            name.to_owned(),
            Idle {
                id: guest.id,
                demand_mib: u64::from(row.demand_mib),
            },
        );
        Ok(())
    }

    /// Sends a command to each guest and waits for all answers.
    fn ask_all(
        &mut self,
        names: &[String],
        command: impl Fn(&str) -> String,
        timeout: Duration,
    ) -> Result<Vec<(String, AgentAnswer)>, Failure> {
        let mut tickets = Vec::new();
        for name in names {
            let id = self.guest(name)?.id;
            let session = &mut *self.session;
            let ticket = session
                .agents
                .send(&mut session.board, id, &command(name))
                .map_err(|why| Failure::Scenario(format!("{name}: {why}")))?;
            tickets.push((name.clone(), ticket));
        }
        self.collect(tickets, timeout)
    }

    fn collect(
        &mut self,
        mut tickets: Vec<(String, Ticket)>,
        timeout: Duration,
    ) -> Result<Vec<(String, AgentAnswer)>, Failure> {
        let mut answers = Vec::new();
        self.session.wait_until(timeout, |session| {
            tickets.retain(|(name, ticket)| match session.agents.answer(ticket) {
                Some(answer) => {
                    answers.push((name.clone(), answer));
                    false
                }
                None => true,
            });
            tickets.is_empty()
        })?;
        // Who did not answer is part of the answer.
        for (name, ticket) in tickets {
            let waited = ticket.age().as_secs();
            answers.push((name, Err(format!("no answer within {waited} s"))));
        }
        Ok(answers)
    }

    fn play_row(&mut self, row: &Row) -> Result<(), Failure> {
        let figures: Vec<String> = row
            .assigned_mib
            .iter()
            .map(|(name, mib)| format!("{name} {mib}"))
            .collect();
        self.session.mark(format!(
            "minute {}: {} (to end with {} MiB)",
            row.minute,
            row.title,
            figures.join(", ")
        ));
        let running: Vec<String> = row
            .assigned_mib
            .keys()
            .filter(|name| !row.start.contains(*name) && !row.delay_minutes.contains_key(*name))
            .cloned()
            .collect();
        let begin_ms = self.snapshot()?.t_ms;
        let mut tickets = self.touch(row, &running)?;
        self.start_stopped(&row.start)?;
        let mut delayed: Vec<(&String, f64)> = row
            .delay_minutes
            .iter()
            .map(|(name, minutes)| (name, *minutes))
            .collect();
        delayed.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        for (name, minutes) in delayed {
            self.wait_for_minute(begin_ms, minutes)?;
            self.session.mark(format!(
                "minute {}: now {name} changes",
                row.minute + minutes
            ));
            tickets.extend(self.touch(row, std::slice::from_ref(name))?);
        }
        if !row.start.is_empty() {
            self.meet(&row.start)?;
            let ready_ms = self.snapshot()?.t_ms;
            for name in &row.start {
                self.evidence.started.push(Started {
                    guest: name.clone(),
                    seconds: ready_ms.saturating_sub(begin_ms) as f64 / 1000.0,
                });
            }
        }
        tickets.extend(self.touch(row, &row.start)?);
        let ramp = Duration::from_secs_f64(self.scenario.ramp_s);
        for (name, answer) in self.collect(tickets, ramp + TOUCH_SLACK)? {
            match answer {
                Ok(text) => {
                    self.session.say(&format!("{name}: {text}"));
                    self.held
                        .insert(name, field(&text, "touched").unwrap_or(u64::MAX));
                }
                Err(why) => {
                    return Err(Failure::Scenario(format!(
                        "at minute {} the workload of {name} could not get its memory: {why}",
                        row.minute
                    )));
                }
            }
        }
        self.settle(row)?;
        self.look_inside(row)
    }

    /// Tells the workloads of these guests their new size.
    fn touch(&mut self, row: &Row, names: &[String]) -> Result<Vec<(String, Ticket)>, Failure> {
        let mut orders = Vec::new();
        for name in names {
            let (Some(figure), Some(idle)) = (row.assigned_mib.get(name), self.idle.get(name))
            else {
                return Err(Failure::Scenario(format!("{name} was never measured")));
            };
            let idle = *idle;
            let buffer = self
                .guest(name)?
                .row
                .map_or(20, |row| u64::from(row.settings.buffer_percent));
            let used_mib = figure * 100u64.saturating_sub(buffer) / 100;
            let touch_mib = used_mib.saturating_sub(idle.demand_mib);
            self.session.say(&format!(
                "{name}: to end with {figure} MiB it uses {used_mib} MiB: {touch_mib} MiB beside the {} MiB of the idle guest",
                idle.demand_mib
            ));
            orders.push((name.clone(), idle.id, touch_mib));
        }
        let ramp_ms = (self.scenario.ramp_s * 1000.0) as u64;
        let mut tickets = Vec::new();
        for (name, id, touch_mib) in orders {
            let session = &mut *self.session;
            let ticket = session
                .agents
                .send(
                    &mut session.board,
                    id,
                    &format!("touch {} {ramp_ms}", touch_mib << 20),
                )
                .map_err(|why| Failure::Scenario(format!("{name}: {why}")))?;
            tickets.push((name, ticket));
        }
        Ok(tickets)
    }

    fn settle(&mut self, row: &Row) -> Result<(), Failure> {
        let mut since_ms: Option<u64> = None;
        let settled = self.session.wait_until(
            Duration::from_secs_f64(self.scenario.settle_s),
            |session| {
                let Some(snapshot) = session.latest() else {
                    return false;
                };
                let within = row.assigned_mib.iter().all(|(name, figure)| {
                    GuestEnd::of(snapshot, name, *figure).is_some_and(|end| end.is_within())
                });
                match (within, since_ms) {
                    (false, _) => since_ms = None,
                    (true, None) => since_ms = Some(snapshot.t_ms),
                    (true, Some(since_ms)) => return snapshot.t_ms - since_ms >= SETTLED_FOR_MS,
                }
                false
            },
        )?;
        let snapshot = self.snapshot()?;
        let guests = row
            .assigned_mib
            .iter()
            .filter_map(|(name, figure)| GuestEnd::of(&snapshot, name, *figure))
            .collect();
        self.evidence.rows.push(RowEnd {
            minute: row.minute,
            expected: row.assigned_mib.len(),
            guests,
            settled,
        });
        Ok(())
    }

    /// Reads everything back, and asks each guest's own kernel.
    fn look_inside(&mut self, row: &Row) -> Result<(), Failure> {
        let names: Vec<String> = row.assigned_mib.keys().cloned().collect();
        for (name, answer) in self.ask_all(&names, |_| "meminfo".into(), COMMAND_TIMEOUT)? {
            let seen = self.guest(&name)?.row;
            let text =
                answer.map_err(|why| Failure::Scenario(format!("{name}: meminfo: {why}")))?;
            let mib = |word| field(&text, word).map(|kib| kib / 1024);
            let (Some(row_seen), Some(total), Some(available), Some(balloon)) = (
                seen,
                mib("total_kib"),
                mib("available_kib"),
                mib("balloon_kib"),
            ) else {
                return Err(Failure::Scenario(format!(
                    "{name}: meminfo answered {text:?}"
                )));
            };
            self.evidence.inside.push(Inside {
                minute: row.minute,
                guest: name,
                visible_mib: u64::from(row_seen.visible_mib),
                demand_mib: u64::from(row_seen.demand_mib),
                total_mib: total,
                available_mib: available,
                balloon_mib: balloon,
            });
        }
        for (name, answer) in self.ask_all(&names, |_| "verify".into(), VERIFY_TIMEOUT)? {
            let held = self.held.get(&name).copied().unwrap_or(0);
            let result = answer.and_then(|text| match field(&text, "verified") {
                Some(bytes) if bytes == held => Ok(bytes),
                _ => Err(format!("answered {text:?}, but wrote {held} bytes")),
            });
            self.evidence.verified.push(Verified {
                minute: row.minute,
                guest: name,
                result,
            });
        }
        for (name, answer) in self.ask_all(&names, |_| "stall".into(), COMMAND_TIMEOUT)? {
            let text = answer.map_err(|why| Failure::Scenario(format!("{name}: stall: {why}")))?;
            let stall = field(&text, "heartbeat_ms").max(field(&text, "filling_ms"));
            let longest = self.evidence.stall_ms.entry(name).or_default();
            // No figure is no good figure.
            *longest = (*longest).max(stall.unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let names: Vec<String> = self.idle.keys().cloned().collect();
        for (name, answer) in self.ask_all(&names, |_| "oom".into(), COMMAND_TIMEOUT)? {
            let kills = answer.ok().and_then(|text| field(&text, "oom_kills"));
            self.evidence.oom_kills.insert(name, kills);
        }
        self.evidence.finished = true;
        self.session.mark("the scenario has ended".into());
        Ok(())
    }
}
