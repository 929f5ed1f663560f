//! How a guest stands with its memory, in words for the operator.

use super::Machine;
use crate::pieces::State;
use protocol::units::Pieces;

/// How a guest stands with its memory, for a line to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    piece: Option<State>,
    granted: Pieces,
    promised: Pieces,
    ballooned: Pieces,
    target: Pieces,
}

impl core::fmt::Display for Standing {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let piece = match self.piece {
            None | Some(State::Absent) => "where it has none",
            Some(State::Granted(_)) => "which it has",
            Some(State::Reported) => "which was promised to it",
            Some(State::Ballooned) => "which is in its balloon",
            Some(State::Revoked) => "which was taken by force",
            Some(State::Unused) => "which is not promised to it",
        };
        write!(
            to,
            "{piece}; {} MiB here, {} promised, {} ballooned, target {}",
            self.granted.mib(),
            self.promised.mib(),
            self.ballooned.mib(),
            self.target.mib()
        )
    }
}

impl Machine {
    /// How the guest stands with its memory, and the piece at an address.
    #[must_use]
    pub fn standing(&self, ipa: u64) -> Standing {
        Standing {
            piece: self
                .table
                .index_of(ipa)
                .map(|index| self.table.state(index)),
            granted: Pieces(self.table.granted()),
            promised: Pieces(self.table.reported()),
            ballooned: Pieces(self.table.ballooned_pieces()),
            target: Pieces(self.target),
        }
    }
}
