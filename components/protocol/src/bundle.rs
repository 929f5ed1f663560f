//! The bundle: what the build appends to the root task's image, at [`crate::layout::BUNDLE_VADDR`].
//!
//! Layout: the 8 bytes [`MAGIC`], the length of the header as a little-endian `u64`, the header ([`Header`] in
//! `postcard`), then the files, each at a 16-byte aligned offset from the bundle's start.

use crate::system::System;
use serde::{Deserialize, Serialize};

/// First bytes of a bundle.
pub const MAGIC: [u8; 8] = *b"BALLAST1";
/// Most files in a bundle.
pub const MAX_FILES: usize = 48;
/// Longest file name.
pub const NAME_BYTES: usize = 48;

/// How a file's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packing {
    /// As they are.
    Plain,
    /// One LZ4 block.
    Lz4,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A component's ELF file.
    Component,
    /// A guest's kernel.
    GuestKernel,
    /// A guest's initrd.
    GuestInitrd,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name, for messages: a component's crate name, or the file name in the description.
    pub name: heapless::String<NAME_BYTES>,
    /// What it is for.
    pub kind: FileKind,
    /// How it is stored.
    pub packing: Packing,
    /// Where, from the bundle's first byte.
    pub offset: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// Bytes once unpacked.
    pub bytes: u64,
}

/// The bundle's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The system.
    pub system: System,
    /// Its files.
    pub files: heapless::Vec<File, MAX_FILES>,
}
