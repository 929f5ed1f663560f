//! Object types, their sizes and initial capability slots (libsel4 `objecttype.h`, aarch64 `constants.h`).

use crate::numbered;

numbered! {
    /// A type of object that Retype makes (seL4_ObjectType and its architecture part).
    pub enum ObjectType {
        /// Untyped memory of a chosen size.
        Untyped = 0,
        /// A thread control block.
        Tcb = 1,
        /// An endpoint.
        Endpoint = 2,
        /// A notification.
        Notification = 3,
        /// A CNode of a chosen number of slots.
        CapTable = 4,
        /// A scheduling context of a chosen size.
        SchedContext = 5,
        /// A reply object.
        Reply = 6,
        /// A 1 GiB frame.
        HugePage = 7,
        /// The root of an address space.
        VSpace = 8,
        /// A 4 KiB frame.
        SmallPage = 9,
        /// A 2 MiB frame.
        LargePage = 10,
        /// A page table below the root.
        PageTable = 11,
        /// A vCPU.
        Vcpu = 12,
    }
}

impl ObjectType {
    /// log2 of the object's bytes; `size_bits` is the argument of Retype: log2 of bytes for untyped memory and
    /// scheduling contexts, log2 of slots for CNodes, ignored otherwise.
    #[must_use]
    pub const fn bits(self, size_bits: u32) -> u32 {
        match self {
            Self::Untyped | Self::SchedContext => size_bits,
            Self::CapTable => size_bits + SLOT_BITS,
            Self::Tcb => TCB_BITS,
            Self::Endpoint => ENDPOINT_BITS,
            Self::Notification => NOTIFICATION_BITS,
            Self::Reply => REPLY_BITS,
            Self::HugePage => HUGE_PAGE_BITS,
            Self::VSpace => VSPACE_BITS,
            Self::SmallPage => PAGE_BITS,
            Self::LargePage => LARGE_PAGE_BITS,
            Self::PageTable => PAGE_TABLE_BITS,
            Self::Vcpu => VCPU_BITS,
        }
    }
}

/// log2 of a capability slot's bytes.
pub const SLOT_BITS: u32 = 5;
/// log2 of a TCB's bytes.
pub const TCB_BITS: u32 = 11;
/// log2 of an endpoint's bytes.
pub const ENDPOINT_BITS: u32 = 4;
/// log2 of a notification's bytes.
pub const NOTIFICATION_BITS: u32 = 6;
/// log2 of a reply object's bytes.
pub const REPLY_BITS: u32 = 5;
/// log2 of the smallest scheduling context's bytes.
pub const MIN_SCHED_CONTEXT_BITS: u32 = 7;
/// log2 of a 4 KiB page's bytes.
pub const PAGE_BITS: u32 = 12;
/// log2 of a 2 MiB page's bytes.
pub const LARGE_PAGE_BITS: u32 = 21;
/// log2 of a 1 GiB page's bytes.
pub const HUGE_PAGE_BITS: u32 = 30;
/// log2 of a page table's bytes.
pub const PAGE_TABLE_BITS: u32 = 12;
/// log2 of a page table's entries.
pub const PAGE_TABLE_INDEX_BITS: u32 = 9;
/// log2 of an address space root's bytes.
pub const VSPACE_BITS: u32 = 13;
/// log2 of an address space root's entries.
pub const VSPACE_INDEX_BITS: u32 = 10;
/// log2 of a vCPU's bytes.
pub const VCPU_BITS: u32 = 12;
/// log2 of an ASID pool's bytes.
pub const ASID_POOL_BITS: u32 = 12;
/// log2 of an ASID pool's entries.
pub const ASID_POOL_INDEX_BITS: u32 = 9;
/// log2 of the number of ASID pools.
pub const NUM_ASID_POOLS_BITS: u32 = 7;
/// log2 of the smallest untyped's bytes.
pub const MIN_UNTYPED_BITS: u32 = 4;
/// log2 of the largest untyped's bytes.
pub const MAX_UNTYPED_BITS: u32 = 47;

