//! The arm64 Linux `Image` header and where kernel, device tree and initrd go in the guest's startup memory.
//!
//! Source: the Linux kernel's `Documentation/arch/arm64/booting.rst`, section 4.

use protocol::units::PIECE_BYTES;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// "ARM\x64", little-endian, at offset 56.
pub const MAGIC: u32 = 0x644d_5241;
/// Most bytes of a device tree (booting.rst: 2 MiB); ours is far smaller and gets this much.
pub const TREE_BYTES: u64 = 64 * 1024;

/// What an `Image` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the image from a 2 MiB aligned base, in bytes.
    pub text_offset: u64,
    /// Memory the kernel needs from its start, in bytes, with its zeroed part.
    pub image_size: u64,
    /// Endianness (bit 0), page size (bits 1-2), physical placement (bit 3).
    pub flags: u64,
}

/// Why a guest cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The file is shorter than a header.
    Short {
        /// Its bytes.
        bytes: u64,
    },
    /// The magic is not that of an arm64 `Image`.
    Magic {
        /// What is there.
        found: u32,
    },
    /// The kernel is big-endian.
    BigEndian,
    /// The text offset is beyond 2 MiB or not page aligned.
    TextOffset {
        /// What the header says.
        found: u64,
    },
    /// The pieces do not fit the startup memory.
    TooLarge {
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
}

/// Reads a header.
///
/// # Errors
/// [`LoadError`] naming what is wrong.
pub fn parse_header(file: &[u8]) -> Result<Header, LoadError> {
    let raw = file.get(..HEADER_BYTES).ok_or(LoadError::Short {
        bytes: file.len() as u64,
    })?;
    let word = |at: usize| {
        let mut bytes = [0u8; 8];
        if let Some(source) = raw.get(at..at + 8) {
            bytes.copy_from_slice(source);
        }
        u64::from_le_bytes(bytes)
    };
    let found = word(56) as u32;
    if found != MAGIC {
        return Err(LoadError::Magic { found });
    }
    let header = Header {
        text_offset: word(8),
        image_size: word(16),
        flags: word(24),
    };
    if header.flags & 1 != 0 {
        return Err(LoadError::BigEndian);
    }
    if header.text_offset >= PIECE_BYTES || !header.text_offset.is_multiple_of(4096) {
        return Err(LoadError::TextOffset {
            found: header.text_offset,
        });
    }
    Ok(header)
}

/// Where things go, as intermediate physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// First byte of the kernel, also its entry point.
    pub kernel: u64,
    /// First byte of the device tree, 64 KiB aligned.
    pub tree: u64,
    /// First byte of the initrd, page aligned; meaningless when there is none.
    pub initrd: u64,
    /// Bytes of the initrd.
    pub initrd_bytes: u64,
}

/// Plans the placement in `ram_bytes` of memory at `ram` (2 MiB aligned): the kernel at the bottom, the initrd at the
/// top, the tree below it.
///
/// # Errors
/// [`LoadError::TooLarge`].
pub fn plan(
    header: &Header,
    file_bytes: u64,
    initrd_bytes: u64,
    ram: u64,
    ram_bytes: u64,
) -> Result<Plan, LoadError> {
    // A kernel from before 3.17 says 0: "keep as much as possible free"; its file is the least it needs.
    let kernel_bytes = header.image_size.max(file_bytes);
    let initrd_room = initrd_bytes.checked_next_multiple_of(4096);
    let needed = initrd_room
        .and_then(|room| room.checked_add(header.text_offset))
        .and_then(|room| room.checked_add(kernel_bytes))
        .and_then(|room| room.checked_add(2 * TREE_BYTES))
        .unwrap_or(u64::MAX);
    let too_large = LoadError::TooLarge {
        needed,
        available: ram_bytes,
    };
    if needed > ram_bytes {
        return Err(too_large);
    }
    let end = ram.checked_add(ram_bytes).ok_or(too_large)?;
    let initrd = end - initrd_room.unwrap_or(0);
    let tree = (initrd - TREE_BYTES) & !(TREE_BYTES - 1);
    Ok(Plan {
        kernel: ram + header.text_offset,
        tree,
        initrd,
        initrd_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(text_offset: u64, image_size: u64, flags: u64) -> Vec<u8> {
        let mut raw = vec![0u8; 64];
        raw[8..16].copy_from_slice(&text_offset.to_le_bytes());
        raw[16..24].copy_from_slice(&image_size.to_le_bytes());
        raw[24..32].copy_from_slice(&flags.to_le_bytes());
        raw[56..60].copy_from_slice(b"ARM\x64");
        raw
    }

    #[test]
    fn a_distribution_kernel_is_accepted() {
        let header = parse_header(&file(0, 39_000_000, 0b1010)).unwrap();
        assert_eq!(header.image_size, 39_000_000);
        let plan = plan(&header, 37_000_000, 3_000_001, 0x4000_0000, 256 << 20).unwrap();
        assert_eq!(plan.kernel, 0x4000_0000);
        assert_eq!(plan.initrd, 0x5000_0000 - 3_002_368);
        assert!(plan.tree + TREE_BYTES <= plan.initrd);
        assert_eq!(plan.tree % TREE_BYTES, 0);
    }

    #[test]
    fn each_bad_header_is_named() {
        assert_eq!(parse_header(&[0; 10]), Err(LoadError::Short { bytes: 10 }));
        let mut bad = file(0, 0, 0);
        bad[56] = 0;
        assert!(matches!(parse_header(&bad), Err(LoadError::Magic { .. })));
        assert_eq!(parse_header(&file(0, 0, 1)), Err(LoadError::BigEndian));
        assert_eq!(
            parse_header(&file(0x20_0000, 0, 0)),
            Err(LoadError::TextOffset { found: 0x20_0000 })
        );
    }

    proptest! {
        #[test]
        fn nothing_overlaps_and_nothing_panics(
            text in 0u64..600, size in any::<u64>(), file_bytes in 0u64..1 << 40,
            initrd in any::<u64>(), pieces in 0u64..5000,
        ) {
            let header = Header { text_offset: text * 4096, image_size: size, flags: 0 };
            let (ram, ram_bytes) = (0x4000_0000, pieces * PIECE_BYTES);
            if let Ok(plan) = plan(&header, file_bytes, initrd, ram, ram_bytes) {
                prop_assert!(plan.kernel + size.max(file_bytes) <= plan.tree);
                prop_assert!(plan.tree + TREE_BYTES <= plan.initrd);
                prop_assert!(plan.initrd + initrd <= ram + ram_bytes);
            }
        }

        #[test]
        fn any_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = parse_header(&bytes);
        }
    }
}
