//! The machine's memory, as bytes.

use std::ops::Range;

/// Physical memory that does not change while it is looked at.
pub trait Ram {
    /// Where it is.
    fn range(&self) -> Range<u64>;

    /// Reads `into.len()` bytes from physical address `at` on.
    ///
    /// # Errors
    /// [`NotRam`] when not all of them are in [`Self::range`].
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), NotRam>;
}

/// Somebody pointed to where there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRam {
    /// Where.
    pub at: u64,
    /// How much was to be read.
    pub bytes: usize,
}

impl std::fmt::Display for NotRam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {:#x} are not in RAM", self.bytes, self.at)
    }
}

impl std::error::Error for NotRam {}

/// Some words in a row.
///
/// # Errors
/// [`NotRam`].
pub fn words(ram: &dyn Ram, at: u64, count: usize) -> Result<Vec<u64>, NotRam> {
    let mut bytes = vec![0; count * 8];
    ram.read(at, &mut bytes)?;
    let (chunks, _) = bytes.as_chunks::<8>();
    Ok(chunks
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect())
}

/// One word.
///
/// # Errors
/// [`NotRam`].
pub fn word(ram: &dyn Ram, at: u64) -> Result<u64, NotRam> {
    let mut bytes = [0; 8];
    ram.read(at, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Where the first byte is that is not zero.
///
/// # Errors
/// [`NotRam`].
pub fn first_not_zero(ram: &dyn Ram, range: Range<u64>) -> Result<Option<u64>, NotRam> {
    const CHUNK: usize = 1 << 16;
    static ZEROS: [u8; CHUNK] = [0; CHUNK];
    let mut buffer = vec![0; CHUNK];
    for at in range.clone().step_by(CHUNK) {
        let bytes = CHUNK.min((range.end - at) as usize);
        let chunk = &mut buffer[..bytes];
        ram.read(at, chunk)?;
        if chunk != &ZEROS[..bytes] {
            let offset = chunk.iter().position(|byte| *byte != 0).unwrap_or(0);
            return Ok(Some(at + offset as u64));
        }
    }
    Ok(None)
}

/// Memory in which some words are other ones than they are: a fault planted without touching the machine.
pub struct Changed<'a> {
    /// The memory.
    pub ram: &'a dyn Ram,
    /// Addresses, multiples of eight, and what is there.
    pub words: Vec<(u64, u64)>,
}

impl Ram for Changed<'_> {
    fn range(&self) -> Range<u64> {
        self.ram.range()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), NotRam> {
        self.ram.read(at, into)?;
        for (address, value) in &self.words {
            for (byte, address) in value.to_le_bytes().into_iter().zip(*address..) {
                let place = address.checked_sub(at).map(|offset| offset as usize);
                if let Some(place) = place.and_then(|offset| into.get_mut(offset)) {
                    *place = byte;
                }
            }
        }
        Ok(())
    }
}
