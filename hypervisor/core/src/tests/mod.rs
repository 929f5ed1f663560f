//! Tests of capability spaces, untyped memory, deletion and address spaces on the fake machine.

mod deletion;
mod derivation;
mod devices;
mod lookup;
mod memory;
mod random;
mod translation;
