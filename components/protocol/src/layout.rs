//! Virtual addresses that the root task and the components agree on. All lie below 2^40 (seL4_UserTop).

/// Where component ELF files are linked.
pub const IMAGE_VADDR: u64 = 0x20_0000;
/// The startup page (one 4 KiB page or more, read-only), [`crate::startup::Startup`] in `postcard`.
pub const STARTUP_VADDR: u64 = 0x1000_0000;
/// IPC buffer of thread `n`: `IPC_BUFFERS_VADDR + n * 0x1000`.
pub const IPC_BUFFERS_VADDR: u64 = 0x1100_0000;
/// Stacks: thread `n` owns `[STACKS_VADDR + n * STACK_STRIDE + 0x1000, STACKS_VADDR + (n + 1) * STACK_STRIDE)`; the first
/// page is never mapped.
pub const STACKS_VADDR: u64 = 0x1200_0000;
/// Distance between two threads' stacks.
pub const STACK_STRIDE: u64 = 0x4_0000;
/// A driver's device registers.
pub const DEVICE_VADDR: u64 = 0x1400_0000;
/// Where the root task's image carries the bundle ([`crate::bundle`]).
pub const BUNDLE_VADDR: u64 = 0x2000_0000;
/// Where the root task itself is linked: close below the bundle, because a loader places an image in one piece, holes
/// included, and the kernel spends one of the root CNode's 2^13 slots on each 4 KiB of it.
pub const ROOT_TASK_VADDR: u64 = BUNDLE_VADDR - 0x10_0000;
/// Where a VMM sees the store of guest kernels and initrds, read-only, in 2 MiB frames.
pub const STORE_VADDR: u64 = 0x4000_0000;
/// A VMM sees its guest's intermediate physical address `ipa` at `GUEST_WINDOW_VADDR + ipa`.
pub const GUEST_WINDOW_VADDR: u64 = 0x80_0000_0000;

/// The guest's intermediate physical address map.
pub mod ipa {
    /// GIC distributor, 64 KiB.
    pub const GICD: u64 = 0x0800_0000;
    /// GICv2 CPU interface (the GICV frame is mapped here), 64 KiB.
    pub const GICC: u64 = 0x0801_0000;
    /// GICv3 redistributor, 128 KiB per vCPU.
    pub const GICR: u64 = 0x080a_0000;
    /// virtio-mmio device `n` sits at `VIRTIO_MMIO + n * VIRTIO_MMIO_STRIDE`.
    pub const VIRTIO_MMIO: u64 = 0x0a00_0000;
    /// Distance between two virtio-mmio devices.
    pub const VIRTIO_MMIO_STRIDE: u64 = 0x200;
    /// virtio-mmio device `n` raises SPI `VIRTIO_SPI + n` (INTID 32 more).
    pub const VIRTIO_SPI: u32 = 16;
    /// RAM that the guest starts with.
    pub const RAM: u64 = 0x4000_0000;
    /// Alignment of the virtio-mem region, above the end of RAM and at or above 4 GiB.
    pub const HOTPLUG_ALIGN: u64 = 0x4000_0000;
    /// Lowest address of the virtio-mem region.
    pub const HOTPLUG_MIN: u64 = 0x1_0000_0000;
}
