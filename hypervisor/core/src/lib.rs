//! The logic of the Ballast microkernel, apart from any architecture.
#![cfg_attr(not(test), no_std)]
