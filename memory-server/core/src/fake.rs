//! A model of the kernel's capabilities for tests: untypeds in CNodes, frames made from them, copies that anybody may
//! hold or map, and what was last written into each frame.
//!
//! It checks what the real kernel would only suffer: granting a frame that holds another guest's bytes panics here.

use crate::kernel::{CleanerPace, Kernel, KernelError, Place, Presence};
use protocol::units::{GuestId, PieceId};
use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

/// seL4_FailedLookup.
pub const FAILED_LOOKUP: KernelError = KernelError(6);
/// seL4_DeleteFirst.
pub const DELETE_FIRST: KernelError = KernelError(8);
/// seL4_RevokeFirst.
pub const REVOKE_FIRST: KernelError = KernelError(9);

/// Who last wrote into a piece's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nobody since it was zeroed.
    Zero,
    /// A guest. At boot: whoever had the machine before.
    Written(Option<GuestId>),
}

/// One piece.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The CNode its untyped is in.
    pub place: Place,
    /// Whether a frame was made from it.
    pub frame: Presence,
    /// Who holds copies of the frame.
    pub copies: Vec<GuestId>,
    /// What is in it.
    pub content: Content,
}

/// The model.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    /// Every piece.
    pub pieces: Vec<Piece>,
    /// The copy in the outgoing slot.
    pub outgoing: Option<PieceId>,
    /// Signals sent to guests, counted.
    pub guest_signals: BTreeMap<u16, u32>,
    /// Signals sent to the balancer.
    pub balancer_signals: u32,
    /// Pieces handed to the cleaner while its call was held.
    pub handed: VecDeque<PieceId>,
    /// The cleaner's pace.
    pub pace: Option<CleanerPace>,
    /// Operations until one that can fail does, with this error.
    pub fail_after: Option<(u32, KernelError)>,
    /// Invocations made, for cost.
    pub invocations: u64,
}

impl FakeKernel {
    /// A machine at boot: every piece dirty.
    #[must_use]
    pub fn new(pieces: u32) -> Self {
        let piece = Piece {
            place: Place::Dirty,
            frame: Presence::Empty,
            copies: Vec::new(),
            content: Content::Written(None),
        };
        Self {
            pieces: std::vec![piece; pieces as usize],
            ..Self::default()
        }
    }

    fn may_fail(&mut self) -> Result<(), KernelError> {
        self.invocations += 1;
        match self.fail_after.take() {
            Some((0, error)) => Err(error),
            Some((left, error)) => {
                self.fail_after = Some((left - 1, error));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn piece(&mut self, piece: PieceId) -> Result<&mut Piece, KernelError> {
        self.pieces.get_mut(piece.0 as usize).ok_or(FAILED_LOOKUP)
    }

    /// What the cleaner thread does: makes the frame, which zeroes it.
    ///
    /// # Errors
    /// As the kernel's retype.
    pub fn retype(&mut self, piece: PieceId) -> Result<(), KernelError> {
        self.may_fail()?;
        let piece = self.piece(piece)?;
        if piece.place != Place::Dirty {
            return Err(FAILED_LOOKUP);
        }
        if piece.frame == Presence::Full {
            return Err(REVOKE_FIRST);
        }
        piece.frame = Presence::Full;
        piece.content = Content::Zero;
        Ok(())
    }

    /// The server's answer arrives: the outgoing copy is now (also) with `guest`.
    pub fn deliver(&mut self, guest: GuestId) -> Option<PieceId> {
        let piece = self.outgoing?;
        self.piece(piece).ok()?.copies.push(guest);
        Some(piece)
    }

    /// A holder passes a copy on, as a lying VMM may.
    pub fn leak(&mut self, piece: PieceId, from: GuestId, to: GuestId) {
        if let Ok(piece) = self.piece(piece)
            && piece.copies.contains(&from)
        {
            piece.copies.push(to);
        }
    }

    /// A holder of a copy writes.
    pub fn write(&mut self, piece: PieceId, by: GuestId) {
        if let Ok(piece) = self.piece(piece)
            && piece.copies.contains(&by)
        {
            piece.content = Content::Written(Some(by));
        }
    }
}

impl Kernel for FakeKernel {
    fn move_untyped(&mut self, piece: PieceId, from: Place, to: Place) -> Result<(), KernelError> {
        self.may_fail()?;
        let piece = self.piece(piece)?;
        if piece.place != from {
            return Err(FAILED_LOOKUP);
        }
        piece.place = to;
        Ok(())
    }

    fn revoke(&mut self, piece: PieceId, at: Place) -> Result<(), KernelError> {
        self.may_fail()?;
        let slot = self.piece(piece)?;
        if slot.place != at {
            return Err(FAILED_LOOKUP);
        }
        slot.frame = Presence::Empty;
        slot.copies.clear();
        if self.outgoing == Some(piece) {
            self.outgoing = None;
        }
        Ok(())
    }

    fn stage_frame(&mut self, piece: PieceId) -> Result<(), KernelError> {
        self.outgoing = None;
        self.may_fail()?;
        let slot = self.piece(piece)?;
        if slot.frame == Presence::Empty {
            return Err(FAILED_LOOKUP);
        }
        assert_eq!(slot.content, Content::Zero, "{piece:?} granted unclean");
        assert!(slot.copies.is_empty(), "{piece:?} granted twice");
        self.outgoing = Some(piece);
        Ok(())
    }

    fn untyped_at(&mut self, piece: PieceId, place: Place) -> Result<Presence, KernelError> {
        self.invocations += 1;
        Ok(if self.piece(piece)?.place == place {
            Presence::Full
        } else {
            Presence::Empty
        })
    }

    fn frame_present(&mut self, piece: PieceId) -> Result<Presence, KernelError> {
        self.invocations += 1;
        Ok(self.piece(piece)?.frame)
    }

    fn signal_guest(&mut self, guest: GuestId) {
        *self.guest_signals.entry(guest.0).or_default() += 1;
    }

    fn signal_balancer(&mut self) {
        self.balancer_signals += 1;
    }

    fn hand_to_cleaner(&mut self, piece: PieceId) {
        self.handed.push_back(piece);
    }

    fn pace_cleaner(&mut self, pace: CleanerPace) {
        self.pace = Some(pace);
    }
}
