//! What tests check after every operation, and the fake machine that they run on.

pub mod fixture;
pub mod invariants;
pub mod invariants_ipc;
