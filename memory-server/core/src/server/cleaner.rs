//! What the cleaner reports: pieces cleaned, or not; its next piece is the answer.

use super::{Cleaner, Outcome, Server};
use crate::account::Waiting;
use crate::kernel::{Kernel, Place};
use crate::ledger::State;
use protocol::memory::{Refusal, Reply};
use protocol::units::{GuestId, PieceId};

impl<const N: usize> Server<N> {
    pub(super) fn cleaned<K: Kernel>(&mut self, kernel: &mut K, piece: Option<PieceId>) -> Outcome {
        if let Some(piece) = piece {
            if self.ledger.state(piece) != State::Cleaning {
                return Outcome::Answer(Reply::Refused(Refusal::NotYours(piece)));
            }
            match self.transfer(kernel, piece, Place::Dirty, Place::Pool) {
                Ok(()) => {
                    self.ledger.set(piece, State::At(Place::Pool));
                    self.wake_waiting(kernel);
                }
                Err(_) => self.ledger.set(piece, State::Aside(Place::Dirty)),
            }
        }
        self.next_for_cleaner(kernel)
    }

    pub(super) fn clean_failed<K: Kernel>(&mut self, kernel: &mut K, piece: PieceId) -> Outcome {
        if self.ledger.state(piece) != State::Cleaning {
            return Outcome::Answer(Reply::Refused(Refusal::NotYours(piece)));
        }
        self.ledger.set(piece, State::Aside(Place::Dirty));
        self.next_for_cleaner(kernel)
    }

    fn next_for_cleaner<K: Kernel>(&mut self, kernel: &mut K) -> Outcome {
        self.mend_one(kernel);
        let outcome = match self.ledger.oldest(Place::Dirty) {
            Some(piece) => {
                self.cleaner = Cleaner::Busy;
                self.ledger.set(piece, State::Cleaning);
                Outcome::Answer(Reply::Clean(piece))
            }
            None => {
                self.cleaner = Cleaner::Waits;
                Outcome::Hold
            }
        };
        self.pace(kernel);
        outcome
    }

    /// Tries once more to bring back one piece that was set aside with a guest or in the pool.
    fn mend_one<K: Kernel>(&mut self, kernel: &mut K) {
        if self.ledger.aside() == 0 {
            return;
        }
        let broken =
            (0..self.total.0)
                .map(PieceId)
                .find_map(|piece| match self.ledger.state(piece) {
                    State::Aside(Place::Dirty) => None,
                    State::Aside(place) => Some((piece, place)),
                    _ => None,
                });
        if let Some((piece, place)) = broken {
            let mended = kernel
                .revoke(piece, place)
                .and_then(|()| self.transfer(kernel, piece, place, Place::Dirty));
            if mended.is_ok() {
                self.ledger.set(piece, State::At(Place::Dirty));
            }
        }
    }

    fn wake_waiting<K: Kernel>(&mut self, kernel: &mut K) {
        for (id, slot) in (0..).zip(self.guests.iter_mut()) {
            if let Some(guest) = slot
                && guest.waiting == Waiting::ForClean
            {
                guest.waiting = Waiting::No;
                kernel.signal_guest(GuestId(id));
            }
        }
    }
}
