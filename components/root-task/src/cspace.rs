//! The root task's own capability space: the kernel's has 2^13 slots, most of them taken by the image's frames, so the
//! first thing is a larger one.

use crate::kernel::{Doing, Everything, Failure, Slots};
use cap::{CNode, CNodeCapData, CapRights, ObjectType, Slot, Space, Tcb, Untyped, VSpace};
use root_task::memory::Memory;
use sel4_sys::{BootInfo, UntypedDesc, WORD_BITS, init_slot};

/// log2 of the slots of the new CNode.
const RADIX: u32 = 15;
/// The kernel's CNode, in the new one.
const OLD_CNODE: u64 = init_slot::COUNT;
/// SchedControl of the first core.
pub const SCHED_CONTROL: u64 = init_slot::COUNT + 1;
/// First slot of the untypeds.
const UNTYPEDS: u64 = 64;
/// First slot that is free.
const FREE: u64 = UNTYPEDS + sel4_sys::MAX_BOOT_UNTYPEDS as u64;

/// A device untyped.
#[derive(Clone, Copy, Debug)]
pub struct DeviceUntyped {
    /// Its slot.
    pub slot: u64,
    /// First physical address.
    pub paddr: u64,
    /// log2 of its bytes.
    pub bits: u32,
}

/// All device untypeds.
pub type Devices = heapless::Vec<DeviceUntyped, { sel4_sys::MAX_BOOT_UNTYPEDS }>;

/// Untypeds as bootinfo lists them, with their slots.
fn untypeds(info: &BootInfo) -> impl Iterator<Item = (u64, &UntypedDesc)> {
    (info.untyped.start..info.untyped.end).zip(&info.untyped_list)
}

/// Moves the root task into a CNode of 2^15 slots: the initial capabilities at their places, SchedControl and the
/// untypeds behind them, all other slots free. The image's frames stay where they are.
pub fn enlarge(info: &BootInfo) -> Result<(Everything, Devices), Failure> {
    let bits = ObjectType::CapTable.bits(RADIX);
    // The model of memory begins here, with the slots that the untypeds will have.
    let mut memory = Memory::new();
    let mut devices = Devices::new();
    for ((old, desc), new) in untypeds(info).zip(UNTYPEDS..) {
        let bits = u32::from(desc.size_bits);
        if desc.is_device != 0 {
            devices
                .push(DeviceUntyped {
                    slot: new,
                    paddr: desc.paddr,
                    bits,
                })
                .map_err(|_| Failure::NoSlot)?;
        } else {
            memory.add(new, desc.paddr, bits).ok_or(Failure::NoSlot)?;
        }
        debug_assert!(old >= info.untyped.start);
    }
    let grant = memory.take(bits, 1).ok_or(Failure::NoMemory { bits })?;
    let old_root = CNode::new(init_slot::CNODE);
    let new_cnode = info.empty.start;
    let source = info.untyped.start + (grant.untyped - UNTYPEDS);
    Untyped::new(source)
        .retype(ObjectType::CapTable, RADIX, old_root, new_cnode, 1)
        .doing("making the root task's CNode")?;

    let old = |index: u64| old_root.slot(index, WORD_BITS);
    let new = |index: u64| CNode::new(new_cnode).slot(index, RADIX);
    let guard = CNodeCapData::new(0, u64::from(WORD_BITS - RADIX)).0;
    let copy = |from: u64, to: u64, what: &'static str| {
        old(from).copy_to(new(to), CapRights::ALL).doing(what)
    };
    copy(init_slot::TCB, init_slot::TCB, "copying the own TCB")?;
    copy(
        init_slot::VSPACE,
        init_slot::VSPACE,
        "copying the own address space",
    )?;
    copy(
        init_slot::SCHED_CONTEXT,
        init_slot::SCHED_CONTEXT,
        "copying the own context",
    )?;
    copy(init_slot::CNODE, OLD_CNODE, "copying the kernel's CNode")?;
    copy(
        info.schedcontrol.start,
        SCHED_CONTROL,
        "copying SchedControl",
    )?;
    old(new_cnode)
        .mint_to(new(init_slot::CNODE), CapRights::ALL, guard)
        .doing("minting the own CNode")?;
    let move_over = |from: Slot, to: u64| from.move_to(new(to)).doing("moving a capability");
    move_over(old(init_slot::IRQ_CONTROL), init_slot::IRQ_CONTROL)?;
    move_over(old(init_slot::ASID_CONTROL), init_slot::ASID_CONTROL)?;
    move_over(old(init_slot::ASID_POOL), init_slot::ASID_POOL)?;
    for ((from, _), to) in untypeds(info).zip(UNTYPEDS..) {
        move_over(old(from), to)?;
    }
    Tcb::new(init_slot::TCB)
        .set_space(
            None,
            &Space {
                cspace: CNode::new(new_cnode),
                cspace_data: guard,
                vspace: VSpace::new(init_slot::VSPACE),
            },
        )
        .doing("entering the own CNode")?;
    let slots = Slots::new(FREE, 1 << RADIX);
    Ok((Everything { memory, slots }, devices))
}
