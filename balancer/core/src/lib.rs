//! The Dynamic Memory policy as a pure, deterministic state machine: reports and accounts in, targets out.
//!
//! No clock (time is an argument, in milliseconds), no allocation, integers only, every table of fixed size, so the same
//! crate runs in the balancer component, in the simulator among its tests, and under a model checker.
//!
//! # How a decision is made ([`Balancer::decide`])
//! 1. *Demand* of each guest, from its reports: visible minus available; at least visible when the guest shows that it is
//!    short (`observe`). For a decision it is the most of the last seconds, so that a demand that alternates does not send
//!    memory to and fro.
//! 2. *Want* = demand / (1 - buffer), *floor* = what a co-operative reclaim leaves alone (`floor`).
//! 3. What is there for all of them is shared out (`plan`): everybody's want if it fits, and surplus stays where it is as
//!    long as nobody needs it; else floors, then demand, then buffers, each by weight (`share`).
//! 4. Targets go down at once, but never by more than half of what a guest holds at a time; they go up only by
//!    what is free of promises at this moment (two phases).
//! 5. A guest that was asked to give back is reminded, and past its deadline `Unresponsive`; the others are then served
//!    without it.
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
mod floor;
mod guest;
mod observe;
mod plan;
mod refusal;
mod service;
mod settings;
mod share;
mod watcher;
mod why;

pub use balancer::{Action, Actions, Balancer, Snapshot, Urgent};
pub use refusal::Refusal;
pub use service::{MemoryServer, Service};
pub use watcher::{Counting, Watcher};
