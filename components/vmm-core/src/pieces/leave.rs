//! How pieces leave a guest for good: by unplugging, or by force.

use core::ops::Range;

use super::{PAGES_PER_PIECE, State, Supply, Table};
use protocol::memory::{Refusal, ReturnReason};
use protocol::units::{PieceId, Pieces};

impl Table {
    /// Unplugs pieces of the hot-plug region. Those without a frame go by one message.
    ///
    /// # Errors
    /// The server's refusal; the piece that it refused and those after it stay.
    pub fn unplug(&mut self, pieces: Range<u32>, supply: &mut impl Supply) -> Result<(), Refusal> {
        let mut promised = 0;
        let mut result = Ok(());
        for index in pieces {
            match self.state(index) {
                State::Absent => continue,
                State::Granted(piece) => {
                    match supply.give_back(index, piece, ReturnReason::Unplugged) {
                        // It was taken by force, and the notice is still to come: the guest does not want it any more.
                        Ok(()) | Err(Refusal::NotYours(_)) => {}
                        Err(refusal) => {
                            result = Err(refusal);
                            break;
                        }
                    }
                }
                State::Reported => promised += 1,
                State::Ballooned | State::Revoked | State::Unused => {}
            }
            self.forget_pages(index);
            self.set_state(index, State::Absent);
        }
        if promised > 0 {
            supply.drop_earmark(Pieces(promised));
        }
        result
    }

    /// Takes the [`Table::unplug`] of a piece back: the guest is told that it has it still, and finds it at its next touch.
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
