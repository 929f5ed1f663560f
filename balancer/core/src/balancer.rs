//! The state machine: what the component asks of the policy, and each decision.

use crate::guest::{BALANCED_MS, Guest, ReclaimStep};
use crate::plan::{Entry, Supply, plan};
use crate::refusal::Refusal;
use crate::settings::{change, check};
use crate::share::{Parts, fill};
use crate::why::{Reason, Why};
use protocol::balancer::{
    Change, Flag, HostRow, NextReport, OnRefusal, PauseState, Reply, Report, Row, Settings, Urgency,
};
use protocol::memory::{Account, Bounds, HostAccount};
use protocol::units::{GuestId, Line, MAX_GUESTS, Pieces};

/// Room that was found for a guest is kept for it this long after it last asked.
const ROOM_MS: u64 = 10_000;
/// A guest may wait this long for what others could give and do not (they are late, or their demand is just falling).
const PATIENCE_MS: u64 = 30_000;
/// A change of target below this part of it is not worth a guest's work, unless the guest is short.
const DEAD_BAND_PART: u32 = 128;
/// A guest may always be asked for this much at a time, whatever it holds (128 MiB).
const STEP_DOWN_PIECES: u32 = 64;
/// A guest may always grow by this much at a time, whatever it holds (256 MiB).
const STEP_UP_PIECES: u32 = 128;

/// What the memory server says at the moment of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The host's account.
    pub host: HostAccount,
    /// Each admitted guest's account.
    pub accounts: [Option<Account>; MAX_GUESTS],
}

