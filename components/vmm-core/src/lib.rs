//! What a VMM decides and emulates, as pure state machines.
#![cfg_attr(not(test), no_std)]
