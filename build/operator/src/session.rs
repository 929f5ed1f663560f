//! A run: the board, its history, and whoever watches.

use crate::agent::Agents;
use crate::board::{Board, BoardError};
use crate::record::Recording;
use crate::snapshot::Snapshot;
use protocol::management::{Answer, Event, HostBody, VERSION};
use protocol::units::GuestId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// How often a board that starts is greeted, and how long each time its answer is waited for.
const GREET_EVERY: Duration = Duration::from_millis(500);
/// The board may be silent for this long by the host's clock before the run is given up. Only this ends a run whose board hangs
/// (then no time passes on it), so it is longer than any host is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether the one who watches wants to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    GoOn,
    /// End the run.
    Quit,
}

/// Somebody or something that watches a run.
pub trait View {
    /// Called often: shows what is new, takes the operator's commands and carries them out.
    ///
    /// # Errors
    /// When the terminal fails.
    fn tick(&mut self, board: &mut Board, latest: Option<&Snapshot>) -> anyhow::Result<Flow>;
    /// Something worth reading has happened.
    fn say(&mut self, line: &str);
}

/// Why a run ended before its end.
#[derive(Debug)]
pub enum Interrupted {
    /// The operator ended it.
    Quit,
    /// The board does not answer any more.
    Board(BoardError),
    /// The terminal failed.
    View(anyhow::Error),
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quit => f.write_str("ended by the operator"),
            Self::Board(error) => write!(f, "{error}"),
            Self::View(error) => write!(f, "terminal: {error}"),
        }
    }
}

/// A moment to mark in the plot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, by the board's clock.
    pub t_ms: u64,
    /// What.
    pub title: String,
}

/// A run.
pub struct Session<'a> {
    /// The board.
    pub board: Board,
    /// The workload agents.
    pub agents: Agents,
    /// All samples.
    pub history: Vec<Snapshot>,
    /// Moments to mark.
    pub marks: Vec<Mark>,
    /// What is recorded, if it is.
    pub recording: Option<Recording>,
    view: &'a mut dyn View,
    stop: Arc<AtomicBool>,
    guests: u16,
    next_sample: Instant,
    last_sample: Instant,
}

impl<'a> Session<'a> {
    /// A run on a board that may not be up yet. `stop` ends it from outside.
    pub fn new(board: Board, view: &'a mut dyn View, stop: Arc<AtomicBool>) -> Self {
        Self {
            board,
            agents: Agents::default(),
            history: Vec::new(),
            marks: Vec::new(),
            recording: None,
            view,
            stop,
            guests: 0,
            next_sample: Instant::now(),
            last_sample: Instant::now(),
        }
    }

    /// Waits until the board answers.
    ///
    /// # Errors
    /// When it does not within `timeout`, speaks another version, or the run is ended.
    pub fn connect(&mut self, timeout: Duration) -> Result<(), Interrupted> {
        let deadline = Instant::now() + timeout;
        loop {
            // Before the board is up the watcher sees what it prints, and is heard.
            let next = Instant::now() + GREET_EVERY;
            while Instant::now() < next && self.board.next_event() != Some(Event::Ready) {
                self.tick()?;
            }
            match self.board.attempt(HostBody::Hello, 1, GREET_EVERY) {
                Ok(Answer::Hello {
                    version, guests, ..
                }) if version == VERSION => {
                    self.guests = u16::from(guests);
                    self.last_sample = Instant::now();
                    return Ok(());
                }
                Ok(Answer::Hello { version, .. }) => {
                    return Err(Interrupted::Board(BoardError::Unexpected(format!(
                        "with version {version} of the management protocol; this tool speaks {VERSION}"
                    ))));
                }
                Ok(other) => {
                    let answer = format!("{other:?}");
                    return Err(Interrupted::Board(BoardError::Unexpected(answer)));
                }
                Err(BoardError::Silent { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(Interrupted::Board(error)),
            }
        }
    }

    /// Lets a little time pass: takes what arrives, samples when it is time, serves the watcher.
    ///
    /// # Errors
    /// When the run is ended or the board is gone.
    pub fn tick(&mut self) -> Result<(), Interrupted> {
        self.board.pump(Duration::from_millis(10));
        self.agents
            .poll(&mut self.board, (0..self.guests).map(GuestId));
        let mut fresh = None;
        if self.guests > 0 && Instant::now() >= self.next_sample {
            self.sample()?;
            fresh = self.history.last();
        }
        while let Some(notice) = self.board.next_notice() {
            self.view.say(&notice);
        }
        let flow = self
            .view
            .tick(&mut self.board, fresh)
            .map_err(Interrupted::View)?;
        if flow == Flow::Quit || self.stop.load(Ordering::Relaxed) {
            return Err(Interrupted::Quit);
        }
        if self.board.is_closed() {
            return Err(Interrupted::Board(BoardError::Closed));
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<(), Interrupted> {
        self.next_sample = Instant::now() + SAMPLE_EVERY;
        match Snapshot::take(&mut self.board, self.guests) {
            Ok(snapshot) => {
                self.last_sample = Instant::now();
                if let Some(recording) = &mut self.recording {
                    recording.add(&snapshot);
                }
                self.history.push(snapshot);
                Ok(())
            }
            Err(BoardError::Closed) => Err(Interrupted::Board(BoardError::Closed)),
            Err(error) if self.last_sample.elapsed() > PATIENCE => Err(Interrupted::Board(error)),
            Err(error) => {
                self.say(&format!("no sample: {error}"));
                Ok(())
            }
        }
    }

    /// Ticks until `done` says so or `span` has passed by the board's clock; whether it was done. A host that is busy makes the
    /// board slower, and its time with it.
    ///
    /// # Errors
    /// As [`Self::tick`].
    pub fn wait_until(
        &mut self,
        span: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, Interrupted> {
        let mut deadline_ms = None;
        loop {
            self.tick()?;
            if done(self) {
                return Ok(true);
            }
            // Before the first sample nobody knows what time it is there.
            let Some(now_ms) = self.latest().map(|snapshot| snapshot.t_ms) else {
                continue;
            };
            let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            if now_ms >= *deadline_ms.get_or_insert(now_ms.saturating_add(span_ms)) {
                return Ok(false);
            }
        }
    }

    /// Forgets the oldest samples beyond `most`, a good part at a time.
    pub fn forget_beyond(&mut self, most: usize) {
        if self.history.len() > most {
            self.history.drain(..most / 2);
        }
    }

    /// The newest sample.
    #[must_use]
    pub fn latest(&self) -> Option<&Snapshot> {
        self.history.last()
    }

    /// Milliseconds since power-on by the board's clock, as of the newest sample; 0 before the first.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.latest().map_or(0, |snapshot| snapshot.t_ms)
    }

    /// Tells the watcher.
    pub fn say(&mut self, line: &str) {
        self.board.note(line);
        self.view.say(line);
    }

    /// Marks this moment.
    pub fn mark(&mut self, title: String) {
        let t_ms = self.now_ms();
        self.say(&title);
        self.marks.push(Mark { t_ms, title });
    }
}
