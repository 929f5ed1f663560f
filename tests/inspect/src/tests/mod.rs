//! That a sound machine is found sound, and every planted fault is found.

mod host;
mod made;
mod system;
