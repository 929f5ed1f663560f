//! Kinds of capabilities, as numbers.

/// The kind of a capability, where only that is of interest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind(pub(super) u8);

impl Kind {
    /// Empty.
    pub const NULL: Self = Self(0);
    /// Untyped memory.
    pub const UNTYPED: Self = Self(1);
    /// Endpoint.
    pub const ENDPOINT: Self = Self(2);
    /// Notification.
    pub const NOTIFICATION: Self = Self(3);
    /// Reply object.
    pub const REPLY: Self = Self(4);
    /// CNode.
    pub const CNODE: Self = Self(5);
    /// What is left of a CNode or TCB under deletion.
    pub const ZOMBIE: Self = Self(6);
    /// Thread.
    pub const THREAD: Self = Self(7);
    /// Scheduling context.
    pub const SC: Self = Self(8);
    /// Authority over a core's time.
    pub const SCHED_CONTROL: Self = Self(9);
    /// Authority over all interrupts.
    pub const IRQ_CONTROL: Self = Self(10);
    /// One interrupt.
    pub const IRQ_HANDLER: Self = Self(11);
    /// Frame.
    pub const FRAME: Self = Self(12);
    /// Page table.
    pub const PAGE_TABLE: Self = Self(13);
    /// Root of an address space.
    pub const VSPACE: Self = Self(14);
    /// Authority over ASIDs.
    pub const ASID_CONTROL: Self = Self(15);
    /// ASID pool.
    pub const ASID_POOL: Self = Self(16);
    /// vCPU.
    pub const VCPU: Self = Self(17);
    /// Authority over domains.
    pub const DOMAIN: Self = Self(18);
    /// Authority to make secure monitor calls.
    pub const SMC: Self = Self(19);
    /// Software-generated interrupt.
    pub const SGI: Self = Self(20);
}

pub(super) const K_NULL: u64 = 0;
pub(super) const K_UNTYPED: u64 = 1;
pub(super) const K_ENDPOINT: u64 = 2;
pub(super) const K_NOTIFICATION: u64 = 3;
pub(super) const K_REPLY: u64 = 4;
pub(super) const K_CNODE: u64 = 5;
pub(super) const K_ZOMBIE: u64 = 6;
pub(super) const K_THREAD: u64 = 7;
pub(super) const K_SC: u64 = 8;
pub(super) const K_SCHED_CONTROL: u64 = 9;
pub(super) const K_IRQ_CONTROL: u64 = 10;
pub(super) const K_IRQ_HANDLER: u64 = 11;
pub(super) const K_FRAME: u64 = 12;
pub(super) const K_PAGE_TABLE: u64 = 13;
pub(super) const K_VSPACE: u64 = 14;
pub(super) const K_ASID_CONTROL: u64 = 15;
pub(super) const K_ASID_POOL: u64 = 16;
pub(super) const K_VCPU: u64 = 17;
pub(super) const K_DOMAIN: u64 = 18;
pub(super) const K_SMC: u64 = 19;
pub(super) const K_SGI: u64 = 20;
