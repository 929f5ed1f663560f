//! What the operator's host tool and the board say to each other on the management channel of the serial line.

use crate::balancer::{Change, HostRow, Row};
use crate::console::{Chunk, Port};
use crate::memory::HostAccount;
use crate::supervisor::{EndReason, GuestState};
use crate::units::{GuestId, Line, Name, Pieces};
use crate::watch::{Watch, Watched};
use serde::{Deserialize, Serialize};

/// Version of this protocol; both sides name it in `Hello`.
pub const VERSION: u16 = 5;

/// A request with a number that its answer repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRequest {
    /// Chosen by the host.
    pub sequence: u32,
    /// What is asked.
    pub body: HostBody,
}

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostBody {
    /// Who is there?
    Hello,
    /// A guest's row and state.
    Guest(GuestId),
    /// The host's row, with frames counted from the capabilities.
    Host,
    /// Why is a guest's target what it is?
    Why(GuestId),
    /// Change a setting.
    Set {
        /// Whose.
        guest: GuestId,
        /// What.
        change: Change,
    },
    /// The host's reserve.
    SetReserve(Pieces),
    /// Start a guest.
    Start(GuestId),
    /// Stop a guest.
    Stop(GuestId),
    /// Pause a guest.
    Pause(GuestId),
    /// Resume a guest.
    Resume(GuestId),
    /// Bytes for a guest's port.
    Input {
        /// Whose.
        guest: GuestId,
        /// Which port.
        port: Port,
        /// What.
        bytes: Chunk,
    },
    /// The host's fixed costs.
    Costs,
    /// Note when a guest has so much memory, and what it took. Ends an earlier watch.
    Watch(Watch),
    /// What has come of it.
    Watched,
}

/// The board's side of the management channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BoardMessage {
    /// The answer to the request of that number.
    Answer {
        /// The request's number.
        sequence: u32,
        /// The answer.
        body: Answer,
    },
    /// Something the operator should know.
    Event(Event),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To `Hello`.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// Guests in the description.
        guests: u8,
        /// CNTVCT at this moment, and its frequency in Hz.
        ticks: u64,
        /// Ticks per second.
        frequency_hz: u64,
    },
    /// To `Guest`.
    Guest {
        /// Name.
        name: Name,
        /// State.
        state: GuestState,
        /// Starts so far.
        starts: u32,
        /// How it last ended.
        last_end: Option<EndReason>,
        /// Microseconds of processor time that its vCPU has used since its last start: its own work, and the kernel's for it.
        used_us: u64,
        /// The balancer's row, when the guest is known there.
        row: Option<Row>,
        /// Milliseconds since power-on.
        t_ms: u64,
    },
    /// To `Host`.
    Host {
        /// The balancer's row.
        row: HostRow,
        /// Counted from the capabilities.
        counted: HostAccount,
        /// Milliseconds since power-on.
        t_ms: u64,
    },
    /// To `Why`.
    Why(Line),
    /// To `Costs`.
    Costs {
        /// Bytes for the components that always run.
        components_bytes: u64,
        /// Bytes for each guest's VMM and objects.
        per_guest_bytes: u64,
        /// Pieces in the pool at boot.
        pool: Pieces,
    },
    /// To `Watched`; none was asked for.
    Watched(Option<Watched>),
    /// Done (or begun).
    Done,
    /// Refused, with the reason.
    Refused(Line),
}

/// Something the operator should know, unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The board is up and listens.
    Ready,
    /// A guest changed its state.
    State {
        /// Who.
        guest: GuestId,
        /// To what.
        state: GuestState,
    },
    /// A component says a line.
    Say {
        /// The guest it concerns, if any.
        guest: Option<GuestId>,
        /// The line.
        text: Line,
    },
}
