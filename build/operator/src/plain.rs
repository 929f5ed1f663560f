//! A watcher for output that is no terminal: lines, and the table now and then.

use crate::board::Board;
use crate::session::{Flow, View};
use crate::snapshot::Snapshot;
use crate::table;
use std::io::Write;
use std::time::{Duration, Instant};

/// Time between two tables.
const TABLE_EVERY: Duration = Duration::from_secs(5);

/// The watcher.
pub struct Plain<W> {
    output: W,
    next_table: Instant,
}

impl<W: Write> Plain<W> {
    /// Writes to `output`.
    pub fn new(output: W) -> Self {
        Self {
            output,
            next_table: Instant::now(),
        }
    }
}

impl<W: Write> View for Plain<W> {
    fn tick(&mut self, _: &mut Board, latest: Option<&Snapshot>) -> anyhow::Result<Flow> {
        if let Some(snapshot) = latest
            && Instant::now() >= self.next_table
        {
            self.next_table = Instant::now() + TABLE_EVERY;
            writeln!(self.output, "{}\n", table::plain(snapshot))?;
        }
        Ok(Flow::GoOn)
    }

    fn say(&mut self, line: &str) {
        // Output that has gone away is no reason to end a run that writes a report.
        let _ = writeln!(self.output, "{line}");
    }
}
