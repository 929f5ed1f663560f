//! A running system and the hands on it.

use crate::{Setting, Watch};
use anyhow::{Context as _, Result, bail, ensure};
use inspect::{Anchor, Figures, Findings, NotRam, Ram};
use operator::agent::Agents;
use operator::board::{Board, BoardError, PortId};
use operator::logs::Logs;
use operator::snapshot::{Guest, Snapshot};
use operator::transcript::Transcript;
use protocol::balancer::Change;
use protocol::console::Port;
use protocol::management::{Answer, Event, HostBody, VERSION};
use protocol::supervisor::GuestState;
use protocol::units::GuestId;
use qemu_machine::Qemu;
use std::path::Path;
use std::time::{Duration, Instant};

/// Wall time for anything that has to happen. Nothing asserts how long it took: this only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long an agent may take for an answer where several are asked, in milliseconds of the board's time.
const ANSWER_MS: u64 = 240_000;
/// How often memory is looked at while something is awaited.
pub const EVERY: Duration = Duration::from_millis(100);
/// For so many times as long as a look takes the machine is left alone after it.
const LEFT_ALONE: u32 = 5;
/// Looks at two guests or more that a case must have had.
const LEAST_LOOKS: u64 = 1;

/// A booted system.
pub struct Rig {
    /// The board.
    pub board: Board,
    agents: Agents,
    guests: u16,
    said: Vec<String>,
    watch: Watch,
    /// When memory is looked at next.
    next_walk: Option<Instant>,
    /// How often that is done at most.
    look_every: Duration,
    _qemu: Qemu,
}

