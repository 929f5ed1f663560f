//! The Dynamic Memory policy as a pure, deterministic state machine: reports and accounts in, targets out.
//!
//! No clock (time is an argument, in milliseconds), no allocation, integers only, every table of fixed size, so the same
//! crate runs in the balancer component, in the simulator among its tests, and under a model checker.
//!
//! # The rules
//! 1. *Demand* is now: visible minus available as the guest's last report says. A guest that is short of memory counts as
//!    needing all that it sees; one that starves shows no more than that, and needs more each time that it got more
//!    (`observe`).
//! 2. *Want* = demand / (1 - buffer). *Floor* = minimum, what its kernel needs, and what it uses: no co-operative reclaim
//!    goes below that (`floor`).
//! 3. What is there for all is filled in by levels (`plan`): floors, needs, what rising guests will need soon, buffers, what
//!    guests used in the last seconds, and last the surplus that they hold. The first level that does not fit is shared by
//!    weight (`share`). So surplus stays where it is until somebody needs it, and what a guest remembers is worth less than
//!    what another needs and less than another's buffer.
//! 4. A move costs both guests: a need is served to the piece, a buffer not for a trifle, and not before what came back is
//!    clean.
//! 5. Targets go down at once; they go up only by what is free of promises at this moment (two phases) (`decide`).
//! 6. A guest that was asked to give back and gives nothing is late: others are asked in its place. It is reminded, and past
//!    its deadline `Unresponsive` (`reclaim`). Old figures are no room (`guest`).
//! 7. The next report is due before the guest can have used up what it has (`cadence`).
//!
//! # Invariants
//! - Safety never depends on this crate: the memory server refuses what would break a promise, and a refused action changes
//!   nothing here, because each decision starts from the accounts as they are.
//! - The targets it asks for never claim more than total - reserve (but for what a deflation waits for), never leave a guest's minimum..=maximum, and a
//!   co-operative reclaim never goes below a guest's floor. The tests check each of these after every decision.
//! - Every decision can be explained: [`Balancer::why`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod balancer;
mod cadence;
mod decide;
mod floor;
mod guest;
mod observe;
mod plan;
mod reclaim;
mod refusal;
mod service;
mod settings;
mod share;
mod status;
mod watcher;
mod why;

pub use balancer::{Action, Actions, Balancer, Snapshot, Urgent};
pub use refusal::Refusal;
pub use service::{MemoryServer, Service};
pub use watcher::{Counting, Watcher};
