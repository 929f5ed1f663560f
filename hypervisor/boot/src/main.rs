//! The boot stage: loads kernel and root task and hands over as seL4's loader does.
//!
//! It is started at EL2 with the MMU off, `x0` the device tree, anywhere in memory (2 MiB aligned): by QEMU, U-Boot's
//! `booti` or a Raspberry Pi's firmware as an arm64 Linux `Image`, or at its first byte by anything else. It turns MMU and
//! caches on, places the kernel (where its `p_paddr` says when that is free memory, elsewhere otherwise) and the root task
//! in memory that nothing else uses, and jumps to the kernel with the registers of the kernel's contract.
//!
//! # What the packer does
//! The boot stage's ELF file is linked at address 0 and position independent. The image is its memory: `M` is the end of its last
//! `PT_LOAD` (`p_vaddr + p_memsz`), which the linker script makes a multiple of 4096. So:
//!
//! 1. make `M` zero bytes, and copy each `PT_LOAD` (`p_filesz` bytes from `p_offset`) to its `p_vaddr`;
//! 2. append the payload at `M`: header, kernel ELF file, root task ELF file, optionally a device tree (which then takes the place of
//!    the one in `x0`);
//! 3. overwrite the `u64` at offset 16 of the image (`image_size` of the arm64 `Image` header) with its whole length.
//!
//! As an `Image`, that is the file (QEMU: `-kernel`). As an ELF file: one `PT_LOAD` with it, `p_paddr` any multiple of
//! 2 MiB in memory, entry at its first byte (QEMU leaves the device tree at the start of memory then, so not within its first 2 MiB).
//!
//! The payload header, little-endian 64-bit words; offsets count from the header's first byte and are multiples of 16:
//!
//! | offset | content |
//! | ---: | --- |
//! | 0 | the bytes `BALPAYL1` ([`boot_core::payload::MAGIC`]) |
//! | 8 | length of the payload, this header included |
//! | 16, 24 | offset and length of the kernel's ELF file |
//! | 32, 40 | offset and length of the root task's ELF file |
//! | 48, 56 | offset and length of a device tree, or 0, 0 |
//!
//! The root task's `PT_LOAD`s must lie in one range of addresses with no large holes: the range from the lowest to the highest
//! byte becomes one contiguous piece of memory, and each of its 4 KiB pages takes a slot of the root CNode.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod start;
