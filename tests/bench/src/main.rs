//! A root task that measures what the kernel's operations cost.
//!
//! Run under `-icount shift=0,sleep=off`, where PMCCNTR_EL0 counts instructions of all exception levels, the caller's stub
//! included; the counter's own overhead is subtracted. Each row is printed as `bench NAME VALUE instructions`; the last
//! line is `bench end`. `cargo xtask bench` runs it and prints the rows beside seL4's and the peers'.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod rows;

#[cfg(target_os = "none")]
testbed::root_task!(rows::run);
