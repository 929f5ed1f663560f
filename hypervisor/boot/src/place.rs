//! Where kernel, device tree and root task go: in this order, as behind seL4's loader (seL4 refuses another one).

use crate::elf::Elf;
use machine::describe::{MAX_REGIONS, Machine};
use machine::regions::{Region, Regions};

const PAGE: u64 = 4096;
const LARGE: u64 = 1 << 21;
const GIB: u64 = 1 << 30;
/// The kernel is linked here or above (below lies the loader's own map).
const KERNEL_FLOOR: u64 = 1 << 39;
/// Largest image of the root task: each of its pages takes a slot of the 8192 of the root CNode, and other things need some.
pub const ROOT_TASK_MAX_BYTES: u64 = 30 << 20;
/// The kernel windows memory up to here.
const PHYSICAL_END: u64 = 511 << 30;

/// Where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The kernel's memory.
    pub kernel: Region,
    /// Added to a physical address of the kernel it is the virtual one.
    pub kernel_offset: u64,
    /// The device tree's memory, whole pages.
    pub tree: Region,
    /// The root task's memory.
    pub root_task: Region,
    /// Virtual address of the root task's first page.
    pub root_task_start: u64,
}

/// Why they cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// The kernel is linked at this address: not 2 MiB-aligned, below 512 GiB, or across a 1 GiB boundary.
    KernelLink(u64),
    /// The kernel's segments do not have one constant offset between virtual and physical address.
    KernelOffset,
    /// The root task's image spans this many bytes, holes included; [`ROOT_TASK_MAX_BYTES`] are allowed.
    RootTaskSize(u64),
    /// No free memory for so many bytes.
    NoMemory(u64),
    /// Memory is in too many pieces.
    TooManyRegions,
}

