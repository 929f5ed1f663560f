//! The logic of the Ballast microkernel: capabilities, objects, IPC, scheduling, address spaces.
//!
//! Nothing here knows how an instruction is spelled: what the machine does is behind [`arch::Arch`], so the same code
//! runs at EL2 and on the development host under property tests and Miri.
//!
//! # Invariants
//! 1. Every kernel object lives in memory that user level retyped for it (or that boot set aside) and is reached only
//!    through [`mem::Ref`]; a `Ref<T>` exists only while a capability to the object, or a link from another live object,
//!    does. Finalisation removes both before the memory can be retyped.
//! 2. Objects consist of [`core::cell::Cell`]s: there is one kernel thread of control, and no Rust reference to the inside of an
//!    object outlives an expression that could change it.
//! 3. Decode first, then invoke: an operation that fails has changed nothing. Long operations are split at preemption
//!    points and continue where they stopped when the system call is made again.
//! 4. The kernel neither allocates nor recurses, and no input reaches a panic.
#![cfg_attr(not(any(test, feature = "fixture")), no_std)]
#![deny(unsafe_code)]

pub mod arch;
pub mod asid;
pub mod boot;
pub mod cap;
pub mod cdt;
pub mod cnode;
pub mod create;
#[cfg(feature = "debug")]
pub mod debug;
pub mod delete;
pub mod domain;
pub mod endpoint;
pub mod entry;
pub mod error;
pub mod fastpath;
pub mod fault;
pub mod invocation;
pub mod ipc;
pub mod irq;
pub mod kernel;
pub mod mem;
pub mod notification;
pub mod object;
pub mod outline;
pub mod paging;
pub mod queue;
pub mod ready;
pub mod refill;
pub mod registers;
pub mod release;
pub mod reply;
pub mod sched_context;
pub mod scheduler;
pub mod slot;
pub mod smc;
pub mod syscall;
pub mod tcb;
pub mod thread;
pub mod untyped;
pub mod vcpu;
pub mod vspace;

#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
#[cfg(any(test, feature = "fixture"))]
pub mod invariants;
#[cfg(any(test, feature = "fixture"))]
pub mod invariants_ipc;
#[cfg(test)]
mod tests;
