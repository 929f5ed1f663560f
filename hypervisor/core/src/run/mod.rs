//! What runs: scheduling, messages between threads, faults, virtual CPUs.

pub mod endpoint;
pub mod fault;
pub mod ipc;
pub mod notification;
pub mod queue;
pub mod refill;
pub mod registers;
pub mod reply;
pub mod sched_context;
pub mod scheduler;
pub mod thread;
pub mod vcpu;