impl Rig {
    /// Boots, and waits until the board answers and the guests that start at boot run.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn boot(setting: &Setting, log: &Path) -> Result<Self> {
        let mut logs = Logs::default();
        for (name, file) in &setting.programs {
            let elf = std::fs::read(file).with_context(|| file.display().to_string())?;
            logs.add_program(name, &elf)?;
        }
        std::fs::create_dir_all(&setting.logs)?;
        let transcript = Transcript::new(Some(Box::new(std::fs::File::create(log)?)));
        let (qemu, probe, input, output) =
            Qemu::start_with_probe(&setting.machine, &setting.image)?;
        let mut rig = Self {
            board: Board::new(Box::new(input), Box::new(output), logs, transcript),
            agents: Agents::default(),
            guests: 0,
            said: Vec::new(),
            watch: Watch::new(probe),
            next_walk: None,
            look_every: EVERY,
            _qemu: qemu,
        };
        let until = Instant::now() + PATIENCE;
        while rig.guests == 0 {
            match rig.board.request(HostBody::Hello) {
                Ok(Answer::Hello {
                    version, guests, ..
                }) => {
                    ensure!(version == VERSION, "the board speaks version {version}");
                    rig.guests = u16::from(guests);
                }
                Ok(other) => bail!("the board greets with {other:?}"),
                Err(error) if rig.board.is_closed() || Instant::now() >= until => {
                    return Err(error).context("the board does not come up");
                }
                Err(_) => {}
            }
        }
        Ok(rig)
    }

    /// Looks at the machine's memory from outside. The guests that ran before and after it must be in what was seen.
    ///
    /// # Errors
    /// When a rule is broken, or too little was seen.
    pub fn walk(&mut self) -> Result<Figures> {
        let before = Snapshot::take(&mut self.board, self.guests)?;
        let figures = self
            .watch
            .look()?
            .context("the kernel's state, or the memory server's, is not found")?;
        let after = Snapshot::take(&mut self.board, self.guests)?;
        let ran = |guest: &&Guest| {
            let then = after.guest(&guest.name);
            let states = [Some(guest.state), then.map(|then| then.state)];
            // Between a grant and its mapping there is a moment.
            states == [Some(GuestState::Running); 2]
                && then.is_some_and(|then| then.starts == guest.starts)
                && guest.row.is_some_and(|row| row.assigned.0 >= 2)
        };
        let ran = before.guests.iter().filter(ran).count();
        ensure!(
            figures.guests >= ran && figures.guest_pieces >= ran,
            "{ran} guests run, and that was seen: {figures}"
        );
        self.board.note(&format!("from outside: {figures}"));
        Ok(figures)
    }

    /// Says how often memory is looked at from outside while something is awaited: a large system takes the host some tenths
    /// of a second each time.
    pub const fn look_every(&mut self, distance: Duration) {
        self.look_every = distance;
    }

    /// Looks at the machine's memory from outside, unless that was done a moment ago.
    fn glance(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.next_walk.is_none_or(|next| now >= next) {
            self.watch.look()?;
            // The more there is to look at the less often, so that the machine gets on.
            self.next_walk = Some(now + self.look_every + now.elapsed() * LEFT_ALONE);
        }
        Ok(())
    }

    /// Looks at the machine's memory as the given function does, and returns what that complains about.
    ///
    /// # Errors
    /// When the machine cannot be looked at.
    pub fn complaints(
        &mut self,
        how: impl FnOnce(&dyn Ram, &Anchor) -> Result<Findings, NotRam>,
    ) -> Result<Vec<String>> {
        let findings = self.watch.look_as(how)?;
        Ok(findings
            .context("the kernel's state is not found")?
            .problems)
    }

    /// The end: everything once more, and what all looks together have seen.
    ///
    /// # Errors
    /// As [`Self::walk`], and when all of them together saw too little.
    pub fn finish(&mut self) -> Result<()> {
        self.walk().context("after the test")?;
        let tally = *self.watch.tally();
        self.board
            .note(&format!("from outside, altogether: {tally}"));
        ensure!(
            tally.with_guests >= LEAST_LOOKS,
            "guests were hardly looked at: {tally}"
        );
        Ok(())
    }

    /// One look at everything. In every one memory must be accounted for, to the frame (M1), no running guest is above
    /// its maximum (M2), and what is promised is there (M3).
    ///
    /// # Errors
    /// When the board does not answer, or a promise is broken.
    pub fn look(&mut self) -> Result<Snapshot> {
        let snapshot = Snapshot::take(&mut self.board, self.guests)?;
        let counted = &snapshot.counted;
        ensure!(
            snapshot.is_conserved(),
            "frames are not accounted for: {counted:?}"
        );
        ensure!(
            counted.promised <= counted.pool.plus(counted.cleaning),
            "more is promised than there is: {counted:?}"
        );
        for guest in &snapshot.guests {
            if let Some(row) = &guest.row {
                ensure!(
                    row.assigned.plus(row.reported) <= row.settings.bounds.maximum,
                    "{} has more than its maximum: {row:?}",
                    guest.name
                );
            }
        }
        self.listen();
        self.glance()?;
        Ok(snapshot)
    }

    /// Looks until something holds.
    ///
    /// # Errors
    /// With what was awaited and what was seen last, when it does not come.
    pub fn wait_for(&mut self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Result<Snapshot> {
        let until = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.look().with_context(|| format!("waiting for {what}"))?;
            if holds(&snapshot) {
                return Ok(snapshot);
            }
            ensure!(
                Instant::now() < until,
                "waited in vain for {what}; the last that was seen: {:?}, guests {:?}; said: {:?}",
                snapshot.counted,
                snapshot.guests,
                self.said
            );
            self.board.pump(Duration::from_millis(100));
        }
    }

    /// Waits until a guest is in a state.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn wait_state(&mut self, name: &str, state: GuestState) -> Result<Snapshot> {
        self.wait_for(&format!("{name} to be {state:?}"), |snapshot| {
            snapshot
                .guest(name)
                .is_some_and(|guest| guest.state == state)
        })
    }

    /// Waits until a guest's agent answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_agent(&mut self, name: &str) -> Result<()> {
        self.wait_state(name, GuestState::Running)?;
        let until = Instant::now() + PATIENCE;
        while self
            .try_ask(name, "hello", Duration::from_secs(3))?
            .is_none()
        {
            ensure!(Instant::now() < until, "{name} does not answer");
        }
        Ok(())
    }

    /// Gives a guest's agent a command and returns its answer.
    ///
    /// # Errors
    /// When there is none, or it is an error.
    pub fn ask(&mut self, name: &str, command: &str) -> Result<String> {
        match self.try_ask(name, command, PATIENCE)? {
            Some(answer) => Ok(answer),
            None => bail!("{name} does not answer `{command}`"),
        }
    }

    /// Like [`Self::ask`]; `None` when no answer comes within `limit`, which a misbehaving guest owes nobody.
    ///
    /// # Errors
    /// When the answer is an error, or the board itself is silent.
    pub fn try_ask(
        &mut self,
        name: &str,
        command: &str,
        limit: Duration,
    ) -> Result<Option<String>> {
        self.try_ask_watching(name, command, limit, &mut |_| Ok(()))
    }

    /// Like [`Self::try_ask`], with something to do again and again while there is no answer.
    ///
    /// # Errors
    /// As [`Self::try_ask`], and what `watch` says.
    pub fn try_ask_watching(
        &mut self,
        name: &str,
        command: &str,
        limit: Duration,
        watch: &mut dyn FnMut(&mut Self) -> Result<()>,
    ) -> Result<Option<String>> {
        let guest = self.id(name)?;
        let ticket = match self.agents.send(&mut self.board, guest, command) {
            Ok(ticket) => ticket,
            Err(BoardError::Refused(_)) => {
                // The guest does not read its port (yet).
                self.board.pump(Duration::from_millis(200));
                return Ok(None);
            }
            Err(error) => return Err(error).context(format!("`{command}` for {name}")),
        };
        while ticket.age() < limit {
            self.board.pump(Duration::from_millis(50));
            self.glance()?;
            watch(self)?;
            self.agents.poll(&mut self.board, std::iter::once(guest));
            if let Some(answer) = self.agents.answer(&ticket) {
                return answer
                    .map(Some)
                    .map_err(|why| anyhow::anyhow!("{name} answered `{command}` with: {why}"));
            }
        }
        Ok(None)
    }

    /// Gives guests' agents a command each and waits for all answers; `seen` gets every sample meanwhile. Who answers with an
    /// error, whose kernel kills a process, or who says nothing for too long by the board's clock, has an error for an answer.
    ///
    /// # Errors
    /// When the board itself is silent, or a promise is broken.
    pub fn ask_all(
        &mut self,
        commands: &[(String, String)],
        mut seen: impl FnMut(&Snapshot),
    ) -> Result<Vec<Result<String, String>>> {
        let mut waiting = Vec::new();
        for (name, command) in commands {
            let guest = self.id(name)?;
            waiting.push((name, self.agents.send(&mut self.board, guest, command)?));
        }
        let mut answers: Vec<Option<Result<String, String>>> = vec![None; waiting.len()];
        let begin_ms = self.look()?.t_ms;
        while answers.iter().any(Option::is_none) {
            self.board.pump(EVERY);
            let snapshot = self.look()?;
            seen(&snapshot);
            let guests = (0..self.guests).map(GuestId);
            self.agents.poll(&mut self.board, guests);
            for ((name, ticket), answer) in waiting.iter().zip(&mut answers) {
                if answer.is_some() {
                    continue;
                }
                let row = snapshot.guest(name).and_then(|guest| guest.row);
                *answer = self.agents.answer(ticket).or_else(|| {
                    if row.is_some_and(|row| row.oom_kills > 0) {
                        Some(Err("its kernel killed a process".to_owned()))
                    } else if snapshot.t_ms >= begin_ms + ANSWER_MS {
                        Some(Err("it does not answer".to_owned()))
                    } else {
                        None
                    }
                });
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// A guest as it is now.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn guest(&mut self, name: &str) -> Result<Guest> {
        self.look()?
            .guest(name)
            .cloned()
            .with_context(|| format!("there is no guest {name}"))
    }

    /// A guest's number.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn id(&mut self, name: &str) -> Result<GuestId> {
        Ok(self.guest(name)?.id)
    }

    /// Asks the supervisor for something about a guest.
    ///
    /// # Errors
    /// When it is refused.
    pub fn command(&mut self, name: &str, body: fn(GuestId) -> HostBody) -> Result<()> {
        let guest = self.id(name)?;
        Ok(self.board.command(body(guest))?)
    }

    /// Changes a setting of a running guest.
    ///
    /// # Errors
    /// When it is refused.
    pub fn set(&mut self, name: &str, change: Change) -> Result<()> {
        let guest = self.id(name)?;
        Ok(self.board.command(HostBody::Set { guest, change })?)
    }

    /// The last that a guest wrote on its console.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn console(&mut self, name: &str) -> Result<String> {
        let guest = self.id(name)?;
        let bytes = self.board.backlog(PortId::new(guest, Port::Console));
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Types a line on a guest's console.
    ///
    /// # Errors
    /// When the board does not take it.
    pub fn type_line(&mut self, name: &str, line: &str) -> Result<()> {
        let guest = self.id(name)?;
        let bytes = format!("{line}\n");
        Ok(self.board.input(guest, Port::Console, bytes.as_bytes())?)
    }

    /// Waits until a guest has written this on its console.
    ///
    /// # Errors
    /// With what it wrote, when it does not.
    pub fn wait_console(&mut self, name: &str, text: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let console = self.console(name)?;
            if console.contains(text) {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "{name} does not write `{text}`; it wrote {console:?}"
            );
            self.board.pump(Duration::from_millis(100));
        }
    }

    /// Waits until components have said a line with this in it.
    ///
    /// # Errors
    /// With all that was said, when nobody says it.
    pub fn wait_said(&mut self, text: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.listen();
            if self.said.iter().any(|line| line.contains(text)) {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "nobody says `{text}`; said: {:?}",
                self.said
            );
            self.board.pump(Duration::from_millis(100));
        }
    }

    /// How long the board takes for a request, in microseconds of its own time: the median of some, because bytes on
    /// the line wait for the host now and then.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn median_us(&mut self, body: &HostBody) -> Result<u64> {
        const TIMES: usize = 15;
        let mut times = Vec::new();
        for _ in 0..4 * TIMES {
            if let Some((ticks, hz)) = self.board.timed(body.clone())? {
                times.push(ticks.saturating_mul(1_000_000) / hz.max(1));
            }
            if times.len() == TIMES {
                times.sort_unstable();
                return Ok(times[TIMES / 2]);
            }
        }
        bail!("too many answers to {body:?} got lost")
    }

    /// What components have said so far.
    pub fn said(&mut self) -> &[String] {
        self.listen();
        &self.said
    }

    /// Waits until nothing is being cleaned any more: every frame is in the pool or granted.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn settle(&mut self) -> Result<Snapshot> {
        self.wait_for("all returned memory to be clean", |snapshot| {
            snapshot.counted.cleaning.0 == 0
        })
    }

    fn listen(&mut self) {
        while let Some(event) = self.board.next_event() {
            if let Event::Say { text, .. } = event {
                self.said.push(text.to_string());
            }
        }
    }
}
