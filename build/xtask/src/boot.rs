//! Packs kernel and root task behind the boot stage, as `hypervisor/boot/src/main.rs` ("What the packer does") says.

use crate::elf;
use anyhow::{Context, Result, ensure};

/// First bytes of the payload.
const PAYLOAD_MAGIC: &[u8; 8] = b"BALPAYL1";
const PAYLOAD_HEADER_BYTES: usize = 64;
const PAYLOAD_ALIGN: usize = 16;
/// Where the arm64 `Image` header has the image's size, and its magic number.
const IMAGE_SIZE_OFFSET: usize = 16;
const IMAGE_MAGIC_OFFSET: usize = 56;

/// The image as it lies in memory, with the header of an arm64 `Image`.
///
/// # Errors
/// When the boot stage is not linked as its documentation says.
pub fn pack(boot: &[u8], kernel: &[u8], root_task: &[u8]) -> Result<Vec<u8>> {
    let (base, mut image) = elf::flatten(boot).context("the boot stage")?;
    ensure!(base == 0, "the boot stage is linked at {base:#x}, not at 0");
    ensure!(
        image.len().is_multiple_of(4096),
        "the boot stage's memory ends at {:#x}, not at a page",
        image.len()
    );
    ensure!(
        image.get(IMAGE_MAGIC_OFFSET..IMAGE_MAGIC_OFFSET + 4) == Some(b"ARM\x64"),
        "the boot stage has no arm64 Image header"
    );
    image.extend_from_slice(&payload(kernel, root_task));
    let size = (image.len() as u64).to_le_bytes();
    image[IMAGE_SIZE_OFFSET..IMAGE_SIZE_OFFSET + 8].copy_from_slice(&size);
    Ok(image)
}

fn payload(kernel: &[u8], root_task: &[u8]) -> Vec<u8> {
    let kernel_at = PAYLOAD_HEADER_BYTES;
    let root_at = (kernel_at + kernel.len()).next_multiple_of(PAYLOAD_ALIGN);
    let total = (root_at + root_task.len()).next_multiple_of(PAYLOAD_ALIGN);
    let mut payload = Vec::with_capacity(total);
    payload.extend_from_slice(PAYLOAD_MAGIC);
    // The device tree comes from the firmware: none here.
    for word in [
        total,
        kernel_at,
        kernel.len(),
        root_at,
        root_task.len(),
        0,
        0,
    ] {
        payload.extend_from_slice(&(word as u64).to_le_bytes());
    }
    payload.extend_from_slice(kernel);
    payload.resize(root_at, 0);
    payload.extend_from_slice(root_task);
    payload.resize(total, 0);
    payload
}

/// The image as an ELF file with one segment, entered at its first byte.
///
/// # Errors
/// When the load address is not a multiple of 2 MiB.
pub fn as_elf(image: &[u8], load_address: u64) -> Result<Vec<u8>> {
    ensure!(
        load_address.is_multiple_of(2 << 20),
        "{load_address:#x} is no multiple of 2 MiB"
    );
    const OFFSET: usize = 4096;
    let mut file = Vec::with_capacity(OFFSET + image.len());
    file.extend_from_slice(b"\x7fELF\x02\x01\x01");
    file.resize(16, 0);
    for half in [2u16, 183] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&1u32.to_le_bytes());
    for word in [load_address, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for word in [elf::PT_LOAD, 7] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    let length = image.len() as u64;
    for word in [
        OFFSET as u64,
        load_address,
        load_address,
        length,
        length,
        4096,
    ] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.resize(OFFSET, 0);
    file.extend_from_slice(image);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot stage with a header, 4 KiB long.
    fn boot() -> Vec<u8> {
        let mut image = vec![0u8; 4096];
        image[56..60].copy_from_slice(b"ARM\x64");
        let mut elf = as_elf(&image, 0).unwrap();
        elf.extend_from_slice(b"symbols");
        elf
    }

    #[test]
    fn the_payload_is_where_the_boot_stage_looks() {
        let image = pack(&boot(), b"kernel", b"root task").unwrap();
        let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(word(16), image.len());
        assert_eq!(&image[4096..4104], b"BALPAYL1");
        assert_eq!(word(4096 + 8), image.len() - 4096);
        let file = |n: usize| {
            let from = 4096 + word(4096 + 16 + 16 * n);
            assert_eq!(from % 16, 0);
            &image[from..from + word(4096 + 24 + 16 * n)]
        };
        assert_eq!(file(0), b"kernel");
        assert_eq!(file(1), b"root task");
        assert_eq!((word(4096 + 48), word(4096 + 56)), (0, 0));
    }

    #[test]
    fn an_image_without_header_is_refused() {
        let error = pack(&as_elf(&[0; 4096], 0).unwrap(), b"", b"").unwrap_err();
        assert!(error.to_string().contains("Image header"), "{error}");
    }

    #[test]
    fn the_elf_form_holds_the_image() {
        let image = pack(&boot(), b"kernel", b"root task").unwrap();
        let file = as_elf(&image, 0x4020_0000).unwrap();
        let (base, flat) = elf::flatten(&file).unwrap();
        assert_eq!((base, flat), (0x4020_0000, image));
        assert_eq!(
            object::Object::entry(&object::File::parse(&*file).unwrap()),
            0x4020_0000
        );
        assert!(as_elf(&[], 0x1000).is_err());
    }
}
