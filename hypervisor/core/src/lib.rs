//! The logic of the Ballast microkernel: capabilities, objects, IPC, scheduling, address spaces.
//!
//! Nothing here knows how an instruction is spelled: what the machine does is behind [`arch::Arch`], so the same code
//! runs at EL2 and on the development host under property tests and Miri.
//!
//! # Floors
//! Each folder is a floor:
//!
//! | floor | what is there |
//! | --- | --- |
//! | [`boot`] | the first thread and what it is told |
//! | [`syscall`] | system calls: the way in, the fastpath, the slow path |
//! | [`decode`] | invocations of kernel objects |
//! | [`lifecycle`] | how objects begin and end |
//! | [`run`] | scheduling, messages between threads, faults, virtual CPUs |
//! | [`cspace`], [`vspace`] | capability spaces, address spaces |
//! | [`state`] | what the kernel holds |
//! | [`object`], [`cap`] | memory, slots, objects, errors, capabilities |
//! | [`arch`] | what the machine does |
//!
//! A file imports from its own floor and from those below (`arch`, `cap` and `object` are the ground). Ten files of `run` import
//! each other in a circle: who runs decides who gets a message, and a message decides who runs. A test of `xtask` holds both
//! (`build/xtask/src/floors.rs`). `check` stands apart: what tests check after every operation, and the fake machine that
//! they run on.
//!
//! # Invariants
//! 1. Every kernel object lives in memory that user level retyped for it (or that boot set aside) and is reached only
//!    through [`object::mem::Ref`]; a `Ref<T>` exists only while a capability to the object, or a link from another live object,
//!    does. Finalisation removes both before the memory can be retyped.
//! 2. Objects consist of [`core::cell::Cell`]s: there is one kernel thread of control, and no Rust reference to the inside of an
//!    object outlives an expression that could change it.
//! 3. Decode first, then invoke: an operation that fails has changed nothing. Long operations are split at preemption
//!    points and continue where they stopped when the system call is made again.
//! 4. The kernel neither allocates nor recurses, and no input reaches a panic.
#![cfg_attr(not(any(test, feature = "fixture")), no_std)]
#![deny(unsafe_code)]

pub mod arch;
pub mod boot;
pub mod cap;
pub mod cspace;
pub mod decode;
pub mod dump_header;
pub mod lifecycle;
pub mod object;
pub mod run;
pub mod state;
pub mod syscall;
pub mod vspace;

#[cfg(any(test, feature = "fixture"))]
pub mod check;
#[cfg(test)]
mod tests;
