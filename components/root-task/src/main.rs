//! The root task.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
rt::root_task!(boot);
fn boot(_: rt::root::Boot) {}
