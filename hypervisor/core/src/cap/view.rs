//! Any capability taken apart, and put together again.

use super::kind::*;
use super::memory::{MAPPED, mapping_word};
use super::{ADDR_MASK, Cap, FrameSize, Mapping, MemoryKind, Rights};
use crate::object::mem::Ref;
use crate::object::{AsidPool, Endpoint, Notification, Reply, SchedContext, Slot, Tcb, Vcpu};

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

impl Cap {
    /// Packs.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of capability")]
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
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of capability")]
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
}
