//! Memory that the boot stage reads and writes by address: the payload, the device tree, the places that it fills, its
//! translation tables.

#![allow(unsafe_code)]

use core::arch::asm;
use core::cell::Cell;
use machine::blocks::{BLOCK_BYTES, Blocks, Kind, OutOfTables, Table, table};
use machine::console::Registers;
use machine::regions::Region;

/// Bytes of the stack: the deepest path formats text from a tree walk, well below 8 KiB.
pub const STACK_BYTES: usize = 32 << 10;
/// Level 2 tables: kernel, and at most two each for the kernel's place, the root task's, and one for the UART.
const POOL: usize = 8;

/// Plain storage.
#[repr(C, align(4096))]
pub struct Storage<T>(T);
// SAFETY: the boot stage is one thread of control on one core with interrupts masked.
unsafe impl<T> Sync for Storage<T> {}

/// The stack (written only as such).
pub static STACK: Storage<[Cell<u8>; STACK_BYTES]> = Storage([const { Cell::new(0) }; STACK_BYTES]);
/// The root of translation; entry 0 is set by entry.rs.
pub static LEVEL0: Storage<Table> = Storage(Table::new());
/// The first 512 GiB: the identity map.
pub static LEVEL1: Storage<Table> = Storage(Table::new());
static KERNEL_LEVEL1: Storage<Table> = Storage(Table::new());
static TABLES: Storage<[Table; POOL]> = Storage([const { Table::new() }; POOL]);
static USED: Storage<Cell<usize>> = Storage(Cell::new(0));

unsafe extern "C" {
    static __payload: [u8; 64];
}

/// One past the boot stage's own memory, where the payload begins.
pub fn payload_address() -> u64 {
    &raw const __payload as u64
}

/// The payload's header.
pub fn payload_header() -> &'static [u8; 64] {
    // SAFETY: the linker script ends the image here; the packer appends at least a header. Without one these bytes are
    // whatever memory holds behind the image, and the caller checks the magic number.
    unsafe { &__payload }
}

/// Bytes at a physical address.
///
/// # Safety
/// They are mapped memory, and nothing writes them while the slice lives.
pub unsafe fn bytes(address: u64, length: usize) -> &'static [u8] {
    // SAFETY: the caller's promise; every address is valid under the identity map.
    unsafe {
        core::slice::from_raw_parts(core::ptr::with_exposed_provenance(address as usize), length)
    }
}

/// Fills `to` with `content` and zeros behind it, and makes it visible to instruction fetch.
///
/// # Safety
/// `to` is mapped memory that nothing else uses, and `content` does not lie in it.
pub unsafe fn fill(to: Region, content: &[u8]) {
    let destination: *mut u8 = core::ptr::with_exposed_provenance_mut(to.start as usize);
    let length = content.len().min(to.bytes() as usize);
    // SAFETY: `destination` is valid for `to.bytes()` bytes by the caller's promise; `length` is at most that; no overlap.
    unsafe {
        core::ptr::copy_nonoverlapping(content.as_ptr(), destination, length);
        core::ptr::write_bytes(destination.add(length), 0, to.bytes() as usize - length);
    }
    let types: u64;
    // SAFETY: reads the cache type register.
    unsafe { asm!("mrs {0}, ctr_el0", out(reg) types, options(nomem, nostack)) };
    // DminLine: log2 of the words of the smallest line.
    let line = 4u64 << (types >> 16 & 0xf);
    let mut at = to.start & !(line - 1);
    while at < to.end {
        // SAFETY: cleans a line of mapped memory.
        unsafe { asm!("dc cvac, {0}", in(reg) at, options(nostack)) };
        at += line;
    }
    // SAFETY: no memory is changed.
    unsafe { asm!("dsb sy", "ic iallu", "dsb sy", "isb", options(nostack)) };
}

fn identity(region: Region, kind: Kind) -> Result<(), OutOfTables> {
    let wide = region.widened(BLOCK_BYTES);
    blocks(&LEVEL1.0).map(wide.start, wide.start, wide.bytes(), kind)?;
    publish();
    Ok(())
}

fn blocks(level1: &'static Table) -> Blocks<'static> {
    Blocks {
        level1,
        pool: &TABLES.0,
        pool_physical: &raw const TABLES as u64,
        used: &USED.0,
    }
}

/// New entries take the place of invalid ones only, so a barrier is all that is needed (Arm ARM D8.14.1).
fn publish() {
    // SAFETY: barriers.
    unsafe { asm!("dsb ishst", "isb", options(nostack)) };
}

/// Identity-maps memory.
pub fn map_memory(region: Region) -> Result<(), OutOfTables> {
    identity(region, Kind::Loader)
}

/// Identity-maps a device's registers: those in the page of `address`, of which it is the first.
pub fn map_device(address: u64) -> Result<Device, OutOfTables> {
    identity(Region::new(address, 1), Kind::Device)?;
    Ok(Device(address & !(DEVICE_BYTES - 1)))
}

/// Maps the kernel: from its virtual start to the end of that gibibyte, as the kernel's contract says.
pub fn map_kernel(virtual_start: u64, physical: u64) -> Result<(), OutOfTables> {
    let gib_end = (virtual_start | ((1 << 30) - 1)).wrapping_add(1);
    blocks(&KERNEL_LEVEL1.0).map(
        virtual_start,
        physical,
        gib_end.wrapping_sub(virtual_start),
        Kind::Loader,
    )?;
    LEVEL0
        .0
        .set(virtual_start, 39, table(&raw const KERNEL_LEVEL1 as u64));
    publish();
    Ok(())
}

/// A device's registers have a page of their own.
const DEVICE_BYTES: u64 = 4096;

/// The mapped registers of a device. Offsets outside come round to inside.
#[derive(Clone, Copy)]
pub struct Device(u64);

impl Registers for Device {
    fn read(self, offset: u64) -> u32 {
        let address = self.0 | (offset & (DEVICE_BYTES - 4));
        let value: u32;
        // SAFETY: a register in the page that `map_device` mapped; a plain LDR, which a hypervisor below could emulate.
        unsafe { asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) address, options(nostack)) };
        value
    }

    fn write(self, offset: u64, value: u32) {
        let address = self.0 | (offset & (DEVICE_BYTES - 4));
        // SAFETY: as for `read`; the only devices that are mapped are those without access to memory (the UART).
        unsafe { asm!("str {0:w}, [{1}]", in(reg) value, in(reg) address, options(nostack)) };
    }
}
