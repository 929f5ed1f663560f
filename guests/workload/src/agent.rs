//! The agent: takes commands line by line, carries them out, answers.

use crate::burst::{self, Load};
use crate::clock::{Clock, LongestGap};
use crate::command::{Command, parse, split_tag};
use crate::proc::{MemInfo, VmStat};
use crate::set::Set;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};

/// Where the guest kernel's figures come from.
pub trait Kernel {
    /// The text of `/proc/meminfo`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn meminfo(&self) -> io::Result<String>;
    /// The text of `/proc/vmstat`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn vmstat(&self) -> io::Result<String>;
}

/// The running kernel.
#[derive(Clone, Copy, Debug)]
pub struct Running;

impl Kernel for Running {
    fn meminfo(&self) -> io::Result<String> {
        std::fs::read_to_string("/proc/meminfo")
    }

    fn vmstat(&self) -> io::Result<String> {
        std::fs::read_to_string("/proc/vmstat")
    }
}

/// Longest line that is taken; longer ones are answered with an error.
const LINE_BYTES: usize = 256;

/// Whether the agent goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits for the next command.
    GoOn,
    /// It was told to end.
    End,
}

/// The agent.
pub struct Agent<K, C> {
    set: Set,
    kernel: K,
    clock: C,
    /// How long the heartbeat was late.
    heartbeat: LongestGap,
    /// How long one step of filling took.
    filling: LongestGap,
}

impl<K: Kernel, C: Clock> Agent<K, C> {
    /// An agent with an empty set. `heartbeat` is what [`crate::clock::start_heartbeat`] writes.
    pub fn new(seed: u64, kernel: K, clock: C, heartbeat: LongestGap) -> Self {
        let filling = LongestGap::default();
        Self {
            set: Set::new(seed, filling.clone()),
            kernel,
            clock,
            heartbeat,
            filling,
        }
    }

    /// Carries out one line and returns the answer without a line end.
    pub fn answer(&mut self, line: &str) -> (String, Next) {
        let (tag, text) = split_tag(line);
        let mut answer = String::new();
        if let Some(tag) = tag {
            let _ = write!(answer, "#{tag} ");
        }
        let (result, next) = match parse(text) {
            Ok(Command::Exit) => (Ok("bye".to_owned()), Next::End),
            Ok(command) => (self.carry_out(command), Next::GoOn),
            Err(error) => (Err(error.to_string()), Next::GoOn),
        };
        let _ = match result {
            Ok(text) => write!(answer, "ok {text}"),
            Err(text) => write!(answer, "error {text}"),
        };
        (answer, next)
    }

    fn carry_out(&mut self, command: Command) -> Result<String, String> {
        match command {
            Command::Hello => Ok(format!(
                "workload {} seed {:#x}",
                env!("CARGO_PKG_VERSION"),
                self.set.seed()
            )),
            Command::Touch { bytes, ramp } => {
                let start = self.clock.now();
                self.set
                    .resize(bytes, ramp, &mut self.clock)
                    .map_err(|error| format!("no memory beyond {} bytes", error.held))?;
                let took = self.clock.now().saturating_sub(start);
                Ok(format!(
                    "touched {} took_ms {}",
                    self.set.bytes(),
                    took.as_millis()
                ))
            }
            Command::Verify => Ok(format!("verified {}", self.verify()?)),
            Command::Work { bytes } => {
                let mut worked = 0;
                while worked < bytes {
                    match self.verify()? {
                        0 => return Err("there is nothing to read".to_owned()),
                        more => worked += more,
                    }
                }
                Ok(format!("worked {worked}"))
            }
            Command::Free => {
                let bytes = self.set.bytes();
                self.set.clear();
                Ok(format!("freed {bytes}"))
            }
            Command::MemInfo => {
                let text = self.kernel.meminfo().map_err(|error| error.to_string())?;
                let info = MemInfo::parse(&text).map_err(|error| error.to_string())?;
                let balloon_pages = self.vmstat()?.balloon_pages;
                Ok(format!(
                    "total_kib {} available_kib {} free_kib {} balloon_kib {} huge_kib {} hugetlb_kib {}",
                    info.total_kib,
                    info.available_kib,
                    info.free_kib,
                    balloon_pages * 4,
                    info.huge_kib,
                    info.hugetlb_kib
                ))
            }
            Command::Burst(load) => self.burst(load),
            Command::Stall => Ok(format!(
                "heartbeat_ms {} filling_ms {}",
                self.heartbeat.take().as_millis(),
                self.filling.take().as_millis()
            )),
            Command::Oom => Ok(format!("oom_kills {}", self.vmstat()?.oom_kills)),
            Command::Exit => Ok("bye".to_owned()),
        }
    }

