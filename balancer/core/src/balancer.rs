//! The state machine: what the component asks of the policy. A decision is in `decide`.

use crate::cadence::SHORT_SUPPLY_MS;
use crate::guest::Guest;
use crate::plan::{FLOOR, Supply};
use crate::refusal::{Refusal, line};
use crate::settings::{change, check};
use protocol::balancer::{Change, HostRow, NextReport, PauseState, Reply, Report, Row, Settings};
use protocol::memory::{Account, Bounds, HostAccount};
use protocol::units::{GuestId, Line, MAX_GUESTS, Pieces};

/// Room that was found for a guest is kept for it this long after it last asked.
const ROOM_MS: u64 = 10_000;
/// A guest may wait this long for what others could give and do not (they are late, or their demand is just falling).
const PATIENCE_MS: u64 = 30_000;
/// So many guests make a decision cost about a millisecond's worth of requests; two decisions for urgent reports are at
/// least one millisecond for each so many apart. What comes in between is decided together.
const GUESTS_PER_MS: u64 = 32;

/// What the memory server says at the moment of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot<const N: usize = MAX_GUESTS> {
    /// The host's account.
    pub host: HostAccount,
    /// Each admitted guest's account.
    pub accounts: [Option<Account>; N],
}

impl<const N: usize> Default for Snapshot<N> {
    fn default() -> Self {
        Self {
            host: HostAccount::default(),
            accounts: [None; N],
        }
    }
}

impl<const N: usize> Snapshot<N> {
    /// Pieces that nobody has a claim on.
    pub(crate) fn unpromised(&self) -> Pieces {
        self.host
            .pool
            .plus(self.host.cleaning)
            .minus(self.host.promised)
    }
}

/// What the component tells the memory server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `SetTarget`.
    SetTarget {
        /// Whose.
        guest: GuestId,
        /// To what.
        target: Pieces,
    },
    /// `Revoke`.
    Revoke {
        /// From whom.
        guest: GuestId,
        /// How many.
        pieces: Pieces,
    },
}

/// The actions of one decision, in order: those that free memory, those that promise it, reminders and force.
#[derive(Clone, Debug, Default)]
pub struct Actions<const N: usize = MAX_GUESTS> {
    frees: heapless::Vec<Action, N>,
    promises: heapless::Vec<Action, N>,
    reclaims: heapless::Vec<Action, N>,
}

impl<const N: usize> Actions<N> {
    pub(crate) const fn new() -> Self {
        Self {
            frees: heapless::Vec::new(),
            promises: heapless::Vec::new(),
            reclaims: heapless::Vec::new(),
        }
    }

    // There is room in each: at most one action of a kind for a guest.

    pub(crate) fn free(&mut self, action: Action) {
        let _ = self.frees.push(action);
    }

    pub(crate) fn promise(&mut self, action: Action) {
        let _ = self.promises.push(action);
    }

    pub(crate) fn reclaim(&mut self, action: Action) {
        let _ = self.reclaims.push(action);
    }

    /// The actions in their order.
    pub fn iter(&self) -> impl Iterator<Item = Action> + '_ {
        self.frees
            .iter()
            .chain(&self.promises)
            .chain(&self.reclaims)
            .copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frees.len() + self.promises.len() + self.reclaims.len()
    }

    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<const N: usize> IntoIterator for Actions<N> {
    type Item = Action;
    type IntoIter = IntoActions<N>;

    fn into_iter(self) -> IntoActions<N> {
        IntoActions {
            lists: [self.frees, self.promises, self.reclaims].map(|list| list.into_iter()),
        }
    }
}

/// The actions of one decision, one after the other.
pub struct IntoActions<const N: usize> {
    lists: [<heapless::Vec<Action, N> as IntoIterator>::IntoIter; 3],
}

impl<const N: usize> Iterator for IntoActions<N> {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        self.lists.iter_mut().find_map(Iterator::next)
    }
}

/// Whether a report asks for a decision at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgent {
    /// The next tick will do.
    No,
    /// Decide now.
    Yes,
}

/// Room kept for a guest that is about to start.
#[derive(Clone, Copy, Debug)]
struct Room {
    startup: Pieces,
    /// When its guest first asked.
    since_ms: u64,
    until_ms: u64,
}

/// The policy's state, for guests numbered below `N`.
pub struct Balancer<const N: usize = MAX_GUESTS> {
    pub(crate) reserve: Pieces,
    pub(crate) guests: [Option<Guest>; N],
    rooms: [Option<Room>; N],
    pub(crate) host: HostAccount,
    pub(crate) rounds: u32,
    /// Whether the last decision had enough for all.
    pub(crate) supply: Supply,
    /// When the last decision was made.
    pub(crate) decided_ms: u64,
    /// When memory last had to be taken from somebody for another's need.
    pub(crate) taken_ms: Option<u64>,
}

