//! What the boot stage does, in order.

#![allow(unsafe_code)]

use crate::entry::{self, HandOver};
use crate::memory::{self, Device};
use boot_core::elf::{Elf, ElfError};
use boot_core::payload::{self, PayloadError};
use boot_core::place::{self, PlaceError, Placement};
use core::fmt::Write;
use machine::console::Console;
use machine::describe::{self, DescribeError, Uart};
use machine::fdt::{self, Fdt, FdtError};
use machine::regions::Region;

/// Readable text, for what goes wrong before the kernel runs.
type Text = Console<Device>;

/// What can go wrong; every kind is told on the console.
#[derive(Debug)]
enum Failure {
    NotEl2(u64),
    Payload(PayloadError),
    NoDeviceTree(u64, FdtError),
    Machine(DescribeError),
    Kernel(ElfError),
    RootTask(ElfError),
    Place(PlaceError),
    OutOfTables,
}

/// From entry.rs: `x0` of the firmware, the image's first byte, the exception level.
pub extern "C" fn main(firmware: u64, image: u64, level: u64) -> ! {
    let console = Text::new();
    let failure = match boot(&console, firmware, image, level) {
        Ok((kernel_entry, with)) => {
            // SAFETY: `boot` loaded and mapped the kernel, and entry.rs set up MMU and caches at EL2.
            unsafe { entry::enter_kernel(kernel_entry, &with) }
        }
        Err(failure) => failure,
    };
    let _ = tell(&console, &failure);
    entry::halt()
}

/// The device tree at an address, if there is one.
fn tree_at(address: u64) -> Result<(Region, Fdt<'static>), FdtError> {
    // SAFETY: entry.rs mapped this gibibyte as memory, or it is in the image; reading has no effect.
    let first: [u8; 8] = unsafe { memory::bytes(address, 8) }
        .try_into()
        .unwrap_or([0; 8]);
    let length = fdt::total_bytes(first)?;
    // SAFETY: as above, and entry.rs mapped the next 2 MiB too, which is the longest tree. Nothing writes it.
    let tree = Fdt::new(unsafe { memory::bytes(address, length) })?;
    Ok((Region::new(address, length as u64), tree))
}

fn boot(console: &Text, firmware: u64, image: u64, level: u64) -> Result<(u64, HandOver), Failure> {
    let length = payload::total_bytes(memory::payload_header());
    let whole = length.map(|length| {
        // SAFETY: the payload follows the image in memory; its header was just checked. Nothing writes it.
        unsafe { memory::bytes(memory::payload_address(), length) }
    });
    let payload = whole.and_then(payload::parse);
    // The packer's tree wins; then the firmware's; then where QEMU leaves one for an ELF file: the start of memory.
    let own = payload
        .ok()
        .and_then(|payload| payload.device_tree)
        .map(|tree| tree.as_ptr() as u64);
    let guess = image & !((1 << 30) - 1);
    let (tree_region, tree) = match own.map(tree_at) {
        Some(found) => found,
        None => tree_at(firmware).or_else(|error| tree_at(guess).map_err(|_| error)),
    }
    .map_err(|error| Failure::NoDeviceTree(firmware, error))?;
    if let Some(Uart::Pl011(base)) = describe::uart(&tree)
        && let Ok(registers) = memory::map_device(base)
    {
        console.attach(registers);
    }
    if level != 2 {
        return Err(Failure::NotEl2(level));
    }
    let payload = payload.map_err(Failure::Payload)?;
    let machine = describe::describe(&tree).map_err(Failure::Machine)?;
    let kernel = Elf::new(payload.kernel).map_err(Failure::Kernel)?;
    let root_task = Elf::new(payload.root_task).map_err(Failure::RootTask)?;
    let payload_end =
        memory::payload_address().saturating_add(whole.map_or(0, |bytes| bytes.len() as u64));
    let occupied = [
        Region {
            start: image,
            end: payload_end,
        },
        tree_region,
    ];
    let placed = place::place(
        &machine,
        &occupied,
        &kernel,
        &root_task,
        tree_region.bytes(),
    )
    .map_err(Failure::Place)?;

    memory::map_memory(placed.kernel).map_err(|_| Failure::OutOfTables)?;
    memory::map_memory(placed.tree).map_err(|_| Failure::OutOfTables)?;
    memory::map_memory(placed.root_task).map_err(|_| Failure::OutOfTables)?;
    memory::map_kernel(kernel.start, placed.kernel.start).map_err(|_| Failure::OutOfTables)?;
    load(&kernel, placed.kernel, kernel.start);
    load(&root_task, placed.root_task, placed.root_task_start);
    // SAFETY: reading the tree where it was found; `place` chose other memory for the copy, which is mapped.
    unsafe {
        memory::fill(
            placed.tree,
            memory::bytes(tree_region.start, tree_region.bytes() as usize),
        )
    };
    let tree_region = Region::new(placed.tree.start, tree_region.bytes());
    Ok((
        kernel.entry,
        hand_over(&placed, root_task.entry, tree_region),
    ))
}

