//! Units and identifiers that appear in messages.

use serde::{Deserialize, Serialize};

/// Bytes of a piece: the 2 MiB unit in which memory moves between guests.
pub const PIECE_BYTES: u64 = 2 * 1024 * 1024;
/// log2 of [`PIECE_BYTES`].
pub const PIECE_BITS: u32 = 21;
/// Pieces in one MiB-denominated figure: `mib / MIB_PER_PIECE`.
pub const MIB_PER_PIECE: u64 = 2;
/// The most guests a system may have at once. Bounds every per-guest table.
pub const MAX_GUESTS: usize = 16;

/// A guest's number: its position in the system description, `0..MAX_GUESTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GuestId(pub u16);

/// A piece's number in the memory server's pool, `0..total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PieceId(pub u32);

/// An amount of memory in pieces of 2 MiB.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Pieces(pub u32);

impl Pieces {
    /// The amount in MiB.
    #[must_use]
    pub const fn mib(self) -> u64 {
        self.0 as u64 * MIB_PER_PIECE
    }

    /// The pieces that `mib` MiB fill, rounded up. Saturates at `u32::MAX` pieces.
    #[must_use]
    pub const fn from_mib_ceil(mib: u64) -> Self {
        let pieces = mib.div_ceil(MIB_PER_PIECE);
        Self(if pieces > u32::MAX as u64 {
            u32::MAX
        } else {
            pieces as u32
        })
    }

    /// The sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, zero when `other` is larger.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// A short name (of a guest or component): at most 32 bytes of UTF-8.
pub type Name = heapless::String<32>;
/// One line of explanation for the operator, at most 160 bytes of UTF-8.
pub type Line = heapless::String<160>;
