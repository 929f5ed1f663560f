//! Capability spaces: the derivation tree, and capability tables.

pub mod cdt;
pub mod cnode;
