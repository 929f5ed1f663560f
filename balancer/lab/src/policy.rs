//! What a policy is told, and what it answers.

use protocol::balancer::{Report, Settings};
use protocol::memory::{Account, HostAccount};
use protocol::units::Pieces;

/// Whether a report asks for a decision at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgent {
    /// The next round will do.
    No,
    /// Decide in this round.
    Yes,
}

/// The answer to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When the next report is due, in milliseconds; never less than 10.
    pub in_ms: u64,
    /// What the guest is to have ready even where it reports it free. What it reports beyond goes back.
    pub keep: Pieces,
    /// Whether a decision follows.
    pub urgent: Urgent,
}

/// The memory server's accounts at the moment of a decision.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The host's.
    pub host: HostAccount,
    /// Each guest's.
    pub accounts: &'a [Account],
}

impl View<'_> {
    /// Pieces that nobody has a claim on.
    #[must_use]
    pub const fn unpromised(&self) -> u32 {
        (self.host.pool.0 + self.host.cleaning.0).saturating_sub(self.host.promised.0)
    }
}

/// A new target for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose.
    pub guest: usize,
    /// How much.
    pub pieces: Pieces,
}

/// How memory moves under a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As the policy's own system moves it: its interval, and a balloon of 4 KiB pages.
    Own,
    /// As ours does: decisions as often, and pieces of 2 MiB.
    Ours,
}

/// Whether a guest may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// What it starts with is there.
    Ready,
    /// Others have to give back first: ask again.
    Wait,
}

/// A policy. It hears what an unmodified Linux guest reports, and knows nothing else of the guests.
pub trait Policy: Send {
    /// A guest wants to start, the next one by number. Asked every 50 ms until there is room.
    fn make_room(&mut self, now_ms: u64, settings: &Settings, view: &View<'_>) -> Room;

    /// A guest started; guests are numbered from 0 in the order of their start.
    fn started(&mut self, now_ms: u64, settings: &Settings);

    /// A guest reports.
    fn report(&mut self, now_ms: u64, guest: usize, report: &Report) -> Answer;

    /// Decides: every 50 ms, when 16 MiB came back, and when a report was urgent. Targets are set in the order in which they
    /// are pushed; one that would promise memory twice is refused.
    fn decide(&mut self, now_ms: u64, view: &View<'_>, targets: &mut Vec<Target>);

    /// Why a guest's target is what it is, if the policy can say.
    fn why(&self, guest: usize) -> Option<String> {
        let _ = guest;
        None
    }
}
