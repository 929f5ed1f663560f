//! What the console and the supervisor ask for: the account by the capabilities, bounds, guests that come and go.

use super::{Notice, SIGNAL_EVERY_PIECES, Server};
use crate::account::{Guest, Standing, check_bounds};
use crate::kernel::{Kernel, Place};
use crate::ledger::State;
use crate::walk::Step;
use protocol::memory::{Bounds, Refusal, Reply};
use protocol::units::{GuestId, PieceId, Pieces};

impl<const N: usize> Server<N> {
    pub(super) fn count<K: Kernel>(&mut self, kernel: &mut K) -> Reply {
        let promised = self.promised();
        match self.walk.step(kernel, &self.ledger, self.total, promised) {
            Step::Left(left) => Reply::Counting { left },
            Step::Done(found) => Reply::Counted(found),
        }
    }

    pub(super) fn set_bounds<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        bounds: Bounds,
    ) -> Result<Reply, Refusal> {
        let account = *self.admitted(guest)?;
        check_bounds(bounds)?;
        let target = Pieces(account.target.0.clamp(bounds.minimum.0, bounds.maximum.0));
        self.replace(
            guest,
            Guest {
                bounds,
                target,
                ..account
            },
        )?;
        kernel.signal_guest(guest);
        Ok(Reply::Done)
    }

    pub(super) fn admit(&mut self, guest: GuestId, bounds: Bounds) -> Result<Reply, Refusal> {
        check_bounds(bounds)?;
        let slot = self
            .guests
            .get(usize::from(guest.0))
            .ok_or(Refusal::NoSuchGuest(guest))?;
        let (assigned, claimed) = match slot {
            Some(known) if known.standing == Standing::Admitted => {
                return Err(Refusal::AlreadyAdmitted(guest));
            }
            Some(orphan) => (orphan.assigned, orphan.claim()),
            None => (Pieces(0), Pieces(0)),
        };
        let admitted = Guest::new(Standing::Admitted, bounds, assigned);
        self.check_room(claimed, admitted.claim())?;
        if let Some(slot) = self.guests.get_mut(usize::from(guest.0)) {
            *slot = Some(admitted);
        }
        Ok(Reply::Done)
    }

    pub(super) fn retire<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
    ) -> Result<Reply, Refusal> {
        self.known(guest)?;
        let mut returned = 0;
        while let Some(piece) = self.ledger.newest(Place::Guest(guest)) {
            if self.reclaim(kernel, guest, piece).is_err() {
                // Nobody's, and with nobody: the cleaner's call tries again.
                self.ledger.set(piece, State::Aside(Place::Guest(guest)));
            }
            returned += 1;
        }
        if self.known(guest)?.revoked > Pieces(0) {
            for index in 0..self.total.0 {
                self.set_notice(guest, PieceId(index), Notice::Read);
            }
        }
        if let Some(slot) = self.guests.get_mut(usize::from(guest.0)) {
            *slot = None;
        }
        // What it had claimed and not held is free as well.
        self.after_return(kernel, returned.max(SIGNAL_EVERY_PIECES));
        Ok(Reply::Done)
    }
}
