//! Address spaces: translation tables and their identifiers.

pub mod asid;
pub mod paging;
