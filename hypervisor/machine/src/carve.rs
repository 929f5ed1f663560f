//! Taking memory apart: pieces for the kernel's boot objects, naturally aligned powers of two for user level.

use crate::regions::{Full, Region, Regions};

/// Takes `bytes` bytes with `align` (a power of two) out of `free`: as low as possible at or above `from`, else anywhere.
///
/// # Errors
/// [`Full`] when there is no such piece, or the rest has too many regions.
pub fn take<const N: usize>(
    free: &mut Regions<N>,
    from: u64,
    bytes: u64,
    align: u64,
) -> Result<Region, Full> {
    let found = free
        .find(from, bytes, align, 1 << 63)
        .or_else(|| free.find(0, bytes, align, 1 << 63))
        .ok_or(Full)?;
    free.remove(found)?;
    Ok(found)
}

/// A naturally aligned piece of `1 << bits` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub start: u64,
    /// log2 of its bytes.
    pub bits: u32,
}

/// Splits a region into the fewest naturally aligned pieces.
#[derive(Clone, Debug)]
pub struct Pieces {
    rest: Region,
    least_bits: u32,
    most_bits: u32,
}

/// The pieces of `region`, from `1 << least_bits` to `1 << most_bits` bytes (at most 47); what does not fill the least is left out.
#[must_use]
pub const fn pieces(region: Region, least_bits: u32, most_bits: u32) -> Pieces {
    Pieces {
        rest: region.narrowed(1 << (least_bits & 63)),
        least_bits,
        most_bits,
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let length = self.rest.bytes();
        if length == 0 {
            return None;
        }
        let start = self.rest.start;
        let bits = start
            .trailing_zeros()
            .min(length.ilog2())
            .min(self.most_bits);
        if bits < self.least_bits {
            return None;
        }
        self.rest.start = start.wrapping_add(1u64.wrapping_shl(bits));
        Some(Piece { start, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_aligned_and_cover_the_region(start in 0u64..1 << 41, bytes in 0u64..1 << 34) {
            let region = Region::new(start, bytes);
            let mut at = region.narrowed(4096).start;
            for piece in pieces(region, 12, 30) {
                prop_assert_eq!(piece.start, at);
                prop_assert!((12..=30).contains(&piece.bits));
                prop_assert_eq!(piece.start % (1 << piece.bits), 0);
                at += 1 << piece.bits;
            }
            prop_assert_eq!(at, region.narrowed(4096).end);
        }

        #[test]
        fn what_is_taken_is_gone(bytes in 1u64..0x2000, shift in 0u32..13, from in 0u64..0x9000) {
            let mut free = Regions::<8>::new();
            free.add(Region::new(0x1000, 0x4000)).unwrap();
            free.add(Region::new(0x8000, 0x2000)).unwrap();
            let before: u64 = free.as_slice().iter().map(Region::bytes).sum();
            if let Ok(taken) = take(&mut free, from, bytes, 1 << shift) {
                let after: u64 = free.as_slice().iter().map(Region::bytes).sum();
                prop_assert_eq!(after, before - bytes);
                prop_assert!(free.as_slice().iter().all(|region| !region.overlaps(&taken)));
            }
        }
    }
}
