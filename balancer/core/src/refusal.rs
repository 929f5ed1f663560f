//! Why a request was refused: the value that was asked, and the one that would have been right.

use crate::settings::{BUFFER, WEIGHT};
use core::fmt;
use protocol::memory;
use protocol::units::{GuestId, Line, MAX_GUESTS, Pieces};

/// A refusal. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The guest is not running.
    NotRunning(GuestId),
    /// There cannot be a guest of this number.
    NoSuchGuest(GuestId),
    /// The minimum is zero or above startup.
    Minimum {
        /// What was asked.
        asked: Pieces,
        /// The most it may be.
        startup: Pieces,
    },
    /// The maximum is below startup.
    Maximum {
        /// What was asked.
        asked: Pieces,
        /// The least it may be.
        startup: Pieces,
    },
    /// The buffer is out of range.
    Buffer(u8),
    /// The weight is out of range.
    Weight(u16),
    /// The reserve is more than there is.
    Reserve {
        /// What was asked.
        asked: Pieces,
        /// What there is.
        total: Pieces,
    },
    /// The memory server refuses.
    Memory(memory::Refusal),
    /// The memory server does not answer.
    NoMemoryServer,
    /// The client may not ask this.
    NotAllowed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(guest) => write!(out, "guest {} is not running", guest.0),
            Self::NoSuchGuest(guest) => {
                write!(out, "guest {}: the last one is {}", guest.0, MAX_GUESTS - 1)
            }
            Self::Minimum { asked, startup } => write!(
                out,
                "minimum {} MiB: must be 2 to {} MiB (startup)",
                asked.mib(),
                startup.mib()
            ),
            Self::Maximum { asked, startup } => write!(
                out,
                "maximum {} MiB: must be at least {} MiB (startup)",
                asked.mib(),
                startup.mib()
            ),
            Self::Buffer(percent) => write!(
                out,
                "buffer {percent} %: must be {} to {} %",
                BUFFER.start(),
                BUFFER.end()
            ),
            Self::Weight(weight) => write!(
                out,
                "weight {weight}: must be {} to {}",
                WEIGHT.start(),
                WEIGHT.end()
            ),
            Self::Reserve { asked, total } => write!(
                out,
                "reserve {} MiB: must be at most {} MiB, the pool",
                asked.mib(),
                total.mib()
            ),
            Self::Memory(memory::Refusal::Overcommit { asked, available }) => write!(
                out,
                "{} MiB more would have to be promised, {} MiB are free of promises",
                asked.mib(),
                available.mib()
            ),
            Self::Memory(refusal) => write!(out, "the memory server refuses: {refusal:?}"),
            Self::NoMemoryServer => write!(out, "the memory server does not answer"),
            Self::NotAllowed => write!(out, "not allowed to this client"),
        }
    }
}

/// Text cut to a line.
pub(crate) fn line(text: fmt::Arguments<'_>) -> Line {
    let mut line = Line::new();
    // A line that is too long keeps its beginning.
    let _ = fmt::Write::write_fmt(&mut line, text);
    line
}
