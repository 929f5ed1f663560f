//! The kernel objects, as they lie in memory. Sizes are seL4's (`sel4-abi.txt`); the layout inside is ours.

#![allow(unsafe_code)] // Only for the `unsafe impl Object` lines: each states why zeroed memory is a valid value.

use crate::cap::Cap;
use crate::mem::{Object, Ref};
use core::cell::Cell;

/// A link to another object, or none.
pub type Link<T> = Cell<Option<Ref<T>>>;

/// A capability slot: a capability and its place in the derivation tree. 32 bytes (seL4_SlotBits = 5).
///
/// The derivation tree is one doubly linked list in depth-first order; who is whose child follows from the
/// capabilities (region, badge) and the two flags in [`Slot::prev_and_flags`].
#[repr(C, align(32))]
pub struct Slot {
    /// The capability; `Cap::NULL` when the slot is empty.
    pub cap: Cell<Cap>,
    /// The slot before, 48 bits; bit 0 revocable, bit 1 first badged.
    pub prev_and_flags: Cell<u64>,
    /// The slot after, or zero.
    pub next: Cell<u64>,
}

/// The general registers of a thread, in the order in which the exception entry saves them.
#[repr(C)]
pub struct Registers {
    /// x0..x30.
    pub x: [Cell<u64>; 31],
    /// SP_EL0.
    pub sp: Cell<u64>,
    /// The program counter (ELR_EL2).
    pub pc: Cell<u64>,
    /// The program status (SPSR_EL2).
    pub spsr: Cell<u64>,
    /// TPIDR_EL0.
    pub tpidr_el0: Cell<u64>,
    /// TPIDRRO_EL0.
    pub tpidrro_el0: Cell<u64>,
}

/// The floating-point registers of a thread.
#[repr(C, align(16))]
pub struct FpuState {
    /// v0..v31, low and high words.
    pub v: [Cell<u64>; 64],
    /// FPSR.
    pub fpsr: Cell<u64>,
    /// FPCR.
    pub fpcr: Cell<u64>,
}

/// What a thread is doing. Zero is `Inactive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ThreadState {
    /// Not started, or suspended.
    Inactive = 0,
    /// Runs when its turn comes.
    Running = 1,
    /// Will make its last system call again.
    Restart = 2,
    /// Waits to receive.
    BlockedOnReceive = 3,
    /// Waits to send.
    BlockedOnSend = 4,
    /// Waits for a reply.
    BlockedOnReply = 5,
    /// Waits on a notification.
    BlockedOnNotification = 6,
    /// The idle thread.
    Idle = 7,
}

/// Positions of the capability slots inside a TCB.
pub mod tcb_slot {
    /// CSpace root.
    pub const CSPACE: usize = 0;
    /// VSpace root.
    pub const VSPACE: usize = 1;
    /// IPC buffer frame.
    pub const IPC_BUFFER: usize = 2;
    /// Fault handler endpoint.
    pub const FAULT_HANDLER: usize = 3;
    /// Timeout handler endpoint.
    pub const TIMEOUT_HANDLER: usize = 4;
    /// How many there are.
    pub const COUNT: usize = 5;
}

/// A thread. At most 2048 bytes (seL4_TCBBits = 11), 32-byte aligned slots.
#[repr(C, align(32))]
pub struct Tcb {
    /// The user-level registers; first, so that the exception entry needs no offset.
    pub context: Registers,
    /// Capability slots ([`tcb_slot`]).
    pub slots: [Slot; tcb_slot::COUNT],
    /// Floating-point registers.
    pub fpu: FpuState,
    /// State and links of IPC and scheduling.
    pub thread: crate::object::ThreadFields,
}

/// The part of a TCB that IPC and scheduling work with.
#[repr(C)]
pub struct ThreadFields {
    /// [`ThreadState`].
    pub state: Cell<ThreadState>,
    /// Priority.
    pub priority: Cell<u8>,
    /// Maximum controlled priority.
    pub mcp: Cell<u8>,
    /// `seL4_TCBFlag_*`.
    pub flags: Cell<u8>,
    /// Domain.
    pub domain: Cell<u8>,
    /// Whether it is in the ready queue, release queue, an endpoint queue: one bit each (owner: scheduler).
    pub queued: Cell<u8>,
    /// Bits of the blocking IPC: can grant, can grant reply, is call, in receive phase (owner: IPC).
    pub ipc_flags: Cell<u8>,
    /// The endpoint or notification that it is blocked on (address), or zero.
    pub blocked_on: Cell<u64>,
    /// Badge with which it sends while blocked.
    pub ipc_badge: Cell<u64>,
    /// Pending fault: kind and words (owner: faults).
    pub fault: [Cell<u64>; 8],
    /// Failure of the last look-up, for fault messages and errors.
    pub lookup_failure: [Cell<u64>; 4],
    /// Address of its IPC buffer in its own address space.
    pub ipc_buffer: Cell<u64>,
    /// Kernel address of its IPC buffer's memory, or zero: cached, owner: `tcb` (cleared when the frame goes).
    pub ipc_buffer_kernel: Cell<u64>,
    /// Its scheduling context.
    pub sched_context: Link<SchedContext>,
    /// The scheduling context it gets time from for YieldTo (the one it yielded to).
    pub yield_to: Link<SchedContext>,
    /// Its bound notification.
    pub notification: Link<Notification>,
    /// Its vCPU.
    pub vcpu: Link<Vcpu>,
    /// The reply object it waits with or on.
    pub reply: Link<Reply>,
    /// Queue links, ready or release queue.
    pub sched_next: Link<Tcb>,
    /// Queue links.
    pub sched_prev: Link<Tcb>,
    /// Endpoint or notification queue links (within one priority).
    pub ep_next: Link<Tcb>,
    /// Endpoint or notification queue links.
    pub ep_prev: Link<Tcb>,
    /// Room for the queues' own structure (for example the next priority's head and this priority's tail).
    pub ep_tree: [Cell<u64>; 4],
    /// Room for the release queue's own structure.
    pub release_tree: [Cell<u64>; 4],
    /// Name, debug flavour.
    pub name: [Cell<u8>; 32],
}

