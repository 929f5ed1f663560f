//! Why a target is what it is: the numbers are kept, the sentence is made when somebody asks.

use crate::refusal::line;
use protocol::balancer::{Flag, Mode};
use protocol::units::{Line, Pieces};

/// What decided a guest's target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No decision yet.
    #[default]
    None,
    /// There is enough for everybody's want.
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
    /// Not enough for all demand.
    ShortDemand {
        /// The common `k`.
        k: u64,
    },
    /// Nothing can be shared: every guest stands at its floor.
    Floors,
    /// It passed the deadline of a reclaim: the others are served without it.
    Unresponsive,
    /// A deflation of its balloon waits for memory.
    Deflates,
    /// It is left as it is.
    Left(Flag),
}

/// The numbers of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) reason: Reason,
    pub(crate) mode: Mode,
    pub(crate) demand: Pieces,
    pub(crate) buffer_percent: u8,
    pub(crate) want: Pieces,
    pub(crate) floor: Pieces,
    pub(crate) held: Pieces,
    pub(crate) target: Pieces,
    /// What it should get, once it has come back from others.
    pub(crate) goal: Pieces,
}

impl Why {
    /// The sentence.
    pub(crate) fn text(&self) -> Line {
        let goal = self.goal.mib();
        match self.reason {
            Reason::None => line(format_args!("no decision yet")),
            Reason::Left(flag) => {
                let state = match flag {
                    Flag::Starting => "it has not reported yet",
                    Flag::NoDriver => "its balloon driver does not report",
                    Flag::Paused => "it is paused",
                    Flag::Silent => "its figures are old",
                    Flag::None | Flag::AtMaximum | Flag::NotTaking => "it is new",
                };
                line(format_args!("keeps {} MiB: {state}", self.held.mib()))
            }
            _ if self.mode == Mode::Static => line(format_args!(
                "{} MiB: its memory is static",
                self.target.mib()
            )),
            Reason::Unresponsive => line(format_args!(
                "asked for {} MiB, holds {}: past its deadline, others are served without it",
                self.target.mib(),
                self.held.mib()
            )),
            reason => {
                let (need, buffer, want, now) = (
                    self.demand.mib(),
                    self.buffer_percent,
                    self.want.mib(),
                    self.target.mib(),
                );
                let floor = self.floor.mib();
                let head = format_args!("needs {need} MiB + {buffer} % = {want}");
                match reason {
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
                        "{head}; gets {goal}, now {now}: demand does not fit, k {k} (floor {floor})"
                    )),
                    Reason::Deflates => line(format_args!(
                        "{head}; gets {now}: its balloon gives pages back to it and can do nothing else until then"
                    )),
                    Reason::Floors => line(format_args!(
                        "{head}; stays at {goal}, now {now}: all are at their floors ({floor})"
                    )),
                    _ => line(format_args!(
                        "{head}; gets {goal}, now {now} (floor {floor})"
                    )),
                }
            }
        }
    }
}
