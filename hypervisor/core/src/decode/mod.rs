//! Invocations of kernel objects: arguments are checked, then the object acts.

pub mod asid;
pub mod cnode;
pub mod domain;
pub mod invocation;
pub mod irq;
pub mod sched_context;
pub mod smc;
pub mod tcb;
pub mod untyped;
pub mod vcpu;
pub mod vspace;
