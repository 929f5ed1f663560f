//! The Dynamic Memory policy as a pure state machine.
#![cfg_attr(not(test), no_std)]
