//! Writes the bundle ([`protocol::bundle`]): the checked system description, the guests' files and the components.

use anyhow::{Context, Result, ensure};
use protocol::bundle::{File, FileKind, Header, MAGIC, NAME_BYTES, Packing};
use protocol::system::System;

/// A file to put in.
#[derive(Debug)]
pub struct Input {
    /// Its name, for messages.
    pub name: String,
    /// What it is for.
    pub kind: FileKind,
    /// Its bytes.
    pub content: Vec<u8>,
}

const FILE_ALIGN: usize = 16;

/// Lays out a bundle. Guest files are LZ4-compressed where that makes them smaller; components stay as they are, so
/// that the root task can start them where they lie.
///
/// # Errors
/// When there are too many files, or a name does not fit.
pub fn write(system: &System, inputs: &[Input]) -> Result<Vec<u8>> {
    let mut header = Header {
        system: system.clone(),
        files: heapless::Vec::new(),
    };
    let mut stored = Vec::new();
    for input in inputs {
        let packed = match input.kind {
            FileKind::Component => None,
            FileKind::GuestKernel | FileKind::GuestInitrd => {
                Some(lz4_flex::block::compress(&input.content))
                    .filter(|packed| packed.len() < input.content.len())
            }
        };
        let (packing, bytes) = match packed {
            Some(packed) => (Packing::Lz4, packed),
            None => (Packing::Plain, input.content.clone()),
        };
        header
            .files
            .push(File {
                name: short_name(&input.name),
                kind: input.kind,
                packing,
                // The largest value, so that the header's length is its upper bound.
                offset: u64::MAX,
                stored_bytes: bytes.len() as u64,
                bytes: input.content.len() as u64,
            })
            .ok()
            .context("more files than a bundle can have")?;
        stored.push(bytes);
    }
    let longest = postcard::to_allocvec(&header)?.len();
    let mut at = (MAGIC.len() + 8 + longest).next_multiple_of(FILE_ALIGN);
    for (file, bytes) in header.files.iter_mut().zip(&stored) {
        file.offset = at as u64;
        at = (at + bytes.len()).next_multiple_of(FILE_ALIGN);
    }
    let encoded = postcard::to_allocvec(&header)?;
    ensure!(
        encoded.len() <= longest,
        "the header grew while it was laid out"
    );

    let mut bundle = Vec::with_capacity(at);
    bundle.extend_from_slice(&MAGIC);
    bundle.extend_from_slice(&(encoded.len() as u64).to_le_bytes());
    bundle.extend_from_slice(&encoded);
    for (file, bytes) in header.files.iter().zip(&stored) {
        bundle.resize(usize::try_from(file.offset)?, 0);
        bundle.extend_from_slice(bytes);
    }
    Ok(bundle)
}

/// The end of a name that is too long: the part that tells files apart.
fn short_name(name: &str) -> heapless::String<NAME_BYTES> {
    let mut start = name.len().saturating_sub(NAME_BYTES);
    while !name.is_char_boundary(start) {
        start += 1;
    }
    heapless::String::try_from(&name[start..]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::units::Pieces;

    fn system() -> System {
        System {
            name: "test".try_into().unwrap(),
            pool: Pieces(1024),
            reserve: Pieces(64),
            guests: heapless::Vec::new(),
        }
    }

    fn input(name: &str, kind: FileKind, content: &[u8]) -> Input {
        Input {
            name: name.to_owned(),
            kind,
            content: content.to_vec(),
        }
    }

    /// Reads a bundle as the root task does.
    fn read(bundle: &[u8]) -> Vec<(String, Vec<u8>)> {
        assert_eq!(bundle[..8], MAGIC);
        let length = u64::from_le_bytes(bundle[8..16].try_into().unwrap()) as usize;
        let header: Header = postcard::from_bytes(&bundle[16..16 + length]).unwrap();
        assert_eq!(header.system, system());
        header
            .files
            .iter()
            .map(|file| {
                assert_eq!(file.offset % 16, 0);
                let from = file.offset as usize;
                let stored = &bundle[from..from + file.stored_bytes as usize];
                let content = match file.packing {
                    Packing::Plain => stored.to_vec(),
                    Packing::Lz4 => {
                        lz4_flex::block::decompress(stored, file.bytes as usize).unwrap()
                    }
                };
                (file.name.to_string(), content)
            })
            .collect()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let kernel: Vec<u8> = (0..100_000u32).map(|n| (n / 1000) as u8).collect();
        let inputs = [
            input("Image", FileKind::GuestKernel, &kernel),
            input("initrd", FileKind::GuestInitrd, b"xyz"),
            input("vmm", FileKind::Component, &kernel[..333]),
        ];
        let bundle = write(&system(), &inputs).unwrap();
        assert!(
            bundle.len() < 10_000,
            "{} bytes: not compressed",
            bundle.len()
        );
        let found = read(&bundle);
        for (input, (name, content)) in inputs.iter().zip(&found) {
            assert_eq!((&input.name, &input.content), (name, content));
        }
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        let long = format!("{}/Image", "d".repeat(100));
        let bundle = write(&system(), &[input(&long, FileKind::GuestKernel, b"x")]).unwrap();
        assert!(read(&bundle)[0].0.ends_with("/Image"));
    }

    #[test]
    fn too_many_files_are_refused() {
        let inputs: Vec<Input> = (0..49)
            .map(|n| input(&n.to_string(), FileKind::GuestInitrd, b"x"))
            .collect();
        assert!(write(&system(), &inputs).is_err());
    }
}
