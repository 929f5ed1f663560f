//! The system description: parsed, checked, explained.
#![forbid(unsafe_code)]

pub mod files;
