//! The kernel objects, as they lie in memory. Sizes are seL4's (`sel4_sys::ObjectType`); the layout inside is ours.
#![allow(unsafe_code)] // For the `unsafe impl Object` lines, and to reach what lies behind an object's fixed part.

use crate::cap::Cap;
use crate::object::mem::{Object, Ref};
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
    /// The slot before and, in the five low bits, flags ([`crate::object::slot`]).
    pub prev_and_flags: Cell<u64>,
    /// The slot after.
    pub next: Link<Slot>,
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

/// Bits of [`ThreadFields::queued`].
pub mod queued {
    /// In the ready queue of its priority.
    pub const READY: u8 = 1;
    /// In the release queue: it waits for budget, or for its virtual timer.
    pub const RELEASE: u8 = 2;
}

/// Bits of [`ThreadFields::flags`].
pub mod thread_flag {
    /// It may not use floating point.
    pub const FPU_DISABLED: u8 = 1;
    /// Its handler finishes instructions that fault.
    pub const EMULATED: u8 = 2;
}

/// Bits of [`ThreadFields::ipc_flags`].
pub mod ipc_flag {
    /// The capability it sends or receives with has Grant.
    pub const GRANT: u8 = 1;
    /// The capability it sends with has GrantReply.
    pub const GRANT_REPLY: u8 = 2;
    /// It waits to be answered when its message is delivered.
    pub const CALL: u8 = 4;
    /// It is blocked in a system call and its saved pc is behind the `svc`: making the call again means pc - 4.
    pub const IN_SYSCALL: u8 = 8;
    /// [`super::ThreadFields::fault`] holds a fault that nobody has answered.
    pub const FAULT: u8 = 16;
    /// Stands at the cursor of a `CancelBadgedSends` in progress.
    pub const CURSOR: u8 = 32;
}

/// The part of a TCB that IPC and scheduling work with.
#[repr(C)]
pub struct ThreadFields {
    /// [`ThreadState`].
    pub state: Cell<ThreadState>,
    /// Priority.
    pub priority: Cell<u8>,
    /// Bits of the IPC it is in ([`ipc_flag`]; owner: IPC).
    pub ipc_flags: Cell<u8>,
    /// In which of the scheduler's queues it is ([`queued`]; owner: scheduler).
    pub queued: Cell<u8>,
    /// Maximum controlled priority.
    pub mcp: Cell<u8>,
    /// [`thread_flag`].
    pub flags: Cell<u8>,
    /// Domain.
    pub domain: Cell<u8>,
    /// Rank in the release heap (owner: release queue).
    pub release_rank: Cell<u8>,
    /// Its scheduling context.
    pub sched_context: Link<SchedContext>,
    /// The reply object it waits with (as receiver) or on (as caller).
    pub reply: Link<Reply>,
    /// The endpoint that it is blocked on.
    pub endpoint: Link<Endpoint>,
    /// The notification that it is blocked on.
    pub waits_for: Link<Notification>,
    /// Badge with which it sends while blocked.
    pub ipc_badge: Cell<u64>,
    /// Kernel address of its IPC buffer, bit 0 set when it is writable; zero when there is none (owner: `tcb`).
    pub ipc_buffer_kernel: Cell<u64>,
    /// Its bound notification.
    pub notification: Link<Notification>,
    /// The scheduling context that it yielded to with YieldTo, until it runs again.
    pub yield_to: Link<SchedContext>,
    /// Its vCPU.
    pub vcpu: Link<Vcpu>,
    /// Ready-queue links.
    pub sched_next: Link<Tcb>,
    /// Ready-queue links.
    pub sched_prev: Link<Tcb>,
    /// Links of the endpoint or notification queue.
    pub wait_next: Link<Tcb>,
    /// Links of the endpoint or notification queue.
    pub wait_prev: Link<Tcb>,
    /// Of the first waiter of a priority: the first one of the next lower priority.
    pub wait_lower: Link<Tcb>,
    /// Of the first waiter of a priority: the first one of the next higher priority.
    pub wait_higher: Link<Tcb>,
    /// Of the first waiter of a priority: the last one of it.
    pub wait_last: Link<Tcb>,
    /// Of the last waiter of a priority: the first one of it.
    pub wait_first: Link<Tcb>,
    /// Release heap: left child.
    pub release_left: Link<Tcb>,
    /// Release heap: right child.
    pub release_right: Link<Tcb>,
    /// Release heap: parent.
    pub release_parent: Link<Tcb>,
    /// Release heap: count at which it is taken out.
    pub release_time: Cell<u64>,
    /// Address of its IPC buffer in its own address space.
    pub ipc_buffer: Cell<u64>,
    /// Pending fault.
    pub fault: Cell<crate::object::fault_kind::Fault>,
    /// Name, debug flavour.
    pub name: [Cell<u8>; 32],
}

