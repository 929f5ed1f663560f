//! Memory that other parties change while a component looks at it.
//!
//! - [`window`]: ranges of reserved addresses, read and written by volatile copies.
//! - [`guarded`]: copies that end with an error when the memory is taken away under them.
//!
//! A crate apart from the runtime, so that a test root task can use both against the real kernel.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod guarded;
#[allow(unsafe_code)]
pub mod window;
