//! What there is: memory, slots, kernel objects, errors.

pub mod error;
pub mod fault_kind;
pub mod mem;
mod objects;
pub mod slot;

pub use objects::*;
