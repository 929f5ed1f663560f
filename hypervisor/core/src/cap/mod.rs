//! Capabilities: 16 bytes in a slot, an enum where the kernel looks at them.
//!
//! Packing of the second word: bits 63..=59 kind, 58..=44 fifteen bits of detail, 43..=0 the object's kernel address
//! divided by 16. The first word is the kind's own (badge, guard, mapping).
//!
//! Here is what all kinds have; the modules below are about some of them each. Where only one kind is of interest, its `as_` function
//! is the cheap way: [`Cap::view`] has to tell all of them apart.

#![allow(unsafe_code)] // Turning the packed address back into the `Ref` that was packed.

mod container;
mod ipc;
mod kind;
mod memory;
mod view;

pub use container::{CNodeParts, ZOMBIE_TCB, ZombieParts};
pub use ipc::Rights;
pub use kind::Kind;
pub use memory::{FrameParts, FrameSize, Mapping, MemoryKind};
pub use view::CapView;

use crate::object::mem::{Object, Ref};
use kind::{
    K_ENDPOINT, K_FRAME, K_IRQ_HANDLER, K_NOTIFICATION, K_NULL, K_REPLY, K_SCHED_CONTROL, K_SGI,
};

/// A packed capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Cap {
    word: u64,
    packed: u64,
}

const ADDR_MASK: u64 = (1 << 44) - 1;

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

    /// The capability with at most these rights. Kinds without rights stay as they are; a frame that cannot be read cannot
    /// be written either (the hardware's write-only mappings have no use).
    #[inline(always)]
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

    #[inline]
    const fn new(kind: u64, detail: u64, addr: u64, word: u64) -> Self {
        Self {
            word,
            packed: (kind << 59) | ((detail & 0x7fff) << 44) | ((addr >> 4) & ADDR_MASK),
        }
    }

    #[inline]
    fn object<T: Object>(self) -> Option<Ref<T>> {
        // SAFETY: both words are private and made only by `from_view`, which packed the address of a `Ref<T>` for exactly
        // the kinds that are unpacked here; the capability keeps the object alive (crate invariant 1).
        unsafe { Ref::from_word((self.packed & ADDR_MASK) << 4) }
    }
}
