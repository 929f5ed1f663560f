//! What a VMM asks for: pieces for its guest, their return, and news of those that were taken.

use super::{LOW_POOL_PIECES, Notice, Outcome, Server};
use crate::account::Waiting;
use crate::kernel::{Kernel, Place};
use crate::ledger::State;
use protocol::memory::{Purpose, Refusal, Reply, ReturnReason};
use protocol::units::{GuestId, PieceId, Pieces};

impl<const N: usize> Server<N> {
    pub(super) fn take<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        purpose: Purpose,
    ) -> Outcome {
        match self.grant(kernel, guest, purpose) {
            Ok(piece) => Outcome::AnswerWithFrame(Reply::Granted { piece }),
            Err(refusal) => Outcome::Answer(Reply::Refused(refusal)),
        }
    }

    fn grant<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        purpose: Purpose,
    ) -> Result<PieceId, Refusal> {
        let account = self.admitted(guest)?;
        // A touch of a piece that was reported free is inside the claim already. Without an earmark (taken by force, or
        // lost with a restarted server) it is growth like any other.
        let from_earmark = purpose == Purpose::Touched && account.earmarked > Pieces(0);
        if !from_earmark {
            account.may_grow_by(Pieces(1))?;
        }
        let unread = account.revoked > Pieces(0);
        let Some(piece) = self.clean_piece_for(guest, unread) else {
            let cleaning = Pieces(self.ledger.count(Place::Dirty) + self.ledger.cleaning());
            if let Some(account) = self.guest_mut(guest) {
                account.waiting = Waiting::ForClean;
            }
            self.pace(kernel);
            return Err(Refusal::NotReady { cleaning });
        };
        let granted = kernel
            .stage_frame(piece)
            .and_then(|()| self.transfer(kernel, piece, Place::Pool, Place::Guest(guest)));
        if let Err(error) = granted {
            self.ledger.set(piece, State::Aside(Place::Pool));
            return Err(Refusal::Kernel(error.0));
        }
        self.ledger.set(piece, State::At(Place::Guest(guest)));
        if let Some(account) = self.guest_mut(guest) {
            account.assigned.0 += 1;
            if from_earmark {
                account.earmarked.0 -= 1;
            }
        }
        if self.ledger.count(Place::Pool) < LOW_POOL_PIECES {
            self.pace(kernel);
        }
        Ok(piece)
    }

    /// The next clean piece. Never one whose loss the guest has not read yet: its VMM would take the old notice for a
    /// new one.
    fn clean_piece_for(&self, guest: GuestId, unread: bool) -> Option<PieceId> {
        let first = self.ledger.oldest(Place::Pool)?;
        if !unread || !self.has_notice(guest, first) {
            return Some(first);
        }
        (0..self.total.0).map(PieceId).find(|piece| {
            self.ledger.state(*piece) == State::At(Place::Pool) && !self.has_notice(guest, *piece)
        })
    }

    pub(super) fn give_back<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        piece: PieceId,
        why: ReturnReason,
    ) -> Result<Reply, Refusal> {
        self.admitted(guest)?;
        if self.ledger.state(piece) != State::At(Place::Guest(guest)) {
            return Err(Refusal::NotYours(piece));
        }
        self.reclaim(kernel, guest, piece)
            .map_err(|error| Refusal::Kernel(error.0))?;
        if why == ReturnReason::Reported
            && let Some(account) = self.guest_mut(guest)
        {
            account.earmarked.0 += 1;
        }
        self.after_return(kernel, 1);
        Ok(Reply::Done)
    }

    /// Promises pieces before there is a frame for them. A target is promised in any case, so what stays within it fits.
    pub(super) fn earmark(&mut self, guest: GuestId, pieces: Pieces) -> Result<Reply, Refusal> {
        self.admitted(guest)?.may_grow_by(pieces)?;
        if let Some(account) = self.guest_mut(guest) {
            account.earmarked = account.earmarked.plus(pieces);
        }
        Ok(Reply::Done)
    }

    pub(super) fn drop_earmark<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        pieces: Pieces,
    ) -> Result<Reply, Refusal> {
        let earmarked = self.admitted(guest)?.earmarked;
        if pieces > earmarked {
            return Err(Refusal::OutOfBounds {
                asked: pieces,
                least: Pieces(0),
                most: earmarked,
            });
        }
        if let Some(account) = self.guest_mut(guest) {
            account.earmarked = account.earmarked.minus(pieces);
        }
        self.after_return(kernel, pieces.0);
        Ok(Reply::Done)
    }

    /// The order of a guest's list is the order of revocation, the newest first.
    pub(super) fn take_first(&mut self, guest: GuestId, piece: PieceId) -> Result<Reply, Refusal> {
        self.admitted(guest)?;
        let here = State::At(Place::Guest(guest));
        if self.ledger.state(piece) != here {
            return Err(Refusal::NotYours(piece));
        }
        self.ledger.set(piece, here);
        Ok(Reply::Done)
    }

    pub(super) fn next_revoked(&mut self, guest: GuestId) -> Result<Reply, Refusal> {
        let account = *self.admitted(guest)?;
        if account.revoked == Pieces(0) {
            return Ok(Reply::Revoked(None));
        }
        let total = self.total.0;
        let order =
            (account.notice_cursor.min(total)..total).chain(0..account.notice_cursor.min(total));
        let found = order
            .map(PieceId)
            .find(|piece| self.has_notice(guest, *piece));
        if let Some(piece) = found {
            self.set_notice(guest, piece, Notice::Read);
        }
        if let Some(account) = self.guest_mut(guest) {
            match found {
                Some(piece) => {
                    account.revoked.0 -= 1;
                    account.notice_cursor = piece.0 + 1;
                }
                None => account.revoked = Pieces(0),
            }
        }
        Ok(Reply::Revoked(found))
    }

    pub(super) fn account(&self, guest: GuestId) -> Result<Reply, Refusal> {
        Ok(Reply::Account(self.known(guest)?.report()))
    }
}
