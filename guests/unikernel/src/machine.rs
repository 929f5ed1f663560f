//! The machine under the program: entry, MMU, registers, MMIO, memory that is no Rust object, PSCI.
//!
//! The only module with `unsafe`. The address space is flat: 1 GiB of devices, then memory, mapped by one constant
//! table, so that nothing is written before the caches are on.

use core::arch::{asm, global_asm};
use core::ptr::{self, NonNull};
use safe_mmio::UniqueMmioPointer;
use safe_mmio::fields::ReadPureWrite;
use unikernel::{RAM, RINGS, STACK, STACK_TOP};

#[repr(C, align(4096))]
struct Table([u64; 512]);

/// Level 1 of a 39-bit space: blocks of 1 GiB. AF; attribute 1 is device memory (never executable), 0 normal.
static TABLE: Table = {
    const BLOCK: u64 = 1 | 1 << 10;
    const DEVICE: u64 = BLOCK | 1 << 2 | 3 << 53;
    const NORMAL: u64 = BLOCK | 3 << 8;
    let mut table = [0; 512];
    table[0] = DEVICE;
    let mut index = 1;
    while index < 13 {
        table[index] = NORMAL | (index as u64) << 30;
        index += 1;
    }
    Table(table)
};

// The header of an arm64 Image (Linux, Documentation/arch/arm64/booting.rst): code, text offset 0, size, flags
// (little-endian, 4 KiB pages, anywhere), magic.
global_asm!(
    ".pushsection .text.header, \"ax\"",
    ".global _start",
    "_start:",
    "b 1f",
    "nop",
    ".quad 0",
    ".quad {piece}",
    ".quad 0xa",
    ".quad 0, 0, 0",
    ".ascii \"ARM\\x64\"",
    ".long 0",
    "1:",
    "mov x20, x0",
    // MAIR: 0 normal write-back, 1 device nGnRE.
    "mov x1, #0x4ff",
    "msr mair_el1, x1",
    // TCR: 39 bits, inner shareable write-back walks, 4 KiB, TTBR1 off, 40-bit addresses.
    "ldr x1, =0x200803519",
    "msr tcr_el1, x1",
    "adrp x1, {table}",
    "add x1, x1, :lo12:{table}",
    "msr ttbr0_el1, x1",
    "adr x1, ballast_vectors",
    "msr vbar_el1, x1",
    "isb",
    "tlbi vmalle1",
    "ic iallu",
    "dsb nsh",
    "isb",
    "mrs x1, sctlr_el1",
    "mov x2, #0x1005",
    "orr x1, x1, x2",
    "msr sctlr_el1, x1",
    "isb",
    "ldr x1, ={stack}",
    "mov sp, x1",
    "mov x0, x20",
    "mov x29, xzr",
    "mov x30, xzr",
    "b {main}",
    ".p2align 11",
    "ballast_vectors:",
    ".rept 16",
    "mrs x0, esr_el1",
    "mrs x1, elr_el1",
    "mrs x2, far_el1",
    "ldr x3, ={stack}",
    "mov sp, x3",
    "b {exception}",
    ".p2align 7",
    ".endr",
    "ballast_stubborn_vectors:",
    ".rept 16",
    "eret",
    ".p2align 7",
    ".endr",
    ".popsection",
    piece = const STACK_TOP - RAM,
    stack = const STACK_TOP,
    table = sym TABLE,
    main = sym crate::begin,
    exception = sym crate::exception,
);

/// A 32-bit device register.
fn register(address: u64) -> Option<UniqueMmioPointer<'static, ReadPureWrite<u32>>> {
    let pointer = NonNull::new(address as *mut ReadPureWrite<u32>)?;
    // SAFETY: (1) callers pass addresses of the device gigabyte, where nothing else of the program lies; (2) the program
    // has one thread and keeps no such pointer, so each is the only one while it lives.
    (address < RAM && address.is_multiple_of(4)).then(|| unsafe { UniqueMmioPointer::new(pointer) })
}

/// Reads a device register.
pub fn mmio_read(address: u64) -> u32 {
    register(address).map_or(0, |register| register.read())
}

/// Writes a device register.
pub fn mmio_write(address: u64, value: u32) {
    if let Some(mut register) = register(address) {
        register.write(value);
    }
}

/// Whether an address is memory that no Rust object occupies: rings and buffers, and all pieces but the first.
fn is_loose(address: u64) -> bool {
    address.is_multiple_of(8) && address >= RINGS && !(STACK..STACK_TOP).contains(&address)
}

/// Reads a word of loose memory; 0 elsewhere.
pub fn peek(address: u64) -> u64 {
    if !is_loose(address) {
        return 0;
    }
    // SAFETY: loose memory is mapped, aligned, and no Rust object; the host may change it, hence volatile.
    unsafe { ptr::read_volatile(address as *const u64) }
}

/// Writes a word of loose memory; nothing elsewhere.
pub fn poke(address: u64, value: u64) {
    if is_loose(address) {
        // SAFETY: as in `peek`.
        unsafe { ptr::write_volatile(address as *mut u64, value) };
    }
}

/// Reads a 16-bit value of a ring.
pub fn peek_u16(address: u64) -> u16 {
    if !is_loose(address & !7) || !address.is_multiple_of(2) {
        return 0;
    }
    // SAFETY: as in `peek`.
    unsafe { ptr::read_volatile(address as *const u16) }
}

/// Writes a 16-bit value of a ring.
pub fn poke_u16(address: u64, value: u16) {
    if is_loose(address & !7) && address.is_multiple_of(2) {
        // SAFETY: as in `peek`.
        unsafe { ptr::write_volatile(address as *mut u16, value) };
    }
}

