//! The seL4 16 system-call interface for AArch64 EL2 with MCS.
#![cfg_attr(not(test), no_std)]
