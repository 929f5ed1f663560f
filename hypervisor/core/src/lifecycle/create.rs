//! New objects in fresh memory: the place where memory becomes a [`Ref`].

#![allow(unsafe_code)] // Making the first reference to a new object.

use crate::arch::Arch;
use crate::cap::{Cap, CapView, FrameSize, MemoryKind, Rights};
use crate::object::mem::{Object, Ref};
use crate::object::slot;
use crate::object::{AsidPool, Tcb, Vcpu};
use crate::state::kernel::Kernel;
use core::num::NonZeroU64;
use sel4_sys::ObjectType;

/// A piece of memory that becomes one object. Made only by `untyped`, from memory that no capability but the untyped one covers.
#[derive(Clone, Copy)]
pub(crate) struct Fresh {
    /// Kernel address, aligned to the object's size.
    pub addr: u64,
    /// RAM or device.
    pub kind: MemoryKind,
}

/// The reference to the new object at `addr`.
fn reference<T: Object>(addr: u64) -> Option<Ref<T>> {
    let addr = NonZeroU64::new(addr)?;
    // SAFETY: called by `object` and `AsidPoolMemory` only, for memory (1) below the end of a RAM untyped and at or above
    // its free index, so that no other object is in it, (2) zeroed by that untyped's reset, and zero is a valid `T`,
    // (3) aligned to and as large as seL4's size of the object, which is at least that of `T`.
    Some(unsafe { Ref::from_addr(addr) })
}

/// Makes an object and returns the capability to it; `None` for what cannot be made of such memory (the caller has
/// checked that it can). `size_bits`: log2 of the bytes of untyped memory and scheduling contexts, of the slots of a CNode.
#[inline]
pub(crate) fn object<A: Arch>(
    k: &Kernel<A>,
    object_type: ObjectType,
    size_bits: u32,
    fresh: Fresh,
) -> Option<Cap> {
    let Fresh { addr, kind } = fresh;
    let frame = |size: FrameSize| CapView::Frame {
        addr,
        size,
        kind,
        rights: Rights::READ.or(Rights::WRITE),
        mapping: None,
    };
    let view = match object_type {
        ObjectType::Untyped => CapView::Untyped {
            addr,
            bits: size_bits,
            kind,
            free_offset: 0,
        },
        ObjectType::SmallPage => frame(FrameSize::Small),
        ObjectType::LargePage => frame(FrameSize::Large),
        ObjectType::HugePage => frame(FrameSize::Huge),
        _ if kind == MemoryKind::Device => return None,
        ObjectType::Tcb => {
            let tcb: Ref<Tcb> = reference(addr)?;
            slot::init_tcb_slots(tcb);
            k.arch.init_context(&tcb.context);
            CapView::Thread(tcb)
        }
        ObjectType::Endpoint => CapView::Endpoint {
            object: reference(addr)?,
            badge: 0,
            rights: Rights::ALL,
        },
        ObjectType::Notification => CapView::Notification {
            object: reference(addr)?,
            badge: 0,
            rights: Rights::READ.or(Rights::WRITE),
        },
        ObjectType::CapTable => CapView::CNode {
            slots: reference(addr)?,
            radix: size_bits,
            guard: 0,
            guard_bits: 0,
        },
        ObjectType::SchedContext => CapView::SchedContext {
            object: reference(addr)?,
            bits: size_bits,
        },
        ObjectType::Reply => CapView::Reply {
            object: reference(addr)?,
            rights: Rights::ALL,
        },
        ObjectType::VSpace => CapView::VSpace { addr, asid: None },
        ObjectType::PageTable => CapView::PageTable {
            addr,
            mapping: None,
            level: 0,
        },
        ObjectType::Vcpu => {
            let vcpu: Ref<Vcpu> = reference(addr)?;
            k.arch.vcpu_init(vcpu);
            CapView::Vcpu(vcpu)
        }
    };
    Some(Cap::from_view(view))
}

/// Memory of the right size for an ASID pool.
pub(crate) struct AsidPoolMemory {
    addr: NonZeroU64,
}

impl AsidPoolMemory {
    /// The memory of an untyped capability of 4 KiB of RAM. The caller makes sure that it has no children and uses it up.
    pub(crate) fn from_untyped(cap: Cap) -> Option<Self> {
        match cap.view() {
            CapView::Untyped {
                addr,
                bits: 12,
                kind: MemoryKind::Ram,
                ..
            } => Some(Self {
                addr: NonZeroU64::new(addr)?,
            }),
            _ => None,
        }
    }

    /// Memory that boot has set aside for a pool: no capability but boot's covers it.
    pub(crate) fn reserved(addr: u64) -> Option<Self> {
        Some(Self {
            addr: NonZeroU64::new(addr)?,
        })
    }

    /// The pool. Its memory is zeroed here, since the untyped may have been used before.
    pub(crate) fn create<A: Arch>(self, k: &Kernel<A>) -> Ref<AsidPool> {
        k.arch
            .zero_and_clean(self.addr.get(), 1 << sel4_sys::ASID_POOL_BITS);
        // SAFETY: the untyped has no children and is used up by the caller, so nothing else is in this memory; it is
        // zeroed, 4 KiB long and aligned to that.
        unsafe { Ref::from_addr(self.addr) }
    }
}
