//! The memory server's protocol.
//!
//! Which request a client may make is told by its badge: the server enforces it.

use crate::units::{GuestId, PieceId, Pieces};
use serde::{Deserialize, Serialize};

/// Why a VMM wants a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The guest starts, plugs or deflates: counts against its target.
    Grow,
    /// The guest touched a piece that it had reported free, or had promised and not touched yet: served at once from its
    /// earmark.
    Touched,
}

/// Why a VMM gives a piece back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturnReason {
    /// The guest gave up the right to touch it (virtio-mem).
    Unplugged,
    /// Every page of it is in the balloon.
    Ballooned,
    /// The guest reported it free; it stays earmarked for the guest until it is unplugged or ballooned.
    Reported,
}

/// A guest's bounds (M2), in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Reserved on admission, never taken below.
    pub minimum: Pieces,
    /// Granted for the start.
    pub startup: Pieces,
    /// Never granted above.
    pub maximum: Pieces,
}

/// What is asked of the memory server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    // --- from a VMM ---
    /// One piece, please. The reply carries a copy of its frame capability (read-write).
    Take(Purpose),
    /// A piece goes back. When the reply arrives no mapping of it is left anywhere (M5).
    Return {
        /// Which, as [`Reply::Granted`] named it.
        piece: PieceId,
        /// Why.
        why: ReturnReason,
    },
    /// So many pieces are the guest's to touch from now on, without a frame: each is promised as one that was reported free
    /// is, and comes with [`Purpose::Touched`]. Counts against its target as growth does; all of them or none.
    Earmark(Pieces),
    /// A piece that was reported free, or promised by [`Request::Earmark`], is now unplugged or ballooned: its earmark may go.
    DropEarmark(Pieces),
    /// Of my pieces, take this one before the others if you have to take some by force: the one that is named last goes
    /// first.
    TakeFirst(PieceId),
    /// Which of my pieces did the server take by force? Repeats until none is left.
    NextRevoked,
    /// My account.
    Mine,
    // --- from the balancer ---
    /// Sets a guest's target and signals its VMM, also when the target is the same (a reminder). Clamped by nobody:
    /// outside minimum..=maximum or above what is free it is refused.
    SetTarget {
        /// Whose.
        guest: GuestId,
        /// To what, in pieces.
        target: Pieces,
    },
    /// Takes pieces from a guest by force (`on_refusal = "revoke"`, after its deadline), never below its minimum: its
    /// earmarks first, then what its VMM named by [`Request::TakeFirst`], then what it was granted last. At most 128 a call; [`Reply::Taken`] says how many.
    Revoke {
        /// From whom.
        guest: GuestId,
        /// How many.
        pieces: Pieces,
    },
    /// The host's account.
    Host,
    /// A guest's account (balancer, console, supervisor).
    Account(GuestId),
    // --- from the console ---
    /// Counts every piece by walking the capabilities. While the answer is [`Reply::Counting`], ask again: a large pool
    /// is walked in steps, so that nobody waits long for the server.
    Count,
    /// New bounds for a running guest (console or balancer).
    SetBounds {
        /// Whose.
        guest: GuestId,
        /// To what.
        bounds: Bounds,
    },
    // --- from the supervisor ---
    /// A guest is about to start: reserves its minimum and promises its startup.
    Admit {
        /// Who.
        guest: GuestId,
        /// Its bounds.
        bounds: Bounds,
    },
    /// A guest has ended: everything it held is revoked and cleaned.
    Retire(GuestId),
    // --- from the cleaner ---
    /// The piece named was retyped (or there is none yet); which is next? The reply is delayed until there is one.
    Cleaned(Option<PieceId>),
    /// The kernel refused to retype the piece; it is set aside. Answered as [`Request::Cleaned`] is.
    CleanFailed {
        /// Which.
        piece: PieceId,
        /// The seL4 error number.
        error: u8,
    },
}

/// A guest's account, in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Frames granted to it now.
    pub assigned: Pieces,
    /// Frames it reported free and the host took back, still promised to it, and those promised before their first touch.
    pub earmarked: Pieces,
    /// What the balancer set.
    pub target: Pieces,
    /// Taken by force and not yet acknowledged by [`Request::NextRevoked`].
    pub revoked: Pieces,
    /// Its minimum.
    pub minimum: Pieces,
    /// Its startup.
    pub startup: Pieces,
    /// Its maximum.
    pub maximum: Pieces,
}

/// The host's account, in pieces. `total = pool + granted + cleaning` always (M1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAccount {
    /// All pieces.
    pub total: Pieces,
    /// Clean and free.
    pub pool: Pieces,
    /// With guests.
    pub granted: Pieces,
    /// Taken back, not yet clean.
    pub cleaning: Pieces,
    /// Free or cleaning, but promised (minimums, targets, earmarks). What targets may still grow by, all together, is
    /// `pool + cleaning - promised`.
    pub promised: Pieces,
}

/// The server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// Answer to [`Request::Take`]; the frame capability travels with it.
    Granted {
        /// The piece's name for returning it.
        piece: PieceId,
    },
    /// Answer to [`Request::NextRevoked`].
    Revoked(Option<PieceId>),
    /// Answer to [`Request::Mine`] and [`Request::Account`].
    Account(Account),
    /// Answer to [`Request::Host`].
    Host(HostAccount),
    /// Answer to [`Request::Count`]: what the walk over the capabilities found. `total` is the number of pieces at
    /// boot, so a lost one shows as `pool + granted + cleaning < total`.
    Counted(HostAccount),
    /// Answer to [`Request::Revoke`]: how many were taken.
    Taken(Pieces),
    /// Answer to [`Request::Cleaned`].
    Clean(PieceId),
    /// Refused; nothing has changed.
    Refused(Refusal),
    /// Answer to [`Request::Count`]: the walk goes on; ask again.
    Counting {
        /// Pieces not yet visited.
        left: Pieces,
    },
}

/// Why a request was refused, with the value that was asked and the one that would have been right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The badge does not allow this request.
    NotAllowed,
    /// The words were no request.
    Malformed,
    /// No such guest is admitted.
    NoSuchGuest(GuestId),
    /// The guest is admitted already.
    AlreadyAdmitted(GuestId),
    /// The piece is not held by the caller.
    NotYours(PieceId),
    /// At its target: `assigned` may not pass `target`.
    AtTarget {
        /// What it has.
        assigned: Pieces,
        /// What it may have.
        target: Pieces,
    },
    /// At its maximum.
    AtMaximum(Pieces),
    /// No clean piece is free at this moment; a signal follows when there is one.
    NotReady {
        /// How many are being cleaned.
        cleaning: Pieces,
    },
    /// Promising this would promise memory twice (M3).
    Overcommit {
        /// What was asked.
        asked: Pieces,
        /// What is free of promises.
        available: Pieces,
    },
    /// Not ordered, or outside the guest's bounds.
    OutOfBounds {
        /// What was asked.
        asked: Pieces,
        /// Least allowed.
        least: Pieces,
        /// Most allowed.
        most: Pieces,
    },
    /// The kernel refused an operation that should have succeeded: its seL4 error number. The piece was set aside.
    Kernel(u8),
}
