//! The timer's logic: the clients' alarms, and what to program into the alarm thread.
//!
//! The timer component has two threads and no device. The *alarm* thread owns a scheduling context and does nothing but
//! yield: it runs again when the context is replenished, one period later. The *main* thread serves clients and chooses
//! that period, so that the replenishment falls on the earliest alarm. This works on any seL4 kernel: it needs no timer
//! device and no interrupt.
//!
//! Invariants:
//! 1. A client has at most one alarm of a kind; setting one replaces it.
//! 2. An alarm is never signalled before its time, and is forgotten when it is signalled.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod plan;
mod queue;

pub use plan::{NEVER, Plan, Schedule, Step, plan};
pub use queue::{ALARMS, AlarmIndex, Queue};
