//! From the loader's hand-over to the first instruction of the root task.

#![allow(unsafe_code)] // Reads the device tree where the loader left it.

use crate::el2::El2;
use crate::entry;
use crate::gic::{Gic, MAINTENANCE_IRQ, TIMER_IRQ, VTIMER_IRQ};
use crate::initial::{self, InitialError};
use crate::tables;
use crate::trap::KERNEL;
use kernel_core::kernel::Kernel;
use machine::describe::{self, DescribeError, Machine, Uart};
use machine::fdt::{Fdt, FdtError, MAX_BYTES};
use machine::regions::Region;

/// What the loader says about the root task (physical where not said otherwise).
#[derive(Clone, Copy)]
pub struct RootTask {
    /// Its memory.
    pub image: Region,
    /// Physical minus virtual address.
    pub offset: u64,
    /// Virtual entry address.
    pub entry: u64,
}

/// Why the kernel cannot start.
enum Failure {
    Tables,
    TreeAddress,
    Tree(FdtError),
    Machine(DescribeError),
    NoGic,
    Initial(InitialError),
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
    let k = KERNEL.get();
    let root_task = RootTask {
        image: Region { start, end },
        offset,
        entry,
    };
    match boot(k, root_task, Region::new(tree, tree_bytes)) {
        Ok(()) => k.current.get().map_or(0, kernel_core::mem::Ref::addr),
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
        Failure::Initial(InitialError::Memory) => "not enough memory for the root task's objects",
        Failure::Initial(InitialError::Slots) => {
            "the root task's image has more pages than the root CNode has slots"
        }
        Failure::Initial(InitialError::Image) => {
            "the root task's image is not page-aligned memory below 2^40"
        }
        Failure::Initial(InitialError::Object) => "an initial object could not be made",
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
    let tree_bytes = unsafe { tables::bytes(tree_region) };
    let tree = Fdt::new(tree_bytes).map_err(Failure::Tree)?;
    if let Some(Uart::Pl011(base)) = describe::uart(&tree) {
        k.arch
            .console
            .attach(tables::map_device(base, 1).map_err(|_| Failure::Tables)?);
    }
    let machine = describe::describe(&tree).map_err(Failure::Machine)?;
    for region in machine.memory.as_slice() {
        tables::map_memory(region.narrowed(1 << 21)).map_err(|_| Failure::Tables)?;
    }
    set_up(k, &machine)?;
    initial::make(k, &machine, root_task, tree_bytes).map_err(Failure::Initial)
}

fn set_up(k: &Kernel<El2>, machine: &Machine) -> Result<(), Failure> {
    let gic = machine.gic.as_ref().ok_or(Failure::NoGic)?;
    let gic = Gic::set_up(gic).map_err(|_| Failure::Tables)?;
    k.arch.gic.set(gic);
    k.arch.psci.set(machine.psci);
    k.arch.empty_root.set(tables::empty_root());
    k.arch.set_up();
    for irq in [TIMER_IRQ, MAINTENANCE_IRQ] {
        gic.mask(irq, kernel_core::arch::IrqMask::Unmasked);
    }
    for irq in [TIMER_IRQ, VTIMER_IRQ, MAINTENANCE_IRQ] {
        k.irqs.reserve(irq);
    }
    Ok(())
}
