//! Making the first objects, and the bootinfo.

use super::layout::{EXTRA_HEADER_BYTES, Given, Layout, LayoutError, pieces};
use crate::arch::{Arch, ZERO_CHUNK_BYTES};
use crate::cap::{Cap, CapView, FrameSize, Mapping, MemoryKind, Rights};
use crate::cspace::cdt;
use crate::lifecycle::create::{self, AsidPoolMemory, Fresh};
use crate::object::mem::Ref;
use crate::object::slot;
use crate::object::{AsidPool, Slot, Tcb, tcb_slot};
use crate::state::kernel::Kernel;
use crate::vspace::paging::{Entry, LEVEL_1_SHIFT, LEVEL_2_SHIFT, LEVEL_3_SHIFT};
use core::cell::Cell;
use core::mem::offset_of;
use machine::regions::{Region, Regions};
use sel4_sys::{
    BootInfo, EXTRA_FDT, INIT_CNODE_BITS, MAX_BOOT_UNTYPEDS, MIN_SCHED_CONTEXT_BITS, ObjectType,
    SlotRegion, UntypedDesc, init_slot, vm_attributes,
};

const PAGE: u64 = 4096;
/// Bits of a capability address that the root CNode's guard stands for.
const GUARD_BITS: u32 = 64 - INIT_CNODE_BITS;
/// The initial thread's budget, which is also its period.
const INITIAL_BUDGET_US: u64 = 5000;

/// What is being made.
struct Construction<'a, A: Arch> {
    k: &'a Kernel<A>,
    layout: &'a Layout,
    cnode: Cap,
    next_slot: Cell<u64>,
    asid: u16,
}

impl<A: Arch> Kernel<A> {
    /// Makes the root task and starts it. All of RAM is mapped, and `given.tree` holds the device tree.
    ///
    /// # Errors
    /// [`LayoutError`]; nothing has been written then.
    pub fn boot(&self, given: &Given) -> Result<(), LayoutError> {
        let layout = Layout::new(given)?;
        let missing = LayoutError::NoMemory(layout.objects.bytes());
        let kernel_addr = |paddr: u64| paddr.wrapping_add(A::PHYS_OFFSET);
        self.zero(layout.objects);
        let fresh = |paddr: u64| Fresh {
            addr: kernel_addr(paddr),
            kind: MemoryKind::Ram,
        };
        let object = |kind: ObjectType, bits: u32, paddr: u64| {
            create::object(self, kind, bits, fresh(paddr)).ok_or(missing)
        };

        let pool = AsidPoolMemory::reserved(kernel_addr(layout.asid_pool))
            .ok_or(missing)?
            .create(self);
        let base = self.install_asid_pool(pool).ok_or(missing)?;
        let root = kernel_addr(layout.vspace);
        let asid = self.assign_asid(base, root).ok_or(missing)?;

        let cnode = object(ObjectType::CapTable, INIT_CNODE_BITS, layout.cnode)?;
        let cnode = with_root_guard(cnode).ok_or(missing)?;
        let c = Construction {
            k: self,
            layout: &layout,
            cnode,
            next_slot: Cell::new(init_slot::COUNT),
            asid,
        };
        c.put_first_caps(root, pool, base);

        let paging = c.tables();
        let extra = c.frames(
            layout.extra,
            layout.extra_frames.wrapping_mul(PAGE),
            layout.ipc_buffer_vaddr.wrapping_add(2 * PAGE),
        );
        let control = c.next(Cap::from_view(CapView::SchedControl { core: 0 }));
        let image = c.frames(given.image.start, given.image.bytes(), given.image_start);
        let buffer = c.frame(layout.ipc_buffer, layout.ipc_buffer_vaddr);
        c.put(init_slot::IPC_BUFFER, buffer);
        c.put(
            init_slot::BOOT_INFO_FRAME,
            c.frame(layout.boot_info, layout.ipc_buffer_vaddr.wrapping_add(PAGE)),
        );

        let info = Info {
            k: self,
            at: kernel_addr(layout.boot_info),
        };
        let untyped = c.untypeds(&info);

        let tcb_cap = object(ObjectType::Tcb, 0, layout.tcb)?;
        let sc_cap = object(
            ObjectType::SchedContext,
            MIN_SCHED_CONTEXT_BITS,
            layout.sched_context,
        )?;
        let (CapView::Thread(tcb), CapView::SchedContext { object: sc, .. }) =
            (tcb_cap.view(), sc_cap.view())
        else {
            return Err(missing);
        };
        c.put(init_slot::TCB, tcb_cap);
        c.put(init_slot::SCHED_CONTEXT, sc_cap);
        c.thread(tcb, given.entry);
        info.write(&Told {
            extra_bytes: layout.extra_frames.wrapping_mul(PAGE),
            ipc_buffer: layout.ipc_buffer_vaddr,
            empty: SlotRegion {
                start: c.next_slot.get(),
                end: 1 << INIT_CNODE_BITS,
            },
            image,
            paging,
            extra,
            control,
            untyped,
        });
        self.tell_tree(given.tree, kernel_addr(layout.extra));
        self.bind_initial(sc, tcb, INITIAL_BUDGET_US);
        self.start(tcb);
        Ok(())
    }

