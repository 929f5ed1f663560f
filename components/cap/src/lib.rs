//! Typed capabilities over sel4-sys.
#![cfg_attr(not(test), no_std)]
