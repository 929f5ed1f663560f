//! The operator's side of the serial line.
