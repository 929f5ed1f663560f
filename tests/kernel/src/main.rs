//! A root task that tests the kernel from user level.
//!
//! Every test prints one line; the last line is `N passed, N failed`. `cargo xtask test` runs it in QEMU.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {}
