//! Which untyped memory becomes what: a model of the kernel's own allocation rule.
//!
//! An untyped hands out memory from its start upward; an object is aligned to its own size (seL4 manual, 2.4.1). The
//! model repeats that rule, so it knows what fits where without asking.

use heapless::Vec;
use sel4_sys::{LARGE_PAGE_BITS, MAX_BOOT_UNTYPEDS};

/// An untyped object as the model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untyped {
    /// Its capability.
    pub slot: u64,
    /// Its first physical address.
    pub paddr: u64,
    /// log2 of its bytes.
    pub bits: u32,
    /// Bytes handed out, from the start.
    pub used: u64,
}

impl Untyped {
    const fn bytes(&self) -> u64 {
        1 << self.bits
    }

    /// Where `count` objects of `1 << bits` bytes would begin, if they fit.
    #[must_use]
    pub fn fit(&self, bits: u32, count: u64) -> Option<u64> {
        let size = 1u64.checked_shl(bits)?;
        let start = self.used.checked_next_multiple_of(size)?;
        let end = start.checked_add(size.checked_mul(count)?)?;
        (end <= self.bytes()).then_some(start)
    }
}

/// A place for objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The untyped to retype.
    pub untyped: u64,
    /// Physical address of the first object.
    pub paddr: u64,
    /// Objects.
    pub count: u64,
}

/// All RAM untypeds.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    untypeds: Vec<Untyped, MAX_BOOT_UNTYPEDS>,
    handed_out: u64,
}

impl Memory {
    /// No memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            untypeds: Vec::new(),
            handed_out: 0,
        }
    }

    /// Adds an untyped of which nothing is handed out. `None` when the table is full (it has room for all that
    /// the kernel can name) or the size is not below 2^64.
    pub fn add(&mut self, slot: u64, paddr: u64, bits: u32) -> Option<()> {
        if bits >= u64::BITS {
            return None;
        }
        self.untypeds
            .push(Untyped {
                slot,
                paddr,
                bits,
                used: 0,
            })
            .ok()
    }

    /// Bytes handed out so far, without those lost to alignment.
    #[must_use]
    pub const fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// Bytes not handed out, lost ones not counted.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.untypeds
            .iter()
            .map(|untyped| untyped.bytes() - untyped.used)
            .sum()
    }

    /// A place for `count` objects of `1 << bits` bytes in one untyped: the one with the least left that has room, so that
    /// large ones stay whole.
    pub fn take(&mut self, bits: u32, count: u64) -> Option<Grant> {
        let untyped = self
            .untypeds
            .iter_mut()
            .filter(|untyped| untyped.fit(bits, count).is_some())
            .min_by_key(|untyped| untyped.bytes() - untyped.used)?;
        let start = untyped.fit(bits, count)?;
        untyped.used = start + (count << bits);
        self.handed_out += count << bits;
        Some(Grant {
            untyped: untyped.slot,
            paddr: untyped.paddr + start,
            count,
        })
    }

    /// A place for up to `most` pieces of 2 MiB, from the untyped with the most of them left: call until the pool is
    /// complete. `None` when no piece is left anywhere.
    pub fn take_pieces(&mut self, most: u64) -> Option<Grant> {
        let pieces_left = |untyped: &Untyped| {
            let start = untyped.used.next_multiple_of(1 << LARGE_PAGE_BITS);
            untyped.bytes().saturating_sub(start) >> LARGE_PAGE_BITS
        };
        let untyped = self
            .untypeds
            .iter_mut()
            .max_by_key(|untyped| pieces_left(untyped))?;
        let count = pieces_left(untyped).min(most);
        if count == 0 {
            return None;
        }
        let start = untyped.fit(LARGE_PAGE_BITS, count)?;
        untyped.used = start + (count << LARGE_PAGE_BITS);
        Some(Grant {
            untyped: untyped.slot,
            paddr: untyped.paddr + start,
            count,
        })
    }

    /// Pieces of 2 MiB that could still be handed out.
    #[must_use]
    pub fn pieces_left(&self) -> u64 {
        self.untypeds
            .iter()
            .map(|untyped| {
                let start = untyped.used.next_multiple_of(1 << LARGE_PAGE_BITS);
                untyped.bytes().saturating_sub(start) >> LARGE_PAGE_BITS
            })
            .sum()
    }
}

