//! The translation tables of EL2's own stage 1 (and of the boot stage): 4 KiB granule, 48-bit addresses, blocks of 1 GiB
//! and 2 MiB (Arm ARM D8.3).

use core::cell::Cell;

/// Bytes of a level 2 block.
pub const BLOCK_BYTES: u64 = 1 << 21;
/// Bytes that one level 2 table (or a level 1 block) covers.
pub const GIB: u64 = 1 << 30;

/// MAIR_EL2 of boot stage and kernel. The seL4 project's loader uses the same indices, so that changing from its tables
/// to the kernel's changes no attribute: 0 device nGnRnE, 1 device nGnRE, 2 device GRE, 3 normal non-cacheable,
/// 4 normal write-back, 5 normal write-through.
pub const MAIR: u64 = 0xaa_ff_44_0c_04_00;

/// A valid bit and what it points to, bits 0 and 1 of an entry.
const BLOCK: u64 = 0b01;
const TABLE: u64 = 0b11;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const READ_ONLY: u64 = 1 << 7;
const EXECUTE_NEVER: u64 = 1 << 54;
/// At EL2, AP[1] is RES1 (Arm ARM D8.4.1).
const AP1_RES1: u64 = 1 << 6;
const OUTPUT: u64 = 0x0000_ffff_ffff_f000;

/// What memory is mapped as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Normal memory, read, write and execute: the boot stage's own.
    Loader,
    /// Normal memory, read and write.
    Data,
    /// Normal memory, read only.
    Constant,
    /// Normal memory, read and execute.
    Code,
    /// Device nGnRE memory, read and write.
    Device,
}

impl Kind {
    /// The attribute bits of a descriptor.
    #[must_use]
    pub const fn bits(self) -> u64 {
        let normal = ACCESSED | INNER_SHAREABLE | AP1_RES1 | 4 << 2;
        match self {
            Self::Loader => normal,
            Self::Data => normal | EXECUTE_NEVER,
            Self::Constant => normal | EXECUTE_NEVER | READ_ONLY,
            Self::Code => normal | READ_ONLY,
            Self::Device => ACCESSED | AP1_RES1 | EXECUTE_NEVER | 1 << 2,
        }
    }
}

/// A descriptor of a 1 GiB or 2 MiB block.
#[must_use]
pub const fn block(physical: u64, kind: Kind) -> u64 {
    (physical & OUTPUT) | kind.bits() | BLOCK
}

/// A descriptor of a 4 KiB page (level 3).
#[must_use]
pub const fn page(physical: u64, kind: Kind) -> u64 {
    (physical & OUTPUT) | kind.bits() | TABLE
}

/// A descriptor of the next table.
#[must_use]
pub const fn table(physical: u64) -> u64 {
    (physical & OUTPUT) | TABLE
}

/// A translation table.
#[repr(C, align(4096))]
pub struct Table(pub [Cell<u64>; 512]);

