//! How pieces leave a guest for good: by unplugging, or by force.

use super::{PAGES_PER_PIECE, State, Supply, Table};
use protocol::memory::{Refusal, ReturnReason};
use protocol::units::{PieceId, Pieces};

impl Table {
    /// Unplugs a piece of the hot-plug region.
    ///
    /// # Errors
    /// The server's refusal; the piece stays.
    pub fn unplug(&mut self, index: u32, supply: &mut impl Supply) -> Result<(), Refusal> {
        match self.state(index) {
            State::Absent => return Ok(()),
            State::Granted(piece) => {
                match supply.give_back(index, piece, ReturnReason::Unplugged) {
                    // It was taken by force, and the notice is still to come: the guest does not want it any more.
                    Ok(()) | Err(Refusal::NotYours(_)) => {}
                    Err(refusal) => return Err(refusal),
                }
            }
            State::Reported => supply.drop_earmark(Pieces(1)),
            State::Ballooned | State::Revoked | State::Unused => {}
        }
        self.forget_pages(index);
        self.set_state(index, State::Absent);
        Ok(())
    }

    /// Takes an [`Table::unplug`] back: the guest is told that it has the piece still, and finds it at its next touch.
    pub fn keep_plugged(&mut self, index: u32) {
        if self.state(index) == State::Absent {
            self.set_state(index, State::Unused);
        }
    }

    /// The memory server took this piece by force. The guest's index of it.
    pub fn revoked(&mut self, piece: PieceId) -> Option<u32> {
        let index = (0..self.startup + self.hotplug)
            .find(|index| self.state(*index) == State::Granted(piece))?;
        let entry = self.entry(index)?;
        let is_whole = u32::from(entry.ballooned_pages) == PAGES_PER_PIECE;
        let state = if entry.is_untouched() {
            if is_whole {
                State::Ballooned
            } else {
                State::Unused
            }
        } else {
            State::Revoked
        };
        self.set_state(index, state);
        Some(index)
    }
}
