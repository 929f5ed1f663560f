//! Typed capabilities: the kernel's objects as Rust types, their invocations as methods, and IPC with typed values.
//!
//! A capability here is a newtype over a capability pointer ([`sel4_sys::CPtr`]); it promises nothing about what the
//! slot holds, the kernel checks that at each invocation and the method returns its [`Error`].
//!
//! Invariants:
//! 1. `unsafe` is in the module `thread` alone, which finds the running thread's IPC buffer.
//! 2. Messages of at most four words and no capability never touch the IPC buffer.
//! 3. Words past the fourth of a [`Received`] message stay valid until the thread's next system call with a long
//!    message: take them at once ([`Received::decode`], [`Received::copy_words`]).
//! 4. Off the target (on a development host) every method returns [`Error::NotHere`]: logic that uses capabilities
//!    type-checks there, and is tested behind a trait with a fake.
//!
//! What the types do not model: a thread that maps a frame into its *own* address space changes memory under the
//! compiler's feet if it picks an address that Rust objects occupy. Callers keep to the windows of
//! [`protocol::layout`], which hold no Rust object; access to them goes through the runtime's window type.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

mod error;
mod ipc;
mod machine;
mod memory;
mod slots;
mod task;
#[allow(unsafe_code)]
mod thread;
mod value;

pub use error::Error;
pub use ipc::{
    Endpoint, Message, Notification, Received, Reply, clear_receive_slot, set_receive_slot,
};
pub use machine::{IrqControl, IrqHandler, Trigger, Vcpu};
pub use memory::{AsidControl, AsidPool, CacheOperation, Frame, PageTable, Untyped, VSpace};
pub use sel4_sys::{
    CNodeCapData, CPtr, CapRights, MessageInfo, ObjectType, UserContext, VcpuReg, vm_attributes,
};
pub use slots::{CNode, Slot, own_slot};
pub use task::{After, SchedContext, SchedControl, SchedParams, Source, Space, Tcb, yield_now};
pub use value::{Arrived, CallError, call_value, call_value_receiving};

/// A typed capability: what all of them have in common.
pub trait Capability: Copy {
    /// The capability pointer.
    fn cptr(self) -> CPtr;
}

/// Declares a newtype over a capability pointer.
macro_rules! capability {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(sel4_sys::CPtr);

        impl $name {
            /// The capability in this slot of the caller's capability space. Nothing is checked before it is used.
            #[must_use]
            pub const fn new(cptr: sel4_sys::CPtr) -> Self {
                Self(cptr)
            }

            /// Its capability pointer.
            #[must_use]
            pub const fn cptr(self) -> sel4_sys::CPtr {
                self.0
            }
        }

        impl crate::Capability for $name {
            fn cptr(self) -> sel4_sys::CPtr {
                self.0
            }
        }
    )+};
}
pub(crate) use capability;

/// The null capability pointer: "none" where an invocation takes an optional capability.
pub const NULL: CPtr = 0;
