//! A small guest with its own balloon driver, for fast tests: no allocator, no interrupts taken, one 2 MiB piece of
//! its own and the rest of its memory to fill, verify, free and put into the balloon.
//!
//! It speaks the workload's protocol on its agent line, and some commands by which tests make it misbehave.
//!
//! Invariants:
//! 1. Program, rings and stack lie in the first piece; the balloon and the set never touch it.
//! 2. A piece is in one state of [`memory::State`]; only ballooned pieces are the host's.
//! 3. `unsafe` is in the binary's module `machine`: registers, MMIO, memory outside Rust's.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod command;
pub mod memory;
pub mod tree;

/// Start of the guest's memory.
pub const RAM: u64 = 0x4000_0000;
/// Bytes of a piece.
pub const PIECE_BYTES: u64 = 2 << 20;
/// Where the rings and buffers lie: behind the image.
pub const RINGS: u64 = RAM + 0x10_0000;
/// The stack, behind them. What follows is the loader's: the device tree in the smallest memory.
pub const STACK: u64 = RAM + 0x14_0000;
/// Its top.
pub const STACK_TOP: u64 = RAM + 0x18_0000;
