//! How large a guest's private memory is: everything its VMM and its kernel objects need, without its RAM.

use crate::manifest;
use protocol::layout::{IMAGE_VADDR, ipa};
use protocol::memory::Bounds;
use protocol::slots;
use protocol::units::{PIECE_BYTES, Pieces};
use sel4_sys as sys;

/// Bytes that one second-level page table covers.
const GIB: u64 = 1 << 30;
/// Scheduling contexts: room for the refills that a context needs.
pub const SCHED_CONTEXT_BITS: u32 = 8;

/// What a guest's objects look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestSize {
    /// Bytes of the hot-plug region with page tables.
    pub hotplug_bytes: u64,
    /// First byte of the hot-plug region (intermediate physical).
    pub hotplug_base: u64,
    /// log2 of the slots of the VMM's CNode.
    pub radix: u32,
    /// Second-level page tables for guest memory, in each of the two address spaces.
    pub memory_tables: u64,
    /// log2 of the bytes of the untyped that all of it comes from.
    pub untyped_bits: u32,
    /// Bytes used of it.
    pub bytes: u64,
}

/// Ranges of guest memory, as (first, end) intermediate physical addresses: startup RAM, hot-plug region.
#[must_use]
pub const fn memory_ranges(size: &GuestSize, startup: Pieces) -> [(u64, u64); 2] {
    [
        (ipa::RAM, ipa::RAM + startup.0 as u64 * PIECE_BYTES),
        (size.hotplug_base, size.hotplug_base + size.hotplug_bytes),
    ]
}

/// Page tables that cover the range: one for each GiB that it touches.
#[must_use]
pub const fn tables_for(first: u64, end: u64) -> u64 {
    if end <= first {
        0
    } else {
        (end - 1) / GIB - first / GIB + 1
    }
}

/// The VMM's image, as far as sizes depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmmImage {
    /// Writable pages.
    pub data_pages: u64,
    /// Bytes from its first address to its last.
    pub span_bytes: u64,
}

/// How much of a guest's possible growth is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headroom {
    /// Up to its maximum.
    Maximum,
    /// Up to twice its maximum, so that the operator can raise the maximum while it runs.
    TwiceMaximum,
}

/// The sizes for a guest with these bounds, in private memory of `1 << untyped_bits` bytes that exists already: with the
/// most headroom that fits. `None` when nothing fits.
#[must_use]
pub fn guest_within(
    bounds: &Bounds,
    pool: Pieces,
    image: VmmImage,
    untyped_bits: u32,
) -> Option<GuestSize> {
    [Headroom::TwiceMaximum, Headroom::Maximum]
        .into_iter()
        .map(|headroom| guest(bounds, pool, image, headroom))
        .find(|size| size.untyped_bits <= untyped_bits)
}

/// The sizes for a guest with these bounds. `pool` bounds what it could ever have beside its maximum.
#[must_use]
pub fn guest(bounds: &Bounds, pool: Pieces, image: VmmImage, headroom: Headroom) -> GuestSize {
    let VmmImage {
        data_pages,
        span_bytes,
    } = image;
    let factor = match headroom {
        Headroom::Maximum => 1,
        Headroom::TwiceMaximum => 2,
    };
    let most_in_cnode = ((1u64 << slots::vmm::RADIX) - slots::vmm::GUEST_FRAMES) / 2;
    let startup = u64::from(bounds.startup.0);
    let capacity = u64::from(bounds.maximum.0)
        .saturating_mul(factor)
        .min(u64::from(pool.0))
        .max(u64::from(bounds.maximum.0))
        .max(startup)
        .min(most_in_cnode);
    let hotplug_bytes = (capacity - startup.min(capacity)) * PIECE_BYTES;
    let ram_end = ipa::RAM + startup * PIECE_BYTES;
    let hotplug_base = ram_end
        .max(ipa::HOTPLUG_MIN)
        .next_multiple_of(ipa::HOTPLUG_ALIGN);
    let radix = (slots::vmm::GUEST_FRAMES + 2 * capacity)
        .next_power_of_two()
        .ilog2();
    let memory_tables =
        tables_for(ipa::RAM, ram_end) + tables_for(hotplug_base, hotplug_base + hotplug_bytes);

    let threads = manifest::VMM.threads.len() as u64;
    let stacks: u64 = manifest::VMM
        .threads
        .iter()
        .map(|thread| thread.stack_pages)
        .sum();
    let image_tables = (IMAGE_VADDR + span_bytes).div_ceil(PIECE_BYTES) - IMAGE_VADDR / PIECE_BYTES;
    // Low addresses: one second-level table, third-level ones for image, startup page, IPC buffers, stacks; the store: one
    // second-level; the guest's device region: one of each.
    let tables = 1 + image_tables + 3 + 1 + 2 + 2 * memory_tables;
    let pages = data_pages + stacks + threads + 1 + 1;
    let objects = [
        (sys::SLOT_BITS + radix, 1),
        (sys::VSPACE_BITS, 2),
        (sys::PAGE_BITS, pages + tables + 1),
        (sys::TCB_BITS, threads + 1),
        (SCHED_CONTEXT_BITS, threads + 1),
        (sys::SLOT_BITS + 1, 1),
        (sys::NOTIFICATION_BITS, 1),
        (sys::REPLY_BITS, 2),
        (sys::ENDPOINT_BITS, 2),
    ];
    // Objects smaller than a page are made between pages, whose alignment then costs up to a page each.
    let bytes: u64 = objects
        .iter()
        .map(|(bits, count)| count << (*bits).max(sys::PAGE_BITS))
        .sum();
    GuestSize {
        hotplug_bytes,
        hotplug_base,
        radix,
        memory_tables,
        untyped_bits: bytes.next_power_of_two().ilog2(),
        bytes,
    }
}

