//! What boot stage and kernel share before anything else runs: a device-tree reader, the description that is read from it,
//! arithmetic on memory regions, the block tables of EL2's own translation, and text for people.
//!
//! # Invariants
//! 1. Nothing here panics, allocates or recurses, whatever the bytes of the device tree are.
//! 2. A [`regions::Regions`] is sorted, its regions are disjoint, not empty and not adjacent.
//! 3. The crate is pure: it works on what it is given (device registers too) and touches no machine itself.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod blocks;
pub mod console;
pub mod describe;
pub mod fdt;
pub mod regions;
