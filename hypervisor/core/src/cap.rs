//! Capabilities: 16 bytes in a slot, an enum where the kernel looks at them.
//!
//! Packing of the second word: bits 63..=59 kind, 58..=44 fifteen bits of detail, 43..=0 the object's kernel address
//! divided by 16. The first word is the kind's own (badge, guard, mapping).

#![allow(unsafe_code)] // Turning the packed address back into the `Ref` that was packed.

use crate::mem::{Object, Ref};
use crate::object::{AsidPool, Endpoint, Notification, Reply, SchedContext, Slot, Tcb, Vcpu};

/// A packed capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Cap {
    word: u64,
    packed: u64,
}

/// Rights on an endpoint or notification capability (seL4_CapRights).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rights(u8);

impl Rights {
    /// Send.
    pub const WRITE: Self = Self(1);
    /// Receive.
    pub const READ: Self = Self(2);
    /// Transfer capabilities.
    pub const GRANT: Self = Self(4);
    /// Transfer the reply capability.
    pub const GRANT_REPLY: Self = Self(8);
    /// All four.
    pub const ALL: Self = Self(15);

    /// From seL4's word: the bit order is seL4_CapRights' (write 0, read 1, grant 2, grant reply 3).
    #[inline]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self((word & 15) as u8)
    }
    /// The bits.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
    /// Whether all of `other` is in `self`.
    #[inline]
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// What either has.
    #[inline]
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// What both have.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Where a frame, page table or VSpace is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The address space.
    pub asid: u16,
    /// The address in it.
    pub vaddr: u64,
}

/// Size of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameSize {
    /// 4 KiB.
    Small = 0,
    /// 2 MiB.
    Large = 1,
    /// 1 GiB.
    Huge = 2,
}

impl FrameSize {
    /// log2 of the size in bytes.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Small => 12,
            Self::Large => 21,
            Self::Huge => 30,
        }
    }
}

/// Whether memory is RAM or a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MemoryKind {
    /// RAM: zeroed, may hold kernel objects.
    Ram = 0,
    /// Never touched by the kernel.
    Device = 1,
}

/// What is in a CNode capability.
#[derive(Clone, Copy, Debug)]
pub struct CNodeParts {
    /// Its first slot.
    pub slots: Ref<Slot>,
    /// log2 of its slots.
    pub radix: u64,
    /// Guard value.
    pub guard: u64,
    /// Guard length in bits.
    pub guard_bits: u64,
}

/// What is in a frame capability.
#[derive(Clone, Copy, Debug)]
pub struct FrameParts {
    /// Kernel address (never dereferenced when a device).
    pub addr: u64,
    /// Size.
    pub size: FrameSize,
    /// RAM or device.
    pub kind: MemoryKind,
    /// READ, WRITE.
    pub rights: Rights,
    /// Where it is mapped by this capability.
    pub mapping: Option<Mapping>,
}

