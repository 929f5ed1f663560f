//! What the kernel tells the initial thread (libsel4 `bootinfo_types.h`).

use core::mem::{offset_of, size_of};

/// Most untyped descriptors (CONFIG_MAX_NUM_BOOTINFO_UNTYPED_CAPS).
pub const MAX_BOOT_UNTYPEDS: usize = 230;
/// log2 of the slots of the initial thread's CNode.
pub const INIT_CNODE_BITS: u32 = 13;
/// Bytes of the bootinfo frame; extra bootinfo follows it.
pub const BOOT_INFO_FRAME_BYTES: usize = 4096;
/// Identifier of padding in the extra bootinfo.
pub const EXTRA_PADDING: u64 = 0;
/// Identifier of the device tree in the extra bootinfo.
pub const EXTRA_FDT: u64 = 6;

/// Slots `start..end` of the initial thread's CNode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlotRegion {
    /// First slot.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

impl SlotRegion {
    /// Number of slots; zero when malformed.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// An untyped object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UntypedDesc {
    /// Physical address.
    pub paddr: u64,
    /// log2 of its bytes.
    pub size_bits: u8,
    /// 1 when the memory is a device's.
    pub is_device: u8,
    /// Zero.
    pub padding: [u8; 6],
}

/// The bootinfo frame.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BootInfo {
    /// Bytes of the extra bootinfo.
    pub extra_len: u64,
    /// This node.
    pub node_id: u64,
    /// Nodes.
    pub num_nodes: u64,
    /// I/O page-table levels: 0.
    pub num_iopt_levels: u64,
    /// Virtual address of the initial thread's IPC buffer.
    pub ipc_buffer: u64,
    /// Empty slots.
    pub empty: SlotRegion,
    /// Frames shared between nodes: none.
    pub shared_frames: SlotRegion,
    /// The image's frames.
    pub user_image_frames: SlotRegion,
    /// The image's paging structures.
    pub user_image_paging: SlotRegion,
    /// None.
    pub io_space_caps: SlotRegion,
    /// Frames of the extra bootinfo.
    pub extra_bi_pages: SlotRegion,
    /// log2 of the slots of the initial thread's CNode.
    pub init_thread_cnode_size_bits: u64,
    /// The initial thread's domain.
    pub init_thread_domain: u64,
    /// SchedControl, one per node.
    pub schedcontrol: SlotRegion,
    /// Untyped objects.
    pub untyped: SlotRegion,
    /// Their descriptors, in the order of their slots.
    pub untyped_list: [UntypedDesc; MAX_BOOT_UNTYPEDS],
}

/// Header of a piece of extra bootinfo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BootInfoHeader {
    /// What follows.
    pub id: u64,
    /// Bytes, this header included.
    pub len: u64,
}

const _: () = {
    assert!(size_of::<UntypedDesc>() == 16);
    assert!(offset_of!(UntypedDesc, size_bits) == 8);
    assert!(offset_of!(UntypedDesc, is_device) == 9);
    assert!(size_of::<BootInfo>() == 3864);
    assert!(size_of::<BootInfo>() <= BOOT_INFO_FRAME_BYTES);
    assert!(offset_of!(BootInfo, extra_len) == 0);
    assert!(offset_of!(BootInfo, node_id) == 8);
    assert!(offset_of!(BootInfo, num_nodes) == 16);
    assert!(offset_of!(BootInfo, num_iopt_levels) == 24);
    assert!(offset_of!(BootInfo, ipc_buffer) == 32);
    assert!(offset_of!(BootInfo, empty) == 40);
    assert!(offset_of!(BootInfo, shared_frames) == 56);
    assert!(offset_of!(BootInfo, user_image_frames) == 72);
    assert!(offset_of!(BootInfo, user_image_paging) == 88);
    assert!(offset_of!(BootInfo, io_space_caps) == 104);
    assert!(offset_of!(BootInfo, extra_bi_pages) == 120);
    assert!(offset_of!(BootInfo, init_thread_cnode_size_bits) == 136);
    assert!(offset_of!(BootInfo, init_thread_domain) == 144);
    assert!(offset_of!(BootInfo, schedcontrol) == 152);
    assert!(offset_of!(BootInfo, untyped) == 168);
    assert!(offset_of!(BootInfo, untyped_list) == 184);
    assert!(size_of::<BootInfoHeader>() == 16);
    assert!(offset_of!(BootInfoHeader, len) == 8);
};
