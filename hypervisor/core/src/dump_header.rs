//! Where the kernel's state begins, for somebody who looks at the machine's memory from outside: a test that stops the machine
//! and counts who maps what, or a debugger after a crash.
//!
//! The kernel puts one [`DumpHeader`] among its constants and never reads it. Who looks finds it by its first words: it is the copy
//! whose `this` agrees with the place where it was found (the loader's copy of the kernel has the same words elsewhere). All else
//! follows: the first thread's capabilities lead to every other, the pools to every address space.

use crate::object::{AsidPool, Link};
use core::cell::Cell;

/// The first words of an [`DumpHeader`]; the second one counts changes of its form, and of the form of capabilities and objects.
pub const MAGIC: [u64; 2] = [u64::from_le_bytes(*b"ballast\0"), 1];

/// What has to be known. Addresses are the kernel's.
#[repr(C)]
pub struct DumpHeader {
    /// [`MAGIC`].
    pub magic: [u64; 2],
    /// Its own address.
    pub this: *const Self,
    /// Where the kernel's image begins.
    pub image_start: *const u8,
    /// Where it ends.
    pub image_end: *const u8,
    /// Holds the physical address of the image's beginning.
    pub image_physical: *const Cell<u64>,
    /// Added to a physical address it is the kernel's, except inside the image.
    pub window: u64,
    /// Holds the address of the first thread.
    pub root_thread: *const Cell<u64>,
    /// The ASID pools, [`crate::vspace::asid::POOLS`] of them.
    pub asid_pools: *const Link<AsidPool>,
}