/// The untyped children to make first so that the next object of a device untyped begins at `target`: log2 of their sizes,
/// in order. `used` and `target` are offsets in the untyped. `None` when `target` was passed already.
#[must_use]
pub fn steps_to(used: u64, target: u64) -> Option<Vec<u32, 64>> {
    let mut steps = Vec::new();
    let mut at = used;
    while at < target {
        let fits = (target - at).ilog2();
        let aligned = if at == 0 { fits } else { at.trailing_zeros() };
        let bits = fits.min(aligned);
        if bits < sel4_sys::MIN_UNTYPED_BITS {
            return None;
        }
        steps.push(bits).ok()?;
        at += 1 << bits;
    }
    (at == target).then_some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn overlaps(a: (u64, u64), b: (u64, u64)) -> bool {
        a.0 < b.1 && b.0 < a.1
    }

    /// Untypeds as a kernel makes them: naturally aligned, disjoint.
    fn memory(sizes: &[u32]) -> (Memory, std::vec::Vec<(u64, u64)>) {
        let mut memory = Memory::new();
        let mut regions = std::vec::Vec::new();
        for (index, bits) in sizes.iter().enumerate() {
            let paddr = (index as u64 + 1) << 40;
            memory.add(index as u64, paddr, *bits).unwrap();
            regions.push((paddr, paddr + (1 << bits)));
        }
        (memory, regions)
    }

    #[test]
    fn small_objects_leave_the_large_untyped_whole() {
        let (mut memory, _) = memory(&[30, 14]);
        assert_eq!(memory.take(12, 1).unwrap().untyped, 1);
        assert_eq!(memory.pieces_left(), 512);
        assert_eq!(memory.take_pieces(500).unwrap().count, 500);
        assert_eq!(memory.take(13, 1).unwrap().untyped, 1);
        // What the pool left over is for objects too.
        assert_eq!(memory.take(21, 12).unwrap().paddr, (1 << 40) + (500 << 21));
        assert_eq!(memory.take(21, 1), None);
    }

    #[test]
    fn a_pool_spreads_over_untypeds_and_is_exact() {
        let (mut memory, _) = memory(&[22, 25, 20]);
        let mut pool = 0;
        while let Some(grant) = memory.take_pieces(17 - pool) {
            pool += grant.count;
            if pool == 17 {
                break;
            }
        }
        assert_eq!(pool, 17);
        assert_eq!(memory.pieces_left(), 1);
    }

    #[test]
    fn steps_reach_a_device() {
        assert_eq!(steps_to(0, 0).unwrap().as_slice(), &[] as &[u32]);
        assert_eq!(steps_to(0, 0x900_0000).unwrap().as_slice(), &[27, 24]);
        assert_eq!(steps_to(0x1000, 0x3000).unwrap().as_slice(), &[12, 12]);
        assert_eq!(steps_to(0x3000, 0x1000), None);
        assert_eq!(steps_to(0, 8), None);
    }

    proptest! {
        #[test]
        fn grants_are_disjoint_aligned_and_inside(
            sizes in proptest::collection::vec(12u32..31, 1..12),
            requests in proptest::collection::vec((4u32..24, 1u64..300, any::<bool>()), 0..80),
        ) {
            let (mut memory, regions) = memory(&sizes);
            let mut granted: std::vec::Vec<(u64, u64)> = std::vec::Vec::new();
            for (bits, count, as_pieces) in requests {
                let (grant, bits) = if as_pieces {
                    (memory.take_pieces(count), 21)
                } else {
                    (memory.take(bits, count), bits)
                };
                let Some(grant) = grant else { continue };
                let range = (grant.paddr, grant.paddr + (grant.count << bits));
                prop_assert!(grant.count >= 1 && grant.count <= count);
                prop_assert_eq!(grant.paddr % (1 << bits), 0);
                let home = regions[grant.untyped as usize];
                prop_assert!(home.0 <= range.0 && range.1 <= home.1);
                for other in &granted {
                    prop_assert!(!overlaps(range, *other), "{:x?} {:x?}", range, other);
                }
                granted.push(range);
            }
            let total: u64 = sizes.iter().map(|bits| 1u64 << bits).sum();
            let used: u64 = granted.iter().map(|range| range.1 - range.0).sum();
            prop_assert!(used + memory.left() <= total);
        }

        #[test]
        fn a_refused_request_really_does_not_fit(
            sizes in proptest::collection::vec(12u32..25, 1..6), bits in 12u32..26, count in 1u64..100,
        ) {
            let (mut memory, _) = memory(&sizes);
            let fits = sizes.iter().any(|size| u128::from(count) << bits <= 1u128 << size);
            prop_assert_eq!(memory.take(bits, count).is_some(), fits);
        }

        #[test]
        fn steps_sum_to_the_target_and_are_aligned(used in 0u64..1 << 30, target in 0u64..1 << 30) {
            let (used, target) = (used & !0xfff, target & !0xfff);
            match steps_to(used, target) {
                None => prop_assert!(used > target),
                Some(steps) => {
                    let mut at = used;
                    for bits in steps {
                        prop_assert_eq!(at % (1 << bits), 0);
                        at += 1 << bits;
                    }
                    prop_assert_eq!(at, target);
                }
            }
        }
    }
}
