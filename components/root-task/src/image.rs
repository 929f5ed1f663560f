//! A component's ELF file, checked: which pages it needs and with which rights.

use elf::ElfBytes;
use elf::abi::{EM_AARCH64, ET_EXEC, PF_R, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use heapless::Vec;
use protocol::layout::{IMAGE_VADDR, STARTUP_VADDR};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Most loadable segments.
pub const MAX_SEGMENTS: usize = 8;

/// What code may do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Read and execute.
    Execute,
}

/// A loadable segment. Its first address is page-aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// First virtual address.
    pub vaddr: u64,
    /// Bytes in memory; those beyond `data` are zero.
    pub bytes: u64,
    /// Bytes from the file.
    pub data: &'a [u8],
    /// Rights.
    pub access: Access,
}

impl Segment<'_> {
    /// Pages that it covers.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.bytes.div_ceil(PAGE)
    }

    /// The file's bytes of its page `index`; empty when the page is all zero.
    #[must_use]
    pub fn page_data(&self, index: u64) -> &[u8] {
        let start = usize::try_from(index * PAGE).unwrap_or(usize::MAX);
        let rest = self.data.get(start..).unwrap_or_default();
        rest.get(..rest.len().min(PAGE as usize))
            .unwrap_or_default()
    }
}

/// A checked image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Where threads start.
    pub entry: u64,
    /// Its segments, in the order of their addresses.
    pub segments: Vec<Segment<'a>, MAX_SEGMENTS>,
}

/// Why a file is no component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is no little-endian 64-bit ELF file, or a table lies outside it.
    NotElf,
    /// It is no AArch64 executable at fixed addresses.
    NotExecutable,
    /// More than [`MAX_SEGMENTS`] loadable segments.
    TooManySegments,
    /// The segment at this address does not start on a page.
    Unaligned(u64),
    /// The segment at this address leaves the component's window, or overlaps the one before.
    Misplaced(u64),
    /// The segment at this address has more bytes in the file than in memory, or they lie outside the file.
    BadSize(u64),
    /// The segment at this address is writable and executable, or not readable.
    BadRights(u64),
    /// The entry is not in an executable segment.
    BadEntry(u64),
}

