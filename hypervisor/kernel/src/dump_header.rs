//! What somebody finds the kernel's state by who looks at the machine's memory from outside (`kernel_core::dump_header`).

#![allow(unsafe_code)] // The symbols of the linker script, and the section that it keeps although nothing refers to it.

use crate::cell::Global;
use crate::tables;
use crate::trap::KERNEL;
use core::cell::Cell;
use kernel_core::dump_header::{DumpHeader, MAGIC};

unsafe extern "C" {
    static __text_start: u8;
    static __data_end: u8;
}

static ROOT_THREAD: Global<Cell<u64>> = Global::new(Cell::new(0));

// SAFETY: the section is for this alone; the linker script puts it among the constants.
#[unsafe(link_section = ".dump_header")]
#[used]
static DUMP_HEADER: Global<DumpHeader> = Global::new(DumpHeader {
    magic: MAGIC,
    this: DUMP_HEADER.get(),
    image_start: &raw const __text_start,
    image_end: &raw const __data_end,
    image_physical: tables::image_physical(),
    window: tables::PHYS_OFFSET,
    root_thread: ROOT_THREAD.get(),
    asid_pools: KERNEL.get().asids.pools().as_ptr(),
});

/// Says which thread is the first.
pub fn set_root_thread(addr: u64) {
    ROOT_THREAD.get().set(addr);
}
