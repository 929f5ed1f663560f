//! What the balancer asks for: targets, and pieces back by force.

use super::{Notice, Server};
use crate::account::Guest;
use crate::kernel::{Kernel, Place};
use crate::ledger::State;
use protocol::memory::{Refusal, Reply};
use protocol::units::{GuestId, Pieces};

/// Most pieces that one `Revoke` takes: about 2000 instructions each, so that nobody waits for more than a quarter of
/// a million.
const REVOKE_STEP_PIECES: u32 = 128;

impl<const N: usize> Server<N> {
    pub(super) fn set_target<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        target: Pieces,
    ) -> Result<Reply, Refusal> {
        let account = *self.admitted(guest)?;
        if target < account.bounds.minimum || target > account.bounds.maximum {
            return Err(Refusal::OutOfBounds {
                asked: target,
                least: account.bounds.minimum,
                most: account.bounds.maximum,
            });
        }
        self.replace(guest, Guest { target, ..account })?;
        kernel.signal_guest(guest);
        Ok(Reply::Done)
    }

    pub(super) fn revoke<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        pieces: Pieces,
    ) -> Result<Reply, Refusal> {
        let account = *self.admitted(guest)?;
        let surplus = account.held().minus(account.bounds.minimum);
        let wanted = pieces.0.min(surplus.0).min(REVOKE_STEP_PIECES);
        let earmarks = wanted.min(account.earmarked.0);
        if let Some(account) = self.guest_mut(guest) {
            account.earmarked.0 -= earmarks;
        }
        let mut taken = earmarks;
        while taken < wanted {
            let Some(piece) = self.ledger.newest(Place::Guest(guest)) else {
                break;
            };
            let result = self.reclaim(kernel, guest, piece);
            if self.ledger.state(piece) != State::At(Place::Guest(guest)) {
                self.set_notice(guest, piece, Notice::Unread);
                taken += 1;
            }
            if let Err(error) = result {
                if taken == 0 {
                    return Err(Refusal::Kernel(error.0));
                }
                break;
            }
        }
        if taken > 0 {
            kernel.signal_guest(guest);
            self.after_return(kernel, taken);
        }
        Ok(Reply::Taken(Pieces(taken)))
    }
}
