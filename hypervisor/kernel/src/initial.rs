//! The root task: its objects, its capabilities, and what it is told (seL4 manual, chapter 9 "System Bootstrapping").

#![allow(unsafe_code)] // The first references to the boot objects, made from memory that was just set aside and zeroed.

use crate::el2::El2;
use crate::memory;
use crate::start::RootTask;
use crate::tables::{self, PHYS_OFFSET, PHYSICAL_END};
use core::mem::offset_of;
use core::num::NonZeroU64;
use kernel_core::cap::{Cap, CapView, FrameSize, Mapping, MemoryKind, Rights};
use kernel_core::cdt;
use kernel_core::kernel::Kernel;
use kernel_core::mem::{Object, Ref};
use kernel_core::object::{AsidPool, SchedContext, Slot, Tcb, tcb_slot};
use kernel_core::paging::{Entry, LEVEL_1_SHIFT, LEVEL_2_SHIFT, LEVEL_3_SHIFT};
use kernel_core::slot::{self, Derivation};
use machine::carve;
use machine::describe::{Gic, MAX_REGIONS, Machine};
use machine::regions::{Full, Region, Regions};
use sel4_sys::{
    BootInfo, BootInfoHeader, EXTRA_FDT, INIT_CNODE_BITS, MAX_BOOT_UNTYPEDS, SlotRegion,
    UntypedDesc, init_slot as slots,
};

const PAGE: u64 = 4096;
/// Untyped memory from 4 KiB to seL4_MaxUntypedBits.
const LEAST_UNTYPED_BITS: u32 = 12;
const MOST_UNTYPED_BITS: u32 = 47;
/// Addresses below this are the root task's, and devices are looked for.
const USER_TOP: u64 = 1 << 40;
/// The root task's budget.
const BUDGET_US: u64 = 5_000;
/// log2 of the initial scheduling context's bytes.
const SCHED_CONTEXT_BITS: u32 = 8;
const HIGHEST_PRIORITY: u8 = 255;
/// Memory in pieces: all of it, what is reserved and what boot takes out.
type Free = Regions<{ 2 * MAX_REGIONS + 16 }>;

/// Why the root task could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialError {
    /// Not enough memory, or too many pieces of it.
    Memory,
    /// Not enough slots.
    Slots,
    /// The image is not where an image can be.
    Image,
    /// An object could not be made.
    Object,
}

impl From<Full> for InitialError {
    fn from(_: Full) -> Self {
        Self::Memory
    }
}

/// The root CNode while it is filled.
struct Root {
    slots: Ref<Slot>,
    last: Ref<Slot>,
    next: u64,
}

impl Root {
    fn slot(&self, index: u64) -> Result<Ref<Slot>, InitialError> {
        if index >> INIT_CNODE_BITS == 0 {
            Ok(slot::nth(self.slots, index))
        } else {
            Err(InitialError::Slots)
        }
    }

    /// Puts an original capability into a slot.
    fn put(&mut self, index: u64, view: CapView) -> Result<Ref<Slot>, InitialError> {
        let to = self.slot(index)?;
        cdt::insert(Cap::from_view(view), self.last, to, Derivation::ORIGINAL);
        self.last = to;
        Ok(to)
    }

    /// Puts one into the next slot.
    fn push(&mut self, view: CapView) -> Result<(), InitialError> {
        self.put(self.next, view)?;
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// The slots since `start`.
    const fn since(&self, start: u64) -> SlotRegion {
        SlotRegion {
            start,
            end: self.next,
        }
    }
}

/// Memory for boot objects.
struct Memory {
    free: Free,
    from: u64,
}

impl Memory {
    /// Zeroed, aligned to its size; its kernel address.
    fn take(&mut self, bytes: u64) -> Result<u64, InitialError> {
        let region = carve::take(&mut self.free, self.from, bytes, bytes.next_power_of_two())?;
        let address = region.start.wrapping_add(PHYS_OFFSET);
        memory::zero_and_clean(address, bytes);
        Ok(address)
    }

    fn object<T: Object>(&mut self, bytes: u64) -> Result<Ref<T>, InitialError> {
        let bytes = bytes.max(size_of::<T>() as u64);
        let address = NonZeroU64::new(self.take(bytes)?).ok_or(InitialError::Memory)?;
        // SAFETY: this memory was taken out of the free regions for this object, is zeroed (which is valid for every `Object`),
        // aligned to its size and mapped in the window.
        Ok(unsafe { Ref::from_addr(address) })
    }
}

/// Where the root task's memory is (virtual) and how it is mapped.
struct Space {
    root: u64,
    asid: u16,
}

impl Space {
    fn entry(table: u64, vaddr: u64, shift: u32, entries: u64) -> u64 {
        table.wrapping_add((vaddr >> shift & entries.wrapping_sub(1)) << 3)
    }

