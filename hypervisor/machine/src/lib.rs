//! What boot stage and kernel need to know about the machine before anything else runs: a device-tree reader, the
//! description that is read from it, arithmetic on memory regions, and the block tables of EL2's own translation.
//!
//! # Invariants
//! 1. Nothing here panics, allocates or recurses, whatever the bytes of the device tree are.
//! 2. A [`regions::Regions`] is sorted, its regions are disjoint, not empty and not adjacent.
//! 3. The crate is pure: it reads what it is given and touches no machine.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod blocks;
pub mod describe;
pub mod fdt;
pub mod regions;