/// Threads waiting in order of priority, first come first served within one. Empty when `head` is `None`; what they wait for
/// is in their state.
#[repr(C)]
pub struct WaitQueue {
    /// First waiting thread.
    pub head: Link<Tcb>,
    /// Last waiting thread.
    pub tail: Link<Tcb>,
}

/// An endpoint, 16 bytes.
#[repr(C, align(16))]
pub struct Endpoint {
    /// All senders, or all receivers.
    pub queue: WaitQueue,
}

/// A notification, 64 bytes.
#[repr(C, align(64))]
pub struct Notification {
    /// Waiting threads; empty while active.
    pub queue: WaitQueue,
    /// Whether a signal is pending (1) or not (0); a signal with badge 0 is one too.
    pub active: Cell<u64>,
    /// The word that signals are OR-ed into.
    pub word: Cell<u64>,
    /// The thread it is bound to.
    pub bound_tcb: Link<Tcb>,
    /// Its scheduling context (for passive servers).
    pub sched_context: Link<SchedContext>,
}

/// A reply object, 32 bytes.
///
/// `tcb` is the thread that waits with it to receive, or the caller that waits on it for an answer (its state tells which). In the
/// second case it may be part of a call stack along which a scheduling context was donated: `caller_side` is the older
/// call's reply object, `callee_side` the newer one's; the newest has `sched_context` instead.
#[repr(C, align(32))]
pub struct Reply {
    /// The thread that waits.
    pub tcb: Link<Tcb>,
    /// Towards older calls.
    pub caller_side: Link<Reply>,
    /// Towards newer calls.
    pub callee_side: Link<Reply>,
    /// The scheduling context, when this is the top of its stack.
    pub sched_context: Link<SchedContext>,
}

/// Bits of [`SchedContext::flags`].
pub mod sc_flag {
    /// Sporadic server only (`seL4_SchedContext_Sporadic`), not constant bandwidth.
    pub const SPORADIC: u16 = 1;
    /// Round robin: the slice ended while its thread was blocked, which still has to wait for the others' turns.
    pub const TURN_OVER: u16 = 2;
}

/// A scheduling context: 96 bytes of fields, then its refills up to the object's size (seL4_MinSchedContextBits = 7).
#[repr(C, align(32))]
pub struct SchedContext {
    /// Period in ticks; zero: round robin.
    pub period: Cell<u64>,
    /// Budget in ticks as configured.
    pub budget: Cell<u64>,
    /// Ticks used since last asked.
    pub consumed: Cell<u64>,
    /// Thread that runs on it.
    pub tcb: Link<Tcb>,
    /// Top of the call stack that it was donated along.
    pub reply: Link<Reply>,
    /// Notification bound to it.
    pub notification: Link<Notification>,
    /// Badge for timeout faults.
    pub badge: Cell<u64>,
    /// Thread that yielded to it.
    pub yield_from: Link<Tcb>,
    /// Ring of refills: head index.
    pub refill_head: Cell<u16>,
    /// Ring of refills: number in use; at least 1 once configured.
    pub refill_count: Cell<u16>,
    /// Ring of refills: most allowed; zero: never configured, no time.
    pub refill_max: Cell<u16>,
    /// [`sc_flag`].
    pub flags: Cell<u16>,
    /// Core it was configured for.
    pub core: Cell<u64>,
    /// Room.
    pub reserved: [Cell<u64>; 2],
    /// The first refills; more follow behind them in the object ([`SchedContext::refill`]).
    pub refills: [Refill; 2],
}

impl SchedContext {
    /// Refill `index` of the ring, when the object that was configured has it.
    #[inline]
    pub fn refill(this: Ref<Self>, index: u16) -> Option<Ref<Refill>> {
        if index >= this.refill_max.get() {
            return None;
        }
        let first = this
            .addr()
            .wrapping_add(core::mem::offset_of!(SchedContext, refills) as u64);
        let addr = first.wrapping_add(u64::from(index).wrapping_mul(size_of::<Refill>() as u64));
        // SAFETY: `refill_max` is set only by `sched_context::configure`, to at most the number of refills that fit into the
        // object according to its capability, so that `addr` lies within it; `Refill` is valid for any bytes and 8-byte
        // aligned, as 96 + 16 * n is.
        unsafe { Ref::from_word(addr) }
    }
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
unsafe impl Object for Refill {}
// SAFETY: as above.
unsafe impl Object for Vcpu {}
// SAFETY: as above.
unsafe impl Object for AsidPool {}

const _: () = assert!(size_of::<Slot>() == 32);
const _: () = assert!(size_of::<Tcb>() <= 2048);
const _: () = assert!(size_of::<Endpoint>() == 16);
const _: () = assert!(size_of::<Notification>() == 64);
const _: () = assert!(size_of::<Reply>() == 32);
const _: () = assert!(size_of::<SchedContext>() == 128);
const _: () = assert!(core::mem::offset_of!(SchedContext, refills) == 96);
const _: () = assert!(size_of::<Vcpu>() == 4096);
const _: () = assert!(size_of::<AsidPool>() == 4096);