    /// Runs a load in a process of its own, and says how long it took and how many processes were killed meanwhile.
    fn burst(&self, load: Load) -> Result<String, String> {
        let before = self.vmstat()?.oom_kills;
        let said = burst::in_a_child(load).map_err(|error| error.to_string())?;
        let kills = self.vmstat()?.oom_kills.saturating_sub(before);
        Ok(format!("burst {said} kills {kills}"))
    }

    fn verify(&self) -> Result<u64, String> {
        self.set.verify().map_err(|lost| {
            format!(
                "at {:#x} of {:#x} found {:#018x} expected {:#018x}",
                lost.offset,
                self.set.bytes(),
                lost.found,
                lost.expected
            )
        })
    }

    fn vmstat(&self) -> Result<VmStat, String> {
        let text = self.kernel.vmstat().map_err(|error| error.to_string())?;
        VmStat::parse(&text).map_err(|error| error.to_string())
    }

    /// Serves until `exit` or the end of the input. Empty lines are skipped.
    ///
    /// # Errors
    /// When input or output fails.
    pub fn serve(&mut self, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let (answer, next) = if line.len() > LINE_BYTES {
                let error = format!(
                    "error a line may have {LINE_BYTES} bytes, found {}",
                    line.len()
                );
                (error, Next::GoOn)
            } else {
                self.answer(&String::from_utf8_lossy(&line))
            };
            writeln!(output, "{answer}")?;
            output.flush()?;
            if next == Next::End {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use std::time::Duration;

    struct Fake;

    impl Kernel for Fake {
        fn meminfo(&self) -> io::Result<String> {
            Ok("MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 500 kB\n".into())
        }

        fn vmstat(&self) -> io::Result<String> {
            Ok("oom_kill 2\nballoon_inflate 30\nballoon_deflate 10\n".into())
        }
    }

    fn agent() -> Agent<Fake, System> {
        Agent::new(0xabc, Fake, System::default(), LongestGap::default())
    }

    fn serve(input: &str) -> Vec<String> {
        let mut output = Vec::new();
        agent().serve(&mut input.as_bytes(), &mut output).unwrap();
        String::from_utf8(output)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn each_line_gets_one_answer_with_its_tag() {
        let answers = serve(
            "#1 hello\n\n#2 touch 2097152\n#3 verify\nmeminfo\n#5 oom\n#6 work 3000000\n#6 free\n#7 verify\n#8 grow\nexit\nverify\n",
        );
        let expected = [
            "#1 ok workload 0.1.0 seed 0xabc",
            "#2 ok touched 2097152 took_ms ",
            "#3 ok verified 2097152",
            "ok total_kib 1000 available_kib 500 free_kib 300 balloon_kib 80 huge_kib 0 hugetlb_kib 0",
            "#5 ok oom_kills 2",
            "#6 ok worked 4194304",
            "#6 ok freed 2097152",
            "#7 ok verified 0",
            "#8 error no command \"grow\"; there are hello, touch, verify, work, free, meminfo, burst, stall, oom, exit",
            "ok bye",
        ];
        assert_eq!(answers.len(), expected.len(), "{answers:#?}");
        for (answer, expected) in answers.iter().zip(expected) {
            assert!(answer.starts_with(expected), "{answer} is not {expected}");
        }
    }

    #[test]
    fn a_stall_is_reported_once() {
        let mut agent = agent();
        agent.heartbeat.note(Duration::from_millis(1234));
        assert_eq!(agent.answer("stall").0, "ok heartbeat_ms 1234 filling_ms 0");
        assert_eq!(agent.answer("stall").0, "ok heartbeat_ms 0 filling_ms 0");
    }

    #[test]
    fn bad_input_is_answered_and_the_agent_goes_on() {
        let long = "x".repeat(300);
        let answers = serve(&format!("{long}\n\u{fffd}\u{0}\n#9 verify\n"));
        assert_eq!(answers[0], "error a line may have 256 bytes, found 301");
        assert!(answers[1].starts_with("error no command"));
        assert_eq!(answers[2], "#9 ok verified 0");
    }
}
