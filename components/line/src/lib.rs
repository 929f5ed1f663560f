//! The framing of the serial line: COBS, checksum, channels.
#![cfg_attr(not(test), no_std)]
