//! Looking into a machine from outside: it is stopped, its memory read, and it goes on without having noticed.
//!
//! The machine's RAM is a file without a name that this process has open as well, and its monitor is the other end of a socket
//! pair, so nothing listens anywhere and nothing is left behind.

use crate::Machine;
use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where QEMU's `virt` has its RAM, in one piece however much it is.
const RAM: u64 = 1 << 30;
/// How long the monitor may take for an answer: many times what a busy host needs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the machine is stopped anew because it was in the middle of something.
const ATTEMPTS: u32 = 20_000;
/// What it is left alone for in between.
const PAUSE: Duration = Duration::from_micros(300);
/// Wait For Interrupt.
const WFI: u32 = 0xd503_207f;

/// A machine's memory and its monitor.
#[derive(Debug)]
pub struct Probe {
    memory: Memory,
    monitor: Monitor,
}

/// The memory of a machine that stands still.
#[derive(Debug)]
pub struct Memory {
    file: File,
    bytes: u64,
}

impl Memory {
    /// The physical addresses that are RAM.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        RAM..RAM + self.bytes
    }

    /// Reads from a physical address on.
    ///
    /// # Errors
    /// When not all of it is RAM.
    pub fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let offset = at.checked_sub(RAM).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.read_exact_at(into, offset)
    }
}

/// What becomes of a [`Probe`] when the machine runs, and what is QEMU's until then.
pub(crate) struct Prepared {
    pub arguments: Vec<OsString>,
    probe: Probe,
    theirs: (OwnedFd, OwnedFd),
}

impl Prepared {
    /// Memory and monitor for a machine that does not run yet. The ends that are QEMU's stay open in whatever process is
    /// started from now on, until [`Self::finish`].
    pub fn new(machine: &Machine) -> io::Result<Self> {
        let bytes = machine.memory_mib << 20;
        let theirs = rustix::fs::memfd_create("ram", MemfdFlags::CLOEXEC)?;
        let file = File::from(theirs.try_clone()?);
        file.set_len(bytes)?;
        let (ours, monitor) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let theirs = (theirs, OwnedFd::from(monitor));
        for fd in [&theirs.0, &theirs.1] {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        let (ram, socket) = (theirs.0.as_raw_fd(), theirs.1.as_raw_fd());
        let arguments = [
            "-object".to_owned(),
            format!(
                "memory-backend-file,id=ram,size={bytes},mem-path=/proc/self/fd/{ram},share=on"
            ),
            "-machine".to_owned(),
            "memory-backend=ram".to_owned(),
            "-chardev".to_owned(),
            format!("socket,id=probe,fd={socket}"),
            "-mon".to_owned(),
            "chardev=probe,mode=control".to_owned(),
        ];
        Ok(Self {
            arguments: arguments.map(OsString::from).to_vec(),
            probe: Probe {
                memory: Memory { file, bytes },
                monitor: Monitor {
                    line: BufReader::new(ours),
                    greeted: Greeted::NotYet,
                },
            },
            theirs,
        })
    }

    /// QEMU has been started: its ends are its own.
    pub fn finish(self) -> Probe {
        drop(self.theirs);
        self.probe
    }
}

impl Probe {
    /// Stops the machine where user level runs, or nobody does, looks, and lets it go on. No time passes in it meanwhile.
    ///
    /// # Errors
    /// When QEMU does not answer, or the machine is never found outside of the kernel.
    pub fn frozen<T>(&mut self, look: impl FnOnce(&Memory) -> T) -> io::Result<T> {
        self.monitor.greet()?;
        for _ in 0..ATTEMPTS {
            self.monitor.execute("stop", json!({}))?;
            if self.monitor.is_outside_the_kernel()? {
                let seen = look(&self.memory);
                self.monitor.execute("cont", json!({}))?;
                return Ok(seen);
            }
            self.monitor.execute("cont", json!({}))?;
            std::thread::sleep(PAUSE);
        }
        Err(io::Error::other("the machine never leaves the kernel"))
    }
}

/// Whether QEMU's greeting has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeted {
    NotYet,
    Done,
}

/// QEMU's machine protocol.
#[derive(Debug)]
struct Monitor {
    line: BufReader<UnixStream>,
    greeted: Greeted,
}

impl Monitor {
    fn greet(&mut self) -> io::Result<()> {
        if self.greeted == Greeted::NotYet {
            self.receive()?;
            self.execute("qmp_capabilities", json!({}))?;
            self.greeted = Greeted::Done;
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.line.read_line(&mut line)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "QEMU has closed its monitor",
            ));
        }
        serde_json::from_str(&line).map_err(io::Error::other)
    }

    /// A command's answer; events that come before it are passed over.
    fn execute(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let text = json!({ "execute": command, "arguments": arguments });
        writeln!(self.line.get_mut(), "{text}")?;
        loop {
            let mut answer = self.receive()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(format!("QEMU on `{command}`: {error}")));
            }
        }
    }

    /// What a command for people prints.
    fn print(&mut self, command: &str) -> io::Result<String> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Whether the processor is at user level, or waits in the kernel for an interrupt: both times no operation of the kernel is
    /// under way.
    fn is_outside_the_kernel(&mut self) -> io::Result<bool> {
        let registers = self.print("info registers")?;
        let (Some(pstate), Some(pc)) = (field(&registers, "PSTATE="), field(&registers, "PC="))
        else {
            return Err(io::Error::other("QEMU does not print PSTATE and PC"));
        };
        // CurrentEL's two bits of the mode.
        if pstate >> 2 & 3 < 2 {
            return Ok(true);
        }
        // A processor that waits has the instruction behind it.
        let printed = self.print(&format!("x /1wx {:#x}", pc.wrapping_sub(4)))?;
        let word = printed
            .trim()
            .rsplit_once("0x")
            .and_then(|(_, digits)| u32::from_str_radix(digits, 16).ok());
        Ok(word == Some(WFI))
    }
}

/// The hexadecimal number after a name.
fn field(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(name)?;
    let end = rest
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(rest.len());
    u64::from_str_radix(&rest[..end], 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read() {
        let text = "CPU#0\n PC=000000ffc0009a3c X00=0000000000000001\n SP=1 PSTATE=600003c9 -ZC- EL2h    FPU disabled\n";
        assert_eq!(field(text, "PC="), Some(0xff_c000_9a3c));
        assert_eq!(field(text, "PSTATE="), Some(0x6000_03c9));
        assert_eq!(field(text, "ESR="), None);
        assert_eq!(field("PC=7", "PC="), Some(7));
    }

    #[test]
    fn memory_is_read_where_it_is() {
        let prepared = Prepared::new(&Machine::virt(1)).unwrap();
        let memory = &prepared.probe.memory;
        assert_eq!(memory.range(), RAM..RAM + (1 << 20));
        memory.file.write_all_at(b"here", 4096).unwrap();
        let mut bytes = [0; 4];
        memory.read(RAM + 4096, &mut bytes).unwrap();
        assert_eq!(&bytes, b"here");
        for outside in [0, RAM - 1, RAM + (1 << 20) - 3] {
            assert!(memory.read(outside, &mut bytes).is_err(), "{outside:#x}");
        }
    }
}
