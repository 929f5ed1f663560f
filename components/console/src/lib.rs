//! The serial and management server: it owns the UART, through which the operator's host tool and the board talk.
//!
//! It carries each guest's serial ports, the components' logs and lines for the operator, and the management protocol,
//! whose requests it forwards to the balancer, the memory server and the supervisor. This crate's library is the pure
//! part ([`Server`]); the binary is the receive loop.
//!
//! Invariants:
//! 1. Nothing waits for a VMM or for the UART: queues are bounded, what does not fit is refused (console bytes) or
//!    dropped and counted (logs, lines).
//! 2. An answer to the operator is sent before anything else; all others take turns, one short frame each, so no guest
//!    and no component keeps another one or the operator waiting.
//! 3. Who sent something is told by the badge; a client can write in nobody else's name.
//! 4. A request that the host repeats (it has one outstanding at a time) is answered again, not carried out again.
//! 5. The services behind [`Services`] never call this server: they use non-blocking sends, so no circle of calls exists.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod management;
mod ports;
mod server;
mod sources;
mod transmit;

pub use management::{Clock, Services};
pub use ports::{INPUT_BYTES, OUTPUT_BYTES};
pub use server::Server;
pub use sources::{LOG_BYTES, SAY_LINES};