impl<const N: usize> Balancer<N> {
    /// A policy without guests that keeps `reserve` out of all targets.
    #[must_use]
    pub const fn new(reserve: Pieces) -> Self {
        Self {
            reserve,
            guests: [const { None }; N],
            rooms: [None; N],
            host: HostAccount {
                total: Pieces(0),
                pool: Pieces(0),
                granted: Pieces(0),
                cleaning: Pieces(0),
                promised: Pieces(0),
            },
            rounds: 0,
            supply: Supply::Enough,
            decided_ms: 0,
            taken_ms: None,
        }
    }

    /// A guest starts. One that was here already starts again.
    ///
    /// # Errors
    /// The settings are not allowed; the reason, for the operator.
    pub fn started(
        &mut self,
        now_ms: u64,
        guest: GuestId,
        settings: Settings,
    ) -> Result<(), Refusal> {
        check(&settings)?;
        let Some(slot) = self.guests.get_mut(usize::from(guest.0)) else {
            return Err(Refusal::NoSuchGuest(guest));
        };
        *slot = Some(Guest::new(now_ms, settings));
        // From here on its startup is a claim in the memory server's accounts.
        if let Some(room) = self.rooms.get_mut(usize::from(guest.0)) {
            *room = None;
        }
        Ok(())
    }

    /// Whether a guest started and has not ended.
    #[must_use]
    pub fn knows(&self, guest: GuestId) -> bool {
        self.guest(guest).is_some()
    }

    /// A guest ended.
    pub fn stopped(&mut self, guest: GuestId) {
        if let Some(slot) = self.guests.get_mut(usize::from(guest.0)) {
            *slot = None;
        }
    }

    /// A guest is paused or runs again.
    ///
    /// # Errors
    /// It is not running.
    pub fn paused(
        &mut self,
        now_ms: u64,
        guest: GuestId,
        state: PauseState,
    ) -> Result<(), Refusal> {
        match self.guest_mut(guest) {
            Some(guest) => {
                guest.set_pause(now_ms, state);
                Ok(())
            }
            None => Err(Refusal::NotRunning(guest)),
        }
    }

