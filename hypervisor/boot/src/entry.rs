//! The first and the last instructions of the boot stage.

#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

// The arm64 `Image` header (Linux, Documentation/arch/arm64/booting.rst), then: which exception level; apply the
// relocations; identity-map the gibibytes of the image and of the device tree; caches and MMU on; Rust.
//
// With the MMU off data accesses go past the caches, so the lines of what was written are invalidated before the caches
// are turned on (the boot protocol promises that the image is clean in memory).
//
// At EL1 the same is done with EL1's registers, so that the text that says "not EL2" comes from ordinary code. AP[1] (bit 6) is
// RES1 at EL2 and would take away execution at EL1.
global_asm!(
    r#"
    .section .head, "ax"
    .global _start
_start:
    b       2f
    .long   0
    .quad   0                       // text_offset
    .quad   __payload - _start      // image_size: the packer writes the real one
    .quad   0xa                     // little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

2:  msr     daifset, #0xf
    mov     x20, x0                 // device tree
    adr     x19, _start             // where we are
    mrs     x21, CurrentEL
    lsr     x21, x21, #2

    adrp    x1, __rela_start
    add     x1, x1, :lo12:__rela_start
    adrp    x2, __rela_end
    add     x2, x2, :lo12:__rela_end
3:  cmp     x1, x2
    b.hs    4f
    ldp     x3, x4, [x1]
    ldr     x5, [x1, #16]
    add     x1, x1, #24
    cmp     x4, #1027               // R_AARCH64_RELATIVE
    b.ne    3b
    add     x5, x5, x19
    str     x5, [x19, x3]
    b       3b

4:  adrp    x1, __bss_start
    add     x1, x1, :lo12:__bss_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
5:  stp     xzr, xzr, [x1], #16
    cmp     x1, x2
    b.lo    5b

    // level 0 entry 0 -> level 1; 1 GiB blocks, attribute index 4 (write-back), inner shareable, accessed
    adrp    x3, {level0}
    add     x3, x3, :lo12:{level0}
    adrp    x4, {level1}
    add     x4, x4, :lo12:{level1}
    orr     x5, x4, #3
    str     x5, [x3]
    mov     x6, #0x711
    cmp     x21, #2
    b.ne    6f
    orr     x6, x6, #0x40
6:  adrp    x7, __payload
    mov     x8, x19
    bl      20f
    sub     x8, x7, #1
    bl      20f
    mov     x8, x20
    bl      20f
    add     x8, x20, #0x200000
    bl      20f

    // nothing stale over what was written past the caches
    mrs     x9, ctr_el0
    ubfx    x9, x9, #16, #4
    mov     x10, #4
    lsl     x9, x10, x9
    mov     x10, x19
7:  dc      ivac, x10
    add     x10, x10, x9
    cmp     x10, x7
    b.lo    7b
    ic      iallu
    dsb     sy

    ldr     x10, ={mair}
    mrs     x11, id_aa64mmfr0_el1
    and     x11, x11, #7            // physical address size, at most 48 bits
    cmp     x11, #5
    mov     x12, #5
    csel    x11, x11, x12, ls
    cmp     x21, #2
    b.ne    8f

    ldr     x12, =0x80803510        // 48-bit addresses, 4 KiB granule, walks write-back inner shareable
    orr     x12, x12, x11, lsl #16
    msr     mair_el2, x10
    msr     tcr_el2, x12
    msr     ttbr0_el2, x3
    tlbi    alle2
    dsb     sy
    isb
    ldr     x12, =0x30c51835        // RES1 bits, I, SA, C, M; no alignment checks
    msr     sctlr_el2, x12
    isb
    b       9f

8:  ldr     x12, =0x803510          // as above, no TTBR1 walks
    orr     x12, x12, x11, lsl #32
    msr     mair_el1, x10
    msr     tcr_el1, x12
    msr     ttbr0_el1, x3
    tlbi    vmalle1
    dsb     sy
    isb
    ldr     x12, =0x30d01805
    msr     sctlr_el1, x12
    isb

9:  adrp    x1, {stack}
    add     x1, x1, :lo12:{stack}
    ldr     x2, ={stack_bytes}
    add     sp, x1, x2
    mov     x0, x20
    mov     x1, x19
    mov     x2, x21
    mov     x29, xzr
    mov     x30, xzr
    b       {main}

    // maps the gibibyte of x8 (below 512 GiB)
20: ubfx    x9, x8, #30, #9
    lsl     x10, x9, #30
    orr     x10, x10, x6
    lsr     x11, x8, #39
    cbnz    x11, 21f
    str     x10, [x4, x9, lsl #3]
21: ret
    .ltorg
    "#,
    level0 = sym crate::memory::LEVEL0,
    level1 = sym crate::memory::LEVEL1,
    stack = sym crate::memory::STACK,
    stack_bytes = const crate::memory::STACK_BYTES,
    mair = const machine::blocks::MAIR,
    main = sym crate::start::main,
);

/// What the kernel expects in `x0` to `x5`.
pub struct HandOver {
    /// Physical start of the root task's image.
    pub image_start: u64,
    /// Its physical end.
    pub image_end: u64,
    /// Physical minus virtual address of it.
    pub image_offset: u64,
    /// Its virtual entry address.
    pub image_entry: u64,
    /// Physical address of the device tree.
    pub tree: u64,
    /// Its length in bytes.
    pub tree_bytes: u64,
}

/// Jumps to the kernel.
///
/// # Safety
/// `entry` is the virtual entry address of the kernel, which is loaded and mapped; caches and tables are as the kernel's contract says.
pub unsafe fn enter_kernel(entry: u64, with: &HandOver) -> ! {
    // SAFETY: the caller vouches for the kernel; nothing of the boot stage is used afterwards but its translation tables.
    unsafe {
        asm!(
            "msr hcr_el2, xzr",
            "msr vttbr_el2, xzr",
            "msr vtcr_el2, xzr",
            "msr vbar_el2, xzr",
            "isb",
            "br {entry}",
            entry = in(reg) entry,
            in("x0") with.image_start,
            in("x1") with.image_end,
            in("x2") with.image_offset,
            in("x3") with.image_entry,
            in("x4") with.tree,
            in("x5") with.tree_bytes,
            options(noreturn),
        )
    }
}

/// Stops for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: waits for an interrupt; all are masked.
        unsafe { asm!("wfi", options(nomem, nostack)) }
    }
}