/// A capability, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CapView {
    /// Empty.
    Null,
    /// Untyped memory at a kernel address.
    Untyped {
        /// Kernel address.
        addr: u64,
        /// log2 of the bytes.
        bits: u32,
        /// RAM or device.
        kind: MemoryKind,
        /// Bytes used from the start.
        free_offset: u64,
    },
    /// Endpoint.
    Endpoint {
        /// The object.
        object: Ref<Endpoint>,
        /// Badge.
        badge: u64,
        /// Rights.
        rights: Rights,
    },
    /// Notification.
    Notification {
        /// The object.
        object: Ref<Notification>,
        /// Badge.
        badge: u64,
        /// Rights (READ, WRITE).
        rights: Rights,
    },
    /// Reply object.
    Reply {
        /// The object.
        object: Ref<Reply>,
        /// Rights (GRANT, GRANT_REPLY matter).
        rights: Rights,
    },
    /// CNode.
    CNode {
        /// Its first slot.
        slots: Ref<Slot>,
        /// log2 of its slots.
        radix: u32,
        /// Guard value.
        guard: u64,
        /// Guard length in bits.
        guard_bits: u32,
    },
    /// A CNode or TCB whose last capability is gone and whose slots are being emptied (owner: deletion).
    Zombie {
        /// Its first slot.
        slots: Ref<Slot>,
        /// log2 of a CNode's slots, or [`ZOMBIE_TCB`].
        radix: u32,
        /// The deletion's own word.
        word: u64,
    },
    /// Thread.
    Thread(Ref<Tcb>),
    /// Scheduling context.
    SchedContext {
        /// The object.
        object: Ref<SchedContext>,
        /// log2 of its size.
        bits: u32,
    },
    /// Authority over a core's time.
    SchedControl {
        /// The core.
        core: u64,
    },
    /// Authority over all interrupts.
    IrqControl,
    /// One interrupt.
    IrqHandler {
        /// Its number.
        irq: u64,
    },
    /// A frame.
    Frame {
        /// Kernel address (never dereferenced when a device).
        addr: u64,
        /// Size.
        size: FrameSize,
        /// RAM or device.
        kind: MemoryKind,
        /// READ, WRITE.
        rights: Rights,
        /// Where it is mapped by this capability.
        mapping: Option<Mapping>,
    },
    /// A page table (any level below the root).
    PageTable {
        /// Kernel address.
        addr: u64,
        /// Where it is mapped, and at which level it stands (2 or 3; Arm's numbering).
        mapping: Option<Mapping>,
        /// Level when mapped.
        level: u32,
    },
    /// A VSpace root.
    VSpace {
        /// Kernel address of the two concatenated level-1 tables.
        addr: u64,
        /// Its ASID when assigned.
        asid: Option<u16>,
    },
    /// Authority over ASIDs.
    AsidControl,
    /// An ASID pool.
    AsidPool {
        /// The object.
        object: Ref<AsidPool>,
        /// First ASID.
        base: u16,
    },
    /// vCPU.
    Vcpu(Ref<Vcpu>),
    /// Authority over domains.
    Domain,
    /// Authority to make secure monitor calls (null in this configuration's boot).
    Smc {
        /// Badge: the function allowed, or 0 for all.
        badge: u64,
    },
    /// A software-generated interrupt.
    SgiSignal {
        /// Number.
        irq: u64,
        /// Target.
        target: u64,
    },
}

/// [`CapView::Zombie`]'s radix for a TCB.
pub const ZOMBIE_TCB: u32 = 63;

/// The kind of a capability, where only that is of interest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind(u8);

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

    /// As a number, zero for an empty slot.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

const K_NULL: u64 = 0;
const K_UNTYPED: u64 = 1;
const K_ENDPOINT: u64 = 2;
const K_NOTIFICATION: u64 = 3;
const K_REPLY: u64 = 4;
const K_CNODE: u64 = 5;
const K_ZOMBIE: u64 = 6;
const K_THREAD: u64 = 7;
const K_SC: u64 = 8;
const K_SCHED_CONTROL: u64 = 9;
const K_IRQ_CONTROL: u64 = 10;
const K_IRQ_HANDLER: u64 = 11;
const K_FRAME: u64 = 12;
const K_PAGE_TABLE: u64 = 13;
const K_VSPACE: u64 = 14;
const K_ASID_CONTROL: u64 = 15;
const K_ASID_POOL: u64 = 16;
const K_VCPU: u64 = 17;
const K_DOMAIN: u64 = 18;
const K_SMC: u64 = 19;
const K_SGI: u64 = 20;

const ADDR_MASK: u64 = (1 << 44) - 1;

/// Bits of the first word of mapped kinds: asid 0..=15, mapped 16, level 17..=18, vaddr >> 12 from 20.
const MAPPED: u64 = 1 << 16;

#[inline]
const fn mapping_word(mapping: Mapping, level: u32) -> u64 {
    (mapping.asid as u64) | MAPPED | (((level & 3) as u64) << 17) | ((mapping.vaddr >> 12) << 20)
}

