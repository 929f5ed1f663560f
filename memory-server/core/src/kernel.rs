//! What the server needs of the kernel: few operations, each on one piece.

use protocol::units::{GuestId, PieceId};

/// The ledger CNode that a piece's untyped capability sits in. The slot index is the piece's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Free; retyped since its last owner, so clean.
    Pool,
    /// Free; not clean yet.
    Dirty,
    /// Granted to a guest.
    Guest(GuestId),
}

/// The kernel refused: its seL4 error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelError(pub u8);

/// Whether a slot holds a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It does.
    Full,
    /// It does not.
    Empty,
}

/// How eagerly the cleaner thread shall run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanerPace {
    /// Only when nothing else runs.
    Idle,
    /// Before guests: somebody waits for a clean piece, or the pool runs low.
    Hurried,
}

/// The kernel's side of the ledger. Every operation either did what it says or changed nothing.
pub trait Kernel {
    /// Moves a piece's untyped capability between ledger CNodes, with whatever was made from it. This is the commit of
    /// every change of ownership.
    ///
    /// # Errors
    /// The kernel's, when the source is empty or the destination full.
    fn move_untyped(&mut self, piece: PieceId, from: Place, to: Place) -> Result<(), KernelError>;

    /// Revokes a piece's untyped where it sits: the frame made from it and every copy of that frame are deleted, their
    /// mappings removed, before this returns.
    ///
    /// # Errors
    /// The kernel's.
    fn revoke(&mut self, piece: PieceId, at: Place) -> Result<(), KernelError>;

    /// Puts a read-write copy of the piece's frame capability into the outgoing slot, replacing what is there, for the
    /// answer that follows.
    ///
    /// # Errors
    /// The kernel's.
    fn stage_frame(&mut self, piece: PieceId) -> Result<(), KernelError>;

    /// Whether the piece's untyped sits at `place`. Changes nothing.
    ///
    /// # Errors
    /// The kernel's, when the slot itself cannot be named.
    fn untyped_at(&mut self, piece: PieceId, place: Place) -> Result<Presence, KernelError>;

    /// Whether the piece has a frame capability in the server's frame CNode. Changes nothing.
    ///
    /// # Errors
    /// The kernel's, when the slot itself cannot be named.
    fn frame_present(&mut self, piece: PieceId) -> Result<Presence, KernelError>;

    /// Signals a guest's VMM. Lost without harm when no VMM is there.
    fn signal_guest(&mut self, guest: GuestId);

    /// Signals the balancer.
    fn signal_balancer(&mut self);

    /// Answers the cleaner's held call: this piece is next.
    fn hand_to_cleaner(&mut self, piece: PieceId);

    /// Sets how eagerly the cleaner runs.
    fn pace_cleaner(&mut self, pace: CleanerPace);
}