    fn root_entry(&self, vaddr: u64) -> u64 {
        Self::entry(self.root, vaddr, LEVEL_1_SHIFT, 1024)
    }

    const fn mapping(&self, vaddr: u64) -> Option<Mapping> {
        Some(Mapping {
            asid: self.asid,
            vaddr,
        })
    }

    /// Makes the tables for `[start, end)` and gives the root task their capabilities: level 2 first.
    fn make_tables(
        &self,
        memory: &mut Memory,
        root: &mut Root,
        start: u64,
        end: u64,
    ) -> Result<(), InitialError> {
        for (shift, level) in [(LEVEL_1_SHIFT, 2), (LEVEL_2_SHIFT, 3)] {
            let covers = 1u64 << shift;
            let mut vaddr = start & !covers.wrapping_sub(1);
            while vaddr < end {
                let table = memory.take(PAGE)?;
                let at = match level {
                    2 => self.root_entry(vaddr),
                    _ => {
                        let above = Entry(memory::read_word(self.root_entry(vaddr)))
                            .paddr()
                            .wrapping_add(PHYS_OFFSET);
                        Self::entry(above, vaddr, LEVEL_2_SHIFT, 512)
                    }
                };
                memory::write_word(at, Entry::table(table.wrapping_sub(PHYS_OFFSET)).0);
                root.push(CapView::PageTable {
                    addr: table,
                    mapping: self.mapping(vaddr),
                    level,
                })?;
                vaddr = vaddr.wrapping_add(covers);
            }
        }
        Ok(())
    }

