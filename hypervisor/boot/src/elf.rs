//! Just enough of ELF: the loadable segments of a static AArch64 executable (System V gABI, chapters 4 and 5).

/// What is wrong with an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// No ELF file, not 64-bit little-endian, or not for AArch64.
    Kind,
    /// The program headers are not inside the file.
    Headers,
    /// Segment `n`'s bytes are not inside the file, or its addresses overflow, or it has more bytes in the file than in memory.
    Segment(u16),
    /// Nothing to load.
    Empty,
}

/// A `PT_LOAD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its virtual address.
    pub virtual_address: u64,
    /// Its physical address.
    pub physical_address: u64,
    /// Its length in memory; what the file does not fill is zero.
    pub memory_bytes: u64,
    /// Its content.
    pub content: &'a [u8],
}

/// A checked ELF file.
#[derive(Clone, Copy, Debug)]
pub struct Elf<'a> {
    bytes: &'a [u8],
    headers: usize,
    header_bytes: usize,
    count: u16,
    /// Its entry address.
    pub entry: u64,
    /// Lowest virtual address of a segment.
    pub start: u64,
    /// One past the highest.
    pub end: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

const EM_AARCH64: u16 = 183;
const PT_LOAD: u32 = 1;
const PROGRAM_HEADER_BYTES: usize = 56;

impl<'a> Elf<'a> {
    /// Checks a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ElfError> {
        if bytes.get(..6) != Some(b"\x7fELF\x02\x01") || u16_at(bytes, 18) != Some(EM_AARCH64) {
            return Err(ElfError::Kind);
        }
        let headers = || {
            let offset = usize::try_from(u64_at(bytes, 32)?).ok()?;
            let (size, count) = (usize::from(u16_at(bytes, 54)?), u16_at(bytes, 56)?);
            bytes.get(offset..offset.checked_add(size.checked_mul(usize::from(count))?)?)?;
            (size >= PROGRAM_HEADER_BYTES).then_some((offset, size, count))
        };
        let (headers, header_bytes, count) = headers().ok_or(ElfError::Headers)?;
        let entry = u64_at(bytes, 24).ok_or(ElfError::Headers)?;
        let mut elf = Self {
            bytes,
            headers,
            header_bytes,
            count,
            entry,
            start: u64::MAX,
            end: 0,
        };
        for index in 0..count {
            if let Some(segment) = elf.segment(index)? {
                elf.start = elf.start.min(segment.virtual_address);
                elf.end = elf
                    .end
                    .max(segment.virtual_address.saturating_add(segment.memory_bytes));
            }
        }
        if elf.start < elf.end {
            Ok(elf)
        } else {
            Err(ElfError::Empty)
        }
    }

    fn segment(&self, index: u16) -> Result<Option<Segment<'a>>, ElfError> {
        let at = self
            .headers
            .wrapping_add(self.header_bytes.wrapping_mul(usize::from(index)));
        let read = || {
            let field = |offset: usize| u64_at(self.bytes, at.checked_add(offset)?);
            if u32_at(self.bytes, at)? != PT_LOAD || field(40)? == 0 {
                return Some(None);
            }
            let offset = usize::try_from(field(8)?).ok()?;
            let length = usize::try_from(field(32)?).ok()?;
            let segment = Segment {
                virtual_address: field(16)?,
                physical_address: field(24)?,
                memory_bytes: field(40)?,
                content: self.bytes.get(offset..offset.checked_add(length)?)?,
            };
            segment.virtual_address.checked_add(segment.memory_bytes)?;
            segment.physical_address.checked_add(segment.memory_bytes)?;
            (field(32)? <= segment.memory_bytes).then_some(Some(segment))
        };
        read().ok_or(ElfError::Segment(index))
    }

    /// Its `PT_LOAD`s that take memory.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> {
        let elf = *self;
        (0..self.count).filter_map(move |index| elf.segment(index).ok().flatten())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF file with these segments: virtual, physical, memory bytes, content.
    pub(crate) fn file(entry: u64, segments: &[(u64, u64, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0u8; 64 + 56 * segments.len()];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = 183;
        bytes[24..32].copy_from_slice(&entry.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(segments.len()).unwrap();
        for (index, (virt, phys, memory, content)) in segments.iter().enumerate() {
            let at = 64 + 56 * index;
            let fields = [
                bytes.len() as u64,
                *virt,
                *phys,
                content.len() as u64,
                *memory,
            ];
            bytes[at] = 1;
            for (field, value) in fields.iter().enumerate() {
                bytes[at + 8 + field * 8..at + 16 + field * 8]
                    .copy_from_slice(&value.to_le_bytes());
            }
            bytes.extend_from_slice(content);
        }
        bytes
    }

    #[test]
    fn segments_are_read() {
        let bytes = file(
            0x2004,
            &[(0x2000, 0x5000, 16, b"abc"), (0x4000, 0x7000, 4, b"")],
        );
        let elf = Elf::new(&bytes).unwrap();
        assert_eq!((elf.entry, elf.start, elf.end), (0x2004, 0x2000, 0x4004));
        let segments: Vec<_> = elf.segments().collect();
        assert_eq!(segments.len(), 2);
        assert_eq!(
            (segments[0].content, segments[0].physical_address),
            (&b"abc"[..], 0x5000)
        );
    }

    #[test]
    fn each_mistake_is_named() {
        assert_eq!(Elf::new(b"MZ").err(), Some(ElfError::Kind));
        assert_eq!(Elf::new(&file(0, &[])).err(), Some(ElfError::Empty));
        assert_eq!(
            Elf::new(&file(0, &[(0, 0, 2, b"abc")])).err(),
            Some(ElfError::Segment(0))
        );
        assert_eq!(
            Elf::new(&file(0, &[(0, 0, 9, b"a"), (u64::MAX, 0, 9, b"a")])).err(),
            Some(ElfError::Segment(1))
        );
        let mut bytes = file(0, &[(0, 0, 9, b"a")]);
        bytes[32] = 200;
        assert_eq!(Elf::new(&bytes).err(), Some(ElfError::Headers));
    }

    proptest! {
        #[test]
        fn damaged_files_are_survived(at in 0usize..200, value in any::<u8>()) {
            let mut bytes = file(0x2004, &[(0x2000, 0x5000, 16, b"abc"), (0x4000, 0x7000, 4, b"")]);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            if let Ok(elf) = Elf::new(&bytes) {
                for segment in elf.segments() {
                    prop_assert!(segment.content.len() as u64 <= segment.memory_bytes);
                    prop_assert!(elf.start <= segment.virtual_address);
                }
            }
        }
    }
}