impl Cap {
    /// The empty capability: all zero.
    pub const NULL: Self = Self { word: 0, packed: 0 };

    /// Whether the slot that holds this is empty.
    #[inline]
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.packed >> 59 == K_NULL
    }

    /// Its kind.
    #[inline]
    #[must_use]
    pub const fn kind(self) -> Kind {
        Kind((self.packed >> 59) as u8)
    }

    /// The kind's own word: the badge of an endpoint, notification or SMC capability.
    #[inline]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.word
    }

    /// A CNode capability, taken apart. Look-ups go through this: [`Self::view`] has to tell all kinds apart.
    #[inline(always)]
    #[must_use]
    pub fn as_cnode(self) -> Option<CNodeParts> {
        if self.packed >> 59 != K_CNODE {
            return None;
        }
        Some(CNodeParts {
            slots: self.object()?,
            radix: (self.packed >> 44) & 63,
            guard: self.word,
            guard_bits: (self.packed >> 50) & 63,
        })
    }

    /// The rights of an endpoint, notification or reply capability.
    #[inline(always)]
    const fn ipc_rights(self) -> Rights {
        Rights(((self.packed >> 44) & 15) as u8)
    }

    /// An endpoint and the rights to it; its badge is [`Self::word`].
    #[inline(always)]
    #[must_use]
    pub fn as_endpoint(self) -> Option<(Ref<Endpoint>, Rights)> {
        if self.packed >> 59 != K_ENDPOINT {
            return None;
        }
        Some((self.object()?, self.ipc_rights()))
    }

    /// A notification and the rights to it; its badge is [`Self::word`].
    #[inline(always)]
    #[must_use]
    pub fn as_notification(self) -> Option<(Ref<Notification>, Rights)> {
        if self.packed >> 59 != K_NOTIFICATION {
            return None;
        }
        Some((self.object()?, self.ipc_rights()))
    }

    /// A reply object and the rights to it.
    #[inline(always)]
    #[must_use]
    pub fn as_reply(self) -> Option<(Ref<Reply>, Rights)> {
        if self.packed >> 59 != K_REPLY {
            return None;
        }
        Some((self.object()?, self.ipc_rights()))
    }

    /// A frame capability, taken apart.
    #[inline(always)]
    #[must_use]
    pub fn as_frame(self) -> Option<FrameParts> {
        if self.packed >> 59 != K_FRAME {
            return None;
        }
        let detail = self.packed >> 44;
        Some(FrameParts {
            addr: (self.packed & ADDR_MASK) << 4,
            size: match detail & 3 {
                0 => FrameSize::Small,
                1 => FrameSize::Large,
                _ => FrameSize::Huge,
            },
            kind: if (detail >> 2) & 1 == 1 {
                MemoryKind::Device
            } else {
                MemoryKind::Ram
            },
            rights: Rights::from_word((detail >> 3) & 3),
            mapping: self.mapping(),
        })
    }

    /// Root (kernel address) and ASID of an address space capability that has one.
    #[inline(always)]
    #[must_use]
    pub fn as_assigned_vspace(self) -> Option<(u64, u16)> {
        if self.packed >> 59 != K_VSPACE || self.word & MAPPED == 0 {
            return None;
        }
        Some(((self.packed & ADDR_MASK) << 4, self.word as u16))
    }

    /// A zombie: its container's first slot, the radix, and the deletion's word.
    #[inline(always)]
    #[must_use]
    pub fn as_zombie(self) -> Option<(Ref<Slot>, u32, u64)> {
        if self.packed >> 59 != K_ZOMBIE {
            return None;
        }
        Some((self.object()?, ((self.packed >> 44) & 63) as u32, self.word))
    }

    #[inline(always)]
    fn mapping(self) -> Option<Mapping> {
        if self.word & MAPPED == 0 {
            return None;
        }
        Some(Mapping {
            asid: self.word as u16,
            vaddr: (self.word >> 20) << 12,
        })
    }

    /// Whether both stand for the same object (or the same authority). Untyped memory is the same when it begins at
    /// the same address.
    #[inline]
    #[must_use]
    pub const fn same_object(self, other: Self) -> bool {
        const IDENTITY: u64 = (0x1f << 59) | ADDR_MASK;
        if (self.packed ^ other.packed) & IDENTITY != 0 {
            return false;
        }
        match self.packed >> 59 {
            K_NULL => false,
            K_IRQ_HANDLER | K_SCHED_CONTROL => self.word == other.word,
            K_SGI => self.word == other.word && self.packed == other.packed,
            _ => true,
        }
    }

    /// Whether `other`'s memory lies in this untyped capability's. False unless this is untyped and `other` has memory.
    #[inline]
    #[must_use]
    pub const fn untyped_contains(self, other: Self) -> bool {
        const WITH_MEMORY: u64 = (1 << K_UNTYPED)
            | (1 << K_ENDPOINT)
            | (1 << K_NOTIFICATION)
            | (1 << K_REPLY)
            | (1 << K_CNODE)
            | (1 << K_ZOMBIE)
            | (1 << K_THREAD)
            | (1 << K_SC)
            | (1 << K_FRAME)
            | (1 << K_PAGE_TABLE)
            | (1 << K_VSPACE)
            | (1 << K_ASID_POOL)
            | (1 << K_VCPU);
        if self.packed >> 59 != K_UNTYPED || (WITH_MEMORY >> (other.packed >> 59)) & 1 == 0 {
            return false;
        }
        let bits = (self.packed >> 44) & 63;
        if other.packed >> 59 == K_UNTYPED && (other.packed >> 44) & 63 > bits {
            return false;
        }
        let offset = (other.packed & ADDR_MASK).wrapping_sub(self.packed & ADDR_MASK) << 4;
        offset >> bits == 0
    }

    /// The capability with at most these rights. Kinds without rights stay as they are; a frame that cannot be read cannot
    /// be written either (the hardware's write-only mappings have no use).
    #[inline]
    #[must_use]
    pub const fn masked(self, rights: Rights) -> Self {
        let keep = rights.bits() as u64;
        let lost = match self.packed >> 59 {
            K_ENDPOINT | K_NOTIFICATION | K_REPLY => !keep & 15,
            K_FRAME if keep & 2 == 0 => 3 << 3,
            K_FRAME => (!keep & 3) << 3,
            _ => 0,
        };
        Self {
            word: self.word,
            packed: self.packed & !(lost << 44),
        }
    }

    /// The capability with another badge; for endpoint, notification and SMC capabilities.
    #[inline]
    #[must_use]
    pub const fn with_word(self, badge: u64) -> Self {
        Self {
            word: badge,
            packed: self.packed,
        }
    }

    /// Whether a frame or page table is mapped, or an address space has an ASID; for other kinds without meaning.
    #[inline]
    #[must_use]
    pub const fn is_mapped(self) -> bool {
        self.word & MAPPED != 0
    }

    /// A frame, page table or address space that is mapped nowhere; not to be used on other kinds.
    #[inline]
    #[must_use]
    pub const fn without_mapping(self) -> Self {
        Self {
            word: 0,
            packed: self.packed,
        }
    }

    /// A frame or page table (at `level`, which a frame has not) that is mapped; not to be used on other kinds.
    #[inline]
    #[must_use]
    pub const fn with_mapping(self, mapping: Mapping, level: u32) -> Self {
        Self {
            word: mapping_word(mapping, level),
            packed: self.packed,
        }
    }

    /// The zombie that this CNode or thread capability becomes, `word` slots still to be emptied.
    #[inline]
    #[must_use]
    pub const fn zombie(slots: Ref<Slot>, radix: u32, word: u64) -> Self {
        Self::new(K_ZOMBIE, (radix & 63) as u64, slots.addr(), word)
    }

    /// An untyped capability with its free index at the end; others unchanged.
    #[inline]
    #[must_use]
    pub const fn with_untyped_full(self) -> Self {
        if self.packed >> 59 == K_UNTYPED {
            self.with_untyped_free(1 << ((self.packed >> 44) & 63))
        } else {
            self
        }
    }

    /// An untyped capability with another free index; not to be used on others.
    #[inline]
    #[must_use]
    pub const fn with_untyped_free(self, free_offset: u64) -> Self {
        Self {
            word: free_offset,
            packed: self.packed,
        }
    }

    #[inline]
    const fn new(kind: u64, detail: u64, addr: u64, word: u64) -> Self {
        Self {
            word,
            packed: (kind << 59) | ((detail & 0x7fff) << 44) | ((addr >> 4) & ADDR_MASK),
        }
    }

    /// Packs.
    #[inline]
    #[must_use]
    pub fn from_view(view: CapView) -> Self {
        let mapping_word = |mapping: Option<Mapping>, level: u32| match mapping {
            Some(mapping) => mapping_word(mapping, level),
            None => 0,
        };
        match view {
            CapView::Null => Self::NULL,
            CapView::Untyped {
                addr,
                bits,
                kind,
                free_offset,
            } => Self::new(
                K_UNTYPED,
                u64::from(bits) | ((kind as u64) << 6),
                addr,
                free_offset,
            ),
            CapView::Endpoint {
                object,
                badge,
                rights,
            } => Self::new(K_ENDPOINT, u64::from(rights.bits()), object.addr(), badge),
            CapView::Notification {
                object,
                badge,
                rights,
            } => Self::new(
                K_NOTIFICATION,
                u64::from(rights.bits()),
                object.addr(),
                badge,
            ),
            CapView::Reply { object, rights } => {
                Self::new(K_REPLY, u64::from(rights.bits()), object.addr(), 0)
            }
            CapView::CNode {
                slots,
                radix,
                guard,
                guard_bits,
            } => Self::new(
                K_CNODE,
                u64::from(radix & 63) | (u64::from(guard_bits & 63) << 6),
                slots.addr(),
                guard,
            ),
            CapView::Zombie { slots, radix, word } => {
                Self::new(K_ZOMBIE, u64::from(radix & 63), slots.addr(), word)
            }
            CapView::Thread(object) => Self::new(K_THREAD, 0, object.addr(), 0),
            CapView::SchedContext { object, bits } => {
                Self::new(K_SC, u64::from(bits), object.addr(), 0)
            }
            CapView::SchedControl { core } => Self::new(K_SCHED_CONTROL, 0, 0, core),
            CapView::IrqControl => Self::new(K_IRQ_CONTROL, 0, 0, 0),
            CapView::IrqHandler { irq } => Self::new(K_IRQ_HANDLER, 0, 0, irq),
            CapView::Frame {
                addr,
                size,
                kind,
                rights,
                mapping,
            } => Self::new(
                K_FRAME,
                (size as u64) | ((kind as u64) << 2) | (u64::from(rights.bits() & 3) << 3),
                addr,
                mapping_word(mapping, 0),
            ),
            CapView::PageTable {
                addr,
                mapping,
                level,
            } => Self::new(K_PAGE_TABLE, 0, addr, mapping_word(mapping, level)),
            CapView::VSpace { addr, asid } => Self::new(
                K_VSPACE,
                0,
                addr,
                asid.map_or(0, |asid| u64::from(asid) | MAPPED),
            ),
            CapView::AsidControl => Self::new(K_ASID_CONTROL, 0, 0, 0),
            CapView::AsidPool { object, base } => {
                Self::new(K_ASID_POOL, 0, object.addr(), u64::from(base))
            }
            CapView::Vcpu(object) => Self::new(K_VCPU, 0, object.addr(), 0),
            CapView::Domain => Self::new(K_DOMAIN, 0, 0, 0),
            CapView::Smc { badge } => Self::new(K_SMC, 0, 0, badge),
            CapView::SgiSignal { irq, target } => Self::new(K_SGI, irq & 15, 0, target),
        }
    }

    /// Takes apart.
    #[inline]
    #[must_use]
    pub fn view(self) -> CapView {
        let kind = self.packed >> 59;
        let detail = (self.packed >> 44) & 0x7fff;
        let addr = (self.packed & ADDR_MASK) << 4;
        let mapping = self.mapping();
        let memory = |bit: u32| {
            if (detail >> bit) & 1 == 1 {
                MemoryKind::Device
            } else {
                MemoryKind::Ram
            }
        };
        match kind {
            K_UNTYPED => CapView::Untyped {
                addr,
                bits: (detail & 63) as u32,
                kind: memory(6),
                free_offset: self.word,
            },
            K_ENDPOINT => match self.object() {
                Some(object) => CapView::Endpoint {
                    object,
                    badge: self.word,
                    rights: Rights::from_word(detail),
                },
                None => CapView::Null,
            },
            K_NOTIFICATION => match self.object() {
                Some(object) => CapView::Notification {
                    object,
                    badge: self.word,
                    rights: Rights::from_word(detail),
                },
                None => CapView::Null,
            },
            K_REPLY => match self.object() {
                Some(object) => CapView::Reply {
                    object,
                    rights: Rights::from_word(detail),
                },
                None => CapView::Null,
            },
            K_CNODE => match self.object() {
                Some(slots) => CapView::CNode {
                    slots,
                    radix: (detail & 63) as u32,
                    guard: self.word,
                    guard_bits: ((detail >> 6) & 63) as u32,
                },
                None => CapView::Null,
            },
            K_ZOMBIE => match self.object() {
                Some(slots) => CapView::Zombie {
                    slots,
                    radix: (detail & 63) as u32,
                    word: self.word,
                },
                None => CapView::Null,
            },
            K_THREAD => self.object().map_or(CapView::Null, CapView::Thread),
            K_SC => match self.object() {
                Some(object) => CapView::SchedContext {
                    object,
                    bits: (detail & 63) as u32,
                },
                None => CapView::Null,
            },
            K_SCHED_CONTROL => CapView::SchedControl { core: self.word },
            K_IRQ_CONTROL => CapView::IrqControl,
            K_IRQ_HANDLER => CapView::IrqHandler { irq: self.word },
            K_FRAME => CapView::Frame {
                addr,
                size: match detail & 3 {
                    0 => FrameSize::Small,
                    1 => FrameSize::Large,
                    _ => FrameSize::Huge,
                },
                kind: memory(2),
                rights: Rights::from_word((detail >> 3) & 3),
                mapping,
            },
            K_PAGE_TABLE => CapView::PageTable {
                addr,
                mapping,
                level: ((self.word >> 17) & 3) as u32,
            },
            K_VSPACE => CapView::VSpace {
                addr,
                asid: mapping.map(|m| m.asid),
            },
            K_ASID_CONTROL => CapView::AsidControl,
            K_ASID_POOL => match self.object() {
                Some(object) => CapView::AsidPool {
                    object,
                    base: self.word as u16,
                },
                None => CapView::Null,
            },
            K_VCPU => self.object().map_or(CapView::Null, CapView::Vcpu),
            K_DOMAIN => CapView::Domain,
            K_SMC => CapView::Smc { badge: self.word },
            K_SGI => CapView::SgiSignal {
                irq: detail,
                target: self.word,
            },
            _ => CapView::Null,
        }
    }

    #[inline]
    fn object<T: Object>(self) -> Option<Ref<T>> {
        // SAFETY: both words are private and made only by `from_view`, which packed the address of a `Ref<T>` for exactly
        // the kinds that are unpacked here; the capability keeps the object alive (crate invariant 1).
        unsafe { Ref::from_word((self.packed & ADDR_MASK) << 4) }
    }
}
