//! Fault messages: labels and the index of each word (libsel4 `faults.h`, aarch64 `constants.h`).

use crate::numbered;

numbered! {
    /// The label of a fault message (seL4_FaultType).
    pub enum Fault {
        /// No fault.
        Null = 0,
        /// A capability that a system call needed was not there.
        CapFault = 1,
        /// The system call number is unknown (a guest's HVC).
        UnknownSyscall = 2,
        /// A synchronous exception of no other class.
        UserException = 3,
        /// The budget ran out.
        Timeout = 5,
        /// An unmapped or protected address.
        VmFault = 6,
        /// The virtual interrupt controller wants attention.
        VgicMaintenance = 7,
        /// A trapped instruction of a vCPU (or an exception that a native thread cannot handle).
        VcpuFault = 8,
        /// The guest's own private interrupt (virtual timer) fired.
        VppiEvent = 9,
    }
}

/// Words of an UnknownSyscall message.
pub mod unknown_syscall {
    /// x0; x`n` is word `X0 + n` for n in 0..=7.
    pub const X0: usize = 0;
    /// x7.
    pub const X7: usize = 7;
    /// Address of the instruction that faulted.
    pub const FAULT_IP: usize = 8;
    /// Stack pointer (SP_EL0).
    pub const SP: usize = 9;
    /// Called the link register, but ELR: where the thread goes on. A reply that carries registers back has at least
    /// 9 words and sets this word and `FAULT_IP` alike.
    pub const LR: usize = 10;
    /// Saved program status.
    pub const SPSR: usize = 11;
    /// The number that was called.
    pub const SYSCALL: usize = 12;
    /// Words in the message.
    pub const LENGTH: usize = 13;
}

/// Words of a UserException message.
pub mod user_exception {
    /// Address of the instruction.
    pub const FAULT_IP: usize = 0;
    /// Stack pointer.
    pub const SP: usize = 1;
    /// Saved program status.
    pub const SPSR: usize = 2;
    /// The exception syndrome register.
    pub const NUMBER: usize = 3;
    /// Zero.
    pub const CODE: usize = 4;
    /// Words in the message.
    pub const LENGTH: usize = 5;
}

/// Words of a VMFault message.
pub mod vm_fault {
    /// Address of the instruction.
    pub const IP: usize = 0;
    /// The address that faulted; of a guest, the intermediate physical address.
    pub const ADDR: usize = 1;
    /// 1 for an instruction fetch.
    pub const PREFETCH_FAULT: usize = 2;
    /// The syndrome (ESR_EL2).
    pub const FSR: usize = 3;
    /// Words in the message.
    pub const LENGTH: usize = 4;
}

/// Words of a VGICMaintenance message.
pub mod vgic_maintenance {
    /// List register index, or all ones.
    pub const IDX: usize = 0;
    /// Words in the message.
    pub const LENGTH: usize = 1;
}

/// Words of a VPPIEvent message.
pub mod vppi_event {
    /// The interrupt.
    pub const IRQ: usize = 0;
    /// Words in the message.
    pub const LENGTH: usize = 1;
}

/// Words of a VCPUFault message.
pub mod vcpu_fault {
    /// The syndrome (ESR_EL2), 32 bits.
    pub const HSR: usize = 0;
    /// Words in the message.
    pub const LENGTH: usize = 1;
}

/// Words of a Timeout message.
pub mod timeout {
    /// Badge of the scheduling context.
    pub const DATA: usize = 0;
    /// Microseconds consumed.
    pub const CONSUMED: usize = 1;
    /// Words in the message.
    pub const LENGTH: usize = 2;
}

/// Words of the reply to a Timeout fault.
pub mod timeout_reply {
    /// Program counter.
    pub const FAULT_IP: usize = 0;
    /// Stack pointer.
    pub const SP: usize = 1;
    /// Saved program status.
    pub const SPSR_EL1: usize = 2;
    /// x0; x`n` is word `X0 + n` for n in 0..=8.
    pub const X0: usize = 3;
    /// x16, x17, x18 at this word and the two after.
    pub const X16: usize = 12;
    /// x29, x30 at this word and the one after.
    pub const X29: usize = 15;
    /// x9 to x15 at this word and the six after.
    pub const X9: usize = 17;
    /// x19 to x28 at this word and the nine after.
    pub const X19: usize = 24;
    /// Words in the message.
    pub const LENGTH: usize = 34;
}

/// Words of a CapFault message.
pub mod cap_fault {
    /// Address of the instruction.
    pub const IP: usize = 0;
    /// The capability pointer.
    pub const ADDR: usize = 1;
    /// 1 when the fault happened while receiving.
    pub const IN_RECV_PHASE: usize = 2;
    /// [`crate::LookupFailure`].
    pub const LOOKUP_FAILURE_TYPE: usize = 3;
    /// Bits not yet resolved.
    pub const BITS_LEFT: usize = 4;
    /// DepthMismatch: bits the lookup found.
    pub const DEPTH_MISMATCH_BITS_FOUND: usize = 5;
    /// GuardMismatch: the guard that was found.
    pub const GUARD_MISMATCH_GUARD_FOUND: usize = 5;
    /// GuardMismatch: the size of that guard.
    pub const GUARD_MISMATCH_BITS_FOUND: usize = 6;
    /// Words in the longest message.
    pub const LENGTH: usize = 7;
}
