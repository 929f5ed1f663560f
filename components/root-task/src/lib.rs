//! The root task's decisions: which memory becomes what, what a component's image may ask for, what a guest does next.
//!
//! The binary (`main.rs` and the modules beside it) asks the kernel; this library decides, and is tested on the host.
//!
//! Invariants:
//! 1. [`memory`]: what is handed out is disjoint, aligned and inside the untyped it comes from, and the model agrees with
//!    the kernel's own rule, so that a retype that the model allows does not fail.
//! 2. [`image`]: an accepted ELF file has page-aligned, disjoint segments inside the component's window, none of them both
//!    writable and executable, and its entry lies in an executable one.
//! 3. [`guest`]: a guest's memory is admitted at the memory server at most once at a time, and everything that was begun
//!    for it is undone before it is started again.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod board;
pub mod bundle;
pub mod guest;
pub mod image;
pub mod manifest;
pub mod memory;
pub mod seeds;
pub mod size;
