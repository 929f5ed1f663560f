//! Who gets which memory.

use machine::describe::{MAX_REGIONS, Machine};
use machine::regions::{Region, Regions};
use sel4_sys::{
    INIT_CNODE_BITS, MAX_BOOT_UNTYPEDS, MAX_UNTYPED_BITS, MIN_UNTYPED_BITS, SLOT_BITS, init_slot,
};

/// Most pieces that memory (or what is not memory) can be in.
pub const MAX_FREE_REGIONS: usize = 2 * MAX_REGIONS;
/// Intermediate physical addresses have 40 bits, and so has what the root task is told of.
const DEVICES_END: u64 = 1 << 40;
const PAGE: u64 = 4096;
const LARGE: u64 = 1 << 21;
const GIB: u64 = 1 << 30;
/// Bytes of the extra bootinfo's header.
pub(super) const EXTRA_HEADER_BYTES: u64 = 16;
/// Bytes of the root CNode.
const CNODE_BYTES: u64 = 1 << (INIT_CNODE_BITS + SLOT_BITS);

/// What the loader hands over, and what the machine is.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// The machine.
    pub machine: Machine,
    /// The kernel's memory, whole pages.
    pub kernel: Region,
    /// The root task's image, whole pages.
    pub image: Region,
    /// Virtual address of the image's first page.
    pub image_start: u64,
    /// The root task's first instruction.
    pub entry: u64,
    /// The device tree, where the loader put it, up to the end of its last block.
    pub tree: Region,
    /// Device registers that the kernel keeps for itself (the interrupt controller), whole pages.
    pub kept: Regions<MAX_REGIONS>,
}

/// Why the kernel cannot start with what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The image is empty, not page-aligned, or its addresses (with the three areas behind it) leave user level's 40 bits.
    Image(Region),
    /// Memory or devices are in too many pieces.
    TooManyRegions,
    /// The image has so many pages that the root CNode has no slots left.
    TooManyFrames(u64),
    /// No so many bytes of free memory in one piece for the first objects.
    NoMemory(u64),
}

/// Where everything is. Addresses are physical unless they say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The memory of the boot objects.
    pub objects: Region,
    /// The root CNode.
    pub cnode: u64,
    /// The root task's VSpace.
    pub vspace: u64,
    /// Its ASID pool.
    pub asid_pool: u64,
    /// Its IPC buffer.
    pub ipc_buffer: u64,
    /// The bootinfo frame.
    pub boot_info: u64,
    /// First frame of the extra bootinfo.
    pub extra: u64,
    /// Frames of the extra bootinfo.
    pub extra_frames: u64,
    /// First page table.
    pub tables: u64,
    /// Page tables of level 2.
    pub level_2_tables: u64,
    /// Page tables of level 3.
    pub level_3_tables: u64,
    /// Its TCB.
    pub tcb: u64,
    /// Its scheduling context.
    pub sched_context: u64,
    /// Virtual address of the IPC buffer; bootinfo and extra bootinfo follow.
    pub ipc_buffer_vaddr: u64,
    /// First page of the image, virtual; all mappings begin here.
    pub mapped_start: u64,
    /// One past the last mapped page, virtual.
    pub mapped_end: u64,
    /// RAM that becomes untyped memory.
    pub free: Regions<MAX_FREE_REGIONS>,
    /// What becomes device untyped memory.
    pub devices: Regions<MAX_FREE_REGIONS>,
}

/// Units of `unit` bytes that `[start, end)` touches.
const fn touched(start: u64, end: u64, unit: u64) -> u64 {
    (end.wrapping_sub(1) / unit)
        .wrapping_sub(start / unit)
        .wrapping_add(1)
}

/// What the root task's address space needs, counted.
struct Wanted {
    extra_frames: u64,
    ipc_buffer_vaddr: u64,
    mapped_end: u64,
    level_2_tables: u64,
    level_3_tables: u64,
}

