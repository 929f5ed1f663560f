//! A capability's two words, taken apart.
//!
//! Second word: bits 63..=59 kind, 58..=44 detail, 43..=0 the object's address divided by 16. First word of what is mapped: ASID
//! in bits 0..=15, whether it is in bit 16, a table's level in 17..=18, the address's page from bit 20 on.

use kernel_core::object::{Slot, Tcb, tcb_slot};
use std::mem::offset_of;

/// Bytes of a slot.
pub const SLOT_BYTES: u64 = size_of::<Slot>() as u64;
/// Bytes that a TCB's object has (seL4_TCBBits).
const TCB_BYTES: u64 = 2048;
/// What a zombie says instead of a radix when it was a thread.
const ZOMBIE_TCB: u64 = 63;

/// Where something is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The address space.
    pub asid: u16,
    /// The address in it.
    pub vaddr: u64,
    /// A table's level; zero for a frame.
    pub level: u32,
}

/// What an object of the kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// Endpoint.
    Endpoint,
    /// Notification.
    Notification,
    /// Reply object.
    Reply,
    /// CNode, or what is left of one.
    CNode,
    /// Thread, or what is left of one.
    Thread,
    /// Scheduling context.
    SchedContext,
    /// Page table.
    PageTable,
    /// Root of an address space.
    VSpace,
    /// ASID pool.
    AsidPool,
    /// vCPU.
    Vcpu,
    /// Frame.
    Frame,
}

/// A capability. Addresses are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// An empty slot.
    Null,
    /// Authority without memory: interrupts, ASIDs, time, domains, monitor calls.
    Authority,
    /// Untyped memory.
    Untyped {
        /// Address.
        address: u64,
        /// log2 of the bytes.
        bits: u32,
        /// Whether it is a device's.
        device: bool,
    },
    /// A frame.
    Frame {
        /// Address.
        address: u64,
        /// log2 of the bytes.
        bits: u32,
        /// Whether it is a device's.
        device: bool,
        /// Whether it may be read.
        read: bool,
        /// Whether it may be written.
        write: bool,
        /// Where it is mapped.
        mapping: Option<Mapping>,
    },
    /// A page table.
    PageTable {
        /// Address.
        address: u64,
        /// Where it stands.
        mapping: Option<Mapping>,
    },
    /// Root of an address space.
    VSpace {
        /// Address.
        address: u64,
        /// Its ASID.
        asid: Option<u16>,
    },
    /// Something with slots.
    Slots {
        /// CNode or thread.
        kind: ObjectKind,
        /// Address of the object.
        address: u64,
        /// Address of its first slot.
        first: u64,
        /// How many there are.
        count: u64,
        /// Whether it is being deleted.
        zombie: bool,
    },
    /// Any other object.
    Other {
        /// Which.
        kind: ObjectKind,
        /// Address.
        address: u64,
        /// Bytes.
        bytes: u64,
    },
    /// No kind that there is.
    Unknown(u64),
}

impl Capability {
    /// The capability of a slot's first two words.
    #[must_use]
    pub fn decode(word: u64, packed: u64) -> Self {
        let address = (packed & ((1 << 44) - 1)) << 4;
        let detail = packed >> 44 & 0x7fff;
        let mapping = (word >> 16 & 1 == 1).then_some(Mapping {
            asid: word as u16,
            vaddr: word >> 20 << 12,
            level: (word >> 17 & 3) as u32,
        });
        let other = |kind, bytes| Self::Other {
            kind,
            address,
            bytes,
        };
        match packed >> 59 {
            0 => Self::Null,
            1 => Self::Untyped {
                address,
                bits: (detail & 63) as u32,
                device: detail >> 6 & 1 == 1,
            },
            2 => other(ObjectKind::Endpoint, 16),
            3 => other(ObjectKind::Notification, 64),
            4 => other(ObjectKind::Reply, 32),
            5 => Self::cnode(address, detail & 63, false),
            6 if detail & 63 == ZOMBIE_TCB => Self::Slots {
                kind: ObjectKind::Thread,
                address: address.wrapping_sub(offset_of!(Tcb, slots) as u64),
                first: address,
                count: tcb_slot::COUNT as u64,
                zombie: true,
            },
            6 => Self::cnode(address, detail & 63, true),
            7 => Self::thread(address),
            8 => other(ObjectKind::SchedContext, 1 << (detail & 63)),
            12 => Self::Frame {
                address,
                bits: match detail & 3 {
                    0 => 12,
                    1 => 21,
                    _ => 30,
                },
                device: detail >> 2 & 1 == 1,
                write: detail >> 3 & 1 == 1,
                read: detail >> 4 & 1 == 1,
                mapping,
            },
            13 => Self::PageTable { address, mapping },
            14 => Self::VSpace {
                address,
                asid: mapping.map(|mapping| mapping.asid),
            },
            16 => other(ObjectKind::AsidPool, 4096),
            17 => other(ObjectKind::Vcpu, 4096),
            9 | 10 | 11 | 15 | 18 | 19 | 20 => Self::Authority,
            kind => Self::Unknown(kind),
        }
    }

    const fn cnode(first: u64, radix: u64, zombie: bool) -> Self {
        Self::Slots {
            kind: ObjectKind::CNode,
            address: first,
            first,
            count: 1 << radix,
            zombie,
        }
    }

    /// The capability to a thread.
    #[must_use]
    pub const fn thread(address: u64) -> Self {
        Self::Slots {
            kind: ObjectKind::Thread,
            address,
            first: address.wrapping_add(offset_of!(Tcb, slots) as u64),
            count: tcb_slot::COUNT as u64,
            zombie: false,
        }
    }

    /// The object that it stands for and nobody but the kernel works with, or the frame that users do: kind, address, bytes.
    /// None for a device's frame, of which the kernel knows nothing but the address.
    #[must_use]
    pub const fn object(self) -> Option<(ObjectKind, u64, u64)> {
        match self {
            Self::Frame {
                address,
                bits,
                device: false,
                ..
            } => Some((ObjectKind::Frame, address, 1 << bits)),
            Self::PageTable { address, .. } => Some((ObjectKind::PageTable, address, 4096)),
            Self::VSpace { address, .. } => Some((ObjectKind::VSpace, address, 8192)),
            Self::Slots {
                kind: ObjectKind::Thread,
                address,
                ..
            } => Some((ObjectKind::Thread, address, TCB_BYTES)),
            Self::Slots {
                kind,
                address,
                count,
                ..
            } => Some((kind, address, count * SLOT_BYTES)),
            Self::Other {
                kind,
                address,
                bytes,
            } => Some((kind, address, bytes)),
            Self::Null
            | Self::Authority
            | Self::Untyped { .. }
            | Self::Frame { .. }
            | Self::Unknown(_) => None,
        }
    }
}
