//! The QEMU machines that Ballast runs on, and how they are started, driven and observed.
//!
//! [`Machine`] says what is emulated, [`Qemu`] is a running one, and a [`Probe`] looks into one from outside. The board's serial line is the child's standard input and
//! output, so nothing listens anywhere and nothing is left behind: dropping a [`Qemu`] ends the process, and
//! [`stop_all`] (for a signal handler) ends every one that this process started.
//!
//! Not for: images (`xtask` makes them), what is said on the line (`operator`).

mod board;
mod machine;
mod probe;
mod process;
mod transcript;
mod version;

pub use board::{BOARDS, Board};
pub use machine::{Count, Cpu, ExceptionLevels, Gic, Highmem, Machine};
pub use probe::{Memory, Probe};
pub use process::{LineReader, LineWriter, Qemu, stop_all};
pub use transcript::{Ending, Transcript, run_to_verdict};
pub use version::{MINIMUM_MAJOR, Version, VersionError, installed};

/// The program.
pub const PROGRAM: &str = "qemu-system-aarch64";
