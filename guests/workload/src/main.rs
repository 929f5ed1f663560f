//! A memory workload for Linux guests: touch, verify, free, by a script.
fn main() {}