impl Snapshot {
    /// Pieces that nobody has a claim on.
    fn unpromised(&self) -> Pieces {
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

/// The actions of one decision, in order: first those that free memory, then those that promise it.
pub type Actions = heapless::Vec<Action, { 3 * MAX_GUESTS }>;

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

/// The policy's state.
pub struct Balancer {
    reserve: Pieces,
    guests: [Option<Guest>; MAX_GUESTS],
    rooms: [Option<Room>; MAX_GUESTS],
    host: HostAccount,
    rounds: u32,
    /// Whether the last decision had enough for all.
    supply: Supply,
}

impl Balancer {
    /// A policy without guests that keeps `reserve` out of all targets.
    #[must_use]
    pub const fn new(reserve: Pieces) -> Self {
        Self {
            reserve,
            guests: [const { None }; MAX_GUESTS],
            rooms: [None; MAX_GUESTS],
            host: HostAccount {
                total: Pieces(0),
                pool: Pieces(0),
                granted: Pieces(0),
                cleaning: Pieces(0),
                promised: Pieces(0),
            },
            rounds: 0,
            supply: Supply::Enough,
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
        let Some(guest) = self.guest_mut(guest) else {
            return Err(Refusal::NotRunning(guest));
        };
        let (urgent, in_ms) = guest.take_report(now_ms, report);
        // What somebody uses no longer, others wait for.
        let in_ms = match supply {
            Supply::Enough => in_ms,
            Supply::Short => in_ms.min(BALANCED_MS),
        };
        let keep = guest.keep();
        let urgent = match report.urgent {
            Urgency::Event | Urgency::Starved => Urgent::Yes,
            Urgency::Periodic => urgent,
        };
        Ok((NextReport { in_ms, keep }, urgent))
    }

    /// Whether there is room to start a guest. Memory that others have to give back for it is asked for by the next
    /// decision, and kept for it.
    pub fn make_room(
        &mut self,
        now_ms: u64,
        guest: GuestId,
        bounds: Bounds,
        snapshot: &Snapshot,
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
        for (_, guest) in self.each() {
            if guest.left(now_ms).is_some() {
                continue;
            }
            let claim = guest.claim(guest.account.target);
            let now = claim.minus(Pieces(guest.entry(now_ms).floor));
            let soon = claim.minus(guest.floor_soon());
            if guest.is_unresponsive() {
                from_late = from_late.plus(now.max(soon));
            } else {
                from_willing = from_willing.plus(now);
                from_late = from_late.plus(soon.minus(now));
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

    /// A decision: call it on each tick, when memory came back, and when a report is urgent.
    pub fn decide(&mut self, now_ms: u64, snapshot: &Snapshot) -> Actions {
        self.rounds = self.rounds.wrapping_add(1);
        self.take_accounts(snapshot);
        let mut actions = Actions::new();
        let mut entries = [Entry::default(); MAX_GUESTS];
        let mut claims = Pieces(0);
        for (entry, (index, guest)) in self.each_slot(&mut entries) {
            if snapshot.accounts.get(index).is_some_and(Option::is_some)
                && guest.left(now_ms).is_none()
                && !guest.is_unresponsive()
            {
                *entry = guest.entry(now_ms);
                claims = claims.plus(guest.claim(guest.account.target));
            }
        }
        let free = self.free(now_ms, snapshot);
        let capacity = claims.plus(free).minus(self.debt(now_ms, snapshot));
        let plan = plan(capacity.0, &entries);
        self.supply = plan.supply;

        let mut budget = free;
        // What nobody has a claim on, the reserve too: for such it is there.
        let mut spare = snapshot.unpromised();
        let mut needs = Parts::default();
        let reserve_debt = self.debt(now_ms, snapshot);
        // What those lack who are short now.
        let lacking = plan
            .goals
            .iter()
            .zip(&self.guests)
            .filter_map(|(goal, slot)| slot.as_ref().map(|guest| (goal, guest)))
            .filter(|(_, guest)| guest.is_short())
            .fold(Pieces(0), |sum, (goal, guest)| {
                sum.plus(Pieces(*goal).minus(guest.claim(guest.account.target)))
            });
        let rows = entries.iter().zip(plan.goals).zip(plan.reasons);
        for (index, (slot, ((entry, goal), reason))) in self.guests.iter_mut().zip(rows).enumerate()
        {
            let Some(guest) = slot else { continue };
            if snapshot.accounts.get(index).is_none_or(Option::is_none) {
                continue;
            }
            let id = GuestId(index as u16);
            let current = guest.account.target;
            let mut why = Why {
                reason,
                mode: guest.settings.mode,
                demand: Pieces(entry.demand),
                buffer_percent: guest.settings.buffer_percent,
                want: Pieces(entry.want),
                floor: Pieces(entry.floor),
                held: guest.held(),
                target: current,
                goal: Pieces(goal),
            };
            if let Some(flag) = guest.left(now_ms) {
                // It keeps what it has: a target below that is taken back, which promises nothing new.
                why.reason = Reason::Left(flag);
                if flag == Flag::Paused && current < guest.held() {
                    let target = guest.held().min(guest.account.maximum);
                    push(&mut actions, id, target);
                    why.target = target;
                }
            } else if let Some(target) = guest.deflates_to() {
                why.reason = Reason::Deflates;
                let more = target.minus(guest.claim(current));
                if target > current && more <= spare {
                    push(&mut actions, id, target);
                    spare = spare.minus(more);
                    budget = budget.minus(more);
                    why.target = target;
                }
            } else if guest.is_unresponsive() {
                why.reason = Reason::Unresponsive;
            } else {
                let goal = step(*entry, guest.claim(current), goal);
                let target = guest.target_for(now_ms, goal);
                let short = guest.is_short() && target > current;
                // A guest that waits to start may lack no more than one piece.
                // And all that a short one lacks may be less than is worth a large guest's work otherwise.
                let lacks_little = lacking > budget && !worth(current, current.minus(lacking));
                let owed = reserve_debt > Pieces(0) || lacks_little;
                if target < current && (owed || worth(current, target)) {
                    let before = guest.claim(current);
                    push(&mut actions, id, target);
                    guest.note_target(now_ms, target);
                    budget = budget.plus(before.minus(guest.claim(target)));
                    why.target = target;
                } else if target > current && (short || worth(current, target)) {
                    let need = target.minus(guest.claim(current));
                    if let Some(part) = needs.get_mut(index) {
                        part.want = need.0;
                        part.weight = entry.weight;
                    }
                    if need == Pieces(0) {
                        push(&mut actions, id, target);
                        guest.note_target(now_ms, target);
                        why.target = target;
                    }
                }
            }
            guest.why = why;
        }
        // What was cancelled fills the reserve first.
        let (given, _) = fill(budget.minus(reserve_debt).0, &needs);
        for (index, (slot, given)) in self.guests.iter_mut().zip(given).enumerate() {
            let Some(guest) = slot else { continue };
            if given > 0 {
                let target = guest.claim(guest.account.target).plus(Pieces(given));
                push(&mut actions, GuestId(index as u16), target);
                guest.note_target(now_ms, target);
                guest.why.target = target;
            }
        }
        self.follow_reclaims(now_ms, snapshot, &mut actions);
        for (_, guest) in self.each_mut() {
            guest.update_status(now_ms);
        }
        actions
    }

    /// Reminders, deadlines and force.
    fn follow_reclaims(&mut self, now_ms: u64, snapshot: &Snapshot, actions: &mut Actions) {
        for (index, guest) in self.each_mut() {
            if snapshot.accounts.get(index).is_none_or(Option::is_none)
                || guest.left(now_ms).is_some()
            {
                continue;
            }
            let id = GuestId(index as u16);
            let target = guest.why.target;
            match guest.follow_reclaim(now_ms, target) {
                ReclaimStep::Wait => {}
                ReclaimStep::Remind => push(actions, id, target),
                ReclaimStep::Passed => {
                    if guest.settings.on_refusal == OnRefusal::Revoke {
                        let pieces = guest.held().minus(target);
                        // There is room: at most one target, one reminder or one revocation each.
                        let _ = actions.push(Action::Revoke { guest: id, pieces });
                    }
                }
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
            reported: self.each().fold(Pieces(0), |sum, (_, guest)| {
                sum.plus(guest.account.earmarked)
            }),
            rounds: self.rounds,
        }
    }

    /// Why a guest's target is what it is.
    #[must_use]
    pub fn why(&self, guest: GuestId) -> Option<Line> {
        self.guest(guest).map(|guest| guest.why.text())
    }

    /// Room that is promised to guests about to start, and not yet to be seen in the accounts.
    fn rooms(&self, now_ms: u64, snapshot: &Snapshot) -> Pieces {
        self.rooms
            .iter()
            .zip(&snapshot.accounts)
            .filter(|(_, account)| account.is_none())
            .filter_map(|(room, _)| room.as_ref())
            .filter(|room| room.until_ms > now_ms)
            .fold(Pieces(0), |sum, room| sum.plus(room.startup))
    }

    /// What targets may still grow by.
    fn free(&self, now_ms: u64, snapshot: &Snapshot) -> Pieces {
        snapshot
            .unpromised()
            .minus(self.reserve)
            .minus(self.rooms(now_ms, snapshot))
    }

    /// By how much the reserve and the rooms are not there.
    fn debt(&self, now_ms: u64, snapshot: &Snapshot) -> Pieces {
        self.reserve
            .plus(self.rooms(now_ms, snapshot))
            .minus(snapshot.unpromised())
    }

    fn take_accounts(&mut self, snapshot: &Snapshot) {
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

    fn each(&self) -> impl Iterator<Item = (usize, &Guest)> {
        self.guests
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }

    fn each_mut(&mut self) -> impl Iterator<Item = (usize, &mut Guest)> {
        self.guests
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| Some((index, slot.as_mut()?)))
    }

    fn each_slot<'a>(
        &'a self,
        entries: &'a mut [Entry; MAX_GUESTS],
    ) -> impl Iterator<Item = (&'a mut Entry, (usize, &'a Guest))> {
        entries
            .iter_mut()
            .zip(self.guests.iter().enumerate())
            .filter_map(|(entry, (index, slot))| Some((entry, (index, slot.as_ref()?))))
    }
}

/// One step towards a goal: down to half of what a guest holds, up to twice what is promised to it (`claim`).
fn step(entry: Entry, claim: Pieces, goal: u32) -> Pieces {
    let down = (entry.held / 2).max(STEP_DOWN_PIECES);
    let up = claim.0.max(STEP_UP_PIECES);
    let least = entry.held.saturating_sub(down);
    let most = claim.0.saturating_add(up);
    Pieces(goal.clamp(least.min(most), most))
}

/// Whether a change of target is worth a guest's work.
fn worth(current: Pieces, goal: Pieces) -> bool {
    current.0.abs_diff(goal.0) > current.0 / DEAD_BAND_PART
}

fn push(actions: &mut Actions, guest: GuestId, target: Pieces) {
    // There is room: at most one target, one reminder and one revocation a guest.
    let _ = actions.push(Action::SetTarget { guest, target });
}
