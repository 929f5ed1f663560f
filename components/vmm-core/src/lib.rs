//! What a VMM decides and emulates, as pure state machines.
//!
//! Nothing here touches the kernel or the machine: guest memory, list registers and the memory server are traits, so
//! that all of it runs on the host against fakes.
//!
//! Invariants every part keeps:
//! 1. No input from the guest panics: every address, length, index and register value is an allegation.
//! 2. Work done for one guest action is bounded (a queue's size, a piece's pages), whatever the guest wrote.
//! 3. A piece of memory is in exactly one state of [`pieces`]; only what the memory server said changes it.
//! 4. A device that cannot go on sets DEVICE_NEEDS_RESET (virtio 1.3, 2.1.2) and stops; the guest lives on.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod alarms;
pub mod emulate;
pub mod exception;
pub mod exits;
pub mod fdt;
pub mod follow;
pub mod gic;
pub mod image;
pub mod machine;
pub mod pieces;
pub mod psci;
pub mod ram;
pub mod stuck;
pub mod syndrome;
pub mod sysreg;
pub mod tail;
pub mod tree;
pub mod virtio;