    fn zero(&self, region: Region) {
        let mut at = region.start;
        while at < region.end {
            self.arch.zero_and_clean(
                at.wrapping_add(A::PHYS_OFFSET),
                ZERO_CHUNK_BYTES.min(region.end.wrapping_sub(at)),
            );
            at = at.wrapping_add(ZERO_CHUNK_BYTES);
        }
    }

    /// The device tree as a piece of extra bootinfo at kernel address `to`, which is zeroed and large enough.
    fn tell_tree(&self, tree: Region, to: u64) {
        self.arch.write_word(to, EXTRA_FDT);
        let bytes = EXTRA_HEADER_BYTES.wrapping_add(tree.bytes());
        self.arch.write_word(to.wrapping_add(8), bytes);
        let from = tree.start.wrapping_add(A::PHYS_OFFSET);
        let mut at = 0;
        while at < tree.bytes() {
            let word = self.arch.read_word(from.wrapping_add(at));
            self.arch
                .write_word(to.wrapping_add(EXTRA_HEADER_BYTES).wrapping_add(at), word);
            at = at.wrapping_add(8);
        }
        // The header's second word, big-endian: the length of what is there, not of the room that firmware left behind it.
        let header = to.wrapping_add(EXTRA_HEADER_BYTES);
        let magic = self.arch.read_word(header) & 0xffff_ffff;
        let length = u64::from((tree.bytes() as u32).swap_bytes());
        self.arch.write_word(header, magic | length << 32);
    }
}

/// A CNode's capability with the guard that makes it a CSpace of whole words.
fn with_root_guard(cnode: Cap) -> Option<Cap> {
    let CapView::CNode { slots, radix, .. } = cnode.view() else {
        return None;
    };
    Some(Cap::from_view(CapView::CNode {
        slots,
        radix,
        guard: 0,
        guard_bits: GUARD_BITS,
    }))
}

