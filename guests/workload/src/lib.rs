//! A memory workload for Linux guests: it allocates, fills, verifies and frees memory on command, so that a lost or a
//! foreign byte is noticed.
//!
//! Invariants:
//! 1. Every byte of the set is written, with a value that depends on its place, the program's seed and how often memory
//!    was taken anew: a page of zeros, another guest's page, a neighbouring page or an earlier state of the same page all
//!    differ from it.
//! 2. [`set::Set::verify`] reads every byte of the set; nothing is sampled.
//! 3. A command is one line, its answer is one line; no command ends the program but `exit` and the end of input.
#![forbid(unsafe_code)]

pub mod agent;
pub mod burst;
pub mod clock;
pub mod command;
pub mod pattern;
pub mod proc;
pub mod set;
