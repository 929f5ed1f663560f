//! The Ballast microkernel for AArch64 EL2: what the machine does for `kernel-core`, which holds the logic.
//!
//! # Invariants
//! 1. One thread of control: one core, interrupts masked from entry to exit; an interrupt is taken at user level or looked for
//!    at preemption points.
//! 2. What is writable is never executable (the tables, and SCTLR_EL2.WXN).
//! 3. `unsafe` is in named modules: registers and instructions (`regs`), the kernel's tables (`tables`), memory by address
//!    (`memory`), device registers (`mmio`), entry and exit (`entry`), floating-point state (`fpu`), statics (`cell`), the first
//!    references at boot (`start`), the section of `dump_header`.
//! 4. No path leads to a panic: the release kernel links only if none is left.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod cell;
#[cfg(target_os = "none")]
mod dump_header;
#[cfg(target_os = "none")]
mod el2;
#[cfg(target_os = "none")]
mod entry;
#[cfg(test)]
mod fakes;
#[cfg(test)]
use fakes::{mmio, regs, tables};
#[cfg(target_os = "none")]
mod fpu;
#[cfg(any(target_os = "none", test))]
mod gic;
#[cfg(target_os = "none")]
mod masked_time;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod mmio;
#[cfg(target_os = "none")]
mod regs;
#[cfg(target_os = "none")]
mod start;
#[cfg(any(target_os = "none", test))]
mod syndrome;
#[cfg(target_os = "none")]
mod tables;
#[cfg(target_os = "none")]
mod trap;
#[cfg(test)]
mod vcpu_tests;
#[cfg(any(target_os = "none", test))]
mod vcpus;

#[cfg(all(target_os = "none", feature = "debug"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    trap::KERNEL.get().arch.console.text("\nkernel panic\n");
    entry::halt()
}

#[cfg(all(target_os = "none", not(feature = "debug")))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    entry::panic_path()
}