/// An endpoint, 16 bytes: queue head and tail with the state in the low bits (owner: IPC).
#[repr(C, align(16))]
pub struct Endpoint {
    /// First waiting thread.
    pub head: Cell<u64>,
    /// Last waiting thread and state.
    pub tail_and_state: Cell<u64>,
}

/// A notification, 64 bytes.
#[repr(C, align(64))]
pub struct Notification {
    /// First waiting thread.
    pub head: Cell<u64>,
    /// Last waiting thread and state.
    pub tail_and_state: Cell<u64>,
    /// The word that signals are OR-ed into.
    pub word: Cell<u64>,
    /// The thread it is bound to.
    pub bound_tcb: Link<Tcb>,
    /// Its scheduling context (for passive servers).
    pub sched_context: Link<SchedContext>,
}

/// A reply object, 32 bytes.
#[repr(C, align(32))]
pub struct Reply {
    /// The thread that waits with it (receiver) or on it (caller).
    pub tcb: Link<Tcb>,
    /// Call stack towards older calls: address of a reply, low bits flags (owner: IPC).
    pub prev: Cell<u64>,
    /// Call stack towards newer calls or the scheduling context (owner: IPC).
    pub next: Cell<u64>,
    /// Whether the caller may be granted capabilities in the answer.
    pub can_grant: Cell<u64>,
}

/// A scheduling context: 96 bytes of fields, then its refills up to the object's size (seL4_MinSchedContextBits = 7).
#[repr(C, align(32))]
pub struct SchedContext {
    /// Period in ticks; zero: never configured.
    pub period: Cell<u64>,
    /// Ticks used since last asked.
    pub consumed: Cell<u64>,
    /// Thread bound to it.
    pub tcb: Link<Tcb>,
    /// Top of the call stack that it was donated along.
    pub reply: Link<Reply>,
    /// Notification bound to it.
    pub notification: Link<Notification>,
    /// Badge for timeout faults.
    pub badge: Cell<u64>,
    /// Thread that yields to it.
    pub yield_from: Link<Tcb>,
    /// Ring of refills: head index.
    pub refill_head: Cell<u16>,
    /// Ring of refills: number in use.
    pub refill_count: Cell<u16>,
    /// Ring of refills: most allowed.
    pub refill_max: Cell<u16>,
    /// Sporadic or constant bandwidth; active on a core.
    pub flags: Cell<u16>,
    /// Core it was configured for.
    pub core: Cell<u64>,
    /// log2 of the object's size.
    pub size_bits: Cell<u64>,
    /// Budget in ticks as configured.
    pub budget: Cell<u64>,
    /// First refill; more follow behind it in the object.
    pub refills: [Refill; 2],
}

/// A refill: this much time from that moment on.
#[repr(C)]
pub struct Refill {
    /// Earliest use, ticks.
    pub time: Cell<u64>,
    /// Amount, ticks.
    pub amount: Cell<u64>,
}

/// A vCPU, 4096 bytes; its inside belongs to the architecture.
#[repr(C, align(4096))]
pub struct Vcpu {
    /// Its thread.
    pub tcb: Link<Tcb>,
    /// Registers by `seL4_VCPUReg` index.
    pub registers: [Cell<u64>; 24],
    /// List registers.
    pub lr: [Cell<u64>; 64],
    /// The rest of the virtual interrupt controller's state.
    pub vgic: [Cell<u64>; 16],
    /// Which VPPIs are masked; more of the virtual timer (architecture).
    pub vtimer: [Cell<u64>; 8],
}

/// An ASID pool, 4096 bytes: 512 entries.
#[repr(C, align(4096))]
pub struct AsidPool {
    /// Kernel address of the VSpace root, or zero; low bits hold the VMID while it has one (owner: vspace).
    pub entries: [Cell<u64>; 512],
}

// SAFETY: for each of these, all fields are cells of integers, of `Option<Ref>` (zero is `None`) or of enums whose zero value exists;
// none needs drop; the sizes are asserted below.
unsafe impl Object for Slot {}
// SAFETY: as above.
unsafe impl Object for Tcb {}
// SAFETY: as above.
unsafe impl Object for Endpoint {}
// SAFETY: as above.
unsafe impl Object for Notification {}
// SAFETY: as above.
unsafe impl Object for Reply {}
// SAFETY: as above.
unsafe impl Object for SchedContext {}
// SAFETY: as above.
unsafe impl Object for Vcpu {}
// SAFETY: as above.
unsafe impl Object for AsidPool {}

const _: () = assert!(size_of::<Slot>() == 32);
const _: () = assert!(size_of::<Tcb>() <= 2048);
const _: () = assert!(size_of::<Endpoint>() == 16);
const _: () = assert!(size_of::<Notification>() == 64);
const _: () = assert!(size_of::<Reply>() == 32);
const _: () = assert!(size_of::<SchedContext>() <= 128);
const _: () = assert!(size_of::<Vcpu>() == 4096);
const _: () = assert!(size_of::<AsidPool>() == 4096);
