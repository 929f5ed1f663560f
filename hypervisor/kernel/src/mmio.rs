//! Device registers.

#![allow(unsafe_code)]

use core::arch::asm;
use machine::console::Registers;

/// A block of device registers.
#[derive(Clone, Copy)]
pub struct Mmio {
    base: u64,
    bytes: u64,
}

impl Mmio {
    /// # Safety
    /// `base` is the page-aligned kernel address of `bytes` bytes of mapped device registers, and whatever is written there changes no
    /// memory that Rust knows of.
    pub const unsafe fn new(base: u64, bytes: u64) -> Self {
        Self { base, bytes }
    }

    /// Where offset lies; offsets outside come round to inside.
    #[inline(always)]
    const fn at(self, offset: u64) -> u64 {
        if offset < self.bytes {
            self.base.wrapping_add(offset & !3)
        } else {
            self.base
        }
    }

    /// Reads the 32-bit register at a byte offset (a multiple of 4).
    #[inline(always)]
    pub fn read(self, offset: u64) -> u32 {
        let value: u32;
        // SAFETY: inside the mapped registers (`at`); a plain LDR, which a hypervisor below us could emulate.
        unsafe {
            asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) self.at(offset), options(nostack, preserves_flags))
        };
        value
    }

    /// Writes the 32-bit register at a byte offset (a multiple of 4).
    #[inline(always)]
    pub fn write(self, offset: u64, value: u32) {
        // SAFETY: as for `read`; registers are not memory.
        unsafe {
            asm!("str {0:w}, [{1}]", in(reg) value, in(reg) self.at(offset), options(nostack, preserves_flags))
        };
    }
}

impl Registers for Mmio {
    fn read(self, offset: u64) -> u32 {
        Self::read(self, offset)
    }

    fn write(self, offset: u64, value: u32) {
        Self::write(self, offset, value);
    }
}
