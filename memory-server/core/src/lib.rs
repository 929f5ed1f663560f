//! The memory server's rules: who owns each 2 MiB piece of guest memory, and what may be promised to whom.
//!
//! This crate is the whole of the server except its receive loop. It is pure: the kernel is the trait [`Kernel`], and
//! a request is a value that [`Server::handle`] turns into an answer. It never allocates, never blocks, never panics on
//! what a client says, and believes no client: not a VMM, not the balancer.
//!
//! # Promises, and where they are kept
//! - **M1 conservation**: a piece's untyped capability is in exactly one ledger CNode ([`Place`]); the only function
//!   that moves one is `Server::transfer`. [`Server::handle`] with `Count` counts them by probing the CNodes.
//! - **M2 bounds** and **M3 no overcommit**: a guest's *claim* is `max(minimum, target, assigned + earmarked)`. The sum
//!   of claims never passes the pieces that exist: admission, targets and bounds are refused otherwise. A grant never
//!   raises `assigned + earmarked` above the target.
//! - **M4 cleanliness**: only a piece in [`Place::Pool`] is granted, and the only way there is the cleaner's retype,
//!   which zeroes and cleans to the point of coherency.
//! - **M5 revocation**: a piece leaves a guest by revoking its untyped first (every copy of its frame, wherever it is,
//!   goes with it), then by moving it, then by answering.
//! - **M6 progress**: every request is answered at once; nothing waits for a guest. What cannot be served now is
//!   refused with the numbers, and a signal follows when it can be.
//!
//! # Failure
//! An operation of the kernel that should have succeeded and did not sets its piece *aside*: it belongs to nobody, is
//! counted as `cleaning`, is never granted, and is brought back by a later attempt of the cleaner's call. An untyped that
//! cannot be retyped stays aside.
//!
//! # What is not here
//! Policy (the balancer), zeroing (the kernel does it when the cleaner thread retypes), mapping (the server maps
//! nothing), and 4 KiB pieces: every device of ours moves whole pieces, so nothing would ask for them.
#![cfg_attr(not(any(test, feature = "fake")), no_std)]
#![forbid(unsafe_code)]

mod account;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod kernel;
mod ledger;
mod recover;
mod server;
mod walk;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use kernel::{CleanerPace, Kernel, KernelError, Place, Presence};
pub use recover::Recovered;
pub use server::{Outcome, Server};
