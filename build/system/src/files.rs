//! What a guest's files must look like.

/// Where an arm64 `Image` has its magic number, and the number (Linux, `Documentation/arch/arm64/booting.rst`).
const MAGIC_OFFSET: usize = 56;
const MAGIC: &[u8; 4] = b"ARM\x64";
const HEADER_BYTES: usize = 64;

/// Whether a file's content is an arm64 Linux `Image`.
///
/// # Errors
/// Why it is not, and what would be right.
pub fn check_arm64_image(content: &[u8]) -> Result<(), String> {
    if content.get(MAGIC_OFFSET..HEADER_BYTES - 4) == Some(MAGIC) {
        return Ok(());
    }
    let found = if content.starts_with(&[0x1f, 0x8b]) {
        "a gzip file: unpack it with `gunzip`"
    } else if content.get(4..8) == Some(b"zimg") {
        "an EFI zboot image: unpack its payload"
    } else if content.starts_with(b"\x7fELF") {
        "an ELF file: take `arch/arm64/boot/Image` instead of `vmlinux`"
    } else if content.starts_with(b"MZ") {
        "an EFI program for another machine"
    } else if content.len() < HEADER_BYTES {
        "a file shorter than the header"
    } else {
        "something else"
    };
    Err(format!(
        "no arm64 Linux `Image` (its header has `ARM\\x64` at byte 56), but {found}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_magic() {
        let mut image = vec![0; 64];
        image[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(check_arm64_image(&image), Ok(()));
        image[0] = b'M';
        image[1] = b'Z';
        assert_eq!(check_arm64_image(&image), Ok(()));
    }

    #[test]
    fn others_are_named() {
        for (content, word) in [
            (vec![0x1f, 0x8b, 8], "gunzip"),
            (b"\x7fELF".to_vec(), "vmlinux"),
            (vec![], "shorter"),
            (vec![0; 100], "something else"),
            (b"MZ\0\0zimg".to_vec(), "zboot"),
        ] {
            let reason = check_arm64_image(&content).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
