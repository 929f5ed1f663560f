//! The kernel's own address space: EL2 stage 1.
//!
//! | virtual | what |
//! | --- | --- |
//! | `0x80_0000_0000` + physical | all memory, read and write, never executable |
//! | `0xff_c000_0000` | the kernel's image, each section with its own rights; the page below its stack is unmapped |
//! | `0xff_ffe0_0000` | registers of the interrupt controller and, in the debug flavour, the console |
//!
//! Made once at boot; entries are only added, never changed, so no invalidation is needed later.

#![allow(unsafe_code)]

use crate::cell::Global;
use crate::mmio::Mmio;
use crate::regs;
use core::cell::Cell;
use machine::blocks::{self, BLOCK_BYTES, Blocks, Kind, OutOfTables, Table};
use machine::regions::Region;

/// Added to a physical address it is the address in the window.
pub const PHYS_OFFSET: u64 = 0x80_0000_0000;
/// Memory at and above this address is outside the window.
pub const PHYSICAL_END: u64 = 511 << 30;
/// Where device pages go.
const DEVICES: u64 = 0xff_ffe0_0000;
const PAGE: u64 = 4096;
/// Level 2 tables: one or two for each bank of memory that does not begin and end at a multiple of 1 GiB.
const POOL: usize = 12;
/// The kernel's 48-bit address space: T0SZ 16, walks write-back and inner shareable, 4 KiB granule; bits 31 and 23 RES1.
const SCTLR: u64 = 0x30c5_0830 | 1 << 12 | 1 << 3 | 1 << 2 | 1;
/// SCTLR_EL2.WXN: what is writable is never executable, whatever the tables say.
const SCTLR_WXN: u64 = 1 << 19;

static LEVEL0: Global<Table> = Global::new(Table::new());
static LEVEL1: Global<Table> = Global::new(Table::new());
static KERNEL_LEVEL2: Global<Table> = Global::new(Table::new());
static KERNEL_LEVEL3: Global<Table> = Global::new(Table::new());
static DEVICE_LEVEL3: Global<Table> = Global::new(Table::new());
/// Two concatenated level 1 tables that map nothing: the address space of a thread that has none.
static EMPTY_ROOT: Global<EmptyRoot> = Global::new(EmptyRoot([Table::new(), Table::new()]));
static WINDOW_LEVEL2: Global<[Table; POOL]> = Global::new([const { Table::new() }; POOL]);
static USED: Global<Cell<usize>> = Global::new(Cell::new(0));
static NEXT_DEVICE: Global<Cell<u64>> = Global::new(Cell::new(0));
static IMAGE_PHYSICAL: Global<Cell<u64>> = Global::new(Cell::new(0));

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __guard_start: u8;
    static __stack_bottom: u8;
    static __data_end: u8;
}

#[repr(align(8192))]
struct EmptyRoot([Table; 2]);

/// The physical address of a VSpace root that maps nothing.
pub fn empty_root() -> u64 {
    physical(&EMPTY_ROOT.get().0)
}

/// Where the sections are (virtual).
struct Sections {
    text: Region,
    rodata: Region,
    data: Region,
    stack: Region,
}

fn sections() -> Sections {
    let region = |start: *const u8, end: *const u8| Region {
        start: start as u64,
        end: end as u64,
    };
    Sections {
        text: region(&raw const __text_start, &raw const __text_end),
        rodata: region(&raw const __text_end, &raw const __rodata_end),
        data: region(&raw const __rodata_end, &raw const __guard_start),
        stack: region(&raw const __stack_bottom, &raw const __data_end),
    }
}

/// The kernel's image in physical memory.
pub fn image() -> Region {
    let sections = sections();
    Region::new(
        IMAGE_PHYSICAL.get().get(),
        sections.stack.end.wrapping_sub(sections.text.start),
    )
}

/// The physical address of something in the kernel's image.
fn physical<T>(of: &T) -> u64 {
    (core::ptr::from_ref(of) as u64)
        .wrapping_sub(sections().text.start)
        .wrapping_add(IMAGE_PHYSICAL.get().get())
}

/// What holds the physical address of the kernel's image.
pub const fn image_physical() -> *const Cell<u64> {
    IMAGE_PHYSICAL.get()
}

