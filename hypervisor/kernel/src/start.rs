//! From the loader's hand-over to the first instruction of the root task.

#![allow(unsafe_code)] // Reads the device tree where the loader left it, and makes the references to the interrupts' slots.

use crate::cell::Global;
use crate::dump_header;
use crate::el2::El2;
use crate::entry;
use crate::gic::{Gic, MAINTENANCE_IRQ, TIMER_IRQ, VTIMER_IRQ};
use crate::regs;
use crate::tables;
use crate::trap::KERNEL;
use core::cell::Cell;
use core::num::NonZeroU64;
use kernel_core::arch::IrqMask;
use kernel_core::boot::{Given, LayoutError};
use kernel_core::cap::Cap;
use kernel_core::object::Slot;
use kernel_core::object::mem::Ref;
use kernel_core::object::slot::Row;
use kernel_core::state::kernel::Kernel;
use machine::describe::{self, DescribeError, Gic as GicKind, Machine, Uart};
use machine::fdt::{Fdt, FdtError, MAX_BYTES};
use machine::regions::{Full, Region, Regions};

const PAGE: u64 = 4096;
/// The window maps memory in blocks of this many bytes, so what is less at the ends of a bank is left out.
const BLOCK: u64 = 1 << 21;

/// Most interrupts: the architecture's numbers of interrupts end at 1020.
const INTERRUPTS: usize = 1024;
/// The slots of the interrupts' notifications.
static INTERRUPT_SLOTS: Global<[Slot; INTERRUPTS]> = Global::new(
    [const {
        Slot {
            cap: Cell::new(Cap::NULL),
            prev_and_flags: Cell::new(0),
            next: Cell::new(None),
        }
    }; INTERRUPTS],
);

/// What the loader says about the root task (physical where not said otherwise).
#[derive(Clone, Copy)]
struct RootTask {
    /// Its memory.
    image: Region,
    /// Physical minus virtual address.
    offset: u64,
    /// Virtual entry address.
    entry: u64,
}

/// Why the kernel cannot start.
enum Failure {
    Tables,
    TreeAddress,
    Tree(FdtError),
    Machine(DescribeError),
    NoGic,
    Layout(LayoutError),
}

/// From entry.rs, with the loader's registers; the registers of the first thread.
pub extern "C" fn start(
    start: u64,
    end: u64,
    offset: u64,
    entry: u64,
    tree: u64,
    tree_bytes: u64,
) -> u64 {
    entry::install_vectors();
    El2::start_counting();
    let k = KERNEL.get();
    let root_task = RootTask {
        image: Region { start, end },
        offset,
        entry,
    };
    match boot(k, root_task, Region::new(tree, tree_bytes)) {
        Ok(()) => {
            let first = k.current.get().map_or(0, Ref::addr);
            dump_header::set_root_thread(first);
            first
        }
        Err(failure) => {
            k.arch.console.text("\nThe kernel cannot start: ");
            k.arch.console.text(describe_failure(&failure));
            k.arch.console.text(".\n");
            entry::halt()
        }
    }
}

const fn describe_failure(failure: &Failure) -> &'static str {
    match failure {
        Failure::Tables => "memory is too scattered for its translation tables",
        Failure::TreeAddress => "the loader gave no device tree (x4, x5)",
        Failure::Tree(FdtError::Magic(_)) => "there is no device tree where the loader says (x4)",
        Failure::Tree(FdtError::Version(_)) => {
            "the device tree needs a newer reader than version 17"
        }
        Failure::Tree(FdtError::Length(_) | FdtError::Block) => "the device tree is damaged",
        Failure::Machine(DescribeError::NoMemory) => "the device tree has no memory",
        Failure::Machine(DescribeError::TooManyRegions) => {
            "the device tree has too many pieces of memory"
        }
        Failure::NoGic => "the device tree has no GICv2 or GICv3 with virtualisation",
        Failure::Layout(LayoutError::Image(_)) => {
            "the root task's image is not page-aligned below 2^40"
        }
        Failure::Layout(LayoutError::TooManyRegions) => "memory is in too many pieces",
        Failure::Layout(LayoutError::TooManyFrames(_)) => {
            "the root task's image has more pages than the root CNode has slots"
        }
        Failure::Layout(LayoutError::NoMemory(_)) => {
            "no memory in one piece for the root task's objects"
        }
    }
}

