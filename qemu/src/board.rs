//! The boards that a system description can name.
//!
//! One image serves all of them (the kernel reads the machine from its device tree); a board says how the image is
//! loaded and how QEMU is started.

use crate::{Gic, Highmem, Machine};

/// A board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Its name in descriptions.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Where an ELF image is loaded: a multiple of 2 MiB inside RAM, behind the device tree that QEMU puts at its start.
    pub load_address: u64,
    /// The most memory it can have, in MiB.
    pub memory_max_mib: u64,
    gic: Gic,
    highmem: Highmem,
}

/// RAM of QEMU's `virt` begins at 1 GiB; the device tree takes the first 2 MiB.
const VIRT_LOAD_ADDRESS: u64 = 0x4020_0000;
/// Every CPU model here has 40 bits of physical address at least; the pool's limit (32 GiB) lies below.
const VIRT_MEMORY_MAX_MIB: u64 = 64 * 1024;
/// What lies between the start of RAM and 4 GiB.
const VIRT_LOW_MEMORY_MAX_MIB: u64 = 3 * 1024;

/// All boards; the first is the default.
pub const BOARDS: [Board; 3] = [
    Board {
        name: "qemu-virt",
        about: "QEMU's virt machine with GICv3",
        load_address: VIRT_LOAD_ADDRESS,
        memory_max_mib: VIRT_MEMORY_MAX_MIB,
        gic: Gic::V3,
        highmem: Highmem::On,
    },
    Board {
        name: "qemu-virt-gicv2",
        about: "QEMU's virt machine with GICv2",
        load_address: VIRT_LOAD_ADDRESS,
        memory_max_mib: VIRT_MEMORY_MAX_MIB,
        gic: Gic::V2,
        highmem: Highmem::On,
    },
    Board {
        name: "qemu-virt-gicv2-low",
        about: "QEMU's virt machine with GICv2 and everything below 4 GiB",
        load_address: VIRT_LOAD_ADDRESS,
        memory_max_mib: VIRT_LOW_MEMORY_MAX_MIB,
        gic: Gic::V2,
        highmem: Highmem::Off,
    },
];

impl Board {
    /// The board of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        BOARDS.iter().find(|board| board.name == name)
    }

    /// The machine that stands for it, with this much memory.
    #[must_use]
    pub fn machine(&self, memory_mib: u64) -> Machine {
        Machine {
            gic: self.gic,
            highmem: self.highmem,
            ..Machine::virt(memory_mib)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_found_by_name_and_differ() {
        for board in &BOARDS {
            assert_eq!(Board::named(board.name), Some(board));
            assert!(board.load_address.is_multiple_of(2 << 20));
        }
        assert_eq!(
            Board::named("qemu-virt-gicv2").map(|board| board.gic),
            Some(Gic::V2)
        );
        assert_eq!(
            Board::named("qemu-virt-gicv2-low").map(|board| board.machine(512).highmem),
            Some(Highmem::Off)
        );
        assert_eq!(Board::named("virt"), None);
    }
}