fn window() -> Blocks<'static> {
    let pool = WINDOW_LEVEL2.get();
    Blocks {
        level1: LEVEL1.get(),
        pool,
        pool_physical: physical(pool),
        used: USED.get(),
    }
}

/// Builds the tables with the image and the device tree mapped, and makes them current.
///
/// # Errors
/// [`OutOfTables`] when the image cannot be found through the loader's tables (then nothing has changed).
pub fn build(tree: Region) -> Result<(), OutOfTables> {
    let sections = sections();
    IMAGE_PHYSICAL
        .get()
        .set(regs::translate(sections.text.start).ok_or(OutOfTables)?);
    for (region, kind) in [
        (sections.text, Kind::Code),
        (sections.rodata, Kind::Constant),
        (sections.data, Kind::Data),
        (sections.stack, Kind::Data),
    ] {
        let mut at = region.start;
        while at < region.end {
            let to = at
                .wrapping_sub(sections.text.start)
                .wrapping_add(IMAGE_PHYSICAL.get().get());
            KERNEL_LEVEL3.get().set(at, 12, blocks::page(to, kind));
            at = at.wrapping_add(PAGE);
        }
    }
    let start = sections.text.start;
    KERNEL_LEVEL2
        .get()
        .set(start, 21, blocks::table(physical(KERNEL_LEVEL3.get())));
    KERNEL_LEVEL2
        .get()
        .set(DEVICES, 21, blocks::table(physical(DEVICE_LEVEL3.get())));
    LEVEL1
        .get()
        .set(start, 30, blocks::table(physical(KERNEL_LEVEL2.get())));
    LEVEL0
        .get()
        .set(start, 39, blocks::table(physical(LEVEL1.get())));
    map_memory(tree)?;
    // SAFETY: the tables map the image at its linked addresses, the loader's tables do too, and both use the attribute
    // indices of `machine::blocks::MAIR`. The stack is in the image.
    unsafe {
        regs::switch_tables(physical(LEVEL0.get()));
        regs::write_sctlr_el2(SCTLR | SCTLR_WXN);
    }
    Ok(())
}

/// Maps memory into the window, widened to 2 MiB.
///
/// # Errors
/// [`OutOfTables`] when memory is too scattered.
pub fn map_memory(region: Region) -> Result<(), OutOfTables> {
    let region = Region {
        start: region.start,
        end: region.end.min(PHYSICAL_END),
    }
    .widened(BLOCK_BYTES);
    window().map(
        region.start.wrapping_add(PHYS_OFFSET),
        region.start,
        region.bytes(),
        Kind::Data,
    )?;
    regs::dsb_ishst();
    regs::isb();
    Ok(())
}

/// Maps `pages` pages of device registers.
///
/// # Errors
/// [`OutOfTables`] after 512 pages.
pub fn map_device(physical: u64, pages: u64) -> Result<Mmio, OutOfTables> {
    let first = NEXT_DEVICE.get().get();
    let end = first.wrapping_add(pages);
    if end > 512 {
        return Err(OutOfTables);
    }
    NEXT_DEVICE.get().set(end);
    let base = DEVICES.wrapping_add(first << 12);
    for page in 0..pages {
        let offset = page << 12;
        let entry = blocks::page(physical.wrapping_add(offset), Kind::Device);
        DEVICE_LEVEL3
            .get()
            .set(base.wrapping_add(offset), 12, entry);
    }
    regs::dsb_ishst();
    regs::isb();
    // SAFETY: these pages were just mapped as device memory and nothing else has them; they stay mapped.
    Ok(unsafe { Mmio::new(base, pages << 12) })
}

/// Bytes of physical memory, read-only.
///
/// # Safety
/// They are mapped in the window, and nothing writes them while the slice lives.
pub unsafe fn bytes(region: Region) -> &'static [u8] {
    let address = region.start.wrapping_add(PHYS_OFFSET) as usize;
    // SAFETY: the caller's promise; every byte is initialised memory.
    unsafe {
        core::slice::from_raw_parts(
            core::ptr::with_exposed_provenance(address),
            region.bytes() as usize,
        )
    }
}
