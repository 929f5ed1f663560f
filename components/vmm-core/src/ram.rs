//! The view that devices have of guest memory: bytes at intermediate physical addresses (IPA).
//!
//! Every address and length here came from the guest and is an allegation. The implementation checks that the whole
//! range lies in pieces the guest holds before it touches one byte.

/// Why an access did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// Some byte of the range is not memory that the guest holds.
    OutOfRange {
        /// First byte asked for.
        ipa: u64,
        /// Bytes asked for.
        len: u64,
    },
    /// A piece that the guest had reported free must come back first and cannot at this moment; try again on the
    /// memory server's signal.
    NotReady,
}

/// Guest memory as a device sees it. The guest may change any byte at any time.
pub trait GuestMemory {
    /// Copies `into.len()` bytes out of the guest.
    ///
    /// # Errors
    /// [`AccessError`]; `into` is then unspecified.
    fn read(&mut self, ipa: u64, into: &mut [u8]) -> Result<(), AccessError>;

    /// Copies bytes into the guest.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] before any byte was written.
    fn write(&mut self, ipa: u64, from: &[u8]) -> Result<(), AccessError>;

    /// Reads a little-endian 16-bit value.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    fn read_u16(&mut self, ipa: u64) -> Result<u16, AccessError> {
        let mut raw = [0; 2];
        self.read(ipa, &mut raw)?;
        Ok(u16::from_le_bytes(raw))
    }

    /// Writes a little-endian 16-bit value.
    ///
    /// # Errors
    /// As [`GuestMemory::write`].
    fn write_u16(&mut self, ipa: u64, value: u16) -> Result<(), AccessError> {
        self.write(ipa, &value.to_le_bytes())
    }
}

/// `base + offset`, or the error that an address beyond 2^64 deserves.
///
/// # Errors
/// [`AccessError::OutOfRange`].
pub fn offset_ipa(base: u64, offset: u64) -> Result<u64, AccessError> {
    base.checked_add(offset).ok_or(AccessError::OutOfRange {
        ipa: base,
        len: offset,
    })
}

#[cfg(test)]
pub(crate) mod fake {
    use super::{AccessError, GuestMemory};

    /// Plain memory from `base`, all of it present.
    pub struct Flat {
        pub base: u64,
        pub bytes: Vec<u8>,
    }

    impl Flat {
        pub fn new(base: u64, len: usize) -> Self {
            Self {
                base,
                bytes: vec![0; len],
            }
        }

        fn range(&self, ipa: u64, len: usize) -> Result<core::ops::Range<usize>, AccessError> {
            let error = AccessError::OutOfRange {
                ipa,
                len: len as u64,
            };
            let start = ipa.checked_sub(self.base).ok_or(error)?;
            let end = start.checked_add(len as u64).ok_or(error)?;
            if end > self.bytes.len() as u64 {
                return Err(error);
            }
            Ok(start as usize..end as usize)
        }
    }

    impl GuestMemory for Flat {
        fn read(&mut self, ipa: u64, into: &mut [u8]) -> Result<(), AccessError> {
            let range = self.range(ipa, into.len())?;
            into.copy_from_slice(&self.bytes[range]);
            Ok(())
        }

        fn write(&mut self, ipa: u64, from: &[u8]) -> Result<(), AccessError> {
            let range = self.range(ipa, from.len())?;
            self.bytes[range].copy_from_slice(from);
            Ok(())
        }
    }
}
