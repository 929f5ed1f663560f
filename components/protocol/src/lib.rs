//! What Ballast's components say to one another, as Rust types.
//!
//! Every message is a value of one of the enums below, encoded with `postcard` into message registers
//! ([`codec`]). Capabilities never travel inside a value: they sit in the message's capability slots, and the
//! variant's documentation says which.
//!
//! Invariants every user of this crate may rely on:
//! 1. A message that does not decode is answered with [`codec::DecodeError`]'s reply label; nothing is lost by it.
//! 2. Who sent a message is told by the kernel (the [`badge`]), never by the message.
//! 3. Every type has a fixed upper size and fits [`codec::MAX_BYTES`]; a test checks it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
// There is no heap to box a large variant on, and every type's size is bounded by one message.
#![allow(clippy::large_enum_variant)]

pub mod badge;
pub mod balancer;
pub mod bundle;
pub mod codec;
pub mod console;
pub mod layout;
pub mod management;
pub mod memory;
pub mod schedule;
pub mod slots;
pub mod startup;
pub mod supervisor;
pub mod system;
pub mod timer;
pub mod units;
pub mod watch;
