//! Where the root task puts each component's capabilities: slot numbers in the component's CNode.
//!
//! Slots 1..=15 mean the same in every component that has them.

/// The component's own CNode (for receiving and deleting capabilities).
pub const CNODE: u64 = 1;
/// Its own VSpace.
pub const VSPACE: u64 = 2;
/// Its main thread's reply object.
pub const REPLY: u64 = 3;
/// The endpoint on which it serves.
pub const ENDPOINT: u64 = 4;
/// Its notification (bound to its main thread).
pub const NOTIFICATION: u64 = 5;
/// The console server, badged (log, text).
pub const CONSOLE: u64 = 6;
/// The memory server, badged.
pub const MEMORY: u64 = 7;
/// The balancer, badged.
pub const BALANCER: u64 = 8;
/// The supervisor, badged.
pub const SUPERVISOR: u64 = 9;
/// The timer, badged.
pub const TIMER: u64 = 10;
/// A copy of its own notification, badged [`crate::badge::signal::TICK`], for another thread of its own.
pub const TICK: u64 = 11;
/// Its own main thread's TCB (only where named below).
pub const TCB: u64 = 12;
/// A scratch slot for received capabilities.
pub const RECEIVE: u64 = 13;
/// First slot that differs per component.
pub const FIRST_OWN: u64 = 16;

/// The memory server.
pub mod memory {
    use super::FIRST_OWN;
    /// TCB of the cleaner thread (to raise and lower its priority).
    pub const CLEANER_TCB: u64 = FIRST_OWN;
    /// Endpoint of the main thread, badged for the cleaner.
    pub const CLEANER_ENDPOINT: u64 = FIRST_OWN + 1;
    /// A second reply object: holds the cleaner's call while there is nothing to clean.
    pub const CLEANER_REPLY: u64 = FIRST_OWN + 2;
    /// The main thread's TCB as the authority for priorities.
    pub const AUTHORITY: u64 = FIRST_OWN + 3;
    /// CNode of the untyped capabilities of free, clean pieces; slot = piece. All start here, not yet clean: in `DIRTY`.
    pub const POOL: u64 = FIRST_OWN + 4;
    /// CNode of the untyped capabilities of pieces being cleaned. At boot every piece is here.
    pub const DIRTY: u64 = FIRST_OWN + 5;
    /// CNode of the frame capabilities, slot = piece; empty while a piece is dirty.
    pub const FRAMES: u64 = FIRST_OWN + 6;
    /// Notification of the balancer, badged [`crate::badge::signal::MEMORY`].
    pub const BALANCER_SIGNAL: u64 = FIRST_OWN + 7;
    /// CNode of the untyped capabilities of guest `g`'s pieces: `OWNERS + g`.
    pub const OWNERS: u64 = 32;
    /// Notification of guest `g`'s VMM, badged [`crate::badge::signal::MEMORY`]: `VMM_SIGNALS + g`; empty while it is not running.
    pub const VMM_SIGNALS: u64 = 64;
    /// A scratch slot where the copy of a frame capability is made before it is sent.
    pub const OUTGOING: u64 = 96;
    /// A scratch slot for the cleaner: an untyped in a ledger CNode cannot be invoked, a copy of it here can.
    pub const CLEANING: u64 = 97;
    /// log2 of the slots of the component's CNode. Every other CNode above has radix [`LEDGER_RADIX_MAX`] or less,
    /// guard 0, and its own capability is invoked with depth = its radix.
    pub const RADIX: u32 = 8;
    /// log2 of the most pieces a pool can have (8 GiB = 4096; room for 32 GiB).
    pub const LEDGER_RADIX_MAX: u32 = 14;

    /// log2 of the slots of each ledger CNode for a pool of `total` pieces: the depth of its slots.
    #[must_use]
    pub const fn ledger_radix(total: crate::units::Pieces) -> u32 {
        let radix = u32::BITS - total.0.saturating_sub(1).leading_zeros();
        if radix < 1 {
            1
        } else if radix > LEDGER_RADIX_MAX {
            LEDGER_RADIX_MAX
        } else {
            radix
        }
    }
}

/// The balancer has nothing of its own.
pub mod balancer {
    /// log2 of the slots of its CNode.
    pub const RADIX: u32 = 6;
}

/// The timer.
pub mod timer {
    use super::FIRST_OWN;
    /// The core's SchedControl.
    pub const SCHED_CONTROL: u64 = FIRST_OWN;
    /// The alarm thread's TCB.
    pub const ALARM_TCB: u64 = FIRST_OWN + 1;
    /// The alarm thread's scheduling context.
    pub const ALARM_SC: u64 = FIRST_OWN + 2;
    /// Notification of guest `g`'s VMM, badged [`crate::badge::signal::ALARM`]: `VMM_SIGNALS + g`.
    pub const VMM_SIGNALS: u64 = 32;
    /// Notifications of other clients by `CLIENT_SIGNALS + n`: 0 balancer, 1 console, 2 supervisor.
    pub const CLIENT_SIGNALS: u64 = 56;
    /// log2 of the slots of its CNode.
    pub const RADIX: u32 = 6;
}

/// The serial / management server.
pub mod console {
    use super::FIRST_OWN;
    /// The UART's interrupt handler.
    pub const IRQ: u64 = FIRST_OWN;
    /// Notification of guest `g`'s VMM, badged [`crate::badge::signal::CONSOLE`]: `VMM_SIGNALS + g`.
    pub const VMM_SIGNALS: u64 = 32;
    /// log2 of the slots of its CNode.
    pub const RADIX: u32 = 6;
}

/// A VMM.
pub mod vmm {
    use super::FIRST_OWN;
    /// The guest's vCPU.
    pub const VCPU: u64 = FIRST_OWN;
    /// The guest's TCB.
    pub const GUEST_TCB: u64 = FIRST_OWN + 1;
    /// The guest's VSpace; every page table for its memory exists.
    pub const GUEST_VSPACE: u64 = FIRST_OWN + 2;
    /// The guest thread's scheduling context.
    pub const GUEST_SC: u64 = FIRST_OWN + 3;
    /// The endpoint on which the fault-handling thread receives the VMM's own faults in its window.
    pub const WINDOW_FAULTS: u64 = FIRST_OWN + 4;
    /// The fault-handling thread's reply object.
    pub const FAULT_REPLY: u64 = FIRST_OWN + 5;
    /// The VMM's main TCB (the fault thread restarts it).
    pub const MAIN_TCB: u64 = FIRST_OWN + 7;
    /// Badge of the guest's faults on [`super::ENDPOINT`].
    pub const GUEST_FAULT_BADGE: u64 = 0x6_0000_0000;
    /// First slot for frame capabilities: piece `i` of the guest's own list is mapped for the guest by `GUEST_FRAMES + 2 i`
    /// and into the VMM's window by `GUEST_FRAMES + 2 i + 1`.
    pub const GUEST_FRAMES: u64 = 64;
    /// log2 of the most slots that its CNode can have: room for 16 GiB of 2 MiB pieces, two capabilities each. It has
    /// as many as its guest's capacity needs.
    pub const RADIX: u32 = 14;
}
