//! Why a target is what it is: the numbers are kept, the sentence is made when somebody asks.

use crate::observe::REMEMBERED_S;
use crate::refusal::line;
use core::fmt;
use protocol::balancer::{Flag, Mode};
use protocol::units::{Line, Pieces};

/// What decided a guest's target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No decision yet.
    #[default]
    None,
    /// There is enough for everybody's need and buffer.
    Enough,
    /// It has more than it wants, and nobody needs the rest.
    Keeps,
    /// Others need what it has to spare.
    Gives,
    /// Not enough for all buffers.
    ShortBuffers {
        /// The common `k`.
        k: u64,
    },
    /// Not enough for all needs.
    ShortDemand {
        /// The common `k`.
        k: u64,
    },
    /// Nothing can be shared: every guest stands at its floor.
    Floors,
    /// The change would move too little to be worth the work, and nobody needs it.
    TooLittle,
    /// It was asked for memory and gives none: the others are served without it for now.
    Late,
    /// It passed the deadline of a reclaim: the others are served without it.
    Unresponsive,
    /// Its figures are too old to go by.
    Old,
    /// It is left as it is.
    Left(Flag),
}

/// The numbers of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) reason: Reason,
    pub(crate) mode: Mode,
    /// What it uses now; all that it sees when it is short.
    pub(crate) uses: Pieces,
    /// The most that it used in the last seconds.
    pub(crate) remembers: Pieces,
    /// Whether it shows that it is short.
    pub(crate) is_short: bool,
    pub(crate) buffer_percent: u8,
    /// What it is to have when there is enough.
    pub(crate) want: Pieces,
    pub(crate) floor: Pieces,
    pub(crate) held: Pieces,
    pub(crate) target: Pieces,
    /// What it should get, once it has come back from others.
    pub(crate) goal: Pieces,
}

/// What a guest needs, as a sentence begins.
struct Head<'a>(&'a Why);

impl fmt::Display for Head<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.0;
        if why.is_short {
            write!(out, "short: uses all of {} MiB", why.uses.mib())?;
        } else {
            write!(out, "uses {} MiB", why.uses.mib())?;
            if why.remembers > why.uses {
                let remembered = why.remembers.mib();
                write!(out, " ({remembered} in the last {REMEMBERED_S} s)")?;
            }
        }
        write!(out, " + {} %: wants {}", why.buffer_percent, why.want.mib())
    }
}

impl Why {
    /// The sentence.
    pub(crate) fn text(&self) -> Line {
        let (head, goal, now) = (Head(self), self.goal.mib(), self.target.mib());
        let (held, floor) = (self.held.mib(), self.floor.mib());
        match self.reason {
            Reason::None => line(format_args!("no decision yet")),
            Reason::Left(flag) => {
                let state = match flag {
                    Flag::Starting => "it has not reported yet",
                    Flag::NoDriver => "its balloon driver does not report",
                    Flag::Paused => "it is paused",
                    Flag::Silent => "it is silent: no fresh figure for 30 s",
                    Flag::None | Flag::AtMaximum | Flag::NotTaking => "it is new",
                };
                line(format_args!("keeps {held} MiB: {state}"))
            }
            Reason::Old => line(format_args!(
                "keeps {held} MiB: its figures are old, and may call available what it uses by now"
            )),
            _ if self.mode == Mode::Static => line(format_args!("{now} MiB: its memory is static")),
            Reason::Unresponsive => line(format_args!(
                "asked for {now} MiB, holds {held}: past its deadline, others are served without it"
            )),
            Reason::Late => line(format_args!(
                "asked for {now} MiB, holds {held} and gives nothing: others are asked in its place"
            )),
            Reason::Keeps => line(format_args!(
                "{head}; keeps {now}, nobody needs the rest (floor {floor})"
            )),
            Reason::Gives => line(format_args!(
                "{head}; gives down to {goal}, now {now}: others need it (floor {floor})"
            )),
            Reason::ShortBuffers { k } => line(format_args!(
                "{head}; gets {goal}, now {now}: buffers do not all fit, k {k} (floor {floor})"
            )),
            Reason::ShortDemand { k } => line(format_args!(
                "{head}; gets {goal}, now {now}: needs do not all fit, k {k} (floor {floor})"
            )),
            Reason::Floors => line(format_args!(
                "{head}; stays at {goal}, now {now}: all are at their floors ({floor})"
            )),
            Reason::TooLittle => line(format_args!(
                "{head}; gets {goal}, now {now}: too little to move (floor {floor})"
            )),
            Reason::Enough => line(format_args!(
                "{head}; gets {goal}, now {now} (floor {floor})"
            )),
        }
    }
}
