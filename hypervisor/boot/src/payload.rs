//! What the packer put behind the boot stage.

/// First bytes of the payload.
pub const MAGIC: [u8; 8] = *b"BALPAYL1";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// Longest payload: far more than the root CNode has slots for.
pub const MAX_BYTES: usize = 256 << 20;

/// What the payload holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The kernel's ELF file.
    pub kernel: &'a [u8],
    /// The root task's ELF file.
    pub root_task: &'a [u8],
    /// A device tree that takes the place of the firmware's.
    pub device_tree: Option<&'a [u8]>,
}

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// There is none: its first word is this.
    Magic(u64),
    /// It alleges this length.
    Length(u64),
    /// The file with this number (0 kernel, 1 root task, 2 device tree) is not inside it.
    File(usize),
}

fn field(bytes: &[u8], index: usize) -> Option<u64> {
    let at = index.checked_mul(8)?;
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

/// The payload's length, from its header.
///
/// # Errors
/// When it is no payload, or has a length that cannot be.
pub fn total_bytes(header: &[u8]) -> Result<usize, PayloadError> {
    let magic = field(header, 0).unwrap_or(0);
    if magic != u64::from_le_bytes(MAGIC) {
        return Err(PayloadError::Magic(magic));
    }
    let length = field(header, 1).unwrap_or(0);
    match usize::try_from(length) {
        Ok(bytes) if (HEADER_BYTES..=MAX_BYTES).contains(&bytes) => Ok(bytes),
        _ => Err(PayloadError::Length(length)),
    }
}

/// Takes the payload apart.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Payload<'_>, PayloadError> {
    let length = total_bytes(bytes)?;
    let bytes = bytes
        .get(..length)
        .ok_or(PayloadError::Length(length as u64))?;
    let file = |number: usize| {
        let index = number.wrapping_mul(2).wrapping_add(2);
        let inside = || {
            let offset = usize::try_from(field(bytes, index)?).ok()?;
            let length = usize::try_from(field(bytes, index.wrapping_add(1))?).ok()?;
            bytes.get(offset..offset.checked_add(length)?)
        };
        inside().ok_or(PayloadError::File(number))
    };
    let device_tree = file(2)?;
    Ok(Payload {
        kernel: file(0)?,
        root_task: file(1)?,
        device_tree: (!device_tree.is_empty()).then_some(device_tree),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(words: [u64; 7], extra: usize) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        words
            .iter()
            .for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.resize(HEADER_BYTES + extra, 7);
        bytes
    }

    #[test]
    fn files_are_found() {
        let bytes = payload([96, 64, 16, 80, 8, 0, 0], 32);
        let found = parse(&bytes).unwrap();
        assert_eq!(
            (found.kernel.len(), found.root_task.len(), found.device_tree),
            (16, 8, None)
        );
    }

    #[test]
    fn each_mistake_is_named() {
        assert_eq!(parse(&[0; 64]), Err(PayloadError::Magic(0)));
        assert_eq!(
            parse(&payload([97, 64, 16, 80, 8, 0, 0], 32)),
            Err(PayloadError::Length(97))
        );
        assert_eq!(
            parse(&payload([96, 64, 33, 80, 8, 0, 0], 32)),
            Err(PayloadError::File(0))
        );
        assert_eq!(
            parse(&payload([96, 64, 16, 80, u64::MAX, 0, 0], 32)),
            Err(PayloadError::File(1))
        );
        assert_eq!(
            parse(&payload([96, 64, 16, 80, 8, 97, 1], 32)),
            Err(PayloadError::File(2))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(words in any::<[u64; 7]>(), extra in 0usize..100) {
            let _ = parse(&payload(words, extra));
        }
    }
}
