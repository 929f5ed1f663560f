//! How objects begin and end.

pub mod create;
pub mod delete;