impl<A: Arch> Construction<'_, A> {
    fn slot(&self, index: u64) -> Option<Ref<Slot>> {
        crate::cspace::cnode::slot_at(self.cnode, index)
    }

    /// Puts an original capability into an empty slot; `Layout` has seen to it that there are enough.
    fn put(&self, index: u64, cap: Cap) {
        if let Some(slot) = self.slot(index) {
            cdt::insert_first(cap, slot);
        }
    }

    /// The capabilities at fixed slots that say what the root task is and may do.
    fn put_first_caps(&self, root: u64, pool: Ref<AsidPool>, base: u16) {
        let vspace = CapView::VSpace {
            addr: root,
            asid: Some(self.asid),
        };
        let pool = CapView::AsidPool { object: pool, base };
        self.put(init_slot::CNODE, self.cnode);
        for (index, view) in [
            (init_slot::VSPACE, vspace),
            (init_slot::IRQ_CONTROL, CapView::IrqControl),
            (init_slot::ASID_CONTROL, CapView::AsidControl),
            (init_slot::ASID_POOL, pool),
            (init_slot::DOMAIN, CapView::Domain),
        ] {
            self.put(index, Cap::from_view(view));
        }
    }

    /// Puts a capability into the next slot.
    fn next(&self, cap: Cap) -> SlotRegion {
        let start = self.next_slot.get();
        self.put(start, cap);
        let end = start.wrapping_add(1);
        self.next_slot.set(end);
        SlotRegion { start, end }
    }

    fn kernel_addr(paddr: u64) -> u64 {
        paddr.wrapping_add(A::PHYS_OFFSET)
    }

    /// The page tables for everything that is mapped, linked into the VSpace.
    fn tables(&self) -> SlotRegion {
        let layout = self.layout;
        let start = self.next_slot.get();
        let root = Self::kernel_addr(layout.vspace);
        let mut table = layout.tables;
        for (count, shift, level) in [
            (layout.level_2_tables, LEVEL_1_SHIFT, 2),
            (layout.level_3_tables, LEVEL_2_SHIFT, 3),
        ] {
            let mut vaddr = layout.mapped_start >> shift << shift;
            for _ in 0..count {
                if let Some(place) = crate::vspace::paging::entry_at(self.k, root, vaddr, shift) {
                    self.k.arch.write_entry(place.addr, Entry::table(table).0);
                }
                self.next(Cap::from_view(CapView::PageTable {
                    addr: Self::kernel_addr(table),
                    mapping: Some(Mapping {
                        asid: self.asid,
                        vaddr,
                    }),
                    level,
                }));
                table = table.wrapping_add(PAGE);
                vaddr = vaddr.wrapping_add(1 << shift);
            }
        }
        SlotRegion {
            start,
            end: self.next_slot.get(),
        }
    }

    /// A frame of the root task's, mapped at `vaddr` with every right.
    fn frame(&self, paddr: u64, vaddr: u64) -> Cap {
        let rights = Rights::READ.or(Rights::WRITE);
        let root = Self::kernel_addr(self.layout.vspace);
        let attributes = vm_attributes::DEFAULT;
        let entry = Entry::leaf(paddr, LEVEL_3_SHIFT, MemoryKind::Ram, rights, attributes);
        let place = crate::vspace::paging::walk(self.k, root, vaddr);
        if place.shift == LEVEL_3_SHIFT {
            self.k.arch.write_entry(place.addr, entry.0);
        }
        Cap::from_view(CapView::Frame {
            addr: Self::kernel_addr(paddr),
            size: FrameSize::Small,
            kind: MemoryKind::Ram,
            rights,
            mapping: Some(Mapping {
                asid: self.asid,
                vaddr,
            }),
        })
    }

    /// [`Self::frame`] for each page, into the next slots.
    fn frames(&self, paddr: u64, bytes: u64, vaddr: u64) -> SlotRegion {
        let start = self.next_slot.get();
        let mut at = 0;
        while at < bytes {
            self.next(self.frame(paddr.wrapping_add(at), vaddr.wrapping_add(at)));
            at = at.wrapping_add(PAGE);
        }
        SlotRegion {
            start,
            end: self.next_slot.get(),
        }
    }

    /// What is left, as untyped memory: devices first, then RAM, which counts as used up so that the first retype cleans it.
    fn untypeds(&self, info: &Info<'_, A>) -> SlotRegion {
        let start = self.next_slot.get();
        let layout = self.layout;
        let groups: [(&Regions<{ super::MAX_FREE_REGIONS }>, MemoryKind); 2] = [
            (&layout.devices, MemoryKind::Device),
            (&layout.free, MemoryKind::Ram),
        ];
        for (regions, kind) in groups {
            for region in regions.as_slice() {
                for (paddr, bits) in pieces(*region) {
                    let index = self.next_slot.get().wrapping_sub(start);
                    if index >= MAX_BOOT_UNTYPEDS as u64 {
                        break;
                    }
                    info.untyped(index, paddr, bits, kind);
                    let free_offset = match kind {
                        MemoryKind::Ram => 1u64 << (bits & 63),
                        MemoryKind::Device => 0,
                    };
                    self.next(Cap::from_view(CapView::Untyped {
                        addr: Self::kernel_addr(paddr),
                        bits,
                        kind,
                        free_offset,
                    }));
                }
            }
        }
        SlotRegion {
            start,
            end: self.next_slot.get(),
        }
    }

    /// The initial thread: its capabilities are copies of those in the fixed slots.
    fn thread(&self, tcb: Ref<Tcb>, entry: u64) {
        for (index, from) in [
            (tcb_slot::CSPACE, init_slot::CNODE),
            (tcb_slot::VSPACE, init_slot::VSPACE),
            (tcb_slot::IPC_BUFFER, init_slot::IPC_BUFFER),
        ] {
            if let Some(source) = self.slot(from)
                && let Ok(cap) = crate::cspace::cnode::derive(source, source.cap.get())
            {
                cdt::insert_copy(cap, source, slot::of_tcb(tcb, index));
            }
        }
        let t = &tcb.thread;
        t.priority.set(u8::MAX);
        t.mcp.set(u8::MAX);
        t.ipc_buffer.set(self.layout.ipc_buffer_vaddr);
        // Bit 0: the thread may write it.
        t.ipc_buffer_kernel
            .set(Self::kernel_addr(self.layout.ipc_buffer) | 1);
        tcb.context.pc.set(entry);
        let boot_info = self.layout.ipc_buffer_vaddr.wrapping_add(PAGE);
        if let Some(x0) = tcb.context.x.first() {
            x0.set(boot_info);
        }
    }
}

