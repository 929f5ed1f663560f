//! What the kernel holds: one structure, the threads that are ready, and those that wait for time.

pub mod asids;
pub mod cancelling;
pub mod irqs;
pub mod kernel;
pub mod ready;
pub mod release;
pub mod schedule;