impl Wanted {
    fn count(given: &Given) -> Result<Self, LayoutError> {
        let image = given.image;
        let bad_image = Err(LayoutError::Image(image));
        if image.bytes() == 0 || (image.start | image.end | given.image_start) & (PAGE - 1) != 0 {
            return bad_image;
        }
        let extra_frames = given
            .tree
            .bytes()
            .saturating_add(EXTRA_HEADER_BYTES)
            .div_ceil(PAGE);
        let ipc_buffer_vaddr = given.image_start.saturating_add(image.bytes());
        let mapped_end = ipc_buffer_vaddr
            .saturating_add(2 * PAGE)
            .saturating_add(extra_frames.saturating_mul(PAGE));
        if mapped_end > DEVICES_END {
            return bad_image;
        }
        let wanted = Self {
            extra_frames,
            ipc_buffer_vaddr,
            mapped_end,
            level_2_tables: touched(given.image_start, mapped_end, GIB),
            level_3_tables: touched(given.image_start, mapped_end, LARGE),
        };
        let frames = image.bytes() / PAGE;
        let slots = init_slot::COUNT
            .saturating_add(wanted.tables())
            .saturating_add(extra_frames)
            .saturating_add(1)
            .saturating_add(frames)
            .saturating_add(MAX_BOOT_UNTYPEDS as u64);
        if slots >= 1 << INIT_CNODE_BITS {
            return Err(LayoutError::TooManyFrames(frames));
        }
        Ok(wanted)
    }

    const fn tables(&self) -> u64 {
        self.level_2_tables.saturating_add(self.level_3_tables)
    }
}

/// The machine's RAM that the kernel may hand out, the kernel's own and the image with it; and device memory.
fn memory_and_devices(
    given: &Given,
) -> Result<(Regions<MAX_FREE_REGIONS>, Regions<MAX_FREE_REGIONS>), LayoutError> {
    let too_many = |_| LayoutError::TooManyRegions;
    let mut memory = Regions::new();
    for region in given.machine.memory.as_slice() {
        memory.add(region.narrowed(PAGE)).map_err(too_many)?;
    }
    for region in given.machine.reserved.as_slice() {
        memory.remove(region.widened(PAGE)).map_err(too_many)?;
    }
    memory
        .remove(Region {
            start: DEVICES_END,
            end: u64::MAX,
        })
        .map_err(too_many)?;
    let mut devices = Regions::new();
    devices
        .add(Region {
            start: 0,
            end: DEVICES_END,
        })
        .map_err(too_many)?;
    for region in memory.as_slice() {
        devices.remove(*region).map_err(too_many)?;
    }
    for region in given.kept.as_slice() {
        devices.remove(region.widened(PAGE)).map_err(too_many)?;
    }
    Ok((memory, devices))
}

impl Layout {
    /// Finds a place for everything.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn new(given: &Given) -> Result<Self, LayoutError> {
        let too_many = |_| LayoutError::TooManyRegions;
        let wanted = Wanted::count(given)?;
        let (mut free, devices) = memory_and_devices(given)?;
        for taken in [given.kernel, given.image] {
            free.remove(taken.widened(PAGE)).map_err(too_many)?;
        }

        // The tree is read while the objects are made, so they keep off it; afterwards its memory is free like any other.
        let mut usable = free;
        usable.remove(given.tree.widened(PAGE)).map_err(too_many)?;
        let pages = 3u64
            .saturating_add(wanted.extra_frames)
            .saturating_add(wanted.tables())
            // TCB and scheduling context share the last one.
            .saturating_add(1);
        let bytes = CNODE_BYTES
            .saturating_add(2 * PAGE)
            .saturating_add(pages.saturating_mul(PAGE));
        // Behind the image when there is room, so that one hole in memory is enough.
        let start = usable
            .find(given.image.end, bytes, CNODE_BYTES, 1 << 63)
            .or_else(|| usable.find(0, bytes, CNODE_BYTES, 1 << 63))
            .ok_or(LayoutError::NoMemory(bytes))?
            .start;
        let objects = Region::new(start, bytes);
        free.remove(objects).map_err(too_many)?;
        let page = |n: u64| {
            start
                .wrapping_add(CNODE_BYTES)
                .wrapping_add(2 * PAGE)
                .wrapping_add(n.wrapping_mul(PAGE))
        };
        let last = page(pages.wrapping_sub(1));
        Ok(Self {
            objects,
            cnode: start,
            vspace: start.wrapping_add(CNODE_BYTES),
            asid_pool: page(0),
            ipc_buffer: page(1),
            boot_info: page(2),
            extra: page(3),
            extra_frames: wanted.extra_frames,
            tables: page(3u64.wrapping_add(wanted.extra_frames)),
            level_2_tables: wanted.level_2_tables,
            level_3_tables: wanted.level_3_tables,
            tcb: last,
            sched_context: last.wrapping_add(2048),
            ipc_buffer_vaddr: wanted.ipc_buffer_vaddr,
            mapped_start: given.image_start,
            mapped_end: wanted.mapped_end,
            free,
            devices,
        })
    }
}

