//! Stage-2 translation tables, as the hardware reads them: 4 KiB granule, 40 bits of input, two concatenated tables of level 1
//! (Arm ARM D8.2 and D8.3).

use crate::ram::{NotRam, Ram, words};

const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
const ENTRIES: usize = 512;

/// A block or page descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Address that is translated.
    pub vaddr: u64,
    /// Address that it is translated to.
    pub paddr: u64,
    /// log2 of the bytes.
    pub bits: u32,
    /// The descriptor.
    pub descriptor: u64,
    /// The physical address of the descriptor.
    pub place: u64,
}

impl Leaf {
    /// S2AP: may be read.
    #[must_use]
    pub const fn reads(&self) -> bool {
        self.descriptor >> 6 & 1 == 1
    }

    /// S2AP: may be written.
    #[must_use]
    pub const fn writes(&self) -> bool {
        self.descriptor >> 7 & 1 == 1
    }

    /// XN: may be executed.
    #[must_use]
    pub const fn executes(&self) -> bool {
        self.descriptor >> 53 & 3 == 0
    }

    /// MemAttr: normal memory, inner and outer write-back cacheable.
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        self.descriptor >> 2 & 15 == 15
    }

    /// MemAttr: a device, of any type.
    #[must_use]
    pub const fn is_device(&self) -> bool {
        self.descriptor >> 4 & 3 == 0
    }

    /// SH: inner shareable.
    #[must_use]
    pub const fn is_inner_shareable(&self) -> bool {
        self.descriptor >> 8 & 3 == 3
    }

    /// How many bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        1 << self.bits
    }
}

/// A table below the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Where it is.
    pub paddr: u64,
    /// The first address that it is for.
    pub vaddr: u64,
    /// 2 or 3.
    pub level: u32,
}

/// Everything under a root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The tables.
    pub tables: Vec<Table>,
    /// What they map.
    pub leaves: Vec<Leaf>,
    /// Descriptors that mean nothing: their addresses.
    pub reserved: Vec<u64>,
}

/// Walks all tables under the root at physical address `root`.
///
/// # Errors
/// [`NotRam`] when a table is not in memory.
pub fn walk(ram: &dyn Ram, root: u64) -> Result<Walk, NotRam> {
    let mut walk = Walk::default();
    level(ram, root, 2 * ENTRIES, 1, 0, &mut walk)?;
    Ok(walk)
}

fn level(
    ram: &dyn Ram,
    table: u64,
    entries: usize,
    number: u32,
    base: u64,
    walk: &mut Walk,
) -> Result<(), NotRam> {
    // 1 GiB, 2 MiB, 4 KiB.
    let bits = 39 - 9 * number;
    for (index, descriptor) in (0u64..).zip(words(ram, table, entries)?) {
        let vaddr = base + (index << bits);
        let paddr = descriptor & ADDRESS;
        match (descriptor & 3, number) {
            (0 | 2, _) => {}
            (3, 1 | 2) => {
                let below = number + 1;
                walk.tables.push(Table {
                    paddr,
                    vaddr,
                    level: below,
                });
                level(ram, paddr, ENTRIES, below, vaddr, walk)?;
            }
            (1, 1 | 2) | (3, _) if paddr.trailing_zeros() >= bits || paddr == 0 => {
                walk.leaves.push(Leaf {
                    vaddr,
                    paddr,
                    bits,
                    descriptor,
                    place: table + index * 8,
                });
            }
            _ => walk.reserved.push(table + index * 8),
        }
    }
    Ok(())
}
