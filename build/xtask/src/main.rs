//! The front door: image, run, test, bench, doctor.
fn main() {}
