//! What is played: a host's size, its guests' settings, and how much memory each guest's programs want over time.

use crate::curve::Curve;
use protocol::balancer::{Mode, OnRefusal, OnSilence, Settings};
use protocol::memory::Bounds;
use protocol::units::Pieces;

/// How a guest gives back what it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// All that it does not use, at the mechanism's speed.
    #[default]
    Willing,
    /// At most so many percent of what it has free: the rest cannot be moved.
    Part {
        /// Percent of what is free.
        percent: u32,
    },
    /// It begins only after having been asked for so long.
    Late {
        /// Milliseconds.
        ms: u64,
    },
    /// Nothing.
    Refuses,
}

/// One guest of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestTrace {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// When it starts, in milliseconds. Guests are in the order of their starts.
    pub start_ms: u64,
    /// What it has when it starts: its startup, unless a recording says otherwise.
    pub initial: Pieces,
    /// How it gives back.
    pub manner: Manner,
    /// By how much its statistics are wrong at most, in percent of what it has.
    pub noise_percent: u32,
    /// What its programs want.
    pub demand: Curve,
    /// What it really had, if this was recorded.
    pub assigned: Option<Curve>,
}

/// A trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// How long it is, in milliseconds.
    pub length_ms: u64,
    /// All memory that guests can have.
    pub pool: Pieces,
    /// What is kept out of the targets.
    pub reserve: Pieces,
    /// The guests.
    pub guests: Vec<GuestTrace>,
    /// Where noise begins.
    pub seed: u64,
}

impl Trace {
    /// What may be given to guests.
    #[must_use]
    pub const fn capacity(&self) -> Pieces {
        self.pool.minus(self.reserve)
    }
}

/// The settings of a dynamic guest, in MiB, with the buffer and weight that are the default.
#[must_use]
pub fn settings(minimum_mib: u64, startup_mib: u64, maximum_mib: u64) -> Settings {
    Settings {
        mode: Mode::Dynamic,
        bounds: Bounds {
            minimum: Pieces::from_mib_ceil(minimum_mib),
            startup: Pieces::from_mib_ceil(startup_mib),
            maximum: Pieces::from_mib_ceil(maximum_mib),
        },
        buffer_percent: 20,
        weight: 5000,
        on_refusal: OnRefusal::Mark,
        deadline_ms: 2000,
        on_silence: OnSilence::Keep,
    }
}
