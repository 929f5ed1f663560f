//! The runtime of a component: entry, threads, panics, log.
#![cfg_attr(not(test), no_std)]