impl Table {
    /// All entries invalid.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { Cell::new(0) }; 512])
    }

    fn at(&self, index: u64) -> Option<&Cell<u64>> {
        self.0.get((index & 511) as usize)
    }

    /// Writes the entry for `address` at a level whose entries cover `1 << shift` bytes.
    pub fn set(&self, address: u64, shift: u32, entry: u64) {
        if let Some(cell) = self.at(address.wrapping_shr(shift)) {
            cell.set(entry);
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// No table is left in the pool, or a 1 GiB block is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfTables;

/// One level 1 table (512 GiB) and a pool of level 2 tables below it.
pub struct Blocks<'a> {
    /// The level 1 table.
    pub level1: &'a Table,
    /// Level 2 tables, each with its physical address.
    pub pool: &'a [Table],
    /// Physical address of `pool`'s first table.
    pub pool_physical: u64,
    /// How many of the pool are used.
    pub used: &'a Cell<usize>,
}

impl Blocks<'_> {
    /// Maps `[address, address + bytes)` to `physical`, all multiples of 2 MiB; what is mapped already stays as it is. The
    /// address's bits above 39 select the level 1 table and are not looked at.
    ///
    /// # Errors
    /// [`OutOfTables`] when the pool is used up.
    pub fn map(
        &self,
        address: u64,
        physical: u64,
        bytes: u64,
        kind: Kind,
    ) -> Result<(), OutOfTables> {
        let mut offset = 0u64;
        while offset < bytes {
            let (at, to, left) = (
                address.wrapping_add(offset),
                physical.wrapping_add(offset),
                bytes.wrapping_sub(offset),
            );
            let entry = self.level1.at(at >> 30).ok_or(OutOfTables)?;
            if (at | to) & (GIB - 1) == 0 && left >= GIB && entry.get() == 0 {
                entry.set(block(to, kind));
                offset = offset.wrapping_add(GIB);
                continue;
            }
            // A whole block is there already: it stays, and we go to the next GiB.
            if entry.get() & TABLE == BLOCK {
                offset = offset.wrapping_add(GIB.wrapping_sub(at & (GIB - 1)));
                continue;
            }
            if entry.get() == 0 {
                let index = self.used.get();
                let fresh = self.pool.get(index).ok_or(OutOfTables)?;
                for cell in &fresh.0 {
                    cell.set(0);
                }
                self.used.set(index.wrapping_add(1));
                entry.set(table(self.pool_physical.wrapping_add((index as u64) << 12)));
            }
            let index = (entry.get() & OUTPUT).wrapping_sub(self.pool_physical) >> 12;
            let level2 = self.pool.get(index as usize).ok_or(OutOfTables)?;
            let slot = level2.at(at >> 21).ok_or(OutOfTables)?;
            if slot.get() == 0 {
                slot.set(block(to, kind));
            }
            offset = offset.wrapping_add(BLOCK_BYTES);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_gibibytes_get_a_table_and_whole_ones_a_block() {
        let (level1, pool, used) = (Table::new(), [Table::new(), Table::new()], Cell::new(0));
        let blocks = Blocks {
            level1: &level1,
            pool: &pool,
            pool_physical: 0x8000,
            used: &used,
        };
        blocks
            .map(
                0x80_0000_0000 + GIB - BLOCK_BYTES,
                GIB - BLOCK_BYTES,
                2 * GIB,
                Kind::Data,
            )
            .unwrap();
        assert_eq!(level1.0[0].get(), table(0x8000));
        assert_eq!(level1.0[1].get(), block(GIB, Kind::Data));
        assert_eq!(level1.0[2].get(), table(0x9000));
        assert_eq!(pool[0].0[511].get(), block(GIB - BLOCK_BYTES, Kind::Data));
        assert_eq!(pool[0].0[510].get(), 0);
        assert_eq!(
            pool[1].0[510].get(),
            block(3 * GIB - 2 * BLOCK_BYTES, Kind::Data)
        );
        assert_eq!(pool[1].0[511].get(), 0);
        // The pool is used up; what fits into its tables still goes.
        assert_eq!(
            blocks.map(4 * GIB, 4 * GIB, BLOCK_BYTES, Kind::Data),
            Err(OutOfTables)
        );
        blocks.map(0, 0, BLOCK_BYTES, Kind::Device).unwrap();
        assert_eq!(pool[0].0[0].get(), block(0, Kind::Device));
        // What is there stays.
        blocks.map(GIB, 7 * GIB, BLOCK_BYTES, Kind::Device).unwrap();
        assert_eq!(level1.0[1].get(), block(GIB, Kind::Data));
    }

    #[test]
    fn no_kind_but_the_loaders_is_writable_and_executable() {
        for kind in [Kind::Data, Kind::Constant, Kind::Code, Kind::Device] {
            assert!(kind.bits() & (READ_ONLY | EXECUTE_NEVER) != 0, "{kind:?}");
        }
    }
}
