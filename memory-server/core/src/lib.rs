//! The memory server's rules, with the kernel behind a trait.
#![cfg_attr(not(test), no_std)]
