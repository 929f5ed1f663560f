//! Plays a scenario: starts guests, drives their workloads, waits until each row has settled, collects what the checks
//! need.

mod ask;

use crate::agent::field;
use crate::checks::{Evidence, GuestEnd, Inside, RowEnd, Started, Verified};
use crate::scenario::{Row, Scenario};
use crate::session::{Interrupted, Session};
use crate::snapshot::{Guest, Snapshot};
use ask::Asked;
use protocol::management::HostBody;
use protocol::supervisor::GuestState;
use protocol::units::GuestId;
use std::collections::BTreeMap;
use std::time::Duration;

// All spans are by the board's clock: a busy host makes the board slower, and fails nothing.

/// Assigned memory must have stayed within the tolerance for this long for a row to have settled.
const SETTLED_FOR_MS: u64 = 3000;
/// A workload that reads everything back may take this long.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// Beyond its ramp a workload may take this long: it gets its memory at the guest's pace.
const TOUCH_SLACK: Duration = Duration::from_secs(60);
/// Other commands are answered at once by a guest that runs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// A guest that is refused a start may be starting already; its state shows within this time.
const START_GRACE: Duration = Duration::from_secs(2);

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

    /// Waits until so many minutes of the timetable have passed since `begin_ms`.
    fn wait_for_minute(&mut self, begin_ms: u64, minute: f64) -> Result<(), Failure> {
        let at = self.scenario.time_of(minute);
        let due_ms = begin_ms + at.as_millis() as u64;
        let left = Duration::from_millis(due_ms.saturating_sub(self.session.now_ms()));
        self.session.wait_until(left, |_| false)?;
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
        self.measure_idle(names)?;
        // What happened while they booted is not part of the scenario.
        for (name, answer) in self.ask_all(names, "stall", COMMAND_TIMEOUT)? {
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
    fn touch(&mut self, row: &Row, names: &[String]) -> Result<Vec<Asked>, Failure> {
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
        let mut asked = Vec::new();
        for (name, id, touch_mib) in orders {
            let command = format!("touch {} {ramp_ms}", touch_mib << 20);
            asked.push(self.order(&name, id, &command)?);
        }
        Ok(asked)
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
        for (name, answer) in self.ask_all(&names, "meminfo", COMMAND_TIMEOUT)? {
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
        for (name, answer) in self.ask_all(&names, "verify", VERIFY_TIMEOUT)? {
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
        for (name, answer) in self.ask_all(&names, "stall", COMMAND_TIMEOUT)? {
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
        for (name, answer) in self.ask_all(&names, "oom", COMMAND_TIMEOUT)? {
            let kills = answer.ok().and_then(|text| field(&text, "oom_kills"));
            self.evidence.oom_kills.insert(name, kills);
        }
        self.evidence.finished = true;
        self.session.mark("the scenario has ended".into());
        Ok(())
    }
}