fn boot(k: &Kernel<El2>, root_task: RootTask, tree_region: Region) -> Result<(), Failure> {
    if tree_region.bytes() == 0
        || tree_region.bytes() > MAX_BYTES as u64
        || tree_region.end > tables::PHYSICAL_END
    {
        return Err(Failure::TreeAddress);
    }
    tables::build(tree_region).map_err(|_| Failure::Tables)?;
    // SAFETY: `build` mapped it, and nothing writes it before the copy into the extra bootinfo is made.
    let tree = Fdt::new(unsafe { tables::bytes(tree_region) }).map_err(Failure::Tree)?;
    if let Some(Uart::Pl011(base)) = describe::uart(&tree) {
        k.arch
            .console
            .attach(tables::map_device(base, 1).map_err(|_| Failure::Tables)?);
    }
    let mut machine = describe::describe(&tree).map_err(Failure::Machine)?;
    machine.memory = map_all(&machine)?;
    set_up(k, &machine)?;
    let given = Given {
        machine,
        kernel: tables::image(),
        image: root_task.image.widened(PAGE),
        image_start: root_task.image.start.wrapping_sub(root_task.offset),
        entry: root_task.entry,
        tree: Region::new(tree_region.start, tree.used_bytes() as u64),
        kept: kept(&machine).map_err(|Full| Failure::Tables)?,
    };
    k.boot(&given).map_err(Failure::Layout)?;
    // The loader wrote the root task's instructions, perhaps at other addresses of a virtually indexed cache.
    regs::ic_ialluis();
    Ok(())
}

/// Maps all memory into the window; what was mapped.
fn map_all(machine: &Machine) -> Result<Regions<{ describe::MAX_REGIONS }>, Failure> {
    let mut mapped = Regions::new();
    for region in machine.memory.as_slice() {
        let end = region.end.min(tables::PHYSICAL_END);
        let region = Region {
            start: region.start,
            end,
        }
        .narrowed(BLOCK);
        if region.bytes() > 0 {
            tables::map_memory(region).map_err(|_| Failure::Tables)?;
            mapped.add(region).map_err(|Full| Failure::Tables)?;
        }
    }
    Ok(mapped)
}

/// What the kernel keeps of the interrupt controller; a GICv2's virtual CPU interface is for guests.
fn kept(machine: &Machine) -> Result<Regions<{ describe::MAX_REGIONS }>, Full> {
    let mut kept = Regions::new();
    match machine.gic {
        Some(GicKind::V2 {
            distributor,
            cpu_interface,
            virtual_control,
            ..
        }) => {
            for region in [distributor, cpu_interface, virtual_control] {
                kept.add(region.widened(PAGE))?;
            }
        }
        Some(GicKind::V3 {
            distributor,
            redistributors,
        }) => {
            kept.add(distributor.widened(PAGE))?;
            kept.add(redistributors.widened(PAGE))?;
        }
        None => {}
    }
    Ok(kept)
}

fn set_up(k: &Kernel<El2>, machine: &Machine) -> Result<(), Failure> {
    let gic = machine.gic.as_ref().ok_or(Failure::NoGic)?;
    k.arch
        .set_gic(Gic::set_up(gic).map_err(|_| Failure::Tables)?);
    k.arch.psci.set(machine.psci);
    k.arch.empty_root.set(tables::empty_root());
    k.arch.set_up();
    k.init_time();
    for irq in [TIMER_IRQ, MAINTENANCE_IRQ] {
        k.arch.gic().mask(irq, IrqMask::Unmasked);
    }
    for irq in [TIMER_IRQ, VTIMER_IRQ, MAINTENANCE_IRQ] {
        k.irqs.reserve(irq);
    }
    if let Some(first) =
        NonZeroU64::new(core::ptr::from_ref(INTERRUPT_SLOTS.get()).expose_provenance() as u64)
    {
        let count = k.arch.gic().interrupts().min(INTERRUPTS as u64);
        // SAFETY: the first of an array of `INTERRUPTS` empty slots that nothing else refers to; it lives for ever.
        k.irqs
            .set_slots(unsafe { Row::new(Ref::from_addr(first), count) });
    }
    Ok(())
}
