//! The operator's side of the serial line.
//!
//! [`run`] takes a stream of bytes to and from a board, takes it apart (management, logs, guest consoles, text of boot and
//! panic), shows the live table or writes lines, plays a scenario, and writes report and plot. It knows nothing of how the
//! board is started.
//!
//! Invariants:
//! 1. Nothing the board sends can end the tool by a panic.
//! 2. A request is repeated until it is answered or given up with an error; the board carries it out once.
//! 3. A check fails when its evidence is missing: a run that saw nothing proves nothing.
#![forbid(unsafe_code)]

pub mod agent;
pub mod board;
pub mod checks;
pub mod command;
pub mod live;
pub mod logs;
pub mod plain;
pub mod play;
pub mod plot;
pub mod record;
pub mod report;
mod run;
pub mod scenario;
pub mod session;
pub mod snapshot;
pub mod table;
pub mod transcript;

pub use report::Check;
pub use run::{Afterwards, MoreChecks, Outcome, RunOptions, Show, run};
pub use scenario::Scenario;