/// What the bootinfo frame says.
struct Told {
    extra_bytes: u64,
    ipc_buffer: u64,
    empty: SlotRegion,
    image: SlotRegion,
    paging: SlotRegion,
    extra: SlotRegion,
    control: SlotRegion,
    untyped: SlotRegion,
}

/// The bootinfo frame, zeroed, at this kernel address.
struct Info<'a, A: Arch> {
    k: &'a Kernel<A>,
    at: u64,
}

impl<A: Arch> Info<'_, A> {
    fn word(&self, offset: usize, value: u64) {
        self.k
            .arch
            .write_word(self.at.wrapping_add(offset as u64), value);
    }

    fn slots(&self, offset: usize, region: SlotRegion) {
        self.word(offset, region.start);
        self.word(offset.wrapping_add(8), region.end);
    }

    fn untyped(&self, index: u64, paddr: u64, bits: u32, kind: MemoryKind) {
        let offset = (index as usize)
            .wrapping_mul(size_of::<UntypedDesc>())
            .wrapping_add(offset_of!(BootInfo, untyped_list));
        self.word(offset, paddr);
        // size_bits is a byte at 8, is_device the byte behind it.
        let device = match kind {
            MemoryKind::Ram => 0,
            MemoryKind::Device => 1 << 8,
        };
        self.word(offset.wrapping_add(8), u64::from(bits) | device);
    }

    fn write(&self, told: &Told) {
        self.word(offset_of!(BootInfo, extra_len), told.extra_bytes);
        self.word(offset_of!(BootInfo, num_nodes), 1);
        self.word(offset_of!(BootInfo, ipc_buffer), told.ipc_buffer);
        self.slots(offset_of!(BootInfo, empty), told.empty);
        self.slots(offset_of!(BootInfo, user_image_frames), told.image);
        self.slots(offset_of!(BootInfo, user_image_paging), told.paging);
        self.slots(offset_of!(BootInfo, extra_bi_pages), told.extra);
        self.word(
            offset_of!(BootInfo, init_thread_cnode_size_bits),
            u64::from(INIT_CNODE_BITS),
        );
        self.slots(offset_of!(BootInfo, schedcontrol), told.control);
        self.slots(offset_of!(BootInfo, untyped), told.untyped);
    }
}
