//! Sets of physical addresses as sorted, disjoint regions in a fixed array.

/// A region `[start, end)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Region {
    /// From `start`, `bytes` long; cut at the end of the address space.
    #[must_use]
    pub const fn new(start: u64, bytes: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(bytes),
        }
    }

    /// Its length.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether a byte is in both.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The smallest aligned region that holds it. `align` is a power of two.
    #[must_use]
    pub const fn widened(&self, align: u64) -> Self {
        let mask = align.wrapping_sub(1);
        Self {
            start: self.start & !mask,
            end: self.end.saturating_add(mask) & !mask,
        }
    }

    /// The largest aligned region inside it (empty if there is none). `align` is a power of two.
    #[must_use]
    pub const fn narrowed(&self, align: u64) -> Self {
        let mask = align.wrapping_sub(1);
        let start = self.start.saturating_add(mask) & !mask;
        let end = self.end & !mask;
        if start < end {
            Self { start, end }
        } else {
            Self { start: 0, end: 0 }
        }
    }

    /// Whether every byte of `other` is in it.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// The array is full: nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A set of addresses, at most `N` regions.
#[derive(Clone, Copy, Debug)]
pub struct Regions<const N: usize> {
    list: [Region; N],
    count: usize,
}

impl<const N: usize> Default for Regions<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Regions<N> {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            list: [Region { start: 0, end: 0 }; N],
            count: 0,
        }
    }

    /// The regions, sorted.
    #[must_use]
    pub fn as_slice(&self) -> &[Region] {
        self.list.get(..self.count).unwrap_or(&[])
    }

    fn push(&mut self, region: Region) -> Result<(), Full> {
        if region.start >= region.end {
            return Ok(());
        }
        // Adjacent ones become one.
        if let Some(last) = self
            .count
            .checked_sub(1)
            .and_then(|index| self.list.get_mut(index))
            && last.end >= region.start
        {
            last.end = last.end.max(region.end);
            return Ok(());
        }
        *self.list.get_mut(self.count).ok_or(Full)? = region;
        self.count = self.count.wrapping_add(1);
        Ok(())
    }

    /// Adds a region.
    ///
    /// # Errors
    /// [`Full`] when the result has more than `N` regions.
    pub fn add(&mut self, region: Region) -> Result<(), Full> {
        let mut result = Self::new();
        let mut new = Some(region);
        for old in self.as_slice() {
            if let Some(region) = new
                && region.start <= old.start
            {
                result.push(region)?;
                new = None;
            }
            result.push(*old)?;
        }
        if let Some(region) = new {
            result.push(region)?;
        }
        *self = result;
        Ok(())
    }

    /// Takes a region out.
    ///
    /// # Errors
    /// [`Full`] when the result has more than `N` regions.
    pub fn remove(&mut self, hole: Region) -> Result<(), Full> {
        if hole.start >= hole.end {
            return Ok(());
        }
        let mut result = Self::new();
        for old in self.as_slice() {
            if old.overlaps(&hole) {
                result.push(Region {
                    start: old.start,
                    end: hole.start.min(old.end),
                })?;
                result.push(Region {
                    start: hole.end.max(old.start),
                    end: old.end,
                })?;
            } else {
                result.push(*old)?;
            }
        }
        *self = result;
        Ok(())
    }

    /// Whether every byte of `region` is in the set.
    #[must_use]
    pub fn contains(&self, region: &Region) -> bool {
        self.as_slice().iter().any(|own| own.contains(region))
    }

    /// The lowest place at or above `from` for `bytes` bytes with `align` (a power of two) that does not cross a multiple
    /// of `window` (a power of two).
    #[must_use]
    pub fn find(&self, from: u64, bytes: u64, align: u64, window: u64) -> Option<Region> {
        let up = |address: u64, align: u64| {
            let mask = align.wrapping_sub(1);
            address.checked_add(mask).map(|sum| sum & !mask)
        };
        for region in self.as_slice() {
            let mut start = up(region.start.max(from), align)?;
            // The second try starts at the next window.
            for _ in 0..2 {
                let end = start.checked_add(bytes)?;
                let window_end = (start & !window.wrapping_sub(1)).checked_add(window)?;
                if end > region.end {
                    break;
                }
                if end <= window_end {
                    return Some(Region { start, end });
                }
                start = up(window_end, align)?;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The set as a bit for each of 64 addresses.
    fn bits<const N: usize>(regions: &Regions<N>) -> u64 {
        let mut bits = 0u64;
        for region in regions.as_slice() {
            for address in region.start..region.end.min(64) {
                bits |= 1 << address;
            }
        }
        bits
    }

    fn well_formed<const N: usize>(regions: &Regions<N>) -> bool {
        let list = regions.as_slice();
        list.iter().all(|r| r.start < r.end)
            && list.windows(2).all(|pair| pair[0].end < pair[1].start)
    }

    proptest! {
        #[test]
        fn add_and_remove_are_those_of_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..64, 0u64..20), 0..40)) {
            let mut regions = Regions::<64>::new();
            let mut model = 0u64;
            for (add, start, bytes) in steps {
                let region = Region { start, end: (start + bytes).min(64) };
                let mask = (region.start..region.end).fold(0u64, |mask, address| mask | 1 << address);
                if add {
                    regions.add(region).unwrap();
                    model |= mask;
                } else {
                    regions.remove(region).unwrap();
                    model &= !mask;
                }
                prop_assert_eq!(bits(&regions), model);
                prop_assert!(well_formed(&regions));
            }
        }

        #[test]
        fn a_full_set_is_left_as_it_was(starts in prop::collection::vec(0u64..64, 1..20)) {
            let mut regions = Regions::<2>::new();
            for start in starts {
                let before = bits(&regions);
                if regions.add(Region { start, end: start + 1 }).is_err() {
                    prop_assert_eq!(bits(&regions), before);
                }
                prop_assert!(well_formed(&regions));
            }
        }

        #[test]
        fn what_is_found_fits(start in 0u64..10_000, bytes in 1u64..20_000, want in 1u64..5_000, shift in 0u32..8, from in 0u64..9_000) {
            let mut regions = Regions::<4>::new();
            regions.add(Region::new(start, bytes)).unwrap();
            if let Some(found) = regions.find(from, want, 1 << shift, 8192) {
                prop_assert!(regions.contains(&found));
                prop_assert!(found.start >= from && found.start % (1 << shift) == 0 && found.bytes() == want);
                prop_assert_eq!(found.start / 8192, (found.end - 1) / 8192);
            }
        }
    }

    #[test]
    fn a_region_that_cannot_be_found_is_none() {
        let mut regions = Regions::<4>::new();
        regions.add(Region::new(0x1000, 0x3000)).unwrap();
        assert_eq!(regions.find(0, 0x3001, 1, 1 << 30), None);
        assert_eq!(
            regions.find(0, 0x2000, 0x2000, 1 << 30),
            Some(Region::new(0x2000, 0x2000))
        );
        assert_eq!(
            regions.find(0, 0x2000, 0x1000, 0x2000),
            Some(Region::new(0x2000, 0x2000))
        );
    }
}
