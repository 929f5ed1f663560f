//! A PL011 UART driver.
#![cfg_attr(not(test), no_std)]