/// Attributes of a mapping (seL4_ARM_VMAttributes).
pub mod vm_attributes {
    /// Normal cacheable memory; without it device memory.
    pub const PAGE_CACHEABLE: u64 = 1;
    /// No meaning on AArch64.
    pub const PARITY_ENABLED: u64 = 2;
    /// Cacheable, executable where readable.
    pub const DEFAULT: u64 = 3;
    /// Not executable.
    pub const EXECUTE_NEVER: u64 = 4;
}

/// Flags of a TCB (seL4_TCBFlag).
pub mod tcb_flags {
    /// None.
    pub const NONE: u64 = 0;
    /// The thread does not use the floating-point registers.
    pub const FPU_DISABLED: u64 = 1;
    /// All that seL4 has.
    pub const MASK: u64 = 1;
    /// Only on our kernel; seL4 does not set it, as the answer to `TCB_SetFlags` tells. The message of a VM fault has one more word,
    /// the register that the faulting instruction stores (when its syndrome names one); and an answer of label
    /// [`FINISH`](super::emulated::FINISH) and two words to a VM or vCPU fault finishes the instruction: word 0 is the register to
    /// set ([`NO_REGISTER`](super::emulated::NO_REGISTER): none), word 1 its value, and the thread goes on at the next
    /// instruction, 4 bytes on. An answer of label [`REST`](super::emulated::REST) to a vCPU fault finishes it, too, and the
    /// thread goes on when its virtual timer is due (as it was set when the answer came), or when an interrupt is injected into
    /// its vCPU; or earlier, as a wait for an interrupt may always end.
    pub const EMULATED: u64 = 1 << 32;
}

/// Answers to faults of threads with [`tcb_flags::EMULATED`].
pub mod emulated {
    /// Label: the instruction is done.
    pub const FINISH: u64 = 0;
    /// Label: the instruction, a wait for an interrupt, is done when there is one.
    pub const REST: u64 = 1;
    /// The register that is none.
    pub const NO_REGISTER: u64 = 31;
}

/// Flags of a scheduling context (seL4_SchedContextFlag).
pub mod sched_context_flags {
    /// Budget and period, constant bandwidth.
    pub const NONE: u64 = 0;
    /// A sporadic server: unused budget is kept.
    pub const SPORADIC: u64 = 1;
}

/// The initial thread's capability slots (libsel4 `bootinfo_types.h`).
pub mod init_slot {
    /// Null.
    pub const NULL: u64 = 0;
    /// Its TCB.
    pub const TCB: u64 = 1;
    /// Its CNode.
    pub const CNODE: u64 = 2;
    /// Its address space.
    pub const VSPACE: u64 = 3;
    /// Interrupt control.
    pub const IRQ_CONTROL: u64 = 4;
    /// ASID control.
    pub const ASID_CONTROL: u64 = 5;
    /// Its ASID pool.
    pub const ASID_POOL: u64 = 6;
    /// x86 only: null here.
    pub const IO_PORT_CONTROL: u64 = 7;
    /// Null here.
    pub const IO_SPACE: u64 = 8;
    /// The bootinfo frame.
    pub const BOOT_INFO_FRAME: u64 = 9;
    /// Its IPC buffer's frame.
    pub const IPC_BUFFER: u64 = 10;
    /// Domain control.
    pub const DOMAIN: u64 = 11;
    /// Null here.
    pub const SMMU_SID_CONTROL: u64 = 12;
    /// Null here.
    pub const SMMU_CB_CONTROL: u64 = 13;
    /// Its scheduling context.
    pub const SCHED_CONTEXT: u64 = 14;
    /// SMC forwarding: null in this configuration.
    pub const SMC: u64 = 15;
    /// Slots with fixed meaning.
    pub const COUNT: u64 = 16;
}
