//! What faults there are, as a thread holds the one that it is in.

use crate::object::error::LookupFailure;

/// In which half of a system call a capability was missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// While sending or invoking.
    Send = 0,
    /// While receiving.
    Receive = 1,
}

/// What kind of access found no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Access {
    /// A load or store.
    Data = 0,
    /// An instruction fetch.
    Fetch = 1,
}

/// A fault that a thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Fault {
    /// None.
    None = 0,
    /// A capability address that leads nowhere, or to the wrong kind.
    Cap {
        /// The address.
        addr: u64,
        /// While sending or receiving.
        phase: Phase,
        /// Why.
        failure: LookupFailure,
    } = 1,
    /// A system call number that does not exist, or a guest's HVC.
    UnknownSyscall {
        /// x7.
        number: u64,
    } = 2,
    /// An exception with no message of its own.
    UserException {
        /// Architecture-defined number.
        number: u64,
        /// Architecture-defined code.
        code: u64,
    } = 3,
    /// The budget is used up.
    Timeout {
        /// The scheduling context's badge.
        badge: u64,
    } = 5,
    /// No memory, or no right to it, at an address.
    Vm {
        /// The address.
        addr: u64,
        /// Fault status (ESR_EL2).
        fsr: u64,
        /// Data or fetch.
        access: Access,
    } = 6,
    /// The virtual interrupt controller wants attention.
    VgicMaintenance {
        /// List register, or `u64::MAX`.
        index: u64,
    } = 7,
    /// Something that the vCPU's manager has to handle.
    Vcpu {
        /// ESR_EL2.
        esr: u64,
    } = 8,
    /// A private interrupt of the vCPU.
    VppiEvent {
        /// Its number.
        irq: u64,
    } = 9,
}
