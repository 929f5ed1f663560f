//! The walk: counting pieces by where their capabilities are.
//!
//! A large pool is walked in steps of [`STEP_PIECES`]. Between two steps a piece may move; the walk then corrects what
//! it had counted for a piece already visited, so that its result is the state at the moment of its last step, never a
//! mix of two.

use crate::kernel::{Kernel, Place, Presence};
use crate::ledger::{Ledger, State};
use protocol::memory::HostAccount;
use protocol::units::{GuestId, MAX_GUESTS, PieceId, Pieces};

/// Pieces visited in one step: about 500 instructions each, so that nobody waits for more than half a million.
pub(crate) const STEP_PIECES: u32 = 1024;

/// What the walk has found so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walk {
    /// Pieces below were visited.
    cursor: u32,
    pool: u32,
    granted: u32,
    cleaning: u32,
}

/// What a step ended with.
pub(crate) enum Step {
    /// So many are left.
    Left(Pieces),
    /// The walk is complete.
    Done(HostAccount),
}

impl Walk {
    pub(crate) const fn new() -> Self {
        Self {
            cursor: 0,
            pool: 0,
            granted: 0,
            cleaning: 0,
        }
    }

    fn counter(&mut self, place: Place) -> &mut u32 {
        match place {
            Place::Pool => &mut self.pool,
            Place::Dirty => &mut self.cleaning,
            Place::Guest(_) => &mut self.granted,
        }
    }

    /// A capability was moved: a piece already visited is counted where it is now.
    pub(crate) fn moved(&mut self, piece: PieceId, from: Place, to: Place) {
        if piece.0 < self.cursor {
            let counter = self.counter(from);
            *counter = counter.saturating_sub(1);
            *self.counter(to) += 1;
        }
    }

    /// Visits the next pieces of `total`. The index only says where to look first: a capability that is not there is
    /// looked for everywhere.
    pub(crate) fn step<K: Kernel, const N: usize>(
        &mut self,
        kernel: &mut K,
        ledger: &Ledger<N>,
        total: Pieces,
        promised: Pieces,
    ) -> Step {
        let end = total.0.min(self.cursor.saturating_add(STEP_PIECES));
        while self.cursor < end {
            let piece = PieceId(self.cursor);
            self.cursor += 1;
            let expected = match ledger.state(piece) {
                State::At(place) | State::Aside(place) => Some(place),
                State::Cleaning => Some(Place::Dirty),
                State::Missing => None,
            };
            if let Some(place) = find(kernel, piece, expected) {
                *self.counter(place) += 1;
            }
        }
        if self.cursor < total.0 {
            return Step::Left(Pieces(total.0 - self.cursor));
        }
        let found = HostAccount {
            total,
            pool: Pieces(self.pool),
            granted: Pieces(self.granted),
            cleaning: Pieces(self.cleaning),
            promised,
        };
        *self = Self::new();
        Step::Done(found)
    }
}

/// Finds the CNode that holds a piece's untyped.
pub(crate) fn find<K: Kernel>(
    kernel: &mut K,
    piece: PieceId,
    expected: Option<Place>,
) -> Option<Place> {
    let guests = (0..MAX_GUESTS as u16).map(|id| Place::Guest(GuestId(id)));
    expected
        .into_iter()
        .chain([Place::Dirty, Place::Pool])
        .chain(guests)
        .find(|place| kernel.untyped_at(piece, *place) == Ok(Presence::Full))
}
