//! The cushion: memory that is plugged and lies in the balloon, without frames and without a promise. When the guest's kernel
//! runs out of memory its OOM notifier takes pages out of the balloon before it kills, and waits for the answer
//! (DEFLATE_ON_OOM, MUST_TELL_HOST): that is the time in which memory comes.

use core::ops::Range;

use super::{PAGES_PER_PIECE, State, Supply, Table};
use protocol::memory::{Purpose, Refusal, ReturnReason};
use protocol::units::Pieces;

impl Table {
    /// Says how many pieces may be plugged without a promise.
    pub const fn set_cushion(&mut self, pieces: u32) {
        self.cushion = pieces;
    }

    /// Pieces that the guest regards as its RAM and that are not promised to it.
    fn unpromised(&self) -> u32 {
        (self.startup + self.plugged).saturating_sub(self.granted + self.reported)
    }

    /// Pieces of the cushion that are not plugged yet.
    fn cushion_to_plug(&self) -> u32 {
        let there = self.unpromised().max(self.ballooned_pieces());
        self.cushion.saturating_sub(there)
    }

    /// Pieces that [`Table::plug`] can plug within this target.
    #[must_use]
    pub fn plug_room(&self, target: u32) -> u32 {
        target.saturating_sub(self.granted + self.reported) + self.cushion_to_plug()
    }

    /// Plugs pieces of the hot-plug region, all of them absent. The cushion comes first: its pieces get no promise. All
    /// others are promised.
    ///
    /// # Errors
    /// The server's refusal; nothing has changed.
    pub fn plug(&mut self, pieces: Range<u32>, supply: &mut impl Supply) -> Result<(), Refusal> {
        let count = pieces.len() as u32;
        let cushion = self.cushion_to_plug().min(count);
        let rest = pieces.start + cushion..pieces.end;
        if !rest.is_empty() {
            self.promise(rest, supply)?;
        }
        for index in pieces.start..pieces.start + cushion {
            self.set_state(index, State::Unused);
        }
        Ok(())
    }

    /// Takes piece `index` on the promise of another piece, which has no frame and is not promised any more: a promise is
    /// for an amount, and the guest decides which memory it uses first.
    pub(super) fn take_by_other_promise(
        &mut self,
        index: u32,
        supply: &mut impl Supply,
    ) -> Result<(), Refusal> {
        let end = self.startup + self.hotplug;
        // The last one: the guest's kernel fills memory from below.
        let other = (0..end)
            .rev()
            .find(|other| *other != index && self.state(*other) == State::Reported);
        let other = other.ok_or(Refusal::AtTarget {
            assigned: Pieces(self.granted),
            target: Pieces(self.granted),
        })?;
        let piece = supply.take(index, Purpose::Touched)?;
        self.set_state(index, State::Granted(piece));
        self.set_state(other, State::Unused);
        Ok(())
    }

    /// A piece is wholly in the balloon: it goes back. Its promise goes with it, unless the guest moved what was in the balloon
    /// here from a piece that it has now instead.
    pub(super) fn fill(&mut self, index: u32, supply: &mut impl Supply) {
        let other = self.needs_promise();
        match self.state(index) {
            State::Granted(piece) => {
                let why = match other {
                    Some(_) => ReturnReason::Reported,
                    None => ReturnReason::Ballooned,
                };
                if supply.give_back(index, piece, why).is_err() {
                    return;
                }
            }
            State::Reported if other.is_none() => supply.drop_earmark(Pieces(1)),
            State::Reported => {}
            State::Unused => return self.set_state(index, State::Ballooned),
            State::Absent | State::Ballooned | State::Revoked => return,
        }
        self.set_state(index, State::Ballooned);
        if let Some(other) = other {
            self.set_state(other, State::Reported);
        }
    }

    /// A piece that is not promised and not wholly in the balloon, and that the guest may come to touch.
    pub(super) fn needs_promise(&self) -> Option<u32> {
        if self.unused == 0 {
            return None;
        }
        (0..self.startup + self.hotplug).find(|index| {
            self.entry(*index).is_some_and(|entry| {
                entry.state == State::Unused && u32::from(entry.ballooned_pages) < PAGES_PER_PIECE
            })
        })
    }

    /// Promises pieces of the hot-plug region that were plugged without a promise and are not wholly in the balloon: what the
    /// balloon left of them the guest may touch. Those that cannot be at this moment are tried again.
    pub fn promise_what_is_left(&mut self, supply: &mut impl Supply) {
        let mut index = self.startup;
        while self.unused > 0 && index < self.startup + self.hotplug {
            if self.state(index) == State::Unused && self.promise(index..index + 1, supply).is_err()
            {
                return;
            }
            index += 1;
        }
    }

    /// Whole pieces' worth of pages in the balloon.
    pub(crate) const fn ballooned_pieces(&self) -> u32 {
        self.ballooned_pages / PAGES_PER_PIECE
    }
}
