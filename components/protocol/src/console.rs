//! The serial / management server's protocol, as its clients inside the system see it.

use serde::{Deserialize, Serialize};

/// Most bytes in one message of console or log data.
pub const CHUNK_BYTES: usize = 512;
/// Bytes of console or log data.
pub type Chunk = heapless::Vec<u8, CHUNK_BYTES>;

/// A guest's serial ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Port {
    /// The guest's console (hvc0).
    Console,
    /// The workload agent's line (hvc1).
    Agent,
}

/// What is asked of the console server. Who asks is told by the badge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// From a VMM: the guest wrote this. Answered with how much was taken; the rest is tried again on a signal.
    Write {
        /// From which port.
        port: Port,
        /// What.
        bytes: Chunk,
    },
    /// From a VMM: is there input?
    Read,
    /// From any component: a `defmt` record for the operator.
    Log(Chunk),
    /// From the supervisor or a VMM: a line of text for the operator.
    Say(crate::units::Line),
}

/// The console server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// This many bytes were taken.
    Taken(u16),
    /// Input for a port; empty when there is none.
    Input {
        /// For which port.
        port: Port,
        /// The bytes.
        bytes: Chunk,
    },
    /// Done.
    Done,
    /// The words were no request, or not one for this badge.
    Refused,
}