/// The aligned power-of-two pieces of a region, largest possible first from its start.
pub(super) fn pieces(region: Region) -> impl Iterator<Item = (u64, u32)> {
    let mut at = region.start;
    core::iter::from_fn(move || {
        let left = region.end.saturating_sub(at);
        if left >> MIN_UNTYPED_BITS == 0 {
            return None;
        }
        let bits = at
            .trailing_zeros()
            .min(63u32.wrapping_sub(left.leading_zeros()))
            .min(MAX_UNTYPED_BITS);
        let piece = (at, bits);
        at = at.wrapping_add(1 << (bits & 63));
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn machine(memory: &[(u64, u64)], reserved: &[(u64, u64)]) -> Machine {
        let mut machine = Machine {
            memory: Regions::new(),
            reserved: Regions::new(),
            gic: None,
            uart: None,
            psci: None,
        };
        for &(start, bytes) in memory {
            machine.memory.add(Region::new(start, bytes)).unwrap();
        }
        for &(start, bytes) in reserved {
            machine.reserved.add(Region::new(start, bytes)).unwrap();
        }
        machine
    }

    fn given(machine: Machine, image_bytes: u64) -> Given {
        let mut kept = Regions::new();
        kept.add(Region::new(0x0800_0000, 0x2_0000)).unwrap();
        Given {
            machine,
            kernel: Region::new(0x6000_0000, 0x4_0000),
            image: Region::new(0x6005_0000, image_bytes),
            image_start: 0x20_0000,
            entry: 0x20_0000,
            tree: Region::new(0x6004_0000, 0x2345),
            kept,
        }
    }

    #[test]
    fn pieces_cover_a_region_exactly() {
        let list: Vec<_> = pieces(Region {
            start: 0x5000,
            end: 0x1_0000,
        })
        .collect();
        assert_eq!(list, [(0x5000, 12), (0x6000, 13), (0x8000, 15)]);
        let all: Vec<_> = pieces(Region {
            start: 0,
            end: 1 << 40,
        })
        .collect();
        assert_eq!(all, [(0, 40)]);
    }

    #[test]
    fn a_bad_image_is_refused() {
        let usual = machine(&[(0x4000_0000, GIB)], &[]);
        let far = Given {
            image_start: (1 << 40) - 0x2000,
            ..given(usual, 0x1000)
        };
        assert!(matches!(Layout::new(&far), Err(LayoutError::Image(_))));
        assert!(matches!(
            Layout::new(&given(usual, 40 << 20)),
            Err(LayoutError::TooManyFrames(10240))
        ));
        let none = machine(&[(0x6000_0000, 0x6_0000)], &[]);
        assert!(matches!(
            Layout::new(&given(none, 0x1000)),
            Err(LayoutError::NoMemory(_))
        ));
    }

    proptest! {
        #[test]
        fn memory_is_in_one_place_only(
            image_pages in 1u64..6000,
            image_start in (0u64..0x1000).prop_map(|n| n * PAGE),
            bank in 0x80u64..0x200,
            hole in 0u64..0x80,
        ) {
            let machine = machine(
                &[(0x4000_0000, 0x2800_0000), (bank << 24, 0x1000_0000)],
                &[(0x4000_0000 + (hole << 20), 0x10_0000)],
            );
            let given = Given { image_start, ..given(machine, image_pages * PAGE) };
            let layout = Layout::new(&given).unwrap();
            let mut parts: Vec<Region> = vec![given.kernel, given.image, layout.objects];
            parts.extend(given.kept.as_slice());
            for set in [&layout.free, &layout.devices] {
                for region in set.as_slice() {
                    let covered: u64 = pieces(*region).map(|(_, bits)| 1u64 << bits).sum();
                    prop_assert_eq!(covered, region.bytes());
                    parts.push(*region);
                }
            }
            let sum: u64 = parts.iter().map(Region::bytes).sum();
            prop_assert_eq!(sum, 1 << 40);
            for (index, one) in parts.iter().enumerate() {
                for other in &parts[index + 1..] {
                    prop_assert!(!one.overlaps(other), "{:x?} {:x?}", one, other);
                }
            }
            prop_assert!(!layout.objects.overlaps(&given.tree));
            prop_assert_eq!(layout.cnode % CNODE_BYTES, 0);
            prop_assert!(layout.sched_context + 2048 <= layout.objects.end);
        }
    }
}
