//! Building the server's state from the capabilities: at boot, and after the server was restarted.

use crate::account::{Guest, Standing};
use crate::kernel::{Kernel, Place, Presence};
use crate::ledger::State;
use crate::server::Server;
use crate::walk;
use protocol::memory::Bounds;
use protocol::units::{GuestId, MAX_GUESTS, PieceId, Pieces};

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Clean and free.
    pub pool: Pieces,
    /// To be cleaned (at a first boot: everything).
    pub dirty: Pieces,
    /// With guests.
    pub granted: Pieces,
    /// In no CNode, or the kernel refused to put them in order.
    pub lost: Pieces,
}

impl<const N: usize> Server<N> {
    /// Builds the state from where the capabilities are. Call once, before the first request; a first boot, with every
    /// piece at `Dirty`, is the simplest case of it.
    ///
    /// What a crash can leave half done is finished here: a piece without a frame was on its way back, and goes to
    /// `Dirty`; a frame below a dirty piece was never announced, and is revoked. A guest that holds pieces keeps them
    /// and is an orphan until it is admitted again. Not in the capabilities, and so not recovered: bounds and targets
    /// (the supervisor admits again, the balancer sets again), earmarks, and unread `NextRevoked` notices.
    #[must_use = "lost pieces are something the operator should know"]
    pub fn recover<K: Kernel>(&mut self, kernel: &mut K, total: Pieces) -> Recovered {
        self.clear(total);
        let mut found = Recovered::default();
        let mut held = [0u32; MAX_GUESTS];
        for index in 0..self.total().0 {
            let piece = PieceId(index);
            let place = walk::find(kernel, piece, None);
            let frame = kernel.frame_present(piece);
            let settled = match (place, frame) {
                (None, _) => None,
                (Some(Place::Dirty), Ok(Presence::Empty)) => Some(Place::Dirty),
                (Some(place), Ok(Presence::Full)) if place != Place::Dirty => Some(place),
                (Some(place), _) => put_back(kernel, piece, place),
            };
            match settled {
                Some(Place::Pool) => found.pool.0 += 1,
                Some(Place::Dirty) => found.dirty.0 += 1,
                Some(Place::Guest(GuestId(id))) => {
                    found.granted.0 += 1;
                    if let Some(count) = held.get_mut(usize::from(id)) {
                        *count += 1;
                    }
                }
                None => found.lost.0 += 1,
            }
            let state = match (settled, place) {
                (Some(place), _) => State::At(place),
                (None, Some(place)) => State::Aside(place),
                (None, None) => State::Missing,
            };
            self.ledger_mut().set(piece, state);
        }
        for (slot, count) in self.guests_mut().iter_mut().zip(held) {
            let assigned = Pieces(count);
            *slot = (count > 0).then(|| {
                let bounds = Bounds {
                    minimum: Pieces(1),
                    startup: assigned,
                    maximum: assigned,
                };
                Guest::new(Standing::Orphan, bounds, assigned)
            });
        }
        found
    }
}

/// Takes back a piece that a crash left between two places.
fn put_back<K: Kernel>(kernel: &mut K, piece: PieceId, from: Place) -> Option<Place> {
    kernel.revoke(piece, from).ok()?;
    if from != Place::Dirty {
        kernel.move_untyped(piece, from, Place::Dirty).ok()?;
    }
    Some(Place::Dirty)
}