    /// The settings that a guest would have after a change, for the memory server to agree to first.
    ///
    /// # Errors
    /// It is not running, or the change is not allowed.
    pub fn changed(&self, guest: GuestId, what: Change) -> Result<Settings, Refusal> {
        match self.guest(guest) {
            Some(guest) => change(&guest.settings, what),
            None => Err(Refusal::NotRunning(guest)),
        }
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// As [`Balancer::changed`]; nothing has changed.
    pub fn set(&mut self, guest: GuestId, what: Change) -> Result<(), Refusal> {
        let settings = self.changed(guest, what)?;
        if let Some(guest) = self.guest_mut(guest) {
            guest.settings = settings;
        }
        Ok(())
    }

    /// What the description keeps out of all targets, before the pool's size is known here.
    pub(crate) const fn set_reserve_at_start(&mut self, reserve: Pieces) {
        self.reserve = reserve;
    }

    /// Changes what is kept out of all targets.
    ///
    /// # Errors
    /// It is more than there is.
    pub fn set_reserve(&mut self, reserve: Pieces) -> Result<(), Refusal> {
        if reserve > self.host.total {
            return Err(Refusal::Reserve {
                asked: reserve,
                total: self.host.total,
            });
        }
        self.reserve = reserve;
        Ok(())
    }

    /// Takes a report. Returns what the VMM is told, and whether to decide at once.
    ///
    /// # Errors
    /// The guest is not known here.
    pub fn report(
        &mut self,
        now_ms: u64,
        guest: GuestId,
        report: &Report,
    ) -> Result<(NextReport, Urgent), Refusal> {
        let supply = self.supply;
        let count = self.each().count() as u64;
        let is_recent = now_ms < self.decided_ms + 1 + count / GUESTS_PER_MS;
        let Some(guest) = self.guest_mut(guest) else {
            return Err(Refusal::NotRunning(guest));
        };
        let (urgent, in_ms) = guest.take_report(now_ms, report);
        let in_ms = match supply {
            Supply::Enough => in_ms,
            Supply::Short => in_ms.min(SHORT_SUPPLY_MS),
        };
        let keep = guest.keep();
        let urgent = if is_recent { Urgent::No } else { urgent };
        Ok((NextReport { in_ms, keep }, urgent))
    }

    /// Whether there is room to start a guest. Memory that others have to give back for it is asked for by the next
    /// decision, and kept for it.
    pub fn make_room(
        &mut self,
        now_ms: u64,
        guest: GuestId,
        bounds: Bounds,
        snapshot: &Snapshot<N>,
    ) -> Reply {
        let index = usize::from(guest.0);
        let earlier = self.rooms.get_mut(index).and_then(Option::take);
        let since_ms = match earlier {
            Some(room) if room.until_ms > now_ms => room.since_ms,
            _ => now_ms,
        };
        self.take_accounts(snapshot);
        let needed = bounds.startup;
        let free = self.free(now_ms, snapshot);
        // A reserve that is not there must be filled first.
        let debt = self.debt(now_ms, snapshot);
        let mut from_willing = Pieces(0);
        let mut from_late = Pieces(0);
        for guest in self.each() {
            if guest.left(now_ms).is_some() {
                continue;
            }
            let claim = guest.claim(guest.account.target);
            let can_give = claim.minus(Pieces(guest.entry(now_ms).level(FLOOR)));
            if guest.is_unresponsive() {
                from_late = from_late.plus(can_give);
            } else {
                from_willing = from_willing.plus(can_give);
            }
        }
        let available = free.plus(from_willing).minus(debt);
        let patient = now_ms.saturating_sub(since_ms) < PATIENCE_MS;
        if needed > available && !(patient && needed <= available.plus(from_late)) {
            return Reply::NoRoom { needed, available };
        }
        if let Some(room) = self.rooms.get_mut(index) {
            *room = Some(Room {
                startup: needed,
                since_ms,
                until_ms: now_ms + ROOM_MS,
            });
        }
        if needed <= free {
            Reply::Room
        } else {
            Reply::Wait {
                missing: needed.minus(free),
            }
        }
    }

    /// A guest's row.
    #[must_use]
    pub fn row(&self, now_ms: u64, guest: GuestId) -> Option<Row> {
        self.guest(guest).map(|guest| guest.row(now_ms))
    }

    /// The host's row, as of the last decision.
    #[must_use]
    pub fn host_row(&self) -> HostRow {
        HostRow {
            total: self.host.total,
            pool: self.host.pool,
            reserve: self.reserve,
            headroom: self
                .host
                .pool
                .plus(self.host.cleaning)
                .minus(self.host.promised)
                .minus(self.reserve),
            cleaning: self.host.cleaning,
            reported: self
                .each()
                .fold(Pieces(0), |sum, guest| sum.plus(guest.account.earmarked)),
            rounds: self.rounds,
        }
    }

    /// Why a guest's target is what it is.
    #[must_use]
    pub fn why(&self, guest: GuestId) -> Option<Line> {
        let guest = self.guest(guest)?;
        let text = guest.why.text();
        Some(match guest.takes_at_most() {
            Some(pieces) => line(format_args!(
                "takes at most {} MiB (boot it with memhp_default_state=online_movable); {text}",
                pieces.mib()
            )),
            None => text,
        })
    }

    /// Room that is promised to guests about to start, and not yet to be seen in the accounts.
    fn rooms(&self, now_ms: u64, snapshot: &Snapshot<N>) -> Pieces {
        self.rooms
            .iter()
            .zip(&snapshot.accounts)
            .filter(|(_, account)| account.is_none())
            .filter_map(|(room, _)| room.as_ref())
            .filter(|room| room.until_ms > now_ms)
            .fold(Pieces(0), |sum, room| sum.plus(room.startup))
    }

    /// What targets may still grow by.
    pub(crate) fn free(&self, now_ms: u64, snapshot: &Snapshot<N>) -> Pieces {
        snapshot
            .unpromised()
            .minus(self.reserve)
            .minus(self.rooms(now_ms, snapshot))
    }

    /// By how much the reserve and the rooms are not there.
    pub(crate) fn debt(&self, now_ms: u64, snapshot: &Snapshot<N>) -> Pieces {
        self.reserve
            .plus(self.rooms(now_ms, snapshot))
            .minus(snapshot.unpromised())
    }

    pub(crate) fn take_accounts(&mut self, snapshot: &Snapshot<N>) {
        self.host = snapshot.host;
        for (slot, account) in self.guests.iter_mut().zip(snapshot.accounts) {
            if let (Some(guest), Some(account)) = (slot, account) {
                guest.account = account;
            }
        }
    }

    fn guest(&self, guest: GuestId) -> Option<&Guest> {
        self.guests.get(usize::from(guest.0))?.as_ref()
    }

    fn guest_mut(&mut self, guest: GuestId) -> Option<&mut Guest> {
        self.guests.get_mut(usize::from(guest.0))?.as_mut()
    }

    fn each(&self) -> impl Iterator<Item = &Guest> {
        self.guests.iter().flatten()
    }
}
