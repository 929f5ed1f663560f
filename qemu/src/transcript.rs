//! Running a test image to its verdict.

use crate::{Machine, Qemu};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The verdict line was seen.
    Verdict(String),
    /// QEMU ended by itself before it.
    Exited(Option<i32>),
    /// The time was over.
    TimedOut,
}

/// A run's output and ending.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// Every line of text, without line ends.
    pub lines: Vec<String>,
    /// How it ended.
    pub ending: Ending,
    /// What QEMU itself complained about.
    pub complaints: String,
}

/// Runs `image` until a line for which `is_verdict` holds, the machine's end, or `limit` of wall time. The output is
/// kept in `log` as it came.
///
/// # Errors
/// When QEMU cannot be started or the log cannot be written.
pub fn run_to_verdict(
    machine: &Machine,
    image: &Path,
    limit: Duration,
    log: &Path,
    is_verdict: impl Fn(&str) -> bool,
) -> io::Result<Transcript> {
    if let Some(directory) = log.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut log = std::fs::File::create(log)?;
    let (mut qemu, mut reader, writer) = Qemu::start(machine, image)?;
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    let pump = std::thread::spawn(move || {
        let mut buffer = [0u8; 4096];
        while let Ok(count) = reader.read(&mut buffer) {
            if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    let until = Instant::now() + limit;
    let mut lines = Vec::new();
    let mut partial = Vec::new();
    let ending = 'run: loop {
        let left = until.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(bytes) => {
                log.write_all(&bytes)?;
                partial.extend_from_slice(&bytes);
                while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = partial.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    lines.push(line.clone());
                    if is_verdict(&line) {
                        break 'run Ending::Verdict(line);
                    }
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break Ending::TimedOut,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = qemu.wait(Duration::from_secs(2))?;
                break Ending::Exited(status.and_then(|status| status.code()));
            }
        }
    };
    drop(writer);
    let complaints = qemu.stop();
    if !complaints.is_empty() {
        writeln!(log, "\n--- QEMU ---\n{complaints}")?;
    }
    let _ = pump.join();
    if !partial.is_empty() {
        lines.push(String::from_utf8_lossy(&partial).into_owned());
    }
    Ok(Transcript {
        lines,
        ending,
        complaints,
    })
}
