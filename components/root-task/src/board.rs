//! What the root task needs of the machine: the UART with its interrupt, and the interrupt controller's guest interface.

use machine::describe::{self, Gic, Uart};
use machine::fdt::Fdt;
use machine::regions::Region;
use sel4_sys::{BootInfoHeader, EXTRA_FDT};

/// The machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Physical address of the PL011's registers.
    pub uart_paddr: u64,
    /// Its interrupt (INTID).
    pub uart_irq: u64,
    /// The virtual CPU interface for guests, on a GICv2.
    pub gicv: Option<Region>,
    /// The interrupt controller.
    pub gic: protocol::startup::Gic,
}

/// Why the machine cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoardError {
    /// The extra bootinfo has no device tree, or it is malformed.
    NoTree,
    /// The tree names no PL011 with an interrupt.
    NoUart,
    /// The tree has no interrupt controller that we know, with virtualisation.
    NoGic,
    /// The tree's memory cannot be described.
    Memory,
}

/// The device tree in the extra bootinfo: a sequence of headers {identifier, length with header} and their contents.
#[must_use]
pub fn device_tree(extra: &[u8]) -> Option<&[u8]> {
    const HEADER: usize = size_of::<BootInfoHeader>();
    let mut rest = extra;
    while let Some((header, _)) = rest.split_first_chunk::<HEADER>() {
        let (id, len) = header.split_first_chunk::<8>()?;
        let id = u64::from_le_bytes(*id);
        let len = usize::try_from(u64::from_le_bytes(*len.first_chunk::<8>()?)).ok()?;
        let chunk = rest.get(..len)?;
        if id == EXTRA_FDT {
            return chunk.get(HEADER..);
        }
        // A length below the header's own would never end.
        rest = rest.get(len.max(HEADER)..)?;
    }
    None
}

/// Cells of an interrupt specifier of a GIC: type, number, flags.
const INTERRUPT_CELLS: usize = 3;
/// First INTID of shared and of private peripheral interrupts (GIC binding of the device tree).
const SPI_BASE: u64 = 32;
const PPI_BASE: u64 = 16;

fn interrupt(property: &[u8]) -> Option<u64> {
    let (cells, _) = property.as_chunks::<4>();
    let [kind, number, _] = cells
        .first_chunk::<INTERRUPT_CELLS>()?
        .map(u32::from_be_bytes);
    match kind {
        0 => Some(SPI_BASE + u64::from(number)),
        1 => Some(PPI_BASE + u64::from(number)),
        _ => None,
    }
}

/// Reads the machine from the extra bootinfo.
///
/// # Errors
/// See [`BoardError`].
pub fn read(extra: &[u8]) -> Result<Board, BoardError> {
    let tree = device_tree(extra).ok_or(BoardError::NoTree)?;
    let tree = Fdt::new(tree).map_err(|_| BoardError::NoTree)?;
    let described = describe::describe(&tree).map_err(|_| BoardError::Memory)?;
    let Some(Uart::Pl011(uart_paddr)) = described.uart else {
        return Err(BoardError::NoUart);
    };
    let uart_irq = tree
        .nodes()
        .find(|node| {
            node.is_compatible(&["arm,pl011"]) && node.region(0).map(|r| r.0) == Some(uart_paddr)
        })
        .and_then(|node| interrupt(node.property("interrupts")?))
        .ok_or(BoardError::NoUart)?;
    let (gicv, gic) = match described.gic {
        Some(Gic::V2 {
            virtual_cpu_interface,
            ..
        }) => (Some(virtual_cpu_interface), protocol::startup::Gic::V2),
        Some(Gic::V3 { .. }) => (None, protocol::startup::Gic::V3),
        None => return Err(BoardError::NoGic),
    };
    Ok(Board {
        uart_paddr,
        uart_irq,
        gicv,
        gic,
    })
}

/// What the boot chain left for random number generators, in `/chosen`.
#[must_use]
pub fn rng_seed(extra: &[u8]) -> Option<&[u8]> {
    let tree = Fdt::new(device_tree(extra)?).ok()?;
    tree.find(b"/chosen")?.property("rng-seed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(id: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = id.to_le_bytes().to_vec();
        bytes.extend((content.len() as u64 + 16).to_le_bytes());
        bytes.extend(content);
        bytes
    }

    #[test]
    fn the_tree_is_found_behind_other_chunks() {
        let mut extra = chunk(0, &[0; 24]);
        extra.extend(chunk(EXTRA_FDT, b"tree"));
        assert_eq!(device_tree(&extra), Some(&b"tree"[..]));
        assert_eq!(device_tree(&chunk(0, b"")), None);
        assert_eq!(device_tree(b"short"), None);
    }

    #[test]
    fn lengths_that_lie_end_the_search() {
        let mut endless = 0u64.to_le_bytes().to_vec();
        endless.extend(0u64.to_le_bytes());
        assert_eq!(device_tree(&endless.repeat(3)), None);
        let mut long = EXTRA_FDT.to_le_bytes().to_vec();
        long.extend(u64::MAX.to_le_bytes());
        assert_eq!(device_tree(&long), None);
        assert_eq!(read(&long), Err(BoardError::NoTree));
    }

    #[test]
    fn interrupts_become_intids() {
        let cells = |cells: [u32; 3]| cells.map(u32::to_be_bytes).concat();
        assert_eq!(interrupt(&cells([0, 1, 4])), Some(33));
        assert_eq!(interrupt(&cells([1, 11, 4])), Some(27));
        assert_eq!(interrupt(&cells([2, 0, 0])), None);
        assert_eq!(interrupt(&[0; 8]), None);
    }
}
