//! Invocations of kernel objects: arguments are checked, then the object acts.

pub mod domain;
pub mod invocation;
pub mod irq;
pub mod smc;
pub mod tcb;
pub mod untyped;
pub mod vspace;
