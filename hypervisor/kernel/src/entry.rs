//! Entry from the loader, from user level, and the way back.
//!
//! While user level runs, SP_EL2 is the address of the current thread's saved registers (the first field of its TCB), so an
//! exception saves straight into them; the kernel's stack begins at its top each time. Registers that the kernel does not use
//! (floating point, EL1's) stay where they are.

#![allow(unsafe_code)]

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use kernel_core::object::{Registers, Tcb};

const _: () = assert!(offset_of!(Tcb, context) == 0);
const _: () = assert!(offset_of!(Registers, x) == 0 && offset_of!(Registers, sp) == 248);
const _: () = assert!(offset_of!(Registers, pc) == 256 && offset_of!(Registers, spsr) == 264);
const _: () = assert!(offset_of!(Registers, tpidr_el0) == 272);

global_asm!(
    r#"
    .macro save
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x8, sp_el0
    stp     x30, x8, [sp, #240]
    mrs     x8, elr_el2
    mrs     x9, spsr_el2
    stp     x8, x9, [sp, #256]
    mrs     x8, tpidr_el0
    str     x8, [sp, #272]
    adrp    x8, __stack_top
    mov     sp, x8
    .endm

    .macro from_user handler
    .balign 128
    save
    bl      \handler
    b       resume_user
    .endm

    // A system call's number is x7, which is still there.
    .macro from_user_sync
    .balign 128
    save
    mrs     x0, esr_el2
    lsr     x1, x0, #26
    cmp     x1, #0x15
    b.eq    system_call
    bl      {sync}
    b       resume_user
    .endm

    .macro from_kernel kind
    .balign 128
    mov     x0, #\kind
    adrp    x8, __stack_top
    mov     sp, x8
    b       {kernel_exception}
    .endm

    .section .vectors, "ax"
    .balign 2048
    .global exception_vectors
exception_vectors:
    from_kernel 0
    from_kernel 1
    from_kernel 2
    from_kernel 3
    from_kernel 4
    from_kernel 5
    from_kernel 6
    from_kernel 7
    from_user_sync
    from_user {irq}
    from_user {irq}
    from_user {system_error}
    from_user_sync
    from_user {irq}
    from_user {irq}
    from_user {system_error}

    .balign 64
system_call:
    mov     x0, x7
    bl      {svc}
    // x0: the saved registers of the thread to resume
resume_user:
    mov     sp, x0
    ldp     x8, x9, [sp, #256]
    msr     elr_el2, x8
    msr     spsr_el2, x9
    ldr     x10, [sp, #272]
    msr     tpidr_el0, x10
    ldp     x30, x11, [sp, #240]
    msr     sp_el0, x11
    ldp     x0, x1, [sp, #0]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    eret
    dsb     nsh
    isb

    // From the loader: x0..x5 are the arguments of `start`.
    .section .boot.text, "ax"
    .global _start
_start:
    msr     daifset, #0xf
    adrp    x8, __stack_top
    msr     spsel, #1
    mov     sp, x8
    mov     x29, xzr
    mov     x30, xzr
    bl      {start}
    adrp    x8, resume_user
    add     x8, x8, :lo12:resume_user
    br      x8
    "#,
    kernel_exception = sym crate::trap::kernel_exception,
    sync = sym crate::trap::lower_sync,
    svc = sym crate::trap::lower_svc,
    irq = sym crate::trap::lower_irq,
    system_error = sym crate::trap::lower_system_error,
    start = sym crate::start::start,
);

unsafe extern "C" {
    static exception_vectors: [u32; 512];
}

/// Sets EL2's vectors to ours.
pub fn install_vectors() {
    // SAFETY: the table above is complete and aligned.
    unsafe { crate::regs::write_vbar_el2(&raw const exception_vectors as u64) };
}

/// Stops this core for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: waits for an interrupt, all of which are masked.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }
}

/// Where a panic would end. It does not exist: a release kernel with a path to a panic does not link.
#[cfg(not(any(feature = "debug", feature = "panic-path")))]
pub fn panic_path() -> ! {
    unsafe extern "C" {
        fn a_panic_path_is_left_in_the_kernel() -> !;
    }
    // SAFETY: never linked, so never called.
    unsafe { a_panic_path_is_left_in_the_kernel() }
}

/// Where a panic ends in a kernel that is built to find the way there.
#[cfg(all(not(feature = "debug"), feature = "panic-path"))]
#[inline(never)]
pub fn panic_path() -> ! {
    halt()
}
