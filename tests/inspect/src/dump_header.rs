//! Finding the kernel's state in memory.

use crate::ram::{NotRam, Ram, word, words};
use kernel_core::dump_header::{DumpHeader, MAGIC};
use kernel_core::vspace::asid::POOLS;
use std::mem::offset_of;
use std::ops::Range;

/// Everything the kernel's image is aligned to, and its dump header in it.
const STEP: usize = 8;
const CHUNK: usize = 1 << 20;
const WORDS: usize = size_of::<DumpHeader>() / 8;

const fn at(offset: usize) -> usize {
    offset / 8
}

/// Where the running kernel's dump header is. It stays there as long as the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    physical: u64,
}

impl Place {
    /// Searches memory; none when no kernel of ours has begun to run there.
    ///
    /// # Errors
    /// [`NotRam`]: the memory is shorter than it says.
    pub fn find(ram: &dyn Ram) -> Result<Option<Self>, NotRam> {
        let range = ram.range();
        let magic: Vec<u8> = MAGIC.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut buffer = vec![0; CHUNK];
        for start in range.clone().step_by(CHUNK) {
            let bytes = CHUNK.min((range.end - start) as usize);
            ram.read(start, &mut buffer[..bytes])?;
            for offset in (0..bytes).step_by(STEP) {
                // The first word decides nearly always; an dump header that crosses two chunks is looked at where it begins.
                if buffer.get(offset..offset + 8) == magic.get(..8) {
                    let place = Self {
                        physical: start + offset as u64,
                    };
                    if place.anchor(ram)?.is_some() {
                        return Ok(Some(place));
                    }
                }
            }
        }
        Ok(None)
    }

    /// What the dump header leads to now; none when it is not the running kernel's, or that has not started its first thread.
    ///
    /// # Errors
    /// [`NotRam`]: the memory is shorter than it says.
    pub fn anchor(self, ram: &dyn Ram) -> Result<Option<Anchor>, NotRam> {
        let Ok(header) = words(ram, self.physical, WORDS) else {
            return Ok(None);
        };
        let field = |offset: usize| header[at(offset)];
        if header[..MAGIC.len()] != MAGIC {
            return Ok(None);
        }
        let start = field(offset_of!(DumpHeader, image_start));
        let image = start..field(offset_of!(DumpHeader, image_end));
        let this = field(offset_of!(DumpHeader, this));
        if !image.contains(&this) || self.physical < this - start {
            return Ok(None);
        }
        let mut anchor = Anchor {
            image_physical: self.physical - (this - start),
            image,
            window: field(offset_of!(DumpHeader, window)),
            root_thread: 0,
            pools: Vec::new(),
        };
        // Only in the image that runs has the kernel noted where it is.
        let noted = anchor.physical(field(offset_of!(DumpHeader, image_physical)));
        if word(ram, noted) != Ok(anchor.image_physical) {
            return Ok(None);
        }
        anchor.root_thread = word(
            ram,
            anchor.physical(field(offset_of!(DumpHeader, root_thread))),
        )?;
        if anchor.root_thread == 0 {
            return Ok(None);
        }
        let pools = anchor.physical(field(offset_of!(DumpHeader, asid_pools)));
        anchor.pools = words(ram, pools, POOLS)?;
        Ok(Some(anchor))
    }
}

/// What everything else is found by. Addresses are the kernel's where not said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The kernel's image.
    pub image: Range<u64>,
    /// Its physical address.
    pub image_physical: u64,
    /// Added to a physical address it is the kernel's, except inside the image.
    pub window: u64,
    /// The first thread.
    pub root_thread: u64,
    /// The ASID pools; zero where there is none.
    pub pools: Vec<u64>,
}

impl Anchor {
    /// The physical address of one of the kernel's.
    #[must_use]
    pub fn physical(&self, address: u64) -> u64 {
        if self.image.contains(&address) {
            address - self.image.start + self.image_physical
        } else {
            address.wrapping_sub(self.window)
        }
    }

    /// The kernel's image in physical memory.
    #[must_use]
    pub const fn image_range(&self) -> Range<u64> {
        self.image_physical..self.image_physical + (self.image.end - self.image.start)
    }
}