/// Orders memory for the devices (virtio 1.3, 2.7.13).
pub fn barrier() {
    // SAFETY: a barrier changes no state that Rust knows of.
    unsafe { asm!("dmb ish", options(nostack, preserves_flags)) };
}

/// The device tree that the VMM left at `address`.
pub fn tree(address: u64) -> &'static [u8] {
    let pointer = address as *const u8;
    // SAFETY: (1) the loader puts a tree of at least a header there, in memory (booting.rst); (2) nothing writes it: the
    // program reads it before it uses any piece, and keeps no reference afterwards.
    let header = unsafe { core::slice::from_raw_parts(pointer, 40) };
    let bytes = unikernel::tree::total_bytes(header)
        .unwrap_or(40)
        .min(1 << 16);
    // SAFETY: as above, with the length that the header tells.
    unsafe { core::slice::from_raw_parts(pointer, bytes as usize) }
}

/// The virtual counter.
pub fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Ticks per millisecond.
pub fn ticks_per_ms() -> u64 {
    let hz: u64;
    // SAFETY: reads a constant register.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nomem, nostack)) };
    (hz / 1000).max(1)
}

/// Waits for an interrupt, at the latest until a tick. Interrupts stay masked: a pending one only ends the wait.
pub fn wait_until(tick: u64) {
    // SAFETY: the timer is this program's alone; WFI returns.
    unsafe {
        asm!(
            "msr cntv_cval_el0, {tick}",
            "mov {on}, #1",
            "msr cntv_ctl_el0, {on}",
            "isb",
            "wfi",
            "msr cntv_ctl_el0, xzr",
            "isb",
            tick = in(reg) tick,
            on = out(reg) _,
            options(nostack)
        );
    }
}

/// GICv3: the CPU interface on.
pub fn gicv3_enable() {
    // SAFETY: interrupts stay masked in PSTATE; these registers decide only what ends a WFI.
    unsafe {
        asm!(
            "mov {x}, #7",
            "msr S3_0_C12_C12_5, {x}",
            "isb",
            "mov {x}, #0xff",
            "msr S3_0_C4_C6_0, {x}",
            "mov {x}, #1",
            "msr S3_0_C12_C12_7, {x}",
            "isb",
            x = out(reg) _,
            options(nostack)
        );
    }
}

/// GICv3: takes a pending interrupt and ends it; its number, 1020 and above for none.
pub fn gicv3_take() -> u32 {
    let interrupt: u64;
    // SAFETY: acknowledging and ending an interrupt that nobody handles otherwise.
    unsafe {
        asm!(
            "mrs {x}, S3_0_C12_C12_0",
            "cmp {x}, #1020",
            "b.hs 2f",
            "msr S3_0_C12_C12_1, {x}",
            "2: isb",
            x = out(reg) interrupt,
            options(nostack)
        );
    }
    interrupt as u32
}

/// PSCI SYSTEM_OFF.
pub const SYSTEM_OFF: u64 = 0x8400_0008;
/// PSCI SYSTEM_RESET.
pub const SYSTEM_RESET: u64 = 0x8400_0009;

/// Ends the guest by a PSCI call; waits for ever should the VMM answer.
pub fn end(function: u64) -> ! {
    loop {
        // SAFETY: PSCI by HVC, the conduit that the tree names; nothing of the program is needed afterwards.
        unsafe {
            asm!("hvc #0", inout("x0") function => _, out("x1") _, out("x2") _, out("x3") _, options(nostack));
        }
        wait_until(u64::MAX);
    }
}

/// A PSCI call that returns.
pub fn call(function: u64, argument: u64) -> i64 {
    let value: u64;
    // SAFETY: PSCI by HVC; x0 to x3 are the call's, everything else is kept (SMCCC 1.1).
    unsafe {
        asm!("hvc #0", inout("x0") function => value, inout("x1") argument => _, out("x2") _, out("x3") _, options(nostack));
    }
    i64::from(value as i32)
}

/// Writes one or two bytes of a device register.
pub fn mmio_write_narrow(address: u64, bytes: u32, value: u32) {
    if address >= RAM {
        return;
    }
    // SAFETY: the device gigabyte, where no Rust object lies; the plain form of the store, which a host can emulate.
    unsafe {
        if bytes == 1 {
            asm!("strb {value:w}, [{at}]", value = in(reg) value, at = in(reg) address, options(nostack));
        } else {
            asm!("strh {value:w}, [{at}]", value = in(reg) value, at = in(reg) address, options(nostack));
        }
    }
}

/// Reads two device registers with one instruction, of which no syndrome tells the registers.
pub fn mmio_read_pair(address: u64) -> u32 {
    if address >= RAM {
        return 0;
    }
    let (low, high): (u32, u32);
    // SAFETY: as in `mmio_write_narrow`, for reading.
    unsafe {
        asm!("ldp {low:w}, {high:w}, [{at}]", low = out(reg) low, high = out(reg) high, at = in(reg) address, options(nostack));
    }
    low | high
}

/// From now on every exception is answered by trying the same again.
pub fn be_stubborn() {
    // SAFETY: vectors that return change nothing that Rust knows of.
    unsafe {
        asm!(
            "adr {at}, ballast_stubborn_vectors",
            "msr vbar_el1, {at}",
            "isb",
            at = out(reg) _,
            options(nostack)
        );
    }
}

/// Exceptions without end: the MMU off, the vectors where nothing is.
pub fn crash() -> ! {
    // SAFETY: never returns to Rust.
    unsafe {
        asm!(
            "msr vbar_el1, xzr",
            "mrs x0, sctlr_el1",
            "bic x0, x0, #1",
            "msr sctlr_el1, x0",
            "isb",
            "mov x0, #0x100",
            "br x0",
            options(noreturn, nostack)
        );
    }
}
