//! One look at the whole board.

use crate::board::{Board, BoardError};
use protocol::balancer::{Flag, HostRow, Row, Status};
use protocol::management::{Answer, HostBody};
use protocol::memory::HostAccount;
use protocol::supervisor::{EndReason, GuestState};
use protocol::units::GuestId;

/// Figures that a guest did not refresh for so long are old, in milliseconds: it is asked at least every second, and a busy
/// one may take another or two.
pub const OLD_MS: u32 = 5000;

/// A guest at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its number.
    pub id: GuestId,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: GuestState,
    /// Starts so far.
    pub starts: u32,
    /// How it last ended.
    pub last_end: Option<EndReason>,
    /// Microseconds of processor time that its vCPU has used since its last start.
    pub used_us: u64,
    /// The balancer's row; none while it is stopped.
    pub row: Option<Row>,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Milliseconds since power-on, by the board's clock.
    pub t_ms: u64,
    /// The balancer's row of the host.
    pub host: HostRow,
    /// Counted from the capabilities.
    pub counted: HostAccount,
    /// The guests, in the description's order.
    pub guests: Vec<Guest>,
}

impl Snapshot {
    /// Asks for everything.
    ///
    /// # Errors
    /// As [`Board::request`].
    pub fn take(board: &mut Board, guests: u16) -> Result<Self, BoardError> {
        let (host, counted, t_ms) = match board.request(HostBody::Host)? {
            Answer::Host { row, counted, t_ms } => (row, counted, t_ms),
            other => return Err(BoardError::Unexpected(format!("{other:?}"))),
        };
        let guests = (0..guests)
            .map(|id| match board.request(HostBody::Guest(GuestId(id)))? {
                Answer::Guest {
                    name,
                    state,
                    starts,
                    last_end,
                    used_us,
                    row,
                    ..
                } => Ok(Guest {
                    id: GuestId(id),
                    name: name.to_string(),
                    state,
                    starts,
                    last_end,
                    used_us,
                    row,
                }),
                other => Err(BoardError::Unexpected(format!("{other:?}"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            t_ms,
            host,
            counted,
            guests,
        })
    }

    /// The guest of a name.
    #[must_use]
    pub fn guest(&self, name: &str) -> Option<&Guest> {
        self.guests.iter().find(|guest| guest.name == name)
    }

    /// Whether every frame is accounted for: counted from the capabilities, `pool + granted + cleaning = total`.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        let counted = &self.counted;
        u64::from(counted.pool.0) + u64::from(counted.granted.0) + u64::from(counted.cleaning.0)
            == u64::from(counted.total.0)
    }
}

/// A status as the table and the report name it.
#[must_use]
pub const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Ok => "OK",
        Status::Low => "Low",
        Status::Warning => "Warning",
        Status::Unresponsive => "Unresponsive",
    }
}

/// A flag as the table names it; empty for none.
#[must_use]
pub const fn flag_name(flag: Flag) -> &'static str {
    match flag {
        Flag::None => "",
        Flag::Starting => "starting",
        Flag::NoDriver => "no-driver",
        Flag::AtMaximum => "at-maximum",
        Flag::Paused => "paused",
        Flag::Silent => "silent",
        Flag::NotTaking => "not-taking",
    }
}

/// A state as the table names it.
#[must_use]
pub const fn state_name(state: GuestState) -> &'static str {
    match state {
        GuestState::Stopped => "stopped",
        GuestState::Waiting => "waiting",
        GuestState::Starting => "starting",
        GuestState::Running => "running",
        GuestState::Paused => "paused",
        GuestState::Stopping => "stopping",
    }
}
