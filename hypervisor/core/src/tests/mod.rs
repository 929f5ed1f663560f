//! Tests of capability spaces, untyped memory, deletion and address spaces on the fake machine.

mod budgets;
mod deletion;
mod derivation;
mod devices;
mod faults;
mod hostile;
mod lookup;
mod memory;
mod messages;
mod model;
mod random;
mod shortcut;
mod signals;
mod stage;
mod threads;
mod translation;
