//! The first thread: what the kernel makes of the memory it is given, and what it tells the root task.
//!
//! [`Layout`] is arithmetic (who gets which memory), [`Kernel::boot`] makes the objects. Runs once, before any thread.
//!
//! # Invariants
//! 1. Memory is the kernel's image, the root task's image, a boot object, or in exactly one untyped of RAM; what is not RAM
//!    is in exactly one device untyped or kept by the kernel.
//! 2. The fixed slots are those of `sel4_sys::init_slot`; behind them follow, without holes: page tables, frames of the extra
//!    bootinfo, SchedControl, the image's frames, untypeds.

mod construct;
mod layout;

pub use layout::{Given, Layout, LayoutError, MAX_FREE_REGIONS};
