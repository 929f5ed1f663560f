//! What the kernel holds: one structure, the threads that are ready, and those that wait for time.

pub mod kernel;
pub mod ready;
pub mod release;