/// Puts an ELF file's segments to `place`, whose first byte has the virtual address `start`.
fn load(elf: &Elf<'_>, place: Region, start: u64) {
    // SAFETY: `place::place` chose memory that overlaps neither the image with its payload nor the tree; it is mapped.
    unsafe { memory::fill(place, &[]) };
    for segment in elf.segments() {
        let at = place
            .start
            .wrapping_add(segment.virtual_address.wrapping_sub(start));
        let to = Region::new(at, segment.memory_bytes);
        if place.contains(&to) {
            // SAFETY: as above; `to` is inside.
            unsafe { memory::fill(to, segment.content) };
        }
    }
}

fn hand_over(placed: &Placement, entry: u64, tree: Region) -> HandOver {
    HandOver {
        image_start: placed.root_task.start,
        image_end: placed.root_task.end,
        image_offset: placed.root_task.start.wrapping_sub(placed.root_task_start),
        image_entry: entry,
        tree: tree.start,
        tree_bytes: tree.bytes(),
    }
}

fn tell(mut console: &Text, failure: &Failure) -> core::fmt::Result {
    write!(console, "\nBallast cannot start: ")?;
    match failure {
        Failure::NotEl2(level) => writeln!(
            console,
            "it was started at EL{level} and needs EL2 (QEMU: -M virt,virtualization=on; boards: firmware that leaves EL2)."
        ),
        Failure::Payload(PayloadError::Magic(found)) => {
            writeln!(
                console,
                "no kernel and root task behind the boot stage (found {found:#x}): was the image packed, and loaded whole?"
            )
        }
        Failure::Payload(error) => writeln!(
            console,
            "the payload behind the boot stage is damaged: {error:?}."
        ),
        Failure::NoDeviceTree(at, error) => writeln!(
            console,
            "no usable device tree at {at:#x} (x0): {error:x?}."
        ),
        Failure::Machine(error) => writeln!(
            console,
            "the device tree does not describe this machine: {error:?}."
        ),
        Failure::Kernel(error) => writeln!(
            console,
            "the kernel is no ELF file that can be loaded: {error:x?}."
        ),
        Failure::RootTask(error) => writeln!(
            console,
            "the root task is no ELF file that can be loaded: {error:x?}."
        ),
        Failure::Place(PlaceError::RootTaskSize(bytes)) => writeln!(
            console,
            "the root task's image spans {bytes} bytes from its lowest to its highest address; {} are possible.",
            place::ROOT_TASK_MAX_BYTES
        ),
        Failure::Place(PlaceError::NoMemory(bytes)) => {
            writeln!(console, "no {bytes} bytes of free memory in one piece.")
        }
        Failure::Place(error) => writeln!(
            console,
            "kernel and root task cannot be placed: {error:x?}."
        ),
        Failure::OutOfTables => writeln!(
            console,
            "memory is too scattered for the boot stage's translation tables."
        ),
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let console = Text::new();
    // The tree's address is lost here; a panic is a defect of the boot stage, never an answer to bad input.
    let _ = writeln!(&console, "{info}");
    entry::halt()
}
