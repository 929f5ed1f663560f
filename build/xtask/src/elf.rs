//! Rewrites ELF files of the target: strips them, appends a segment, flattens them.
//!
//! Only what our own linker scripts produce is accepted: little-endian 64-bit ELF for AArch64, statically linked. Layout
//! of the header and of program headers: System V ABI, chapter 4 and 5.

use anyhow::{Context, Result, bail, ensure};

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// `p_flags`.
    pub flags: u32,
    /// Where its bytes are in the file.
    pub offset: u64,
    /// Virtual address.
    pub vaddr: u64,
    /// Physical address.
    pub paddr: u64,
    /// Bytes in the file.
    pub file_bytes: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Alignment.
    pub align: u64,
}

/// `PT_LOAD`.
pub const PT_LOAD: u32 = 1;
/// `PF_R`.
pub const PF_R: u32 = 4;
const PT_PHDR: u32 = 6;
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const MACHINE_AARCH64: u16 = 183;
const PAGE_BYTES: usize = 4096;

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let raw = bytes.get(at..at + 2).context("the ELF file is cut off")?;
    Ok(u16::from_le_bytes([raw[0], raw[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let raw = bytes.get(at..at + 4).context("the ELF file is cut off")?;
    Ok(u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from(u32_at(bytes, at)?) | u64::from(u32_at(bytes, at + 4)?) << 32)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The program headers of an AArch64 ELF file.
///
/// # Errors
/// When it is another kind of file, or its table or a segment lies outside it.
pub fn segments(elf: &[u8]) -> Result<Vec<Segment>> {
    ensure!(
        elf.starts_with(b"\x7fELF\x02\x01"),
        "not a little-endian 64-bit ELF file"
    );
    let machine = u16_at(elf, 18)?;
    ensure!(
        machine == MACHINE_AARCH64,
        "an ELF file for machine {machine}; AArch64 is {MACHINE_AARCH64}"
    );
    let table = usize::try_from(u64_at(elf, 32)?)?;
    let entry_bytes = usize::from(u16_at(elf, 54)?);
    let count = usize::from(u16_at(elf, 56)?);
    ensure!(
        entry_bytes == SEGMENT_BYTES || count == 0,
        "program headers of {entry_bytes} bytes"
    );
    (0..count)
        .map(|index| {
            let at = table + index * SEGMENT_BYTES;
            let segment = Segment {
                kind: u32_at(elf, at)?,
                flags: u32_at(elf, at + 4)?,
                offset: u64_at(elf, at + 8)?,
                vaddr: u64_at(elf, at + 16)?,
                paddr: u64_at(elf, at + 24)?,
                file_bytes: u64_at(elf, at + 32)?,
                memory_bytes: u64_at(elf, at + 40)?,
                align: u64_at(elf, at + 48)?,
            };
            let end = segment.offset.checked_add(segment.file_bytes);
            ensure!(
                end.is_some_and(|end| end <= elf.len() as u64),
                "segment {index} lies outside the file"
            );
            Ok(segment)
        })
        .collect()
}

fn loads(elf: &[u8]) -> Result<Vec<Segment>> {
    let loads: Vec<_> = segments(elf)?
        .into_iter()
        .filter(|segment| segment.kind == PT_LOAD && segment.memory_bytes > 0)
        .collect();
    ensure!(!loads.is_empty(), "the ELF file loads nothing");
    Ok(loads)
}

/// Removes the section headers and everything that no segment holds (symbols, debug information).
///
/// # Errors
/// When `elf` is no AArch64 ELF file.
pub fn strip(elf: &[u8]) -> Result<Vec<u8>> {
    let segments = segments(elf)?;
    let table_end = u64_at(elf, 32)? + (segments.len() * SEGMENT_BYTES) as u64;
    let end = segments
        .iter()
        .map(|segment| segment.offset + segment.file_bytes)
        .fold(table_end.max(HEADER_BYTES as u64), u64::max);
    let mut stripped = elf
        .get(..usize::try_from(end)?)
        .context("the ELF file is cut off")?
        .to_vec();
    put(&mut stripped, 40, &0u64.to_le_bytes());
    put(&mut stripped, 60, &0u16.to_le_bytes());
    put(&mut stripped, 62, &0u16.to_le_bytes());
    Ok(stripped)
}

/// Appends a read-only segment at a virtual address (equal to its physical one), which must lie above all others. The
/// table of program headers moves to the end of the file, because there is no room where it is.
///
/// # Errors
/// When the addresses overlap or are not page-aligned.
pub fn append_segment(elf: &[u8], vaddr: u64, data: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        vaddr.is_multiple_of(PAGE_BYTES as u64),
        "{vaddr:#x} is not page-aligned"
    );
    let mut table = segments(elf)?;
    // A program that reads its own headers through PT_PHDR would read the old place.
    table.retain(|segment| segment.kind != PT_PHDR);
    for segment in table.iter().filter(|segment| segment.kind == PT_LOAD) {
        let end = segment.vaddr.saturating_add(segment.memory_bytes);
        ensure!(
            end <= vaddr,
            "the program reaches {end:#x}, beyond {vaddr:#x} where its data shall be"
        );
    }
    let mut bytes = strip(elf)?;
    bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
    table.push(Segment {
        kind: PT_LOAD,
        flags: PF_R,
        offset: bytes.len() as u64,
        vaddr,
        paddr: vaddr,
        file_bytes: data.len() as u64,
        memory_bytes: data.len() as u64,
        align: PAGE_BYTES as u64,
    });
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let table_offset = bytes.len() as u64;
    put(&mut bytes, 32, &table_offset.to_le_bytes());
    put(&mut bytes, 54, &(SEGMENT_BYTES as u16).to_le_bytes());
    put(&mut bytes, 56, &u16::try_from(table.len())?.to_le_bytes());
    for segment in table {
        bytes.extend_from_slice(&segment.kind.to_le_bytes());
        bytes.extend_from_slice(&segment.flags.to_le_bytes());
        for word in [
            segment.offset,
            segment.vaddr,
            segment.paddr,
            segment.file_bytes,
            segment.memory_bytes,
            segment.align,
        ] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    Ok(bytes)
}

/// The bytes that memory holds after loading, from the lowest physical address to the end of the last segment, and
/// that lowest address. Uninitialised memory is zeros.
///
/// # Errors
/// When segments overlap or are further apart than a boot stage's can be.
pub fn flatten(elf: &[u8]) -> Result<(u64, Vec<u8>)> {
    const SPAN_MAX_BYTES: u64 = 64 << 20;
    let mut loads = loads(elf)?;
    loads.sort_by_key(|segment| segment.paddr);
    let base = loads[0].paddr;
    let mut flat = Vec::new();
    for segment in loads {
        let start = segment.paddr - base;
        if start < flat.len() as u64 {
            bail!(
                "the segment at {:#x} overlaps the one before",
                segment.paddr
            );
        }
        ensure!(
            start + segment.memory_bytes <= SPAN_MAX_BYTES,
            "segments span more than {SPAN_MAX_BYTES} bytes"
        );
        flat.resize(usize::try_from(start)?, 0);
        let from = usize::try_from(segment.offset)?;
        flat.extend_from_slice(&elf[from..from + usize::try_from(segment.file_bytes)?]);
        flat.resize(usize::try_from(start + segment.memory_bytes)?, 0);
    }
    Ok((base, flat))
}

/// Bytes that a program occupies from its lowest address to its highest: what a loader places in one piece.
///
/// # Errors
/// When `elf` is no AArch64 ELF file that loads something.
pub fn span_bytes(elf: &[u8]) -> Result<u64> {
    let loads = loads(elf)?;
    let low = loads.iter().map(|segment| segment.vaddr).min();
    let high = loads
        .iter()
        .map(|segment| segment.vaddr + segment.memory_bytes)
        .max();
    Ok(high.unwrap_or(0) - low.unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small ELF file: a text segment, a data segment with uninitialised memory, and sections behind.
    pub(crate) fn sample() -> Vec<u8> {
        let mut elf = vec![0; 0x3000];
        put(&mut elf, 0, b"\x7fELF\x02\x01\x01");
        put(&mut elf, 18, &MACHINE_AARCH64.to_le_bytes());
        put(&mut elf, 32, &64u64.to_le_bytes());
        put(&mut elf, 40, &0x2800u64.to_le_bytes());
        put(&mut elf, 54, &56u16.to_le_bytes());
        put(&mut elf, 56, &2u16.to_le_bytes());
        put(&mut elf, 60, &3u16.to_le_bytes());
        let mut header = |at: usize, words: [u64; 6]| {
            put(&mut elf, at, &PT_LOAD.to_le_bytes());
            put(&mut elf, at + 4, &5u32.to_le_bytes());
            for (index, word) in words.iter().enumerate() {
                put(&mut elf, at + 8 + index * 8, &word.to_le_bytes());
            }
        };
        header(64, [0x1000, 0x20_0000, 0x20_0000, 0x10, 0x10, 0x1000]);
        header(120, [0x2000, 0x20_1000, 0x20_1000, 4, 0x100, 0x1000]);
        put(&mut elf, 0x1000, &[0xaa; 0x10]);
        put(&mut elf, 0x2000, b"data");
        put(&mut elf, 0x2004, b"debug information");
        elf
    }

    #[test]
    fn stripping_keeps_the_segments_and_nothing_else() {
        let stripped = strip(&sample()).unwrap();
        assert_eq!(stripped.len(), 0x2004);
        assert_eq!(segments(&stripped).unwrap(), segments(&sample()).unwrap());
        assert_eq!(u64_at(&stripped, 40).unwrap(), 0);
    }

    #[test]
    fn an_appended_segment_is_loaded_like_the_others() {
        let data = vec![7; 5000];
        let elf = append_segment(&sample(), 0x2000_0000, &data).unwrap();
        let found = segments(&elf).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[..2], segments(&sample()).unwrap()[..]);
        let last = found[2];
        assert_eq!((last.vaddr, last.file_bytes), (0x2000_0000, 5000));
        assert_eq!(last.offset % 4096, 0);
        let from = last.offset as usize;
        assert_eq!(elf[from..from + 5000], data[..]);
        // An independent reader agrees.
        let file = object::File::parse(elf.as_slice()).unwrap();
        assert_eq!(object::Object::segments(&file).count(), 3);
    }

    #[test]
    fn a_program_that_reaches_into_the_data_is_refused() {
        let error = append_segment(&sample(), 0x20_1000, &[1]).unwrap_err();
        assert!(error.to_string().contains("0x201100"), "{error}");
    }

    #[test]
    fn flattening_zeroes_what_is_uninitialised() {
        let (base, flat) = flatten(&sample()).unwrap();
        assert_eq!((base, flat.len()), (0x20_0000, 0x1100));
        assert_eq!(flat[..0x10], [0xaa; 0x10]);
        assert_eq!(&flat[0x1000..0x1004], b"data");
        assert!(flat[0x1004..].iter().all(|byte| *byte == 0));
        assert_eq!(span_bytes(&sample()).unwrap(), 0x1100);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(segments(b"#!/bin/sh").is_err());
        let mut other = sample();
        put(&mut other, 18, &62u16.to_le_bytes());
        assert!(segments(&other).unwrap_err().to_string().contains("62"));
        let mut cut = sample();
        cut.truncate(0x2002);
        assert!(segments(&cut).is_err());
    }
}
