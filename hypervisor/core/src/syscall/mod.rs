//! System calls: the way in, the fastpath, and the slow path.

#[cfg(feature = "debug")]
pub mod debug;
pub mod entry;
pub mod fastpath;
pub mod path;
pub mod slowpath;