/// Slots of the root task's CNode that a guest needs, whatever its private memory is used for: every page of it can have
/// one, and so have the smaller objects, the copies of the shared image pages, of the store's frames and of the virtual
/// CPU interface, and the badged endpoints that are minted.
#[must_use]
pub const fn guest_slots(size: &GuestSize, shared_pages: u64, store_frames: u64) -> u64 {
    (1 << (size.untyped_bits - sys::PAGE_BITS)) + shared_pages + store_frames + 96
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bounds(startup: u32, maximum: u32) -> Bounds {
        Bounds {
            minimum: Pieces(startup.min(64)),
            startup: Pieces(startup),
            maximum: Pieces(maximum),
        }
    }

    const IMAGE: VmmImage = VmmImage {
        data_pages: 40,
        span_bytes: 200 << 10,
    };

    #[test]
    fn a_quarter_scale_guest_is_small() {
        let size = guest(
            &bounds(128, 512),
            Pieces(1024),
            IMAGE,
            Headroom::TwiceMaximum,
        );
        assert_eq!(size.hotplug_base, 0x1_0000_0000);
        assert_eq!(size.hotplug_bytes, (1024 - 128) * PIECE_BYTES);
        assert_eq!(size.memory_tables, 1 + 2);
        assert_eq!(size.radix, 12);
        assert!(size.untyped_bits <= 20, "{size:?}");
    }

    #[test]
    fn tables_cover_ranges_that_touch_a_gib() {
        assert_eq!(tables_for(0, 0), 0);
        assert_eq!(tables_for(0, 1), 1);
        assert_eq!(tables_for(0, GIB), 1);
        assert_eq!(tables_for(GIB - 1, GIB + 1), 2);
    }

    proptest! {
        #[test]
        fn capacity_holds_the_maximum_and_fits_the_cnode(
            startup in 1u32..4096, more in 0u32..4096, pool in 1u32..16384, data in 0u64..200,
        ) {
            let maximum = (startup + more).min(4096);
            let startup = startup.min(maximum);
            let image = VmmImage {
                data_pages: data,
                span_bytes: data * 4096 + 65536,
            };
            let bounds = bounds(startup, maximum);
            let size = guest(&bounds, Pieces(pool), image, Headroom::TwiceMaximum);
            let least = guest(&bounds, Pieces(pool), image, Headroom::Maximum);
            prop_assert!(least.bytes <= size.bytes);
            let within = guest_within(&bounds, Pieces(pool), image, least.untyped_bits);
            prop_assert!(within.is_some_and(|within| within.untyped_bits <= least.untyped_bits));
            prop_assert_eq!(guest_within(&bounds, Pieces(pool), image, least.untyped_bits - 1), None);
            let capacity = u64::from(startup) + size.hotplug_bytes / PIECE_BYTES;
            prop_assert!(capacity >= u64::from(maximum));
            prop_assert!(slots::vmm::GUEST_FRAMES + 2 * capacity <= 1 << size.radix);
            prop_assert!(size.radix <= slots::vmm::RADIX);
            prop_assert!(size.bytes <= 1 << size.untyped_bits);
            prop_assert!(size.hotplug_base >= ipa::RAM + u64::from(startup) * PIECE_BYTES);
            prop_assert_eq!(size.hotplug_base % ipa::HOTPLUG_ALIGN, 0);
        }
    }
}