impl<'a> Image<'a> {
    /// Reads and checks a component's file.
    ///
    /// # Errors
    /// See [`ImageError`]; every variant names the address that is wrong.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::NotElf)?;
        if elf.ehdr.e_type != ET_EXEC || elf.ehdr.e_machine != EM_AARCH64 {
            return Err(ImageError::NotExecutable);
        }
        let headers = elf.segments().ok_or(ImageError::NotElf)?;
        let mut segments: Vec<Segment<'a>, MAX_SEGMENTS> = Vec::new();
        let mut free_from = IMAGE_VADDR;
        for header in headers.iter().filter(|header| header.p_type == PT_LOAD) {
            let vaddr = header.p_vaddr;
            if header.p_memsz == 0 {
                continue;
            }
            if vaddr % PAGE != 0 {
                return Err(ImageError::Unaligned(vaddr));
            }
            let end = vaddr
                .checked_add(header.p_memsz)
                .ok_or(ImageError::Misplaced(vaddr))?;
            if vaddr < free_from || end > STARTUP_VADDR {
                return Err(ImageError::Misplaced(vaddr));
            }
            if header.p_filesz > header.p_memsz {
                return Err(ImageError::BadSize(vaddr));
            }
            let data = elf
                .segment_data(&header)
                .map_err(|_| ImageError::BadSize(vaddr))?;
            let access = match header.p_flags & (PF_R | PF_W | PF_X) {
                flags if flags == PF_R => Access::Read,
                flags if flags == PF_R | PF_W => Access::Write,
                flags if flags == PF_R | PF_X => Access::Execute,
                _ => return Err(ImageError::BadRights(vaddr)),
            };
            free_from = end.next_multiple_of(PAGE);
            segments
                .push(Segment {
                    vaddr,
                    bytes: header.p_memsz,
                    data,
                    access,
                })
                .map_err(|_| ImageError::TooManySegments)?;
        }
        let entry = elf.ehdr.e_entry;
        let in_code = segments.iter().any(|segment| {
            segment.access == Access::Execute
                && (segment.vaddr..segment.vaddr + segment.bytes).contains(&entry)
        });
        if !in_code {
            return Err(ImageError::BadEntry(entry));
        }
        Ok(Self { entry, segments })
    }

    /// Pages of the segments that satisfy `select`.
    pub fn pages(&self, select: impl Fn(Access) -> bool) -> u64 {
        self.segments
            .iter()
            .filter(|segment| select(segment.access))
            .map(Segment::pages)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF file with the given (vaddr, filesz, memsz, flags) segments, their data behind the headers.
    fn file(entry: u64, segments: &[(u64, u64, u64, u32)]) -> std::vec::Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(2u16.to_le_bytes());
        bytes.extend(183u16.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(entry.to_le_bytes());
        bytes.extend(64u64.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        for half in [64u16, 56, segments.len() as u16, 64, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        let mut offset = 64 + 56 * segments.len() as u64;
        for (vaddr, filesz, memsz, flags) in segments {
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            for word in [offset, *vaddr, *vaddr, *filesz, *memsz, PAGE] {
                bytes.extend(word.to_le_bytes());
            }
            offset += filesz;
        }
        bytes.resize(offset as usize, 0xaa);
        bytes
    }

    const CODE: (u64, u64, u64, u32) = (IMAGE_VADDR, 100, 100, PF_R | PF_X);

    #[test]
    fn a_good_file_gives_its_pages() {
        let bytes = file(
            IMAGE_VADDR + 4,
            &[CODE, (IMAGE_VADDR + PAGE, 5000, 9000, PF_R | PF_W)],
        );
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(image.entry, IMAGE_VADDR + 4);
        assert_eq!(image.pages(|access| access == Access::Write), 3);
        assert_eq!(image.pages(|_| true), 4);
        let data = &image.segments[1];
        assert_eq!(data.page_data(0).len(), 4096);
        assert_eq!(data.page_data(1).len(), 5000 - 4096);
        assert_eq!(data.page_data(2).len(), 0);
    }

    #[test]
    fn each_mistake_is_named() {
        let parse = |entry, segments: &[(u64, u64, u64, u32)]| {
            Image::parse(&file(entry, segments))
                .map(|_| ())
                .unwrap_err()
        };
        assert_eq!(Image::parse(b"no elf"), Err(ImageError::NotElf));
        assert_eq!(parse(0, &[CODE]), ImageError::BadEntry(0));
        assert_eq!(
            parse(IMAGE_VADDR, &[(IMAGE_VADDR, 8, 8, PF_R | PF_W | PF_X)]),
            ImageError::BadRights(IMAGE_VADDR)
        );
        assert_eq!(
            parse(IMAGE_VADDR, &[CODE, (IMAGE_VADDR + 8, 8, 8, PF_R)]),
            ImageError::Unaligned(IMAGE_VADDR + 8)
        );
        assert_eq!(
            parse(IMAGE_VADDR, &[CODE, (IMAGE_VADDR, 8, 8, PF_R)]),
            ImageError::Misplaced(IMAGE_VADDR)
        );
        assert_eq!(
            parse(
                IMAGE_VADDR,
                &[CODE, (STARTUP_VADDR - PAGE, 8, 2 * PAGE, PF_R)]
            ),
            ImageError::Misplaced(STARTUP_VADDR - PAGE)
        );
        assert_eq!(
            parse(IMAGE_VADDR, &[CODE, (IMAGE_VADDR + PAGE, 9, 8, PF_R)]),
            ImageError::BadSize(IMAGE_VADDR + PAGE)
        );
        let mut cut = file(IMAGE_VADDR, &[CODE]);
        cut.truncate(130);
        assert_eq!(Image::parse(&cut), Err(ImageError::BadSize(IMAGE_VADDR)));
        let many: std::vec::Vec<_> = (0..9)
            .map(|index| (IMAGE_VADDR + index * PAGE, 4, 4, PF_R | PF_X))
            .collect();
        assert_eq!(parse(IMAGE_VADDR, &many), ImageError::TooManySegments);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_hold_the_invariant(
            flips in proptest::collection::vec((0usize..64 + 112, any::<u8>()), 0..8)
        ) {
            let mut bytes = file(IMAGE_VADDR, &[CODE, (IMAGE_VADDR + PAGE, 50, 9000, PF_R | PF_W)]);
            for (at, value) in flips {
                bytes[at] = value;
            }
            if let Ok(image) = Image::parse(&bytes) {
                let mut free_from = IMAGE_VADDR;
                for segment in &image.segments {
                    prop_assert!(segment.vaddr >= free_from && segment.vaddr % PAGE == 0);
                    prop_assert!(segment.data.len() as u64 <= segment.bytes);
                    free_from = segment.vaddr + segment.bytes;
                }
                prop_assert!(free_from <= STARTUP_VADDR);
            }
        }
    }
}