/// Finds places for the three that do not touch `occupied` (the boot stage with its payload, the device tree as it was
/// found), with `tree_bytes` bytes for the device tree.
///
/// # Errors
/// Why there is none.
pub fn place(
    machine: &Machine,
    occupied: &[Region],
    kernel: &Elf<'_>,
    root_task: &Elf<'_>,
    tree_bytes: u64,
) -> Result<Placement, PlaceError> {
    let too_many = |_| PlaceError::TooManyRegions;
    let mut free = Regions::<{ 2 * MAX_REGIONS }>::new();
    for region in machine.memory.as_slice() {
        free.add(region.narrowed(PAGE)).map_err(too_many)?;
    }
    for region in machine.reserved.as_slice().iter().chain(occupied) {
        free.remove(region.widened(PAGE)).map_err(too_many)?;
    }
    free.remove(Region {
        start: PHYSICAL_END,
        end: u64::MAX,
    })
    .map_err(too_many)?;

    let (start, end) = (kernel.start, kernel.end);
    if start < KERNEL_FLOOR || start & (LARGE - 1) != 0 || start >> 30 != end.wrapping_sub(1) >> 30
    {
        return Err(PlaceError::KernelLink(start));
    }
    let mut link_offset = None;
    for segment in kernel.segments() {
        let offset = segment
            .virtual_address
            .wrapping_sub(segment.physical_address);
        if *link_offset.get_or_insert(offset) != offset {
            return Err(PlaceError::KernelOffset);
        }
    }
    let bytes = Region { start, end }.widened(PAGE).bytes();
    let wanted = Region::new(start.wrapping_sub(link_offset.unwrap_or(0)), bytes);
    let fits =
        wanted.start & (LARGE - 1) == 0 && wanted.start >> 30 == wanted.end.wrapping_sub(1) >> 30;
    let kernel = if fits && free.contains(&wanted) {
        wanted
    } else {
        free.find(0, bytes, LARGE, GIB)
            .ok_or(PlaceError::NoMemory(bytes))?
    };
    free.remove(kernel).map_err(too_many)?;

    let span = Region {
        start: root_task.start,
        end: root_task.end,
    }
    .widened(PAGE);
    if span.bytes() > ROOT_TASK_MAX_BYTES {
        return Err(PlaceError::RootTaskSize(span.bytes()));
    }
    let tree_bytes = Region::new(0, tree_bytes.max(1)).widened(PAGE).bytes();
    let tree = free
        .find(kernel.end, tree_bytes, PAGE, 1 << 63)
        .or_else(|| free.find(0, tree_bytes, PAGE, 1 << 63))
        .ok_or(PlaceError::NoMemory(tree_bytes))?;
    free.remove(tree).map_err(too_many)?;
    let root_task = free
        .find(tree.end, span.bytes(), PAGE, 1 << 63)
        .or_else(|| free.find(0, span.bytes(), PAGE, 1 << 63))
        .ok_or(PlaceError::NoMemory(span.bytes()))?;
    Ok(Placement {
        kernel,
        kernel_offset: start.wrapping_sub(kernel.start),
        tree,
        root_task,
        root_task_start: span.start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::file;
    use proptest::prelude::*;

    const LINK: u64 = 0xff_c000_0000;

    fn machine(memory: &[(u64, u64)], reserved: &[(u64, u64)]) -> Machine {
        let mut machine = Machine {
            memory: Regions::new(),
            reserved: Regions::new(),
            gic: None,
            uart: None,
            psci: None,
        };
        memory
            .iter()
            .for_each(|&(start, bytes)| machine.memory.add(Region::new(start, bytes)).unwrap());
        reserved
            .iter()
            .for_each(|&(start, bytes)| machine.reserved.add(Region::new(start, bytes)).unwrap());
        machine
    }

    fn files(kernel_physical: u64, root_bytes: u64) -> (Vec<u8>, Vec<u8>) {
        (
            file(LINK, &[(LINK, kernel_physical, 0x5_1000, b"k")]),
            file(0x20_0100, &[(0x20_0100, 0, root_bytes, b"r")]),
        )
    }

    #[test]
    fn the_link_address_is_honoured_when_free() {
        let (kernel, root) = files(0x6000_0000, 0x3000);
        let (kernel, root) = (Elf::new(&kernel).unwrap(), Elf::new(&root).unwrap());
        let occupied = [Region::new(0x4020_0000, 0x10_0000)];
        let placed = place(
            &machine(&[(0x4000_0000, GIB)], &[]),
            &occupied,
            &kernel,
            &root,
            0x2000,
        )
        .unwrap();
        assert_eq!(placed.kernel, Region::new(0x6000_0000, 0x5_1000));
        assert_eq!(placed.tree, Region::new(0x6005_1000, 0x2000));
        assert_eq!(placed.root_task, Region::new(0x6005_3000, 0x4000));
        assert_eq!(placed.kernel_offset, LINK - 0x6000_0000);
        assert_eq!(placed.root_task_start, 0x20_0000);
        // 512 MiB of memory end before it.
        let placed = place(
            &machine(&[(0x4000_0000, GIB / 2)], &[]),
            &occupied,
            &kernel,
            &root,
            0x2000,
        )
        .unwrap();
        assert_eq!(placed.kernel.start, 0x4000_0000);
        // Reserved: elsewhere.
        let reserved = [(0x6000_0000, 0x1000)];
        let placed = place(
            &machine(&[(0x4000_0000, GIB)], &reserved),
            &occupied,
            &kernel,
            &root,
            0x2000,
        )
        .unwrap();
        assert_eq!(placed.kernel.start, 0x4000_0000);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let (kernel, root) = files(0x6000_0000, 0x3000);
        let (kernel, root) = (Elf::new(&kernel).unwrap(), Elf::new(&root).unwrap());
        let small = machine(&[(0x4000_0000, 0x5_0000)], &[]);
        assert_eq!(
            place(&small, &[], &kernel, &root, 0x2000),
            Err(PlaceError::NoMemory(0x5_1000))
        );
        let low = file(0x6000_0000, &[(0x6000_0000, 0x6000_0000, 4, b"k")]);
        let low = Elf::new(&low).unwrap();
        let usual = machine(&[(0x4000_0000, GIB)], &[]);
        assert_eq!(
            place(&usual, &[], &low, &root, 0x2000),
            Err(PlaceError::KernelLink(0x6000_0000))
        );
        let holes = file(0, &[(0, 0, 4, b"k"), (0x2000_0000, 0, 4, b"k")]);
        assert_eq!(
            place(&usual, &[], &kernel, &Elf::new(&holes).unwrap(), 0x2000),
            Err(PlaceError::RootTaskSize(0x2000_1000))
        );
        let two = file(LINK, &[(LINK, 0, 4, b"k"), (LINK + PAGE, 0, 4, b"k")]);
        assert_eq!(
            place(&usual, &[], &Elf::new(&two).unwrap(), &root, 0x2000),
            Err(PlaceError::KernelOffset)
        );
    }

    proptest! {
        #[test]
        fn nothing_overlaps(
            physical in (0u64..0x800).prop_map(|n| n << 20),
            root_bytes in 1u64..ROOT_TASK_MAX_BYTES - 0x2000,
            image in 0x4000_0000u64..0x5000_0000,
            image_bytes in 0u64..0x1000_0000,
            tree in 0x4000_0000u64..0x8000_0000,
            bank in 0u64..3,
        ) {
            let (kernel, root) = files(physical, root_bytes);
            let (kernel, root) = (Elf::new(&kernel).unwrap(), Elf::new(&root).unwrap());
            let machine = machine(&[(0x4000_0000, 0x1800_0000), (0x6000_0000 + bank * 0x800_0000, 0x1000_0000)], &[(0x5000_0000, 0x10_0000)]);
            let occupied = [Region::new(image, image_bytes), Region::new(tree, 0x10_0000)];
            if let Ok(placed) = place(&machine, &occupied, &kernel, &root, 0x2000) {
                for part in [placed.kernel, placed.tree, placed.root_task] {
                    prop_assert!(machine.memory.contains(&part));
                    prop_assert!(occupied.iter().chain(machine.reserved.as_slice()).all(|other| !other.overlaps(&part)));
                }
                prop_assert!(!placed.kernel.overlaps(&placed.root_task));
                prop_assert!(!placed.tree.overlaps(&placed.root_task) && !placed.tree.overlaps(&placed.kernel));
                prop_assert_eq!(placed.kernel.start % LARGE, 0);
                prop_assert_eq!(placed.kernel.start / GIB, (placed.kernel.end - 1) / GIB);
            }
        }
    }
}
