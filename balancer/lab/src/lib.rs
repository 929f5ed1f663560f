//! The laboratory: our policy and its rivals on the same traces of demand.
//!
//! # The model
//! - Time goes in ticks of 10 ms, memory in pieces of 2 MiB. A run is a function of its trace: nothing depends on the machine
//!   it runs on, and the same trace gives the same figures to the last digit.
//! - A guest has startup + plugged - ballooned = *visible* memory, and its programs use `min(demand, visible)`. It never gives
//!   up what it uses (it has no swap). Under any policy it tells only what an unmodified Linux tells, through a VMM as ours, and
//!   only when it was asked: visible, available, free, and counters that rise when it lacks memory. So what a policy sees of
//!   demand ends at visible.
//! - Free page reporting: what has lain free for 2 s, beyond what the policy wants kept ready, goes back to the pool and
//!   stays promised. It comes back at the touch.
//! - What is plugged is promised and has no frame before its first touch ([`linux`]), so it can be promised ahead of the need.
//! - The memory server's rules hold ([`ledger`]): nothing is granted before it came back and was cleaned, nothing is promised
//!   twice, and a target that would is refused.
//! - Memory moves at the speeds of a [`mechanism`]: ours, or that of a balloon of 4 KiB pages for rivals at their own pace.
//! - *Unmet* is the integral of `min(demand, maximum) - visible` where that is positive, over the integral of `min(demand,
//!   maximum)`, of all guests, after 10 s of warm-up; what is visible and waits for a clean frame counts as well. *Moved* is the
//!   frames that were granted as growth in that time.
//!
//! # What the model leaves out
//! Time of the CPU, the cost of a move for a guest's programs, fragmentation, swap, and that a guest that lacks memory runs
//! slower (its demand goes on as the trace says).
#![forbid(unsafe_code)]

pub mod advise;
pub mod calibrate;
pub mod csv;
pub mod curve;
pub mod density;
pub mod families;
pub mod fleet;
pub mod host;
pub mod json;
pub mod ledger;
pub mod linux;
pub mod mechanism;
pub mod noise;
pub mod plot;
pub mod policies;
pub mod policy;
pub mod recordings;
pub mod rival;
pub mod table;
pub mod trace;
pub mod verdict;

mod command;

pub use command::{Ending, Options, calibrate_file, short};