    /// Maps a page of memory; the capability to it.
    fn map(&self, vaddr: u64, physical: u64) -> CapView {
        let level2 = Entry(memory::read_word(self.root_entry(vaddr)))
            .paddr()
            .wrapping_add(PHYS_OFFSET);
        let level3_entry = memory::read_word(Self::entry(level2, vaddr, LEVEL_2_SHIFT, 512));
        let level3 = Entry(level3_entry).paddr().wrapping_add(PHYS_OFFSET);
        let rights = Rights::READ.or(Rights::WRITE);
        // Cacheable.
        let leaf = Entry::leaf(physical, LEVEL_3_SHIFT, MemoryKind::Ram, rights, 1);
        memory::write_word(Self::entry(level3, vaddr, LEVEL_3_SHIFT, 512), leaf.0);
        CapView::Frame {
            addr: physical.wrapping_add(PHYS_OFFSET),
            size: FrameSize::Small,
            kind: MemoryKind::Ram,
            rights,
            mapping: self.mapping(vaddr),
        }
    }
}

/// Memory that user level gets, and devices.
fn memory_map(machine: &Machine, root_task: &RootTask) -> Result<(Free, Free), Full> {
    let mut free = Free::new();
    for region in machine.memory.as_slice() {
        // The window maps whole blocks of 2 MiB.
        free.add(region.narrowed(1 << 21))?;
    }
    for region in machine.reserved.as_slice() {
        free.remove(region.widened(PAGE))?;
    }
    free.remove(Region {
        start: PHYSICAL_END,
        end: u64::MAX,
    })?;
    let mut devices = Free::new();
    devices.add(Region {
        start: 0,
        end: USER_TOP,
    })?;
    for region in free.as_slice() {
        devices.remove(*region)?;
    }
    for region in [tables::image(), root_task.image.widened(PAGE)] {
        free.remove(region.widened(PAGE))?;
        devices.remove(region.widened(PAGE))?;
    }
    let kernels = match machine.gic {
        Some(Gic::V2 {
            distributor,
            cpu_interface,
            virtual_control,
            ..
        }) => [distributor, cpu_interface, virtual_control],
        Some(Gic::V3 {
            distributor,
            redistributors,
        }) => [distributor, redistributors, Region::default()],
        None => [Region::default(); 3],
    };
    for region in kernels {
        devices.remove(region.widened(PAGE))?;
    }
    Ok((free, devices))
}

/// Makes the root task and lets it run.
///
/// # Errors
/// Why that is not possible on this machine, with this image.
pub fn make(
    k: &Kernel<El2>,
    machine: &Machine,
    root_task: RootTask,
    tree: &[u8],
) -> Result<(), InitialError> {
    let image = root_task.image.widened(PAGE);
    let start = image.start.wrapping_sub(root_task.offset);
    let end = start.wrapping_add(image.bytes());
    let extra_bytes = (tree.len() as u64).wrapping_add(size_of::<BootInfoHeader>() as u64);
    let extra_pages = extra_bytes.div_ceil(PAGE);
    let ipc_buffer = end;
    let boot_info = end.wrapping_add(PAGE);
    let extra = boot_info.wrapping_add(PAGE);
    let top = extra.wrapping_add(extra_pages << 12);
    if start & (PAGE - 1) != 0
        || image.bytes() == 0
        || start >= top
        || top > USER_TOP
        || root_task.image.start & (PAGE - 1) != 0
    {
        return Err(InitialError::Image);
    }
    if image.bytes() >> 12 >> INIT_CNODE_BITS != 0 || extra_pages >> INIT_CNODE_BITS != 0 {
        return Err(InitialError::Slots);
    }
    let (mut free, devices) = memory_map(machine, &root_task)?;
    // The tree stays where it is until it has been copied.
    let tree_at = Region::new(
        (tree.as_ptr() as u64).wrapping_sub(PHYS_OFFSET),
        tree.len() as u64,
    )
    .widened(PAGE);
    let tree_in_memory = Regions::contains(&free, &tree_at);
    free.remove(tree_at)?;
    let mut memory = Memory {
        free,
        from: image.end,
    };

    // The CNode, with the capability to itself first, and fixed objects.
    let cnode: Ref<Slot> = memory.object(32 << INIT_CNODE_BITS)?;
    let cnode_cap = CapView::CNode {
        slots: cnode,
        radix: INIT_CNODE_BITS,
        guard: 0,
        guard_bits: 64 - INIT_CNODE_BITS,
    };
    let first = slot::nth(cnode, slots::CNODE);
    cdt::insert_first(Cap::from_view(cnode_cap), first);
    let mut root = Root {
        slots: cnode,
        last: first,
        next: slots::COUNT,
    };
    let tcb: Ref<Tcb> = memory.object(2048)?;
    slot::init_tcb_slots(tcb);
    kernel_core::arch::Arch::init_context(&k.arch, &tcb.context);
    let space_root = memory.take(8192)?;
    let pool: Ref<AsidPool> = memory.object(PAGE)?;
    let sc: Ref<SchedContext> = memory.object(1 << SCHED_CONTEXT_BITS)?;
    let irq_count = kernel_core::arch::Arch::max_irq(&k.arch).wrapping_add(1);
    let irq_slots: Ref<Slot> = memory.object((irq_count << 5).next_multiple_of(PAGE))?;
    k.irqs.set_slots(irq_slots, irq_count);
    let base = k.install_asid_pool(pool).ok_or(InitialError::Object)?;
    let asid = k
        .assign_asid(base, space_root)
        .ok_or(InitialError::Object)?;
    let space = Space {
        root: space_root,
        asid,
    };

    root.put(slots::TCB, CapView::Thread(tcb))?;
    root.put(
        slots::VSPACE,
        CapView::VSpace {
            addr: space_root,
            asid: Some(asid),
        },
    )?;
    root.put(slots::IRQ_CONTROL, CapView::IrqControl)?;
    root.put(slots::ASID_CONTROL, CapView::AsidControl)?;
    root.put(slots::ASID_POOL, CapView::AsidPool { object: pool, base })?;
    root.put(slots::DOMAIN, CapView::Domain)?;
    root.put(
        slots::SCHED_CONTEXT,
        CapView::SchedContext {
            object: sc,
            bits: SCHED_CONTEXT_BITS,
        },
    )?;

    let paging = root.next;
    space.make_tables(&mut memory, &mut root, start, top)?;
    let paging = root.since(paging);
    let page = |memory: &mut Memory| {
        memory
            .take(PAGE)
            .map(|address| address.wrapping_sub(PHYS_OFFSET))
    };
    let buffer_page = page(&mut memory)?;
    root.put(slots::IPC_BUFFER, space.map(ipc_buffer, buffer_page))?;
    let info_page = page(&mut memory)?;
    root.put(slots::BOOT_INFO_FRAME, space.map(boot_info, info_page))?;

    let extra_start = root.next;
    let extra_at = carve::take(&mut memory.free, memory.from, extra_pages << 12, PAGE)?;
    write_extra(extra_at, extra_bytes, tree);
    map_all(&space, &mut root, extra, extra_at)?;
    let extra_frames = root.since(extra_start);

    let sched_control = root.next;
    root.push(CapView::SchedControl { core: 0 })?;
    let sched_control = root.since(sched_control);
    let image_start = root.next;
    map_all(&space, &mut root, start, image)?;
    let image_frames = root.since(image_start);

    // Nothing is taken any more: the rest is the root task's, the tree's memory too.
    if tree_in_memory {
        memory.free.add(tree_at)?;
    }
    let info = info_page.wrapping_add(PHYS_OFFSET);
    let untyped_start = root.next;
    give(&mut root, info, untyped_start, &devices, MemoryKind::Device)?;
    give(
        &mut root,
        info,
        untyped_start,
        &memory.free,
        MemoryKind::Ram,
    )?;

    let word =
        |offset: usize, value: u64| memory::write_word(info.wrapping_add(offset as u64), value);
    let region = |offset: usize, region: SlotRegion| {
        word(offset, region.start);
        word(offset.wrapping_add(8), region.end);
    };
    word(offset_of!(BootInfo, extra_len), extra_bytes);
    word(offset_of!(BootInfo, num_nodes), 1);
    word(offset_of!(BootInfo, ipc_buffer), ipc_buffer);
    region(
        offset_of!(BootInfo, empty),
        SlotRegion {
            start: root.next,
            end: 1 << INIT_CNODE_BITS,
        },
    );
    region(offset_of!(BootInfo, user_image_frames), image_frames);
    region(offset_of!(BootInfo, user_image_paging), paging);
    region(offset_of!(BootInfo, extra_bi_pages), extra_frames);
    word(
        offset_of!(BootInfo, init_thread_cnode_size_bits),
        u64::from(INIT_CNODE_BITS),
    );
    region(offset_of!(BootInfo, schedcontrol), sched_control);
    region(offset_of!(BootInfo, untyped), root.since(untyped_start));

    // The thread.
    let copy = |from: u64, to: usize| -> Result<(), InitialError> {
        let source = root.slot(from)?;
        cdt::insert_copy(source.cap.get(), source, slot::of_tcb(tcb, to));
        Ok(())
    };
    copy(slots::CNODE, tcb_slot::CSPACE)?;
    copy(slots::VSPACE, tcb_slot::VSPACE)?;
    copy(slots::IPC_BUFFER, tcb_slot::IPC_BUFFER)?;
    let t = &tcb.thread;
    t.ipc_buffer.set(ipc_buffer);
    t.ipc_buffer_kernel
        .set(buffer_page.wrapping_add(PHYS_OFFSET) | 1);
    t.priority.set(HIGHEST_PRIORITY);
    t.mcp.set(HIGHEST_PRIORITY);
    for (cell, byte) in t.name.iter().zip(*b"rootserver") {
        cell.set(byte);
    }
    tcb.context.pc.set(root_task.entry);
    let [x0, ..] = &tcb.context.x;
    x0.set(boot_info);
    crate::regs::dsb_ishst();
    crate::regs::ic_ialluis();
    k.init_time();
    k.bind_initial(sc, tcb, BUDGET_US);
    k.start(tcb);
    if k.current.get().is_some() {
        Ok(())
    } else {
        Err(InitialError::Object)
    }
}

/// Maps a region page by page and gives the frames' capabilities.
fn map_all(space: &Space, root: &mut Root, vaddr: u64, region: Region) -> Result<(), InitialError> {
    let mut offset = 0;
    while offset < region.bytes() {
        root.push(space.map(
            vaddr.wrapping_add(offset),
            region.start.wrapping_add(offset),
        ))?;
        offset = offset.wrapping_add(PAGE);
    }
    Ok(())
}

/// The extra bootinfo: a header, and the device tree.
fn write_extra(at: Region, bytes: u64, tree: &[u8]) {
    let address = at.start.wrapping_add(PHYS_OFFSET);
    memory::zero_and_clean(address, at.bytes());
    memory::write_word(
        address.wrapping_add(offset_of!(BootInfoHeader, id) as u64),
        EXTRA_FDT,
    );
    memory::write_word(
        address.wrapping_add(offset_of!(BootInfoHeader, len) as u64),
        bytes,
    );
    memory::write_bytes(
        address.wrapping_add(size_of::<BootInfoHeader>() as u64),
        tree,
    );
}

/// Gives untyped memory, with its descriptors in the bootinfo at `info`; as many pieces as there is room for.
fn give(
    root: &mut Root,
    info: u64,
    first: u64,
    regions: &Free,
    kind: MemoryKind,
) -> Result<(), InitialError> {
    for region in regions.as_slice() {
        for piece in carve::pieces(*region, LEAST_UNTYPED_BITS, MOST_UNTYPED_BITS) {
            let index = root.next.wrapping_sub(first);
            if index >= MAX_BOOT_UNTYPEDS as u64 {
                return Ok(());
            }
            // Memory's free index is at its end, so that the first retype cleans it; a device's memory is never cleaned.
            let (is_device, free_offset) = match kind {
                MemoryKind::Ram => (0, 1u64.wrapping_shl(piece.bits)),
                MemoryKind::Device => (1, 0),
            };
            let addr = piece.start.wrapping_add(PHYS_OFFSET);
            root.push(CapView::Untyped {
                addr,
                bits: piece.bits,
                kind,
                free_offset,
            })?;
            let at = info
                .wrapping_add(offset_of!(BootInfo, untyped_list) as u64)
                .wrapping_add(index.wrapping_mul(size_of::<UntypedDesc>() as u64));
            memory::write_word(at, piece.start);
            memory::write_word(at.wrapping_add(8), u64::from(piece.bits) | is_device << 8);
        }
    }
    Ok(())
}
