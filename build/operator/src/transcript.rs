//! Everything that came over the line, as text in a file, one line each with the time.

use crate::board::PortId;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

/// A transcript, or nothing when nobody wants one.
pub struct Transcript {
    file: Option<Box<dyn Write + Send>>,
    start: Instant,
    /// The unfinished line of each port.
    partial: BTreeMap<PortId, Vec<u8>>,
}

impl Transcript {
    /// Writes to `file`, if any.
    #[must_use]
    pub fn new(file: Option<Box<dyn Write + Send>>) -> Self {
        Self {
            file,
            start: Instant::now(),
            partial: BTreeMap::new(),
        }
    }

    /// Notes a line. A file that cannot be written any more is given up: the run matters more.
    pub fn line(&mut self, who: &str, line: &str) {
        let at = self.start.elapsed().as_secs_f64();
        if let Some(file) = &mut self.file
            && writeln!(file, "[{at:9.3}] {who}: {line}")
                .and_then(|()| file.flush())
                .is_err()
        {
            self.file = None;
        }
    }

    /// Notes bytes of a port, line by line.
    pub fn port(&mut self, port: PortId, bytes: &[u8]) {
        if self.file.is_none() {
            return;
        }
        let mut partial = self.partial.remove(&port).unwrap_or_default();
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&partial).into_owned();
                    let what = if port.port == 0 { "console" } else { "agent" };
                    self.line(&format!("guest {} {what}", port.guest), &line);
                    partial.clear();
                }
                b'\r' => {}
                byte if partial.len() < 1000 => partial.push(*byte),
                _ => {}
            }
        }
        self.partial.insert(port, partial);
    }
}
