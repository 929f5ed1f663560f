//! One guest's account.

use protocol::memory::{Account, Bounds, Refusal};
use protocol::units::Pieces;

/// Whether a guest waits for a clean piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It does not. Numbered from 1, as [`Standing`] is, so that "no guest" is all zeros.
    No = 1,
    /// It was refused with `NotReady`; a signal is due.
    ForClean,
}

/// Whether the supervisor has admitted the guest since the server started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Admitted.
    Admitted = 1,
    /// Found by recovery: it holds pieces, and its bounds are not known until it is admitted again.
    Orphan,
}

/// One guest's account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    pub(crate) standing: Standing,
    pub(crate) bounds: Bounds,
    pub(crate) target: Pieces,
    /// Pieces granted; equals the length of the ledger's list.
    pub(crate) assigned: Pieces,
    /// Reported free and taken back, or not touched yet: promised all the same.
    pub(crate) earmarked: Pieces,
    /// Taken by force, not yet read by `NextRevoked`.
    pub(crate) revoked: Pieces,
    pub(crate) waiting: Waiting,
    /// Where the search for the next revoked piece goes on.
    pub(crate) notice_cursor: u32,
}

impl Guest {
    pub(crate) const fn new(standing: Standing, bounds: Bounds, assigned: Pieces) -> Self {
        let target = if assigned.0 > bounds.startup.0 {
            assigned
        } else {
            bounds.startup
        };
        Self {
            standing,
            bounds,
            target,
            assigned,
            earmarked: Pieces(0),
            revoked: Pieces(0),
            waiting: Waiting::No,
            notice_cursor: 0,
        }
    }

    /// What it holds or may touch at any moment.
    pub(crate) const fn held(&self) -> Pieces {
        self.assigned.plus(self.earmarked)
    }

    /// What is promised to it: `max(minimum, target, assigned + earmarked)`.
    pub(crate) const fn claim(&self) -> Pieces {
        let mut claim = self.held().0;
        if self.target.0 > claim {
            claim = self.target.0;
        }
        if self.bounds.minimum.0 > claim {
            claim = self.bounds.minimum.0;
        }
        Pieces(claim)
    }

    pub(crate) const fn report(&self) -> Account {
        Account {
            assigned: self.assigned,
            earmarked: self.earmarked,
            target: self.target,
            revoked: self.revoked,
            minimum: self.bounds.minimum,
            startup: self.bounds.startup,
            maximum: self.bounds.maximum,
        }
    }

    /// Whether so many more pieces may be granted or promised as growth.
    pub(crate) fn may_grow_by(&self, pieces: Pieces) -> Result<(), Refusal> {
        let Some(grown) = self.held().0.checked_add(pieces.0).map(Pieces) else {
            return Err(Refusal::AtMaximum(self.bounds.maximum));
        };
        if grown > self.bounds.maximum {
            return Err(Refusal::AtMaximum(self.bounds.maximum));
        }
        if grown > self.target {
            return Err(Refusal::AtTarget {
                assigned: self.held(),
                target: self.target,
            });
        }
        Ok(())
    }
}

/// Whether bounds are ordered: `1 <= minimum <= startup <= maximum`.
pub(crate) fn check_bounds(bounds: Bounds) -> Result<(), Refusal> {
    if bounds.minimum < Pieces(1) || bounds.minimum > bounds.startup {
        return Err(Refusal::OutOfBounds {
            asked: bounds.minimum,
            least: Pieces(1),
            most: bounds.startup,
        });
    }
    if bounds.maximum < bounds.startup {
        return Err(Refusal::OutOfBounds {
            asked: bounds.maximum,
            least: bounds.startup,
            most: Pieces(u32::MAX),
        });
    }
    Ok(())
}
