//! The pure parts of the boot stage: the payload, ELF files, and where things go. See the binary's first page.
//!
//! # Invariants
//! 1. No byte of the payload is trusted: each offset and length is checked before it is used.
//! 2. What [`place::place`] returns lies in memory, outside of everything that has to survive, and does not overlap itself.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod elf;
pub mod payload;
pub mod place;
