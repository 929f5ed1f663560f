//! Memory reached by address: page-table entries, message words, zeroing, cache maintenance.
//!
//! Everything here works on the window (kernel address = physical + offset) and on memory that holds plain words: kernel-core
//! passes addresses out of capabilities, of frames, tables and IPC buffers, never of objects that Rust references reach.

#![allow(unsafe_code)]

use crate::regs;
use core::arch::asm;
use kernel_core::arch::CacheOp;

/// Bytes of a line that one DC ZVA zeroes, when it is this; and the smallest data cache line that is assumed.
const LINE: u64 = 64;

/// Reads an aligned word.
#[inline(always)]
pub fn read_word(addr: u64) -> u64 {
    // SAFETY: (1) `addr` is in the window, aligned, of memory that a capability or a table names (kernel-core's contract of
    // `Arch::read_word`); (2) volatile: user level may write it at the same time from its own view, and any word is valid.
    unsafe { core::ptr::with_exposed_provenance::<u64>(addr as usize).read_volatile() }
}

/// Writes an aligned word.
#[inline(always)]
pub fn write_word(addr: u64, value: u64) {
    // SAFETY: as for `read_word`; no Rust reference to this memory exists.
    unsafe { core::ptr::with_exposed_provenance_mut::<u64>(addr as usize).write_volatile(value) };
}

/// Whether DC ZVA works on 64 bytes. Every Armv8.0-A core in question does; the check is one register.
#[inline(always)]
fn zva_usable() -> bool {
    // DZP clear, BS 4 (words as a power of two).
    regs::dczid_el0() == 4
}

/// Whether the smallest data cache line is 64 bytes.
#[inline(always)]
fn lines_are_64() -> bool {
    regs::ctr_el0() >> 16 & 0xf == 4
}

/// Sets memory to zero. Both are multiples of 64.
#[inline]
pub fn zero(addr: u64, bytes: u64) {
    let end = addr.wrapping_add(bytes);
    let mut at = addr;
    let zva = zva_usable();
    while at < end {
        if zva {
            // SAFETY: zeroes the 64 bytes at `at`, which the caller owns (`Arch::zero`).
            unsafe { asm!("dc zva, {0}", in(reg) at, options(nostack, preserves_flags)) };
        } else {
            // SAFETY: as above.
            unsafe {
                asm!("stp xzr, xzr, [{0}]", "stp xzr, xzr, [{0}, #16]", "stp xzr, xzr, [{0}, #32]", "stp xzr, xzr, [{0}, #48]",
                    in(reg) at, options(nostack, preserves_flags));
            }
        }
        at = at.wrapping_add(LINE);
    }
}

/// Sets memory to zero and cleans it to the point of coherency. Both are multiples of 64.
#[inline(never)]
pub fn zero_and_clean(addr: u64, bytes: u64) {
    if !(zva_usable() && lines_are_64()) {
        zero(addr, bytes);
        cache(CacheOp::CleanToPoC, addr, bytes);
        return;
    }
    let end = addr.wrapping_add(bytes);
    let mut at = addr;
    // Pages unrolled: three instructions a line (neither DC has a form with an offset) and next to nothing for the loop.
    while end.wrapping_sub(at) >= LINE << 6 {
        // SAFETY: zeroes and cleans 4096 bytes, which the caller owns.
        unsafe {
            asm!(
                ".rept 64",
                "dc zva, {0}",
                "dc cvac, {0}",
                "add {0}, {0}, #64",
                ".endr",
                inout(reg) at,
                options(nostack, preserves_flags),
            );
        }
    }
    while at < end {
        // SAFETY: as above, 64 bytes.
        unsafe {
            asm!("dc zva, {0}", "dc cvac, {0}", in(reg) at, options(nostack, preserves_flags))
        };
        at = at.wrapping_add(LINE);
    }
    regs::dsb_sy();
}

/// One cache instruction for each line from `at` to `end`; eight at a time, as a work unit has 500 instructions for its lines.
macro_rules! each_line {
    ($instruction:literal, $at:expr, $end:expr, $line:expr) => {{
        let mut at: u64 = $at;
        // SAFETY: maintenance of memory in the window. Invalidation may drop what user level wrote to its own frame, which is what
        // it asked for; frames are whole lines, so nobody else's bytes are dropped.
        unsafe {
            while $end.wrapping_sub(at) >= $line << 3 {
                asm!(
                    ".rept 8",
                    concat!($instruction, ", {0}"),
                    "add {0}, {0}, {1}",
                    ".endr",
                    inout(reg) at,
                    in(reg) $line,
                    options(nostack, preserves_flags),
                );
            }
            while at < $end {
                asm!(concat!($instruction, ", {0}"), in(reg) at, options(nostack, preserves_flags));
                at = at.wrapping_add($line);
            }
        }
    }};
}

/// A cache operation on memory.
pub fn cache(op: CacheOp, addr: u64, bytes: u64) {
    let line = 4u64 << (regs::ctr_el0() >> 16 & 0xf);
    let end = addr.wrapping_add(bytes);
    let start = addr & !line.wrapping_sub(1);
    match op {
        CacheOp::CleanToPoC => each_line!("dc cvac", start, end, line),
        CacheOp::Invalidate => each_line!("dc ivac", start, end, line),
        CacheOp::CleanInvalidate => each_line!("dc civac", start, end, line),
        CacheOp::Unify => each_line!("dc cvau", start, end, line),
    }
    regs::dsb_sy();
    if op == CacheOp::Unify {
        // Instruction caches are indexed by the users' addresses, which may differ: all of it.
        regs::ic_ialluis();
    }
}
