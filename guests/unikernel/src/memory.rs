//! Which pieces are free, filled, or in the balloon.

/// Most pieces that are managed: 8 GiB.
pub const MAX_PIECES: usize = 4096;

/// What a piece is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nothing.
    Free,
    /// Part of the set, at this position from its start.
    Filled(u16),
    /// The host has it.
    Ballooned,
    /// Never ours: beyond memory, or the program's own.
    Outside,
}

/// What a piece holds before it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Content {
    /// What the host gave: it must be zero.
    Fresh,
    /// Anything: it was in use here.
    Used,
}

/// The table.
#[derive(Debug)]
pub struct Memory {
    states: [State; MAX_PIECES],
    contents: [Content; MAX_PIECES],
    free: u32,
    filled: u32,
    ballooned: u32,
}

impl Memory {
    /// No memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            states: [State::Outside; MAX_PIECES],
            contents: [Content::Fresh; MAX_PIECES],
            free: 0,
            filled: 0,
            ballooned: 0,
        }
    }

    /// All pieces but the first, which is the program's, are free.
    pub fn set_up(&mut self, pieces: u32) {
        for state in self.states.iter_mut().take(pieces as usize).skip(1) {
            *state = State::Free;
            self.free += 1;
        }
    }

    /// Free pieces.
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.free
    }

    /// Filled pieces.
    #[must_use]
    pub const fn filled(&self) -> u32 {
        self.filled
    }

    /// Ballooned pieces.
    #[must_use]
    pub const fn ballooned(&self) -> u32 {
        self.ballooned
    }

    fn set(&mut self, index: usize, state: State) {
        let Some(slot) = self.states.get_mut(index) else {
            return;
        };
        let count = |memory: &mut Self, state, by: i32| {
            let count = match state {
                State::Free => &mut memory.free,
                State::Filled(_) => &mut memory.filled,
                State::Ballooned => &mut memory.ballooned,
                State::Outside => return,
            };
            *count = count.saturating_add_signed(by);
        };
        let old = core::mem::replace(slot, state);
        count(self, old, -1);
        count(self, state, 1);
    }

    fn find(&self, wanted: impl Fn(State) -> bool) -> Option<usize> {
        self.states.iter().position(|state| wanted(*state))
    }

    /// Takes the lowest free piece into the set; its index and what it holds.
    pub fn fill(&mut self) -> Option<(usize, Content)> {
        let index = self.find(|state| state == State::Free)?;
        let position = u16::try_from(self.filled).ok()?;
        self.set(index, State::Filled(position));
        Some((index, self.replace_content(index, Content::Used)))
    }

    /// Something was written to a piece that is not filled.
    pub fn used(&mut self, index: usize) {
        self.replace_content(index, Content::Used);
    }

    fn replace_content(&mut self, index: usize, content: Content) -> Content {
        self.contents
            .get_mut(index)
            .map_or(Content::Used, |old| core::mem::replace(old, content))
    }

    /// Gives the newest piece of the set up.
    pub fn release(&mut self) -> Option<usize> {
        let newest = u16::try_from(self.filled.checked_sub(1)?).ok()?;
        let index = self.find(|state| state == State::Filled(newest))?;
        self.set(index, State::Free);
        Some(index)
    }

    /// The piece at a position of the set.
    #[must_use]
    pub fn at(&self, position: u16) -> Option<usize> {
        self.find(|state| state == State::Filled(position))
    }

    /// Takes the highest free piece for the balloon.
    pub fn inflate(&mut self) -> Option<usize> {
        let index = self
            .states
            .iter()
            .rposition(|state| *state == State::Free)?;
        self.set(index, State::Ballooned);
        Some(index)
    }

    /// Gives the lowest free piece up for good; its index.
    pub fn strand(&mut self) -> Option<usize> {
        let index = self.find(|state| state == State::Free)?;
        self.set(index, State::Outside);
        Some(index)
    }

    /// The lowest ballooned piece, still the host's until [`Memory::deflated`].
    #[must_use]
    pub fn next_deflation(&self) -> Option<usize> {
        self.find(|state| state == State::Ballooned)
    }

    /// A piece came back, as the host gave it.
    pub fn deflated(&mut self, index: usize) {
        if self.states.get(index) == Some(&State::Ballooned) {
            self.set(index, State::Free);
            self.replace_content(index, Content::Fresh);
        }
    }

    /// The free pieces, by index.
    pub fn free_pieces(&self) -> impl Iterator<Item = usize> {
        self.states
            .iter()
            .enumerate()
            .filter(|(_, state)| **state == State::Free)
            .map(|(index, _)| index)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// The word that is written at a place: it depends on the place, the fill's number and the seed.
#[must_use]
pub const fn pattern(seed: u64, generation: u64, place: u64) -> u64 {
    place.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.rotate_left(17) ^ generation.wrapping_mul(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pieces_move_between_their_uses() {
        let mut memory = Memory::new();
        memory.set_up(4);
        assert_eq!(memory.free(), 3);
        memory.used(2);
        assert_eq!(memory.fill(), Some((1, Content::Fresh)));
        assert_eq!(memory.inflate(), Some(3));
        assert_eq!(memory.fill(), Some((2, Content::Used)));
        assert_eq!(memory.fill(), None);
        assert_eq!(
            (memory.filled(), memory.ballooned(), memory.free()),
            (2, 1, 0)
        );
        assert_eq!(memory.next_deflation(), Some(3));
        memory.deflated(3);
        assert_eq!(memory.release(), Some(2));
        assert_eq!(memory.at(0), Some(1));
        assert_eq!(memory.free_pieces().collect::<Vec<_>>(), [2, 3]);
        // What was filled once holds anything; what comes back from the balloon must be zero again.
        assert_eq!(memory.fill(), Some((2, Content::Used)));
        assert_eq!(memory.strand(), Some(3));
        assert_eq!(memory.fill(), None);
    }

    #[test]
    fn neighbours_fills_and_guests_differ() {
        assert_ne!(pattern(1, 1, 5), pattern(1, 1, 6));
        assert_ne!(pattern(1, 1, 5), pattern(1, 2, 5));
        assert_ne!(pattern(1, 1, 5), pattern(2, 1, 5));
    }

    proptest! {
        #[test]
        fn the_counts_add_up(pieces in 1u32..40, ops in proptest::collection::vec(0u8..4, 0..200)) {
            let mut memory = Memory::new();
            memory.set_up(pieces);
            for op in ops {
                match op {
                    0 => { memory.fill(); }
                    1 => { memory.release(); }
                    2 => { memory.inflate(); }
                    _ => if let Some(index) = memory.next_deflation() { memory.deflated(index) },
                }
                prop_assert_eq!(memory.free() + memory.filled() + memory.ballooned(), pieces - 1);
            }
        }
    }
}
