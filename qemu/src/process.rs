//! A running machine.

use crate::probe::{Prepared, Probe};
use crate::{Machine, PROGRAM};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The processes that this one has started and not yet ended.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn running() -> std::sync::MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the board says on the line.
pub type LineReader = ChildStdout;
/// What the operator says on the line.
pub type LineWriter = ChildStdin;

/// A running machine. Dropping it ends it.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    stderr: Option<ChildStderr>,
}

impl Qemu {
    /// Starts a machine with `image`. Its process is in a group of its own, so that a terminal's Ctrl-C reaches only us;
    /// it ends at the latest with the thread that called this.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start(machine: &Machine, image: &Path) -> io::Result<(Self, LineReader, LineWriter)> {
        Self::spawn(machine.arguments(image))
    }

    /// [`Self::start`] for a machine that can be looked into.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start_with_probe(
        machine: &Machine,
        image: &Path,
    ) -> io::Result<(Self, Probe, LineReader, LineWriter)> {
        let prepared = Prepared::new(machine)?;
        let mut arguments = machine.arguments(image);
        arguments.extend(prepared.arguments.iter().cloned());
        let (qemu, reader, writer) = Self::spawn(arguments)?;
        Ok((qemu, prepared.finish(), reader, writer))
    }

    fn spawn(arguments: Vec<OsString>) -> io::Result<(Self, LineReader, LineWriter)> {
        // Held until the machine is in the list: an interrupt in between would leave it running.
        let mut list = running();
        let mut child = dies_with_us(PROGRAM)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("{PROGRAM} cannot be started: {error}"),
                )
            })?;
        list.push(child.id());
        drop(list);
        let pipe = || io::Error::other("QEMU's standard input and output are not pipes");
        let reader = child.stdout.take().ok_or_else(pipe)?;
        let writer = child.stdin.take().ok_or_else(pipe)?;
        let stderr = child.stderr.take();
        Ok((Self { child, stderr }, reader, writer))
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the process cannot be asked.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end for at most `limit`; `None` when it still runs.
    ///
    /// # Errors
    /// When the process cannot be asked.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it, and gives back what QEMU itself complained about.
    pub fn stop(&mut self) -> String {
        let id = self.child.id();
        let _ = self.child.kill();
        let _ = self.child.wait();
        running().retain(|other| *other != id);
        let mut complaints = String::new();
        if let Some(mut stderr) = self.stderr.take() {
            let _ = stderr.read_to_string(&mut complaints);
        }
        complaints
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A command whose process ends when the thread that started it does, even when nothing of ours runs any more to end it
/// (a SIGKILL): where util-linux's `setpriv` is there, as on every Debian, it asks the kernel for that and becomes `program`.
fn dies_with_us(program: &str) -> Command {
    let probe = Command::new(SETPRIV)
        .args(DEATH_SIGNAL)
        .arg("true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(DEATH_SIGNAL).arg(program);
    command
}

const SETPRIV: &str = "setpriv";
const DEATH_SIGNAL: [&str; 3] = ["--pdeathsig", "KILL", "--"];

/// Ends every machine that this process has started, and lets none start any more: for a signal handler that is about to
/// exit.
pub fn stop_all() {
    let mut list = running();
    for id in list.drain(..) {
        let _ = Command::new("kill")
            .args(["-KILL", &id.to_string()])
            .status();
    }
    std::mem::forget(list);
    let _ = io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn nothing_is_left_running_by_who_could_not_end_it() {
        const SIGKILL: i32 = 9;
        let until = Instant::now() + Duration::from_secs(30);
        let starter = std::thread::spawn(move || {
            let child = dies_with_us("sleep").arg("600").spawn().unwrap();
            let name = format!("/proc/{}/comm", child.id());
            // It has asked for the signal once it is what it was to become.
            while Instant::now() < until
                && std::fs::read_to_string(&name).is_ok_and(|name| name.trim() != "sleep")
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            child
        });
        let mut child = starter.join().unwrap();
        while Instant::now() < until {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // One that still runs is ended otherwise.
        let _ = std::process::Command::new("kill")
            .arg(child.id().to_string())
            .status();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
    }
}
